package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/breakerd/breakerd/internal/testkit"
)

// TestInbound_BansTheCallingAgent is row S7, with S2: the guarded API refuses one agent's requests. After five of them
// bridge no longer forwards them, until an operator resets the agent's breaker.
func TestInbound_BansTheCallingAgent(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		body, _ := io.ReadAll(r.Body)
		switch {
		case strings.Contains(string(body), "spam"):
			http.Error(w, "quarantined", http.StatusUnprocessableEntity)
		case strings.Contains(string(body), "crash"):
			http.Error(w, "our own fault", http.StatusInternalServerError)
		default:
			showWith(w, r, body)
		}
	}))
	t.Cleanup(api.Close)
	s := testkit.Start(t)
	b := bridge.start(t, "REDIS_URL="+s.URL(), "INBOUND_LISTEN=127.0.0.1:0", "INBOUND_URL="+api.URL+"/v1", "INBOUND_AGENT=header:X-Agent-Key")
	core := start(t, "REDIS_URL="+s.URL())
	guard := "http://" + b.inbound()
	post := func(proto, agent, body string) curled {
		return curl(t, proto, "-H", "X-Agent-Key: "+agent, "-H", "Content-Type: application/json", "-d", body, guard+"/assertions?x=1")
	}
	// Without a body: curl 7.88 may fail where an answer over HTTP/2 overtakes the request's body.
	get := func(proto, agent string) curled {
		return curl(t, proto, "-H", "X-Agent-Key: "+agent, guard+"/assertions?x=1")
	}
	for i, proto := range protocols() {
		flooder, honest := []string{"8f3a2b1c", "9e4d5f6a"}[i], []string{"honest-1", "honest-2"}[i]
		for range 5 {
			post(proto, flooder, `{"claim":"spam"}`).ok(t, 422)
		}
		before := calls.Load()
		r := get(proto, flooder).ok(t, 429).one(t, "x-circuit-breaker-state", "OPEN").one(t, "retry-after", "60").
			one(t, "Content-Type", "application/problem+json")
		if !strings.Contains(r.head, "\nx-circuit-breaker-state: OPEN\n") || !strings.Contains(r.head, "\nretry-after: 60\n") {
			t.Errorf("the runbook greps lower case: %s", r.head)
		}
		if !strings.Contains(string(r.body), `"circuit_breaker_open"`) || calls.Load() != before {
			t.Errorf("%s; the API was called %d times more", r.body, calls.Load()-before)
		}
		for range 6 {
			post(proto, honest, `{"claim":"crash"}`).ok(t, 500) // a 5xx is not the caller's fault
		}
		r = post(proto, honest, `{"claim":"good"}`).ok(t, 200)
		var got request
		if err := json.Unmarshal(r.body, &got); err != nil || got.URI != "/v1/assertions?x=1" || got.Body != `{"claim":"good"}` {
			t.Errorf("the API got %+v, %v", got, err)
		}
		core.show(flooder).has("state", "OPEN").has("failure_count", 5.0)
		core.show(honest).has("state", "CLOSED").has("failure_count", 0.0)
		core.acquire(flooder).refused("OPEN", "open") // breakerd sees the same breaker
		core.reset(flooder, "CLOSED")
		post(proto, flooder, `{"claim":"good"}`).ok(t, 200)
		core.call(http.MethodPost, adminPath+honest+"/open", `{"reason":"manual ban","timeout_seconds":600}`).want(http.StatusOK)
		get(proto, honest).ok(t, 429).one(t, "x-circuit-breaker-state", "OPEN").one(t, "retry-after", "600")
	}
	const unsent = " HTTP/1.1\r\nHost: localhost\r\nX-Agent-Key: honest-1\r\nContent-Length: 1000\r\n\r\nthe beginning"
	raw(t, b.inbound(), "POST /assertions"+unsent).refused("OPEN", "forced_open")
	r := curl(t, guard+"/assertions").ok(t, 400)
	if !strings.Contains(string(r.body), `"invalid_agent_name"`) {
		t.Errorf("nameless: %s", r.body)
	}
	b.through("8f3a2b1c", "/").want(http.StatusNotFound) // the main listener does not serve it
	if got := curl(t, guard+"/agents/x", "-H", "X-Agent-Key: late").ok(t, 200); !strings.Contains(string(got.body), `"/v1/agents/x"`) {
		t.Errorf("a path of the API: %s", got.body)
	}
	await(b, `circuit_breaker_rejections_total{agent="8f3a2b1c",reason="open"} 1`)
}

// inbound returns the address at which a bridge guards the API.
func (d *daemon) inbound() string {
	d.t.Helper()
	var line struct {
		Address string `json:"address"`
	}
	if err := json.Unmarshal([]byte(d.awaitText(`"msg":"listening"`, `"for":"INBOUND_LISTEN"`)), &line); err != nil {
		d.t.Fatal(err)
	}
	return line.Address
}

// TestInbound_RefusesBadInput covers HTTP and paths: the guard has no API of its own.
func TestInbound_RefusesBadInput(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	api := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		calls.Add(1)
	}))
	t.Cleanup(api.Close)
	b := bridge.start(t, "INBOUND_LISTEN=127.0.0.1:0", "INBOUND_URL="+api.URL+"/v1/")
	addr, callers := b.inbound(), 0
	me := func() string { // a new agent each time, for a bad request is the calling agent's failure
		callers++
		return fmt.Sprintf("X-Agent-ID: caller-%d", callers)
	}
	for _, path := range []string{"/../x", "/a/%2e%2e/x", "/a%2f..%2fb", "/%00", "/a%0d%0a", "/%ff", "/.", "/a%5c..%5cb"} {
		raw(t, addr, message("GET", path, "", me())).bad("invalid_path")
	}
	for _, header := range []string{"X-Other: 1", "X-Agent-ID:", "X-Agent-ID: a b", "X-Agent-ID: ../x", "X-Agent-ID: a\r\nX-Agent-ID: b", "X-Agent-ID: \xff", "X-Agent-ID: " + strings.Repeat("a", 129)} {
		raw(t, addr, message("GET", "/x", "", header)).bad("invalid_agent_name")
	}
	for _, text := range []string{
		message("GET", "/%zz", "", me()), message("GET", "/a b", "", me()), message("GET", "/x", "", me(), "X-Large: "+strings.Repeat("x", 80<<10)),
		message("GET", "/x", "", me(), "X-Bad: \x00"), "GET /" + strings.Repeat("x", 30) + "\r\n\r\n", "GET /x HTTP/1.1\r\n" + me() + "\r\n\r\n", message("POST", "/x", "", me(), "Content-Length: 1", "Content-Length: 2"),
	} {
		raw(t, addr, text).bad()
	}
	if n := calls.Load(); n != 0 {
		t.Errorf("the API was called %d times", n)
	}
	raw(t, addr, message("GET", "/..x", "", me())).want(http.StatusOK)
	raw(t, addr, message("POST", "/x", "\x00\xff", me())).want(http.StatusOK) // the API judges the body
}
