package httpapi

import (
	"io"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/problem"
)

func TestTheGateGivesAPermitThatOwesAReport(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, query := range []string{"", "?", "?deny_status=403"} {
		g := f.do("GET", "/v1/gate/FailingAgent"+query, "").want(200, "allowed=true", `state="CLOSED"`)
		permit := g.header["X-Circuit-Breaker-Permit"]
		if len(permit) != 1 || permit[0] != g.at("permit") || g.header.Get("Cache-Control") != "no-store" {
			t.Fatalf("%v: %s", g.header, g.text)
		}
		f.do("POST", "/v1/circuit_breakers/FailingAgent/report", `{"permit":"`+permit[0]+`","outcome":"failure"}`).want(200, "counted=true")
	}
	f.do("GET", "/v1/admin/circuit_breakers/FailingAgent", "").want(200, "consecutive_failures=3")
	if raw := f.rawHeader("GET", "/v1/gate/FailingAgent"); !strings.Contains(raw, "\r\nx-circuit-breaker-permit: v1.") {
		t.Errorf("the header's name is not in lower case:\n%s", raw)
	}
}

func TestTheGateRefusesWithTheStatusThatTheProxyUnderstands(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.fail("a", 5)
	for query, status := range map[string]int{
		"": 429, "?deny_status=401": 401, "?deny_status=403": 403, "?deny_status=429": 429, "?deny_status=503": 503,
	} {
		g := f.do("GET", "/v1/gate/a"+query, "").wantProblem(status, problem.CircuitBreakerOpen).
			want(status, `agent="a"`, `reason="open"`, `state="OPEN"`, "retry_after_seconds=60", "status="+strconv.Itoa(status))
		if g.header.Get("X-Circuit-Breaker-State") != "OPEN" || g.header.Get("Retry-After") != "60" || g.header.Get("X-Circuit-Breaker-Permit") != "" {
			t.Errorf("%s: %v", query, g.header)
		}
	}
	f.keeper.setAway(false)
	f.do("GET", "/v1/gate/a?deny_status=403", "").wantProblem(503, problem.StoreUnavailable)
}

func TestTheGateLeasesProbesAsAcquireDoes(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.fail("a", 5)
	f.advance(time.Minute)
	for range 3 {
		f.do("GET", "/v1/gate/a?deny_status=403", "").want(200, `state="HALF_OPEN"`, "lease_seconds=60")
	}
	f.do("GET", "/v1/gate/a?deny_status=403", "").wantProblem(403, problem.CircuitBreakerOpen).want(403, `reason="probes_busy"`, `state="HALF_OPEN"`)
}

func TestTheGateRefusesBadQueries(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, q := range []string{
		"deny_status=", "deny_status=200", "deny_status=500", "deny_status=0403", "deny_status=403&deny_status=403", "deny_status=%00", "deny_status=403%20",
		"Deny_Status=403", "deny=403", "deny_status=" + strings.Repeat("4", 5000), "a;b", "%zz", "deny_status=-1", "deny_status=4e2",
	} {
		f.do("GET", "/v1/gate/a?"+q, "").wantProblem(422, problem.InvalidValue)
	}
	for _, s := range []string{"", "200", "0403", "403, 403"} {
		f.do("GET", "/v1/gate/a/b", "", denyStatusHeader, s).wantProblem(422, problem.InvalidValue)
	}
	for what, name := range badNames() {
		if before, _, cut := strings.Cut(name.text, "/"); cut && before != "" {
			continue // what follows is the call's own path
		}
		for _, below := range []string{"", "/", "/x"} {
			g := f.rawRequest("GET", "/v1/gate/"+name.text+below, "")
			if g.status < 400 || g.status > 499 || name.ours && g.json["code"] != string(problem.InvalidAgentName) {
				t.Errorf("name %s%s: %d %.200s", what, below, g.status, g.text)
			}
		}
	}
	f.unharmed("all")
}

func TestTheGateTakesWhateverAProxySends(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.fail("open", 5)
	for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"} {
		for _, path := range []string{"", "/", "/x", "//x/../y", "/%2e%2e/a%2Fb/%ff", "/x?deny_status=200&a;b&%zz", "/openapi.json"} {
			f.rawRequest(method, "/v1/gate/a"+path, "").want(200, "allowed=true")
			g := f.raw(method + " /v1/gate/open" + path + " HTTP/1.1\r\nHost: localhost\r\nX-Breaker-Deny-Status: 401\r\n\r\n")
			g.wantProblem(401, problem.CircuitBreakerOpen)
			if g.header.Get("WWW-Authenticate") == "" {
				t.Error("a 401 without a challenge")
			}
		}
	}
	f.do("POST", "/v1/gate/a", "not JSON", "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example").want(200)
	f.rawRequest("GET", "/v1/%67ate/a", "").wantProblem(404, problem.NotFound)
}

func TestTheGateDoesNotWaitForABody(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var wg sync.WaitGroup
	for _, body := range []string{
		"Content-Length: 1000\r\n", "Transfer-Encoding: chunked\r\n", "Content-Length: 5\r\nExpect: 100-continue\r\n", "Content-Length: 9999999999\r\n",
	} {
		conn := f.dial()
		_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second)) // else for ever
		wg.Go(func() {
			defer conn.Close()
			_, _ = io.WriteString(conn, "GET /v1/gate/a HTTP/1.1\r\nHost: localhost\r\n"+body+"\r\n")
			text, err := io.ReadAll(conn) // to the end of the connection
			if err != nil || !strings.HasPrefix(string(text), "HTTP/1.1 200 OK\r\n") || !strings.Contains(string(text), "x-circuit-breaker-permit: v1.") {
				t.Errorf("%q: got %q, %v", body, text, err)
			}
		})
	}
	wg.Wait()
	f.raw("POST /v1/gate/a/b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200000\r\n\r\n" + strings.Repeat("x", 200_000)).want(200)
}

func TestHEADOfTheGateAcquiresNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.fail("a", 5)
	f.advance(time.Minute)
	for _, path := range []string{"/v1/gate/a", "/v1/gate/a/x"} {
		if text := f.rawHeader("HEAD", path); !strings.HasPrefix(text, "HTTP/1.1 405 ") || !strings.Contains(text, "\r\nallow: GET, ") {
			t.Error(text)
		}
	}
	f.do("GET", "/v1/admin/circuit_breakers/a", "").want(200, "probes.live=0")
}

func TestALoopbackGateWantsAHeaderThatNoForeignPageCanSend(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(o *Options) { o.LoopbackOnly = true })
	for _, path := range []string{"/v1/gate/a", "/v1/gate/a/x"} {
		g := f.do("GET", path, "").wantProblem(403, problem.GateHeaderRequired)
		if !strings.Contains(g.text, gateHeader+": 1") {
			t.Errorf("it does not say what to set: %s", g.text)
		}
		f.do("GET", path, "", gateHeader, "0").wantProblem(403, problem.GateHeaderRequired)
		f.do("GET", path, "", gateHeader, "1", "Host", "evil.example").wantProblem(421, problem.HostNotAllowed)
	}
	f.unharmed("all")
	for _, path := range []string{"/v1/gate/a", "/v1/gate/a/x"} {
		f.do("GET", path, "", gateHeader, "1", "Sec-Fetch-Site", "cross-site").want(200)
	}
}
