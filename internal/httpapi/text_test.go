package httpapi

import (
	"encoding/json"
	"testing"
	"unicode"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// Texts of a report and of an operator reach logs and terminals. An error's text is cut, for the outcome must not be lost
// for it; the others are refused.
func TestTexts_HoldNothingThatATerminalActsOn(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, c := range []string{
		"\u2028", "\u2029", "\u202e", "\u2066", "\u009b", "\u0085", "\x1b[31m", "\x7f", "\x00", "\r\n", "\u200b", "\u200d", "\u2060", "\ufeff", "\u00ad",
		"\U000e0001", "\U000e0041", "\ufff9", "\u061c",
	} {
		raw, err := json.Marshal("a" + c + "b")
		if err != nil {
			t.Fatal(err)
		}
		s := string(raw)
		o, err := outcome(reportBody{Outcome: "failure", Error: "a" + c + "b"})
		want := breaker.Outcome{Kind: breaker.Failure, Class: "a b"}
		if c == "\x1b[31m" {
			want.Class = "a [31mb"
		}
		if err != nil || o != want {
			t.Errorf("%s: got %+v, %v", s, o, err)
		}
		f.Do("POST", "/v1/circuit_breakers/a/report", `{"outcome":"failure","error":`+s+`}`).Want(200)
		for _, refused := range []struct{ method, path, body string }{
			{"POST", "/v1/circuit_breakers/a/report", `{"outcome":"failure","reporter":` + s + `}`},
			{"POST", "/v1/admin/circuit_breakers/a/open", `{"reason":` + s + `}`},
			{"POST", "/v1/admin/circuit_breakers/a/open", `{"actor":` + s + `}`},
			{"POST", "/v1/admin/circuit_breakers/a/reset", `{"target_state":"CLOSED","reason":` + s + `}`},
			{"PUT", "/v1/admin/agents/a", `{"contact":` + s + `}`},
			{"PUT", "/v1/admin/agents/a", `{"labels":{"a":` + s + `}}`},
			{"PUT", "/v1/admin/agents/a", `{"url":"http://h/` + s[1:] + `}`},
			{"PUT", "/v1/admin/agents/a", `{"count":{"path_prefixes":["/` + s[1:] + `]}}`},
			{"PUT", "/v1/admin/circuit_breakers/a/config", `{"mode":` + s + `}`},
		} {
			g := f.Do(refused.method, refused.path, refused.body).WantProblem(422, problem.InvalidValue)
			for _, r := range g.Text {
				if r != '\n' && !unicode.IsPrint(r) {
					t.Errorf("%s of %s: %q holds %U", refused.path, s, g.Text, r)
				}
			}
		}
	}
}
