package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
)

// pair starts two replicas on one Redis.
func pair(t testing.TB) (a, b *daemon, s *testkit.Server) {
	t.Helper()
	s = testkit.Start(t)
	env := "REDIS_URL=" + s.URL()
	return start(t, env), start(t, env), s
}

func TestReplicas_FailuresOfOneStopTheOther(t *testing.T) {
	t.Parallel()
	a, b, s := pair(t)
	const agent = "FailingAgent"
	a.run(agent, "failure", 5)
	b.acquire(agent).refused("OPEN", "open")
	a.acquire(agent).refused("OPEN", "open")
	if got := redisCLI(t, s, "GET", "circuit_breaker:FailingAgent:state"); got != "open" {
		t.Errorf("state %q in Redis", got)
	}
	for _, key := range []string{"state", "open_timestamp"} {
		if got := redisCLI(t, s, "DEL", "circuit_breaker:FailingAgent:"+key); got != "1" {
			t.Errorf("DEL of %s: %s", key, got)
		}
	}
	a.run(agent, "failure", 4) // earlier failures no longer count
	b.acquire(agent).want(http.StatusOK)
	a.acquire(agent).want(http.StatusOK)
	b.run(agent, "failure", 1) // the run spans replicas
	a.acquire(agent).refused("OPEN", "open")
}

func TestReplicas_PermitIsReportedToAnother(t *testing.T) {
	t.Parallel()
	a, b, _ := pair(t)
	const agent = "Wanderer"
	old := a.acquire(agent).want(http.StatusOK).text("permit")
	b.report(agent, old, "failure").want(http.StatusOK).has("counted", true).has("state", "CLOSED")
	a.show(agent).has("consecutive_failures", 1.0)

	a.reset(agent, "HALF_OPEN")
	probe := a.acquire(agent).want(http.StatusOK).has("state", "HALF_OPEN").text("permit")
	b.call(http.MethodPost, dataPath+agent+"/renew", `{"permit":"`+probe+`"}`).want(http.StatusOK)
	b.report(agent, probe, "success").want(http.StatusOK).has("counted", true)
	a.report(agent, probe, "success").want(http.StatusOK).has("counted", false)
	a.show(agent).has("probes.succeeded", 1.0).has("probes.live", 0.0)
	a.report(agent, old, "failure").want(http.StatusOK).has("counted", false).has("why", "late")
	b.report("Other", old, "failure").want(http.StatusOK).has("counted", false).has("why", "foreign")
}

// Not parallel: it measures.
func TestReplicas_OverrideCountsWithinASecond(t *testing.T) {
	a, b, s := pair(t)
	const agent = "Tuned"
	threshold := func() any { return b.show(agent).get("policy.failure_threshold.value") }
	b.run(agent, "success", 1)
	etag := ""
	var took []time.Duration
	set := func(want float64, change func()) {
		change()
		begin := time.Now()
		testkit.Eventually(t, "the override at the other replica", 5*time.Second, func() error {
			if got := threshold(); got != want {
				return fmt.Errorf("failure_threshold %v, want %v", got, want)
			}
			return nil
		})
		took = append(took, time.Since(begin).Round(time.Millisecond))
	}
	set(2, func() {
		r := a.call(http.MethodPut, adminPath+agent+"/config", `{"failure_threshold":2}`).want(http.StatusCreated)
		etag = r.header.Get("ETag")
	})
	set(3, func() {
		a.call(http.MethodPut, adminPath+agent+"/config", `{"failure_threshold":3}`, "If-Match", etag).want(http.StatusOK)
	})
	set(1, func() { redisCLI(t, s, "SET", "circuit_breaker:Tuned:config", `{"failure_threshold":1}`) })
	b.run(agent, "failure", 1)
	a.acquire(agent).refused("OPEN", "open")
	set(5, func() {
		a.call(http.MethodDelete, adminPath+agent+"/config", "", "If-Match", "*").want(http.StatusNoContent)
	})
	t.Logf("an override counted at the other replica after %v", took)
	if slices.Max(took) > time.Second {
		t.Errorf("an override took %v to reach the other replica, want at most 1s", slices.Max(took))
	}
}

func TestReplicas_ExternalEditsCountOnBoth(t *testing.T) {
	t.Parallel()
	a, b, s := pair(t)
	const agent, key = "Handled", "circuit_breaker:Handled:"
	both := func(check func(d *daemon)) {
		for _, d := range []*daemon{a, b} {
			check(d)
		}
	}
	a.run(agent, "success", 1)
	redisCLI(t, s, "SET", key+"state", "open")
	both(func(d *daemon) { d.acquire(agent).refused("OPEN", "open") })
	redisCLI(t, s, "DEL", key+"open_timestamp") // ends the wait
	both(func(d *daemon) { d.acquire(agent).want(http.StatusOK).has("state", "HALF_OPEN") })
	redisCLI(t, s, "SET", key+"state", "closed")
	both(func(d *daemon) { d.acquire(agent).want(http.StatusOK).has("state", "CLOSED") })
	redisCLI(t, s, "SET", key+"state", "half_open")
	a.acquire(agent).want(http.StatusOK).has("state", "HALF_OPEN")
	b.acquire(agent).want(http.StatusOK).has("state", "HALF_OPEN")
	a.acquire(agent).want(http.StatusOK)
	both(func(d *daemon) { d.acquire(agent).refused("HALF_OPEN", "probes_busy") })
	redisCLI(t, s, "SET", key+"state", "open")
	both(func(d *daemon) { d.acquire(agent).refused("OPEN", "open") })
	redisCLI(t, s, "SET", key+"open_timestamp", strconv.FormatInt(time.Now().Add(-61*time.Second).Unix(), 10))
	both(func(d *daemon) { d.acquire(agent).want(http.StatusOK).has("state", "HALF_OPEN") })
	redisCLI(t, s, "FLUSHALL")
	both(func(d *daemon) { d.acquire(agent).want(http.StatusOK).has("state", "CLOSED") })
}

func TestReplicas_HalfOpenProbesAreExact(t *testing.T) {
	t.Parallel()
	a, b, _ := pair(t)
	for round := range 5 {
		agent := "Probed" + strconv.Itoa(round)
		a.acquire(agent).want(http.StatusOK)
		a.reset(agent, "HALF_OPEN")
		permits, err := probesOf(agent, 20, a, b)
		if err != nil {
			t.Fatal(err)
		}
		if len(permits) != 3 {
			t.Fatalf("%d probes were admitted over both replicas, want 3", len(permits))
		}
		for i, p := range permits {
			d, want := a, "HALF_OPEN"
			if i%2 == 1 {
				d = b
			}
			if i == 2 {
				want = "CLOSED"
			}
			d.report(agent, p, "success").want(http.StatusOK).has("counted", true).has("state", want)
		}
	}
}

// probesOf acquires n times at once at each replica of a half-open agent, and returns the permits.
func probesOf(agent string, n int, replicas ...*daemon) ([]string, error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	var permits []string
	var errs []error
	for i := range n * len(replicas) {
		wg.Go(func() {
			r, err := replicas[i%len(replicas)].try(http.MethodPost, dataPath+agent+"/acquire", "")
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil && r.status == http.StatusOK:
				permits = append(permits, r.text("permit"))
			case err == nil && (r.status != http.StatusTooManyRequests || r.text("reason") != "probes_busy" ||
				r.header.Get("X-Circuit-Breaker-State") != "HALF_OPEN"):
				err = fmt.Errorf("status %d: %s", r.status, r.body)
			}
			errs = append(errs, err)
		})
	}
	wg.Wait()
	return permits, errors.Join(errs...)
}

func TestReplicas_IdempotencyKeyCountsOnce(t *testing.T) {
	t.Parallel()
	a, b, _ := pair(t)
	const agent = "Twice"
	permit := a.acquire(agent).want(http.StatusOK).text("permit")
	replies, errs := make([]reply, 12), make([]error, 12)
	var wg sync.WaitGroup
	for i := range replies {
		wg.Go(func() {
			d := []*daemon{a, b}[i%2]
			replies[i], errs[i] = d.try(http.MethodPost, dataPath+agent+"/report", reportBody(permit, "failure"), "Idempotency-Key", "call-1")
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	counted := 0
	for _, r := range replies {
		if r.want(http.StatusOK).get("counted") == true {
			counted++
		} else {
			r.has("why", "duplicate")
		}
	}
	if counted != 1 {
		t.Errorf("one report, sent %d times to both replicas, counted %d times", len(replies), counted)
	}
	b.show(agent).has("consecutive_failures", 1.0).has("failure_count", 1.0).has("totals.failures", 1.0).has("state", "CLOSED")
}
