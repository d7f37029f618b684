package page_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

// order is the agents that the list shows, from its top.
func (p *tab) order() []string {
	p.Helper()
	return eval[[]string](p, `[...document.querySelectorAll("table.fleet tr[data-agent]")].map((tr) => tr.dataset.agent)`)
}

// few is a fleet of some agents.
func few(t testing.TB) *server {
	t.Helper()
	s := serve(t)
	for i := range 9 {
		s.report(fmt.Sprintf("agent-%d", i), "success", 2)
	}
	return s
}

// TestList_KeepsItsPlacesUnderThePointer, and says so; what the rows show goes on.
func TestList_KeepsItsPlacesUnderThePointer(t *testing.T) {
	t.Parallel()
	s := few(t)
	p := open(t, s.url+"/ui/", desk)
	p.sees("table.fleet tbody tr.closed", "agent-0", soon)
	eval[bool](p, `document.querySelector("tr[data-agent=agent-2] .cause").dispatchEvent(new PointerEvent("pointermove", {bubbles: true}))`)
	s.trip("agent-7")
	p.sees("tr[data-agent=agent-7]", "OPEN", soon)
	p.sees("tr[data-agent=agent-7]", "probe in", 3*soon/2) // so it was read again
	p.sees(".note", "keep their places", 3*soon/2)
	if first := p.order()[0]; first != "agent-0" {
		t.Errorf("%s has jumped under the pointer", first)
	}
	eval[bool](p, `document.querySelector("table.fleet tbody").dispatchEvent(new PointerEvent("pointerleave"))`)
	p.sees("table.fleet tbody tr[data-agent]", "agent-7", 3*soon/2)
}

// TestList_FocusFollowsTheAgent when rows move.
func TestList_FocusFollowsTheAgent(t *testing.T) {
	t.Parallel()
	s := few(t)
	for _, name := range browsers() {
		p := open(t, s.url+"/ui/", look{width: 1440, height: 900, browser: name})
		p.sees("table.fleet tbody tr.closed", "agent-0", soon)
		p.keys("j", "j", "j")
		const focused = `document.activeElement.closest("tr")?.dataset.agent ?? ""`
		if at := eval[string](p, focused); at != "agent-2" {
			t.Fatalf("the third row is %q", at)
		}
		s.trip("agent-8")
		p.sees("table.fleet tbody tr[data-agent]", "agent-8", 3*soon/2)
		if at := eval[string](p, focused); at != "agent-2" {
			t.Errorf("the focus went to %q", at)
		}
		p.keys("Enter")
		p.sees("#screen h1", "agent-2", soon)
		s.do(http.MethodPost, breakers+"agent-8/reset", `{"target_state":"CLOSED","reason":"again"}`)
	}
}

// TestList_PausesAndGoesOn by the key p.
func TestList_PausesAndGoesOn(t *testing.T) {
	t.Parallel()
	s := few(t)
	p := open(t, s.url+"/ui/", desk)
	p.sees("table.fleet tbody tr.closed", "agent-0", soon)
	p.keys("p")
	p.sees(".note", "Paused", soon)
	s.trip("agent-5")
	p.verdict("1 agent OPEN")
	time.Sleep(2500 * time.Millisecond)
	if first := p.order()[0]; first != "agent-0" {
		t.Errorf("%s has moved", first)
	}
	p.keys("p")
	p.sees("table.fleet tbody tr[data-agent]", "agent-5", soon)
}

// TestHidden_AsksNothing: no request, and no stream, which another tab may want to lead.
func TestHidden_AsksNothing(t *testing.T) {
	t.Parallel()
	s := few(t)
	p := open(t, s.url+"/ui/", desk)
	p.verdict("all 9 closed")
	p.sees("#fresh", "live", soon)
	hide := func(hidden bool) {
		eval[bool](p, fmt.Sprintf(`(Object.defineProperty(document, "hidden", {value: %t, configurable: true}), document.dispatchEvent(new Event("visibilitychange")))`, hidden))
	}
	hide(true)
	time.Sleep(300 * time.Millisecond)
	eval[bool](p, `(performance.clearResourceTimings(), true)`)
	time.Sleep(4 * time.Second)
	if asked := eval[[]string](p, `performance.getEntriesByType("resource").map((e) => e.name)`); len(asked) > 0 {
		t.Errorf("hidden, it has asked for %q", asked)
	}
	if eval[bool](p, `import("./feed.js").then((m) => m.feed.leads || m.feed.live)`) {
		t.Error("hidden, it has the stream")
	}
	s.trip("agent-1")
	hide(false)
	p.verdict("1 agent OPEN")
	p.sees("#fresh", "live", soon)
	p.quiet()
}

// TestAddresses_AreScreensWithTheirFilters: each can be sent to somebody else, and the browser goes back.
func TestAddresses_AreScreensWithTheirFilters(t *testing.T) {
	t.Parallel()
	s, p := mixed(t), blank(t, desk)
	for show, want := range map[string]string{
		"open": "mailer", "half": "geo", "held": "agent-07", "ramping": "agent-08", "observing": "search", "overridden": "search", "closed": "agent-00",
	} {
		p.to(s.url + "/ui/?show=" + show)
		p.sees("table.fleet tbody", want, 5*soon/2)
		p.sees("nav.counts [aria-current]", show, soon)
		if show != "closed" && show != "held" && eval[int](p, `document.querySelectorAll("table.fleet tr[data-agent=agent-00]").length`) > 0 {
			t.Errorf("%s finds another kind, too", show)
		}
	}
	p.to(s.url + "/ui/?q=agent-1&label=team%3Dt1&sort=agent_id")
	p.sees("table.fleet tbody tr[data-agent]", "agent-10", 5*soon/2)
	if got := fmt.Sprint(p.order()); got != "[agent-10 agent-13 agent-16 agent-19]" {
		t.Error(got)
	}
	eval[bool](p, `(document.querySelector("tr[data-agent=agent-13] a").click(), true)`)
	p.sees("#screen h1", "agent-13", soon)
	eval[bool](p, `(history.back(), true)`)
	p.sees("table.fleet tbody tr[data-agent]", "agent-10", soon)
	if at := eval[string](p, "location.search"); at != "?q=agent-1&label=team%3Dt1&sort=agent_id" {
		t.Error(at)
	}
}
