package page_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/breakerd/breakerd/internal/app"
	"github.com/breakerd/breakerd/internal/testkit"
)

// browser is the one Chromium of all tests. Each test has tabs of its own.
var browser context.Context //nolint:gochecknoglobals // TestMain starts it

func TestMain(m *testing.M) {
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.NoSandbox, chromedp.Flag("lang", "en-US"), chromedp.Flag("force-color-profile", "srgb"),
		chromedp.Flag("host-resolver-rules", "MAP fleet.test 127.0.0.1"), chromedp.Env("TZ=UTC"))
	allocator, end := chromedp.NewExecAllocator(context.Background(), options...)
	var closed context.CancelFunc
	browser, closed = chromedp.NewContext(allocator)
	if _, err := chromedp.Run(browser, chromedp.Steps()); err != nil {
		fmt.Fprintln(os.Stderr, "Chromium does not start:", err)
		os.Exit(1)
	}
	code := m.Run()
	closed()
	end()
	os.Exit(code)
}

// server is a breakerd in this process.
type server struct {
	testing.TB

	url, token string
	end        func() int // stops it, and gives its exit code
}

// serve starts a breakerd on a free port of loopback.
func serve(t testing.TB, environ ...string) *server {
	t.Helper()
	s := &server{TB: t}
	s.start(testkit.FreeAddress(t), environ...)
	return s
}

func (s *server) start(address string, environ ...string) {
	s.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var log testkit.Buffer
	done := make(chan int, 1)
	environ = append([]string{"BREAKERD_LISTEN=" + address, "SHUTDOWN_DELAY_SECONDS=0", "LOG_LEVEL=warn"}, environ...)
	go func() { done <- app.Breakerd().Run(ctx, nil, environ, io.Discard, &log) }()
	s.url = "http://" + address
	s.end = sync.OnceValue(func() int {
		cancel()
		return <-done
	})
	s.Cleanup(func() {
		s.end()
		if s.Failed() {
			s.Logf("log of breakerd:\n%s", log.String())
		}
	})
	testkit.Eventually(s, "breakerd answers", 20*time.Second, func() error {
		select {
		case code := <-done:
			done <- code
			return fmt.Errorf("it has ended with %d: %s", code, log.String())
		default:
		}
		res, err := http.Get(s.url + "/readyz")
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("%s", res.Status)
		}
		return nil
	})
}

// do makes a request, and wants a 2xx.
func (s *server) do(method, path, body string, headers ...string) map[string]any {
	s.Helper()
	req, err := http.NewRequestWithContext(s.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if s.token != "" {
		req.Header.Set("Authorization", "Bearer "+s.token)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode/100 != 2 {
		s.Fatalf("%s %s: %s %s %v", method, path, res.Status, text, err)
	}
	var out map[string]any
	if len(text) > 0 {
		if err := json.Unmarshal(text, &out); err != nil {
			s.Fatal(err, string(text))
		}
	}
	return out
}

const breakers = "/v1/admin/circuit_breakers/"

// report reports so many outcomes of an agent.
func (s *server) report(agent, outcome string, times int) {
	s.Helper()
	for range times {
		s.do(http.MethodPost, "/v1/circuit_breakers/"+agent+"/report", fmt.Sprintf(`{"outcome":%q}`, outcome))
	}
}

// trip opens an agent's breaker by failures.
func (s *server) trip(agent string) { s.report(agent, "failure", 5) }

const patience = 20 * time.Second // for one step of the browser

// tab is a tab of the browser.
type tab struct {
	testing.TB

	ctx context.Context //nolint:containedctx // chromedp's handle of the tab

	mu       sync.Mutex
	messages []string // of the console, and errors
}

// look is how a tab looks.
type look struct {
	width, height int64
	dark          bool
}

var desk = look{width: 1440, height: 900} //nolint:gochecknoglobals // a constant

// open opens a page in a new tab, and waits until it has numbers.
func open(t testing.TB, url string, how look) *tab {
	t.Helper()
	p := blank(t, how)
	p.run(chromedp.Navigate(url))
	return p
}

func blank(t testing.TB, how look) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	p := &tab{TB: t, ctx: ctx}
	if err := chromedp.Listen(ctx, func(ev any) {
		p.mu.Lock()
		defer p.mu.Unlock()
		switch ev := ev.(type) {
		case *runtime.EventConsoleAPICalled:
			for _, a := range ev.Args {
				p.messages = append(p.messages, string(a.Value))
			}
		case *runtime.EventExceptionThrown:
			p.messages = append(p.messages, fmt.Sprint(ev.ExceptionDetails.Text, " ", ev.ExceptionDetails.Exception))
		}
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			p.keep("failed-" + strings.NewReplacer("/", "-").Replace(t.Name()))
			p.mu.Lock()
			defer p.mu.Unlock()
			t.Logf("console: %q", p.messages)
		}
		cancel()
	})
	scheme := "light"
	if how.dark {
		scheme = "dark"
	}
	call(p, runtime.Enable, cdp.Empty{})
	call(p, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: how.width, Height: how.height, DeviceScaleFactor: 1, Mobile: how.width < 500,
	})
	call(p, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	})
	return p
}

// call calls a command of the browser's protocol.
func call[P, R any](p *tab, c cdp.Command[P, R], params P) R {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	out, err := chromedp.Call(ctx, c, params)
	if err != nil {
		p.Fatal(err)
	}
	return out
}

func (p *tab) run(steps ...chromedp.Action[chromedp.Void]) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if _, err := chromedp.Run(ctx, chromedp.Steps(steps...)); err != nil {
		p.Fatal(err)
	}
}

// eval is the value of a script, which may be a promise.
func eval[T any](p *tab, script string) (out T) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	out, err := chromedp.Run(ctx, chromedp.Evaluate[T](script, chromedp.EvalAwaitPromise))
	if err != nil {
		p.Fatalf("%.200s: %v", script, err)
	}
	return out
}

// text is the text of the first element that a selector finds; "": none.
func (p *tab) text(selector string) string {
	p.Helper()
	return eval[string](p, fmt.Sprintf("document.querySelector(%q)?.textContent ?? ''", selector))
}

// sees waits until an element's text contains a text. It returns how long that took.
func (p *tab) sees(selector, want string, within time.Duration) time.Duration {
	p.Helper()
	began := time.Now()
	var have string
	for time.Since(began) < within {
		if have = p.text(selector); strings.Contains(have, want) {
			return time.Since(began)
		}
		time.Sleep(20 * time.Millisecond)
	}
	p.Fatalf("%s is %q after %s, want %q", selector, have, within, want)
	return 0
}

// artefacts is where pictures of the page are kept, to be looked at.
func artefacts(t testing.TB) string {
	t.Helper()
	dir := filepath.Join("..", "..", "bin", "page")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// keep keeps a picture of what the tab shows.
func (p *tab) keep(name string) string {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	picture, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		p.Log("no picture:", err)
		return ""
	}
	path := filepath.Join(artefacts(p), name+".png")
	if err := os.WriteFile(path, picture, 0o600); err != nil {
		p.Log(err)
	}
	return path
}

// quiet wants the console to have said nothing.
func (p *tab) quiet() {
	p.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.messages) > 0 {
		p.Errorf("the console says: %q", p.messages)
	}
}

