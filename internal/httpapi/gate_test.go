package httpapi

import (
	"io"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/route/routetest"
)

func TestGate_GivesAPermitThatOwesAReport(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, query := range []string{"", "?", "?deny_status=403"} {
		g := f.Do("GET", "/v1/gate/FailingAgent"+query, "").Want(200, "allowed=true", `state="CLOSED"`)
		permit := g.Header["X-Circuit-Breaker-Permit"]
		if len(permit) != 1 || permit[0] != g.At("permit") || g.Header.Get("Cache-Control") != "no-store" {
			t.Fatalf("%v: %s", g.Header, g.Text)
		}
		f.Do("POST", "/v1/circuit_breakers/FailingAgent/report", `{"permit":"`+permit[0]+`","outcome":"failure"}`).Want(200, "counted=true")
	}
	f.Do("GET", "/v1/admin/circuit_breakers/FailingAgent", "").Want(200, "consecutive_failures=3")
	if raw := f.RawHeader("GET", "/v1/gate/FailingAgent"); !strings.Contains(raw, "\r\nx-circuit-breaker-permit: v1.") {
		t.Errorf("the header's name is not in lower case:\n%s", raw)
	}
}

func TestGate_RefusesWithTheStatusThatIsAskedFor(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.fail("a", 5)
	for query, status := range map[string]int{
		"": 429, "?deny_status=401": 401, "?deny_status=403": 403, "?deny_status=429": 429, "?deny_status=503": 503,
	} {
		g := f.Do("GET", "/v1/gate/a"+query, "").WantProblem(status, problem.CircuitBreakerOpen).
			Want(status, `agent="a"`, `reason="open"`, `state="OPEN"`, "retry_after_seconds=60", "status="+strconv.Itoa(status))
		if g.Header.Get("X-Circuit-Breaker-State") != "OPEN" || g.Header.Get("Retry-After") != "60" || g.Header.Get("X-Circuit-Breaker-Permit") != "" {
			t.Errorf("%s: %v", query, g.Header)
		}
	}
	f.records.TakeDown(false)
	f.Do("GET", "/v1/gate/a?deny_status=403", "").WantProblem(503, problem.StoreUnavailable)
}

func TestGate_LeasesProbesAsAcquireDoes(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.fail("a", 5)
	f.advance(time.Minute)
	for range 3 {
		f.Do("GET", "/v1/gate/a?deny_status=403", "").Want(200, `state="HALF_OPEN"`, "lease_seconds=60")
	}
	f.Do("GET", "/v1/gate/a?deny_status=403", "").WantProblem(403, problem.CircuitBreakerOpen).Want(403, `reason="probes_busy"`, `state="HALF_OPEN"`)
}

func TestGate_RefusesBadQueries(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, q := range []string{
		"deny_status=", "deny_status=200", "deny_status=500", "deny_status=0403", "deny_status=403&deny_status=403", "deny_status=%00", "deny_status=403%20",
		"Deny_Status=403", "deny=403", "deny_status=" + strings.Repeat("4", 5000), "a;b", "%zz", "deny_status=-1", "deny_status=4e2",
	} {
		f.Do("GET", "/v1/gate/a?"+q, "").WantProblem(422, problem.InvalidValue)
	}
	for _, s := range []string{"", "200", "0403", "403, 403"} {
		f.Do("GET", "/v1/gate/a/b", "", denyStatusHeader, s).WantProblem(422, problem.InvalidValue)
	}
	for what, name := range routetest.BadNames() {
		if before, _, cut := strings.Cut(name.Text, "/"); cut && before != "" {
			continue // what follows is the call's own path
		}
		for _, below := range []string{"", "/", "/x"} {
			g := f.RawRequest("GET", "/v1/gate/"+name.Text+below, "")
			if g.Status < 400 || g.Status > 499 || name.Ours && g.JSON["code"] != string(problem.InvalidAgentName) {
				t.Errorf("name %s%s: %d %.200s", what, below, g.Status, g.Text)
			}
		}
	}
	f.Unharmed("all")
}

func TestGate_TakesAnyMethodAndPath(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.fail("open", 5)
	for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"} {
		for _, path := range []string{"", "/", "/x", "//x/../y", "/%2e%2e/a%2Fb/%ff", "/x?deny_status=200&a;b&%zz", "/openapi.json"} {
			f.RawRequest(method, "/v1/gate/a"+path, "").Want(200, "allowed=true")
			g := f.Raw(method + " /v1/gate/open" + path + " HTTP/1.1\r\nHost: localhost\r\nX-Breaker-Deny-Status: 401\r\n\r\n")
			g.WantProblem(401, problem.CircuitBreakerOpen)
			if g.Header.Get("WWW-Authenticate") == "" {
				t.Error("a 401 without a challenge")
			}
		}
	}
	f.Do("POST", "/v1/gate/a", "not JSON", "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example").Want(200)
	f.RawRequest("GET", "/v1/%67ate/a", "").WantProblem(404, problem.NotFound)
}

func TestGate_DoesNotWaitForABody(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var wg sync.WaitGroup
	for _, body := range []string{
		"Content-Length: 1000\r\n", "Transfer-Encoding: chunked\r\n", "Content-Length: 5\r\nExpect: 100-continue\r\n", "Content-Length: 9999999999\r\n",
	} {
		conn := f.Dial()
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
	f.Raw("POST /v1/gate/a/b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200000\r\n\r\n" + strings.Repeat("x", 200_000)).Want(200)
}

func TestGate_HEADAcquiresNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.fail("a", 5)
	f.advance(time.Minute)
	for _, path := range []string{"/v1/gate/a", "/v1/gate/a/x"} {
		if text := f.RawHeader("HEAD", path); !strings.HasPrefix(text, "HTTP/1.1 405 ") || !strings.Contains(text, "\r\nallow: GET, ") {
			t.Error(text)
		}
	}
	f.Do("GET", "/v1/admin/circuit_breakers/a", "").Want(200, "probes.live=0")
}

func TestGate_OnLoopbackNeedsAHeader(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(o *Options) { o.LoopbackOnly = true })
	for _, path := range []string{"/v1/gate/a", "/v1/gate/a/x"} {
		g := f.Do("GET", path, "").WantProblem(403, problem.GateHeaderRequired)
		if !strings.Contains(g.Text, gateHeader+": 1") {
			t.Errorf("it does not say what to set: %s", g.Text)
		}
		f.Do("GET", path, "", gateHeader, "0").WantProblem(403, problem.GateHeaderRequired)
		f.Do("GET", path, "", gateHeader, "1", "Host", "evil.example").WantProblem(421, problem.HostNotAllowed)
	}
	f.Unharmed("all")
	for _, path := range []string{"/v1/gate/a", "/v1/gate/a/x"} {
		f.Do("GET", path, "", gateHeader, "1", "Sec-Fetch-Site", "cross-site").Want(200)
	}
}
