package breakerhttp_test

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"testing"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breakerhttp"
)

func TestWriteRefusal_StatusAndHeadersFollowReason(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		reason        breaker.Reason
		state         breaker.State
		wait          time.Duration
		status        int
		header, wait1 string
	}{
		{breaker.ReasonOpen, breaker.Open, 59_001 * time.Millisecond, 429, "OPEN", "60"},
		{breaker.ReasonForcedOpen, breaker.Open, time.Hour, 429, "OPEN", "3600"},
		{breaker.ReasonProbesBusy, breaker.HalfOpen, time.Millisecond, 429, "HALF_OPEN", "1"},
		{breaker.ReasonRamping, breaker.HalfOpen, time.Second, 429, "HALF_OPEN", "1"},
		{breaker.ReasonEmergencyStop, breaker.Open, 0, 503, "OPEN", "1"},
		{breaker.ReasonShedding, "", time.Second, 503, "", "1"},
		{breaker.ReasonStoreUnavailable, "", time.Second, 503, "", "1"},
	} {
		e := &breaker.OpenError{Agent: "a", Reason: c.reason, State: c.state, Wait: c.wait}
		w := httptest.NewRecorder()
		w.Header().Set("Retry-After", "9")
		breakerhttp.WriteRefusal(w, e)
		h := map[string][]string(w.Header()) // as it is spelled on the wire
		if w.Code != c.status || len(h["retry-after"]) != 1 || h["retry-after"][0] != c.wait1 || len(h["Retry-After"]) > 0 {
			t.Errorf("%s: %d %v", c.reason, w.Code, h)
		}
		if state := h["x-circuit-breaker-state"]; len(state) > 1 || (len(state) == 1) != (c.header != "") || len(state) == 1 && state[0] != c.header {
			t.Errorf("%s: state %q, want %q", c.reason, state, c.header)
		}
	}
}

func TestWriteRefusal_BodyIsThatOfBreakerd(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	breakerhttp.WriteRefusal(w, &breaker.OpenError{
		Agent: "a", Reason: breaker.ReasonOpen, State: breaker.Open, Wait: 1500 * time.Millisecond, Degraded: true,
	})
	want := `{"type":"urn:breakerd:problem:circuit_breaker_open","title":"Too Many Requests","status":429,` +
		`"detail":"the circuit breaker of agent a refuses the call (open): try again in 2 s, at <time>. ` +
		`Going round the breaker is no way out: it protects what is behind it, and a call past it makes the trouble last","code":"circuit_breaker_open","errors":[],` +
		`"agent":"a","reason":"open","state":"OPEN","retry_after_seconds":2,"degraded":true}` + "\n"
	got := regexp.MustCompile(`\d{4}-\d\d-\d\dT[\d:]{8}Z`).ReplaceAllString(w.Body.String(), "<time>")
	if got != want || w.Code != http.StatusTooManyRequests || w.Header().Get("Content-Type") != "application/problem+json" {
		t.Errorf("%d %v %s\nwant %s", w.Code, w.Header(), got, want)
	}
}
