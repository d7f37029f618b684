package webhook

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/breakerd/breakerd/internal/events"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

func TestParse_DefaultsAreThoseOfTheDocument(t *testing.T) {
	t.Parallel()
	hooks, err := parse([]byte("- url: https://pager.example.com:8443/x?y=z\n- {url: http://h, name: two, kinds: [store], agents: [a*], format: slack}\n"))
	if err != nil || len(hooks) != 2 {
		t.Fatal(hooks, err)
	}
	one, two := hooks[0], hooks[1]
	kinds := "closed gate hand_edit hand_restored hold_ends_soon hold_expired manual_close manual_open manual_release " +
		"manual_reset opened store_reset"
	if got := strings.Join(slices.Sorted(maps.Keys(one.kinds)), " "); got != kinds || one.Name != "pager.example.com" ||
		one.host != "pager.example.com:8443" || one.Format != "json" || !one.about("x") || !one.about("-") {
		t.Errorf("%+v", one)
	}
	if len(two.kinds) != 1 || !two.kinds["store_reset"] || two.Format != "slack" || !two.about("ab") || two.about("ba") || !two.about("-") {
		t.Errorf("%+v", two)
	}
	for _, none := range []string{"", "[]", "# nothing\n", "---\n"} {
		if hooks, err := parse([]byte(none)); err != nil || len(hooks) != 0 {
			t.Errorf("%q: %+v, %v", none, hooks, err)
		}
	}
}

func TestParse_RefusesWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	empty := file(t, "\n \n")
	many := strings.Repeat("- {url: http://h}\n", maxHooks+1)
	for text, want := range map[string]string{
		"url: http://h":                               "want a YAML list of hooks",
		"- {url: http://h, tokn: SECRET}":             "line 1: field tokn not found",
		"- {url: http://h, url: http://SECRET}":       "already defined at line 1",
		"- {url: http://h, kinds: SECRET}":            "line 1: cannot unmarshal",
		"- {url: http://h}\n---\n- {url: http://h}":   "one YAML document",
		"- {name: a}":                                 `hook 1, "a": url: want`,
		"- {url: ftp://h}":                            "url: want",
		"- {url: 'http://:80'}":                       "url: want",
		"- {url: 'http://u:SECRET@h'}":                "url: want",
		"- {url: 'http://h/%zzSECRET'}":               "url: want",
		"- {url: http://h, name: 'a:b'}":              "name: want",
		"- {url: 'http://[::1]/'}":                    "name: want",
		"- {url: http://h}\n- {url: http://h/SECRET}": `hook 2: a second one is called "h"`,
		"- {url: http://h, kinds: [opend]}":           `kinds: "opend": want some of action, closed`,
		"- {url: http://h, agents: ['[']}":            `agents: "[" is no pattern`,
		"- {url: http://h, agents: ['']}":             "is no pattern",
		"- {url: http://h, format: xml}":              `format: "xml": want json or slack`,
		"- {url: http://h, secret_file: " + filepath.Join(t.TempDir(), "none") + "}": "secret_file: stat ",
		"- {url: http://h, secret_file: " + empty + "}":                              "want a secret on each line",
		many:                               "33 hooks: want at most 32",
		strings.Repeat("#", maxFile+1):     "more than 1048576 bytes",
		"- &a {url: http://h, agents: *a}": "",
		"\t- {":                            "want a YAML list",
	} {
		_, err := parse([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%.80q: %v, want %q", text, err, want)
		}
	}
}

// TestMessage_SlackTakesNothingForMarkup: neither a mention nor a link.
func TestMessage_SlackTakesNothingForMarkup(t *testing.T) {
	t.Parallel()
	e, _ := machine.ParseEvent("1770800400000 manual_open closed>open 00000000000000aa alice 5/6/5/0 <!channel> & <http://evil|x>")
	m := newMessage(events.Entry{Agent: "payments", Event: e}, nil, false)
	const want = `{"mrkdwn":false,"text":"payments: manual_open, CLOSED to OPEN by alice: \u0026lt;!channel\u0026gt; \u0026amp; \u0026lt;http://evil|x\u0026gt; (5 of 6 calls failed)"}`
	if got, err := m.body(formatSlack); err != nil || string(got) != want {
		t.Errorf("%s, %v", got, err)
	}
	e, _ = machine.ParseEvent("1770800400000 gate > 0000000000000000 - 0/0/0/0 stop")
	m = newMessage(events.Entry{Agent: "-", Event: e}, nil, false)
	if got := m.text(); got != "fleet: gate: stop" {
		t.Error(got)
	}
	e, _ = machine.ParseEvent("1770800400000 closed half_open>closed 00000000000000aa - 0/0/0/0 probes succeeded")
	m = newMessage(events.Entry{Agent: "a", Event: e}, &episode{BeganMs: 1770800400000, Openings: 3}, true)
	if got := m.text(); got != "a: closed, HALF_OPEN to CLOSED: probes succeeded; 3 openings since 2026-02-11T09:00:00Z" {
		t.Error(got)
	}
}
