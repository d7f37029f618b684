package httpapi

import (
	"strconv"
	"strings"
	"testing"
	"time"
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
		g := f.do("GET", "/v1/gate/a"+query, "").wantProblem(status, codeCircuitBreakerOpen).
			want(status, `agent="a"`, `reason="open"`, `state="OPEN"`, "retry_after_seconds=60", "status="+strconv.Itoa(status))
		if g.header.Get("X-Circuit-Breaker-State") != "OPEN" || g.header.Get("Retry-After") != "60" || g.header.Get("X-Circuit-Breaker-Permit") != "" {
			t.Errorf("%s: %v", query, g.header)
		}
	}
	f.keeper.setAway(false)
	f.do("GET", "/v1/gate/a?deny_status=403", "").wantProblem(503, codeStoreUnavailable)
}

func TestTheGateLeasesProbesAsAcquireDoes(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.fail("a", 5)
	f.advance(time.Minute)
	for range 3 {
		f.do("GET", "/v1/gate/a?deny_status=403", "").want(200, `state="HALF_OPEN"`, "lease_seconds=60")
	}
	f.do("GET", "/v1/gate/a?deny_status=403", "").wantProblem(403, codeCircuitBreakerOpen).want(403, `reason="probes_busy"`, `state="HALF_OPEN"`)
}

func TestTheGateRefusesBadQueries(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, q := range []string{
		"deny_status=", "deny_status=200", "deny_status=500", "deny_status=0403", "deny_status=403&deny_status=403", "deny_status=%00", "deny_status=403%20",
		"Deny_Status=403", "deny=403", "deny_status=" + strings.Repeat("4", 5000), "a;b", "%zz", "deny_status=-1", "deny_status=4e2",
	} {
		f.do("GET", "/v1/gate/a?"+q, "").wantProblem(422, codeInvalidValue)
	}
	f.do("POST", "/v1/gate/a", "{}").wantProblem(405, codeMethodNotAllowed)
	f.do("GET", "/v1/gate/a/b", "").wantProblem(404, codeNotFound)
	f.unharmed("all")
}
