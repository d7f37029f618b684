package page_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

const patience = 20 * time.Second // for one step of a browser

// chromium is the one Chromium of all tests; each tab has a profile of its own.
var chromium = sync.OnceValues(startChromium) // TestMain ends it

// endChromium ends it, if it was started.
var endChromium = func() {} // set by startChromium

func startChromium() (context.Context, error) {
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.NoSandbox, chromedp.Flag("lang", "en-US"), chromedp.Flag("force-color-profile", "srgb"),
		chromedp.Flag("host-resolver-rules", "MAP fleet.test 127.0.0.1"), chromedp.Env("TZ=UTC"))
	allocator, end := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, closed := chromedp.NewContext(allocator)
	endChromium = func() { closed(); end() }
	_, err := chromedp.Run(ctx, chromedp.Steps())
	return ctx, err
}

// chromiumTab is a tab of Chromium.
type chromiumTab struct {
	ctx   context.Context //nolint:containedctx // chromedp's handle of the tab
	ended context.CancelFunc

	mu   sync.Mutex
	said []string
}

func newChromiumTab(how look) (*chromiumTab, error) {
	whole, err := chromium()
	if err != nil {
		return nil, err
	}
	p := &chromiumTab{}
	p.ctx, p.ended = chromedp.NewContext(whole, chromedp.WithNewBrowserContext())
	return p, p.dress(how)
}

// sibling is another tab with the same profile.
func (p *chromiumTab) sibling(how look) (*chromiumTab, error) {
	q := &chromiumTab{}
	q.ctx, q.ended = chromedp.NewContext(p.ctx)
	return q, q.dress(how)
}

// dress gives the tab its looks, and begins to listen to its console.
func (p *chromiumTab) dress(how look) error {
	err := chromedp.Listen(p.ctx, func(ev any) {
		p.mu.Lock()
		defer p.mu.Unlock()
		switch ev := ev.(type) {
		case *runtime.EventConsoleAPICalled:
			for _, a := range ev.Args {
				p.said = append(p.said, string(a.Value))
			}
		case *runtime.EventExceptionThrown:
			text, _ := json.Marshal(ev.ExceptionDetails)
			p.said = append(p.said, string(text))
		}
	})
	if err != nil {
		return err
	}
	scheme := "light"
	if how.dark {
		scheme = "dark"
	}
	if _, err := call(p, runtime.Enable, cdp.Empty{}); err != nil {
		return err
	}
	if _, err := call(p, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: how.width, Height: how.height, DeviceScaleFactor: 1, Mobile: how.width < 500,
	}); err != nil {
		return err
	}
	if how.time != 0 {
		_, err := call(p, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{
			Source: wrongClock(how.time),
		})
		if err != nil {
			return err
		}
	}
	_, err = call(p, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	})
	return err
}

// wrongClock is a script that has the machine's clock be wrong.
func wrongClock(by time.Duration) string {
	return fmt.Sprintf(`{ const D = Date, wrong = %d; Date = class extends D {
		constructor(...a) { a.length ? super(...a) : super(D.now() + wrong); }
		static now() { return D.now() + wrong; }}; }`, by.Milliseconds())
}

// call calls a command of the browser's protocol.
func call[P, R any](p *chromiumTab, c cdp.Command[P, R], params P) (R, error) {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	return chromedp.Call(ctx, c, params)
}

func (p *chromiumTab) run(a chromedp.Action[chromedp.Void]) error {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	_, err := chromedp.Run(ctx, a)
	return err
}

func (p *chromiumTab) navigate(url string) error { return p.run(chromedp.Navigate(url)) }

func (p *chromiumTab) evaluate(script string) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](
		"Promise.resolve("+script+").then((v) => JSON.stringify(v ?? null))", chromedp.EvalAwaitPromise))
	return json.RawMessage(text), err
}

// press sends what a keyboard would: a text that a listener may prevent.
func (p *chromiumTab) press(key string) error {
	down := input.DispatchKeyEventParams{Type: "keyDown", Key: key, Text: key}
	if code, is := map[string]int64{"Enter": 13, "Escape": 27, "Tab": 9, "Backspace": 8}[key]; is {
		down.Text, down.Code, down.WindowsVirtualKeyCode = "", key, code
		if key == "Enter" {
			down.Text = "\r"
		}
	}
	if _, err := call(p, input.DispatchKeyEvent, down); err != nil {
		return err
	}
	up := down
	up.Type, up.Text = "keyUp", ""
	_, err := call(p, input.DispatchKeyEvent, up)
	return err
}

func (p *chromiumTab) picture() ([]byte, error) {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	return chromedp.Run(ctx, chromedp.CaptureScreenshot())
}

func (p *chromiumTab) console() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said
}

func (p *chromiumTab) close() { p.ended() }

// accessibility is the tree that a screen reader goes by: a line for each node, its role and its name.
func (p *chromiumTab) accessibility(t testing.TB) string {
	t.Helper()
	tree, err := call(p, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, n := range tree.Nodes {
		if n.Ignored || n.Role == nil {
			continue
		}
		name := `""`
		if n.Name != nil {
			name = string(n.Name.Value)
		}
		role, named := strings.Trim(string(n.Role.Value), `"`), ""
		_ = json.Unmarshal([]byte(name), &named)
		fmt.Fprintf(&out, "%s %s\n", role, named)
	}
	return out.String()
}
