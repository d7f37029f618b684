package page_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
	goredis "github.com/redis/go-redis/v9"
)

// TestTexts_AreShownAsText: whatever others write is text, in each browser and on each screen, and nothing of it runs.
func TestTexts_AreShownAsText(t *testing.T) {
	t.Parallel()
	redis := testkit.Start(t)
	s := serve(t, "REDIS_URL="+redis.URL(), "HISTORY_MINUTES=60")
	long := "A" + strings.Repeat("w", 127)
	const evil = `<img src=x onerror="window.ran=1"><script>window.ran=1</script>"'&amp;{{7*7}}` + "`${window.ran=1}`"
	const turned = "\u202e\u05d2\u05e8\u05e1\u05d4 \u2066evil\u2069 <b>x</b> \u0645\u0631\u062d\u0628\u0627"
	quoted := func(text string) string {
		out, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	for _, agent := range []string{long, "evil"} {
		s.report(agent, "success", 2)
		s.do(http.MethodPut, "/v1/admin/agents/"+agent, `{"contact":`+quoted(evil)+`,"url":"http://127.0.0.1:1/","labels":{"team":`+quoted(evil)+`}}`, "If-None-Match", "*")
		s.do(http.MethodPost, "/v1/circuit_breakers/"+agent+"/report", `{"outcome":"failure","error":`+quoted(evil)+`}`)
		s.do(http.MethodPut, breakers+agent+"/config", `{"failure_threshold":4,"_reason":`+quoted(evil)+`}`, "If-None-Match", "*")
		s.do(http.MethodPost, breakers+agent+"/open", `{"reason":`+quoted(evil)+`,"timeout_seconds":600}`, "X-Actor", "a.b")
	}
	// What the API refuses can come by hand.
	ctx, client := t.Context(), redis.Client(t)
	now := time.Now().UnixMilli()
	line := fmt.Sprintf("%d opened closed>open 00000000000000a1 - 5/5/5/0 %s", now, turned)
	if err := client.XAdd(ctx, &goredis.XAddArgs{Stream: "circuit_breaker:stream", Values: []any{"agent", "evil", "event", line}}).Err(); err != nil {
		t.Fatal(err)
	}
	if err := client.HSet(ctx, "circuit_breaker:fleet", "to", "0.5", "reason", evil+turned, "actor", "x").Err(); err != nil {
		t.Fatal(err)
	}
	for _, name := range either("firefox") {
		t.Run(name, func(t *testing.T) {
			p := blank(t, look{width: 390, height: 844, browser: name})
			for _, at := range []string{"", "agent?name=evil", "agent?name=" + long, "agent?name=%3Cimg%20src=x%20onerror=alert(1)%3E", "events", "replicas", "controls", "audit", "?q=%3Cb%3E&label=%3Cimg%3E", "x%3Cscript%3E"} {
				p.to(s.url + "/ui/" + at)
				time.Sleep(1200 * time.Millisecond)
				if at == "events" || at == "agent?name=evil" || at == "controls" {
					if shown := p.text("#screen"); !strings.Contains(shown, evil) {
						t.Errorf("%s does not show the text: %.900s", at, shown)
					}
				}
				if at == "events" && !strings.Contains(p.text("#screen"), turned) {
					t.Error("the turned text is missing")
				}
				if made := eval[int](p, `document.querySelectorAll("main img, main script, #top img, #top script, #dialog img").length`); made > 0 {
					t.Errorf("%s: %d elements were made of text", at, made)
				}
				if eval[bool](p, "!!window.ran") {
					t.Errorf("%s: a text has run", at)
				}
				if wide := eval[bool](p, "document.documentElement.scrollWidth > innerWidth"); wide {
					t.Errorf("%s is wider than the telephone", at)
				}
			}
			if len(p.console()) > 0 {
				t.Errorf("%q", p.console())
			}
		})
	}
}

// TestClock_OfTheMachineMayBeWrong by an hour: what is shown goes by the fleet's.
func TestClock_OfTheMachineMayBeWrong(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.trip("payments")
	for _, name := range either("firefox") {
		for _, wrong := range []time.Duration{-time.Hour, time.Hour} {
			p := open(t, s.url+"/ui/", look{width: 1440, height: 900, browser: name, time: wrong})
			p.sees("#sentence", "1 agent OPEN since", soon)
			p.sees("#sentence", time.Now().UTC().Format("15:"), soon)
			p.sees("#sentence", "next probe 0", soon)
			p.sees("table.fleet tbody tr.open", "probe in 0", soon)
			p.sees("#fresh", "live", soon)
			if off := eval[float64](p, fmt.Sprintf("Math.abs(Date.now() - %d)", time.Now().UnixMilli())); off < 3_500_000 {
				t.Errorf("%s: the clock is not wrong: %v ms", name, off)
			}
		}
	}
}

// TestPolling_WithoutLocks: a page without TLS of another host has no Web Locks, and reads again and again.
func TestPolling_WithoutLocks(t *testing.T) {
	t.Parallel()
	s := guarded(t)
	s.report("payments", "success", 2)
	own := s.url
	for _, name := range either("chromium") {
		s.url = strings.Replace(own, "127.0.0.1", "fleet.test", 1)
		p := s.signIn("read", "", look{width: 1440, height: 900, browser: name})
		s.url = own
		if eval[bool](p, `"locks" in navigator`) {
			t.Fatal("there are locks: nothing is proven")
		}
		p.verdict("closed")
		p.sees("#fresh", "polled", soon)
		s.trip("payments")
		p.verdict("1 agent OPEN")
		p.sees("table.fleet tbody tr.open", "payments", 3*soon/2)
		s.do(http.MethodPost, breakers+"payments/reset", `{"target_state":"CLOSED","reason":"mended"}`)
		p.verdict("closed")
		p.quiet()
	}
}

// TestAccessibility_OfTheTree that a screen reader goes by.
func TestAccessibility_OfTheTree(t *testing.T) {
	t.Parallel()
	s := mixed(t)
	p := open(t, s.url+"/ui/", desk)
	p.sees("table.fleet tbody", "payments", soon)
	p.sees("#announce", "3 agents OPEN", 6*soon/2)
	p.keys("j")
	chrome, ok := p.driver.(*chromiumTab)
	if !ok {
		t.Fatal("not Chromium")
	}
	tree := chrome.accessibility(t)
	for _, want := range []string{
		"navigation Screens", "navigation Show", "table Circuit breakers", "columnheader State", "columnheader Next", "rowheader payments",
		"cell ■ OPEN", "searchbox Find an agent", "combobox Order", "combobox Label", "link payments", "main ", "status ",
		"image 5 of 13 calls failed in 60 min", "button Keys ?",
	} {
		if !strings.Contains(tree, want) {
			t.Errorf("the tree lacks %q", want)
		}
	}
	if t.Failed() {
		t.Log(tree)
	}
	if n := eval[int](p, `Number(document.querySelector("table.fleet").getAttribute("aria-rowcount"))`); n != 46 {
		t.Errorf("aria-rowcount is %d", n)
	}
	if i := eval[string](p, `document.activeElement.closest("tr").getAttribute("aria-rowindex")`); i != "2" {
		t.Errorf("the focus is on row %s", i)
	}
	unnamed := eval[[]string](p, `[...document.querySelectorAll("button, a[href], input, select")].filter((e) =>
		!(e.textContent.trim() || e.labels?.length || e.getAttribute("aria-label"))).map((e) => e.outerHTML)`)
	if len(unnamed) > 0 {
		t.Errorf("without a name: %q", unnamed)
	}
	contrast(p, "light")
	for at, how := range map[string]look{"": {width: 1440, height: 900, dark: true}, "agent?name=mailer": {width: 1440, height: 900}, "controls": {width: 1440, height: 900, dark: true}} {
		p := open(t, s.url+"/ui/"+at, how)
		p.sees("#screen", "alice", soon)
		contrast(p, at)
	}
}

// contrast wants every text to stand out from what is behind it by 4.5, by the formula of WCAG 2.
func contrast(p *tab, of string) {
	p.Helper()
	low := eval[[]string](p, `(() => {
		const rgba = (c) => (c.match(/[\d.]+/g) ?? []).map(Number);
		const light = (c) => { const [r, g, b] = c.slice(0, 3).map((v) => { v /= 255; return v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; }); return .2126 * r + .7152 * g + .0722 * b; };
		const behind = (e) => { for (; e; e = e.parentElement) { const c = rgba(getComputedStyle(e).backgroundColor); if (c.length === 3 || c[3] > 0) return c; } return [255, 255, 255]; };
		const out = new Set();
		for (const e of document.querySelectorAll("body *")) {
			if (![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) || !e.checkVisibility() || e.closest("svg")) continue;
			const s = getComputedStyle(e), a = light(rgba(s.color)), b = light(behind(e)), ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
			if (ratio < 4.5) out.add(e.tagName + "." + e.className + " " + ratio.toFixed(2));
		}
		return [...out];
	})()`)
	if len(low) > 0 {
		p.Errorf("%s: too little contrast: %q", of, low)
	}
}
