package page_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// guarded is a fleet that asks who somebody is: for each role there is a token of its name.
func guarded(t testing.TB) *server {
	t.Helper()
	var entries strings.Builder
	for _, role := range []string{"read", "operate", "admin"} {
		sum := sha256.Sum256([]byte(tokenOf(role)))
		fmt.Fprintf(&entries, "- name: the-%s\n  role: %s\n  sha256: %s\n", role, role, hex.EncodeToString(sum[:]))
	}
	file := filepath.Join(t.TempDir(), "auth.yaml")
	if err := os.WriteFile(file, []byte(entries.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	s := serve(t, "AUTH_FILE="+file)
	s.token = tokenOf("admin")
	return s
}

func tokenOf(role string) string { return "the-token-of-" + role + "-in-this-test-only" }

// signIn opens the page and signs in, as people do.
func (s *server) signIn(role, at string, how look) *tab {
	s.Helper()
	p := open(s, s.url+"/ui/"+at, how)
	p.sees("#sign-in", "Sign in", soon)
	p.types(tokenOf(role))
	p.keys("Enter")
	p.sees("#who", "the-"+role, soon)
	return p
}

// TestActions_ByKeyboardAlone: each action in each browser, in both themes; what is shown is the event.
func TestActions_ByKeyboardAlone(t *testing.T) {
	t.Parallel()
	for _, name := range browsers() {
		for _, dark := range []bool{false, true} {
			if dark && name == "firefox" || testing.Short() && dark != (name == "chromium") {
				continue // Firefox has no theme for one tab; with -short, one theme a browser
			}
			t.Run(fmt.Sprintf("%s,dark=%t", name, dark), func(t *testing.T) {
				actions(t, look{width: 1440, height: 900, browser: name, dark: dark})
			})
		}
	}
}

func actions(t *testing.T, how look) {
	t.Helper()
	s := guarded(t)
	for i := range 12 {
		s.report(fmt.Sprintf("agent-%02d", i), "success", 2)
	}
	p := s.signIn("admin", "", how)
	p.verdict("all 12 closed")
	p.sees("table.fleet tbody tr.closed", "agent-00", soon)
	verb := func(key, title, says, event string) {
		t.Helper()
		p.keys(key)
		p.sees("#dialog h2", title, soon)
		p.sees("#dialog", says, soon)
		if key == "o" {
			p.keep(fmt.Sprintf("dialog-%s-%t", how.browser, how.dark))
		}
		p.focus("#reason")
		p.types("because " + key)
		p.keys("Enter")
		p.sees("#result", event, 3*soon/2)
		p.sees("#result", "by the-admin", soon)
	}
	p.keys("j")
	verb("o", "Hold open", "Every call is refused", "agent-00 held open, now OPEN")
	p.verdict("agent-00, held by the-admin: because o")
	p.keys("z")
	p.sees("#result", "agent-00 hold released", 3*soon/2)
	p.verdict("HALF-OPEN")
	p.keys("k", "k")
	verb("r", "Reset to closed", "window is empty", "agent-00 reset, now CLOSED")
	p.verdict("all 12 closed")
	verb("c", "Hold closed", "does not open", "agent-00 held closed, now CLOSED")
	p.verdict("1 held closed")
	verb("x", "Release the hold", "as it would by itself", "agent-00 hold released")
	p.keys("z")
	p.sees("#result", "agent-00 held closed", 3*soon/2)
	verb("h", "Let probes through", "decide", "agent-00 reset, now HALF_OPEN")

	// Many: the number is typed.
	p.keys("/")
	p.types("agent-")
	p.sees(".tools", "Change these 12…", soon)
	p.focus(".tools button")
	p.keys("Enter")
	p.sees("#dialog h2", "Change 12 agents", soon)
	eval[bool](p, `(document.querySelector("#verb").value = "open", document.querySelector("#verb").dispatchEvent(new Event("change")))`)
	p.sees("#dialog", "Every call is refused", soon)
	p.focus("#reason")
	p.types("all of them")
	p.keys("Tab")
	p.types("11")
	p.keys("Enter")
	p.sees("#dialog .error", "That is not 12.", soon)
	p.keys("Backspace", "2", "Enter")
	p.sees("#result", "12 of 12 done", 5*soon/2)
	p.verdict("12 agents OPEN")
	p.keys("Escape")

	// The whole fleet: its name is typed.
	p.focus("nav.screens a")
	p.keys("g", "c")
	p.sees("#screen", "No gate stands", soon)
	p.sees("#screen", "agent-11", soon)
	p.focus("#stop")
	p.keys("Enter")
	p.sees("#dialog", "No call of any agent is admitted", soon)
	p.focus("#reason")
	p.types("prices are wrong")
	p.keys("Tab")
	p.types("fleet")
	p.keys("Enter")
	p.verdict("every call is STOPPED since")
	p.sees("#result", "the fleet gate of the fleet by the-admin", 3*soon/2)
	p.focus("#banners button")
	p.keys("Enter")
	p.sees("#dialog h2", "Resume", soon)
	p.focus("#reason")
	p.types("mended")
	p.keys("Enter")
	p.verdict("calls return:")
	p.focus("#result button")
	p.keys("z")
	p.verdict("every call is STOPPED since")
	s.do(http.MethodDelete, "/v1/admin/fleet", "")

	override(p, s)
	p.keys("g", "a")
	p.sees("#screen", "prices are wrong", soon)
	p.sees("#screen", "the-admin", soon)
	p.keys("g", "e")
	p.sees("#screen", "held open", soon)
	p.keys("g", "r")
	p.sees("#screen", "alive", soon)
	p.keys("g", "f")
	p.sees("table.fleet", "agent-", soon)
	p.keys("?")
	p.sees("#dialog", "undo the last change", soon)
	p.keys("Escape")
	p.quiet()
}

// override edits an agent's override: what differs is shown, a dry run changes nothing, and a change can be undone.
func override(p *tab, s *server) {
	p.Helper()
	p.to(s.url + "/ui/agent?name=agent-03")
	p.sees("#screen h1", "agent-03", soon)
	p.sees("#screen", "Edit override…", soon)
	p.focus("#edit")
	p.keys("Enter")
	p.sees(".editor", "failure_threshold", soon)
	p.focus("#f-failure_threshold")
	p.types("-1")
	p.sees(".diff", "failure_threshold: 5 (default) → -1", soon)
	p.click("Dry run")
	p.sees("#screen .policy .error", "failure_threshold", soon)
	p.focus("#f-failure_threshold")
	p.keys("Backspace", "Backspace", "9")
	p.click("Dry run")
	p.sees("#screen .policy .error", "It would be taken.", soon)
	if got := s.policy("agent-03"); got != "5 of default" {
		p.Fatal("a dry run has changed it:", got)
	}
	p.click("Save…")
	p.sees("#dialog", "failure_threshold: 5 (default) → 9", soon)
	p.focus("#reason")
	p.types("it fails often")
	p.keys("Enter")
	p.sees("#result", "is changed", soon)
	if got := s.policy("agent-03"); got != "9 of override" {
		p.Fatal("the override is not set:", got)
	}
	p.focus("#result button")
	p.keys("z")
	p.sees("#result", "Put back", soon)
	if got := s.policy("agent-03"); got != "5 of default" {
		p.Fatal("the override is not put back:", got)
	}
}

func (s *server) policy(agent string) string {
	s.Helper()
	all, _ := s.do(http.MethodGet, breakers+agent, "")["policy"].(map[string]any)
	one, _ := all["failure_threshold"].(map[string]any)
	return fmt.Sprintf("%v of %v", one["value"], one["origin"])
}

// focus gives an element the focus, as a reader's Tab would.
func (p *tab) focus(selector string) {
	p.Helper()
	if !eval[bool](p, fmt.Sprintf("(document.querySelector(%[1]q)?.focus(), document.activeElement?.matches(%[1]q) ?? false)", selector)) {
		p.Fatalf("%s does not take the focus", selector)
	}
}

// click presses the button with this text by the keyboard.
func (p *tab) click(text string) {
	p.Helper()
	if !eval[bool](p, fmt.Sprintf(`(() => { const b = [...document.querySelectorAll("button")].find((b) => b.textContent === %q); b?.focus(); return !!b; })()`, text)) {
		p.Fatalf("there is no button %s", text)
	}
	p.keys("Enter")
}

// draws wants a button to be there, or not to be once it is known who looks.
func (p *tab) draws(button string, wanted bool) {
	p.Helper()
	p.sees("#who", "the-", 5*soon/2)
	if wanted {
		p.sees("#screen", button, 5*soon/2)
		return
	}
	time.Sleep(time.Second)
	if strings.Contains(p.text("#screen"), button) {
		p.Errorf("%s is drawn", button)
	}
}

// TestRoles_SeeWhatTheyMayDo: what would be refused is not drawn, and a key does nothing.
func TestRoles_SeeWhatTheyMayDo(t *testing.T) {
	t.Parallel()
	s := guarded(t)
	s.report("agent-0", "success", 2)
	s.do(http.MethodPost, breakers+"agent-0/open", `{"reason":"x","timeout_seconds":60}`)
	for _, c := range []struct {
		role, query     string
		operates, stops bool
	}{
		{"read", "", false, false}, {"operate", "", true, false}, {"admin", "", true, true}, {"admin", "readonly=1", false, false},
	} {
		p := s.signIn(c.role, "?"+c.query, desk)
		p.sees("table.fleet tbody tr.open", "agent-0", soon)
		p.keys("j", "o")
		time.Sleep(100 * time.Millisecond)
		if opened := eval[bool](p, `document.querySelector("#dialog").open`); opened != c.operates {
			t.Errorf("%v: the key o opens a dialog: %t", c, opened)
		}
		if c.role == "operate" {
			p.focus("#reason")
			p.types("longer")
			p.keys("Enter")
			p.sees("#dialog .error", "the-admin holds it", soon)
			p.focus("#force")
			p.keys(" ")
			p.focus("#reason")
			p.keys("Enter")
			p.sees("#result", "agent-0 held open, now OPEN by the-operate", 3*soon/2)
		}
		p.to(s.url + "/ui/agent?name=agent-0&" + c.query)
		p.sees("#screen h1", "agent-0", soon)
		p.sees("#screen", "default", soon)
		p.draws("Release hold…", c.operates)
		p.to(s.url + "/ui/controls?" + c.query)
		p.sees("#screen", "No gate stands", soon)
		p.draws("Stop every call…", c.stops)
		if c.query != "" && !strings.Contains(eval[string](p, `document.querySelector("nav.screens a").href`)+eval[string](p, "(document.querySelector('nav.screens a').click(), location.search)"), "readonly=1") {
			t.Error("read only is forgotten on the way")
		}
		p.quiet()
	}
}
