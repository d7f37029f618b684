package page_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
)

// firefox is the one Firefox of all tests, driven by WebDriver BiDi; each tab has a user context of its own.
var firefox = sync.OnceValues(startFirefox) // TestMain ends it

// endFirefox ends it, if it was started.
var endFirefox = func() {} // set by startFirefox

// bidi is a connection to Firefox.
type bidi struct {
	conn *websocket.Conn

	keyboard sync.Mutex // of the tab that is in front

	mu      sync.Mutex
	last    int
	answers map[int]chan answer
	said    map[string][]string // by tab
}

// answer is what Firefox says: the answer to a command, or an event.
type answer struct {
	ID      int             `json:"id"`
	Type    string          `json:"type"`
	Result  json.RawMessage `json:"result"`
	Error   string          `json:"error"`
	Message string          `json:"message"`
	Method  string          `json:"method"`
	Params  struct {
		Level  string `json:"level"`
		Text   string `json:"text"`
		Source struct {
			Context string `json:"context"`
		} `json:"source"`
	} `json:"params"`
}

var listens = regexp.MustCompile(`WebDriver BiDi listening on (ws://\S+)`)

// preferences make Firefox leave the network alone, and take TZ.
const preferences = `user_pref("app.update.enabled", false);
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("network.dns.localDomains", "fleet.test");
user_pref("intl.accept_languages", "en-US");
`

func startFirefox() (*bidi, error) {
	profile, err := os.MkdirTemp("", "page-firefox-")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(profile, "user.js"), []byte(preferences), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command("firefox-esr", "--headless", "--no-remote", "--profile", profile, "--remote-debugging-port", "0")
	cmd.Env = append(os.Environ(), "TZ=UTC", "MOZ_HEADLESS=1", "HOME="+profile)
	stderr, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, err
	}
	endFirefox = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = os.RemoveAll(profile)
	}
	at := make(chan string, 1)
	go func() {
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			if m := listens.FindStringSubmatch(lines.Text()); m != nil {
				at <- m[1]
			}
		}
	}()
	select {
	case url := <-at:
		return dialFirefox(url)
	case <-time.After(60 * time.Second):
		return nil, errors.New("Firefox does not listen")
	}
}

func dialFirefox(url string) (*bidi, error) {
	conn, _, err := websocket.Dial(context.Background(), url+"/session", nil) //nolint:bodyclose // of a WebSocket
	if err != nil {
		return nil, err
	}
	conn.SetReadLimit(64 << 20)
	b := &bidi{conn: conn, answers: map[int]chan answer{}, said: map[string][]string{}}
	go b.read()
	if err := b.do("session.new", map[string]any{"capabilities": map[string]any{}}, nil); err != nil {
		return nil, err
	}
	return b, b.do("session.subscribe", map[string]any{"events": []string{"log.entryAdded"}}, nil)
}

// read hands out answers until the connection ends.
func (b *bidi) read() {
	for {
		var a answer
		if err := wsjson.Read(context.Background(), b.conn, &a); err != nil {
			return
		}
		b.mu.Lock()
		if a.Method == "log.entryAdded" {
			at := a.Params.Source.Context
			b.said[at] = append(b.said[at], a.Params.Level+": "+a.Params.Text)
		} else if c := b.answers[a.ID]; c != nil {
			delete(b.answers, a.ID)
			c <- a
		}
		b.mu.Unlock()
	}
}

// do carries out a command.
func (b *bidi) do(method string, params map[string]any, out any) error {
	b.mu.Lock()
	b.last++
	id, c := b.last, make(chan answer, 1)
	b.answers[id] = c
	b.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := wsjson.Write(ctx, b.conn, map[string]any{"id": id, "method": method, "params": params}); err != nil {
		return err
	}
	select {
	case a := <-c:
		if a.Type == "error" {
			return fmt.Errorf("%s: %s: %s", method, a.Error, a.Message)
		}
		if out == nil {
			return nil
		}
		return json.Unmarshal(a.Result, out)
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", method, ctx.Err())
	}
}

// firefoxTab is a tab of Firefox.
type firefoxTab struct {
	*bidi

	at string
}

func newFirefoxTab(how look) (*firefoxTab, error) {
	b, err := firefox()
	if err != nil {
		return nil, err
	}
	var user struct {
		UserContext string `json:"userContext"`
	}
	if err := b.do("browser.createUserContext", map[string]any{}, &user); err != nil {
		return nil, err
	}
	var tab struct {
		Context string `json:"context"`
	}
	if err := b.do("browsingContext.create", map[string]any{"type": "window", "userContext": user.UserContext}, &tab); err != nil {
		return nil, err
	}
	p := &firefoxTab{bidi: b, at: tab.Context}
	if how.time != 0 {
		if err := b.do("script.addPreloadScript", map[string]any{
			"functionDeclaration": "() => " + wrongClock(how.time), "contexts": []string{p.at},
		}, nil); err != nil {
			return nil, err
		}
	}
	return p, b.do("browsingContext.setViewport", map[string]any{
		"context": p.at, "viewport": map[string]any{"width": how.width, "height": how.height},
	}, nil)
}

func (p *firefoxTab) navigate(url string) error {
	return p.do("browsingContext.navigate", map[string]any{"context": p.at, "url": url, "wait": "complete"}, nil)
}

func (p *firefoxTab) evaluate(script string) (json.RawMessage, error) {
	var out struct {
		Type   string `json:"type"`
		Result struct {
			Value string `json:"value"`
		} `json:"result"`
		ExceptionDetails struct {
			Text string `json:"text"`
		} `json:"exceptionDetails"`
	}
	err := p.do("script.evaluate", map[string]any{
		"expression": "Promise.resolve(" + script + ").then((v) => JSON.stringify(v ?? null))",
		"target":     map[string]any{"context": p.at}, "awaitPromise": true,
	}, &out)
	if err == nil && out.Type == "exception" {
		err = errors.New(out.ExceptionDetails.Text)
	}
	return json.RawMessage(out.Result.Value), err
}

func (p *firefoxTab) press(key string) error {
	known := map[string]string{
		"Enter": "\uE007", "Escape": "\uE00C", "Tab": "\uE004", "ArrowDown": "\uE015", "ArrowUp": "\uE013", "Backspace": "\uE003",
	}
	if k, is := known[key]; is {
		key = k
	}
	p.keyboard.Lock()
	defer p.keyboard.Unlock()
	if err := p.do("browsingContext.activate", map[string]any{"context": p.at}, nil); err != nil {
		return err
	}
	return p.do("input.performActions", map[string]any{"context": p.at, "actions": []any{map[string]any{
		"type": "key", "id": "keyboard",
		"actions": []any{map[string]any{"type": "keyDown", "value": key}, map[string]any{"type": "keyUp", "value": key}},
	}}}, nil)
}

func (p *firefoxTab) picture() ([]byte, error) {
	var out struct {
		Data string `json:"data"`
	}
	if err := p.do("browsingContext.captureScreenshot", map[string]any{"context": p.at}, &out); err != nil {
		return nil, err
	}
	return base64.StdEncoding.DecodeString(out.Data)
}

// console leaves out what Firefox says of a connection that the page lost, which no script can keep it from.
func (p *firefoxTab) console() (said []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, line := range p.said[p.at] {
		if !strings.Contains(line, "EventSource") && !strings.Contains(line, "can’t establish a connection") &&
			!strings.Contains(line, "was interrupted while the page was loading") &&
			!strings.Contains(line, "Data available from the console") { // of its viewer of JSON
			said = append(said, line)
		}
	}
	return said
}

func (p *firefoxTab) close() {
	_ = p.do("browsingContext.close", map[string]any{"context": p.at}, nil) // the whole Firefox ends anyway
}
