package page_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// driver is a tab of a browser.
type driver interface {
	navigate(url string) error
	// evaluate gives the JSON of the value of a script, which may be a promise.
	evaluate(script string) (json.RawMessage, error)
	// press presses a key, by its name in KeyboardEvent.key.
	press(key string) error
	picture() ([]byte, error)
	console() []string // what the page has said that it should not have
	close()
}

// look is how a tab looks.
type look struct {
	width, height int64
	dark          bool
	browser       string        // "": chromium
	time          time.Duration // what its clock is wrong by
}

var desk = look{width: 1440, height: 900} // a constant

// browsers are those that the page is proven in.
func browsers() []string { return []string{"chromium", "firefox"} }

// either is one of them with -short, where they are alike but for what others prove; else all.
func either(one string) []string {
	if testing.Short() {
		return []string{one}
	}
	return browsers()
}

// tab is a tab with a page of ours.
type tab struct {
	testing.TB

	driver
}

// open opens a page in a new tab.
func open(t testing.TB, url string, how look) *tab {
	t.Helper()
	p := blank(t, how)
	p.to(url)
	return p
}

// blank opens a tab that shows nothing.
func blank(t testing.TB, how look) *tab {
	t.Helper()
	p := &tab{TB: t}
	var err error
	if how.browser == "firefox" {
		p.driver, err = newFirefoxTab(how)
	} else {
		p.driver, err = newChromiumTab(how)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			p.keep("failed-" + strings.NewReplacer("/", "-").Replace(t.Name()))
			t.Logf("console: %q", p.console())
		}
		p.close()
	})
	return p
}

func (p *tab) to(url string) {
	p.Helper()
	if err := p.navigate(url); err != nil {
		p.Fatal(url, err)
	}
}

// eval is the value of a script, which may be a promise.
func eval[T any](p *tab, script string) (out T) {
	p.Helper()
	text, err := p.evaluate(script)
	if err == nil && len(text) > 0 {
		err = json.Unmarshal(text, &out)
	}
	if err != nil {
		p.Fatalf("%.300s: %v", script, err)
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

// keys presses keys, one after the other.
func (p *tab) keys(keys ...string) {
	p.Helper()
	for _, key := range keys {
		if err := p.press(key); err != nil {
			p.Fatal(key, err)
		}
	}
}

// types types a text.
func (p *tab) types(text string) {
	p.Helper()
	p.keys(strings.Split(text, "")...)
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
func (p *tab) keep(name string) {
	picture, err := p.picture()
	if err == nil {
		err = os.WriteFile(filepath.Join(artefacts(p), name+".png"), picture, 0o600)
	}
	if err != nil {
		p.Log("no picture:", err)
	}
}

// quiet wants the console to have said nothing.
func (p *tab) quiet() {
	p.Helper()
	if said := p.console(); len(said) > 0 {
		p.Errorf("the console says: %q", said)
	}
}
