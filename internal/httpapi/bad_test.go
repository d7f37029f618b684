package httpapi

import (
	"strings"
	"testing"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/route/routetest"
)

func TestAPI_ConformsToItsDocument(t *testing.T) {
	t.Parallel()
	routetest.Conforms(t, func(t testing.TB) *routetest.Client { return newFixture(t).Client }, "gate", "gateBelow")
}

func TestQuarantine_RefusesBadNames(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for what, name := range routetest.BadNames() {
		if strings.Contains(name.Text, "%") || !name.Ours || name.Text == "a+b" || len(name.Text) > 1000 {
			continue
		}
		g := f.RawRequest("GET", "/v1/admin/quarantine?agent_id="+name.Text, "")
		if g.Status < 400 || g.Status > 499 || g.JSON["code"] == nil {
			t.Errorf("quarantine of %s: %d %s", what, g.Status, g.Text)
		}
	}
	f.Unharmed("all")
}

func TestPaths_AreNotRedirected(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for target, want := range map[string]int{
		"//": 404, "/": 404, "/v1//batch": 404, "/v1/./batch": 404, "/v1/x/../batch": 404, "/v1/batch/": 404, "/v1%2Fbatch": 404, "/v1/%2e/batch": 404,
		"/v1/admin/circuit_breakers/": 400, "/v1/admin/circuit_breakers//reset": 400, "/v1/%63ircuit_breakers/a%20b/acquire": 400,
		"/v1/circuit_breakers/a/unknown": 404, "/v1/circuit_breakers/a/": 404, "/v1/circuit_breakers/a/%2e%2e": 404, "/metrics/..": 404,
		"http://other.example/v1/circuit_breakers/a%00/acquire": 400,
	} {
		g := f.RawRequest("POST", target, "")
		if g.Status != want || g.JSON["code"] == nil {
			t.Errorf("%s: %d %s, want %d", target, g.Status, g.Text, want)
		}
	}
	f.RawRequest("CONNECT", "localhost:80", "").WantProblem(404, problem.NotFound)
	g := f.Do("PATCH", "/v1/admin/circuit_breakers/a/config", "").WantProblem(405, problem.MethodNotAllowed)
	if allow := g.Header.Get("Allow"); allow != "GET, HEAD, PUT, DELETE" {
		t.Errorf("Allow: %s", allow)
	}
	f.Do("HEAD", "/livez", "").Want(200)
	f.Unharmed("all")
}

func TestBodies_BadValuesAreRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for verb, bodies := range map[string][]string{
		"circuit_breakers/a/report": {
			`{"outcome":"great"}`, `{}`, `{"outcome":null}`, `{"outcome":"failure","duration_ms":-1}`, `{"outcome":"failure","duration_ms":1e300}`,
			`{"outcome":"failure","duration_ms":"NaN"}`, `{"outcome":"failure","retry_after_seconds":-0.5}`, `{"outcome":"failure","retry_after_seconds":1e18}`,
			`{"outcome":"failure","retry_after_seconds":9223372036854775808}`, `{"outcome":"failure","reporter":"a b"}`, `{"outcome":"failure","permit":"v1.closed"}`,
			`{"outcome":"failure","permit":"` + strings.Repeat("p", 300) + `"}`, `{"outcome":"failure","error":7}`,
		},
		"circuit_breakers/a/renew":       {`{}`, `{"permit":""}`, `{"permit":"v2.closed.0000000000000000.-.00000000"}`, `{"permit":7}`},
		"circuit_breakers/a/acquire":     {`{"parent":7}`, `{"parent":"` + strings.Repeat("p", 300) + `"}`},
		"batch":                          {`{}`, `{"operations":null}`, `{"operations":[null]}`, `{"operations":[{"op":"steal","agent":"a"}]}`, `{"operations":[{"op":"acquire"}]}`, `{"operations":[{"op":"acquire","agent":"a","Agent":"b"}]}`},
		"admin/circuit_breakers/a/reset": {`{}`, `{"target_state":"OPEN"}`, `{"target_state":""}`, `{"target_state":"half open"}`, `{"target_state":"CLOSED","gradual_seconds":-1}`, `{"target_state":"CLOSED","gradual_seconds":1e12}`, `{"target_state":"CLOSED","gradual_seconds":1e-9}`, `{"target_state":"HALF_OPEN","gradual_seconds":1}`, `{"target_state":"CLOSED","reason":"a\nb"}`, `{"target_state":"CLOSED","force":"yes"}`, `{"target_state":"CLOSED","actor":"a b"}`},
		"admin/circuit_breakers/a/open":  {`{"timeout_seconds":-1}`, `{"timeout_seconds":0}`, `{"timeout_seconds":1e308}`, `{"timeout_seconds":"1"}`, `{"reason":"` + strings.Repeat("r", 501) + `"}`, `{"reason":"a\u202eb"}`, `{"reason":"a\u200bb"}`, `{"protected":1}`, `{"actor":"\r\n"}`},
		"admin/circuit_breakers/a/close": {`{"timeout_seconds":2592000.001}`, `{"reason":"\u0000"}`},
	} {
		for _, body := range bodies {
			g := f.Do("POST", "/v1/"+verb, body)
			if g.Status == 400 && strings.Contains(body, `"Agent"`) { // the same field twice
				g.WantProblem(400, problem.InvalidJSON)
				continue
			}
			if g.Status != 422 || g.JSON["code"] == nil {
				t.Errorf("%s %.80s: %d %s", verb, body, g.Status, g.Text)
			}
		}
	}
	f.Do("POST", "/v1/admin/circuit_breakers/a/open", "", "X-Actor", "a b").WantProblem(422, problem.InvalidValue)
	f.Do("DELETE", "/v1/admin/circuit_breakers/a?force=yes", "").WantProblem(422, problem.InvalidValue)
	f.Do("PUT", "/v1/admin/agents/a", "{}", "If-None-Match", `"x"`).WantProblem(422, problem.InvalidValue)
	f.Unharmed("all")
}
