package e2e

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
)

// cachedPair starts two replicas in cached mode on one Redis.
func cachedPair(t testing.TB, more ...string) (a, b *daemon, s *testkit.Server) {
	t.Helper()
	s = testkit.Start(t)
	env := append([]string{"REDIS_URL=" + s.URL(), "CIRCUIT_BREAKER_CONSISTENCY=cached"}, more...)
	return start(t, env...), start(t, env...), s
}

// scripts is how many scripts the server has run.
func scripts(t testing.TB, s *testkit.Server) (n int) {
	t.Helper()
	for line := range strings.Lines(redisCLI(t, s, "INFO", "commandstats")) {
		if rest, ok := strings.CutPrefix(line, "cmdstat_evalsha:calls="); ok {
			text, _, _ := strings.Cut(rest, ",")
			n, _ = strconv.Atoi(text)
		}
	}
	return n
}

func TestCached_CountsAllWithFewCommands(t *testing.T) {
	t.Parallel()
	a, _, s := cachedPair(t, "CIRCUIT_BREAKER_FLUSH_INTERVAL_MS=1000", "CIRCUIT_BREAKER_MAX_STALENESS_MS=60000")
	const agent, calls = "Busy", 300
	a.run(agent, "success", 1)
	before := scripts(t, s)
	for range calls {
		permit := a.acquire(agent).want(http.StatusOK).text("permit")
		a.report(agent, permit, "success").want(http.StatusOK).has("counted", true)
	}
	if n := scripts(t, s) - before; n > calls/10 {
		t.Errorf("%d scripts for %d calls", n, calls)
	}
	a.show(agent).has("totals.successes", float64(calls+1)) // inspect flushes first
	if text := a.call(http.MethodGet, "/metrics", "").want(http.StatusOK); !strings.Contains(string(text.body),
		fmt.Sprintf("circuit_breaker_calls_total{agent=%q,result=\"success\"} %d\n", agent, calls+1)) ||
		!strings.Contains(string(text.body), "circuit_breaker_unsent_agents 0\n") {
		t.Errorf("metrics: %s", text.body)
	}
}

func TestCached_OtherReplicaSeesATrip(t *testing.T) {
	t.Parallel()
	a, b, _ := cachedPair(t)
	const agent = "FailingAgent"
	for _, d := range []*daemon{a, b} { // both answer from memory
		d.run(agent, "success", 2)
	}
	late := b.acquire(agent).want(http.StatusOK).text("permit")
	b.show(agent) // flushes its successes, so that none comes between the failures
	a.run(agent, "failure", 5)
	a.acquire(agent).refused("OPEN", "open") // a replica sees its own failures at once
	testkit.Eventually(t, "the other replica to refuse", 2*time.Second, func() error {
		if r := b.acquire(agent); r.status != http.StatusTooManyRequests {
			return fmt.Errorf("status %d", r.status)
		}
		return nil
	})
	b.report(agent, late, "success").want(http.StatusOK).has("counted", false).has("why", "late")
	a.reset(agent, "HALF_OPEN")
	probe := b.acquire(agent).want(http.StatusOK).has("state", "HALF_OPEN").text("permit") // probes are exact
	a.report(agent, probe, "success").want(http.StatusOK).has("counted", true)
	a.show(agent).has("probes.succeeded", 1.0)
}

func TestCached_SendsOutcomesBeforeItStops(t *testing.T) {
	t.Parallel()
	a, b, s := cachedPair(t, "CIRCUIT_BREAKER_FLUSH_INTERVAL_MS=1000")
	const agent = "Last"
	for range 20 {
		a.run(agent, "success", 1)
	}
	a.signal(syscall.SIGTERM)
	if code := a.ExitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	b.show(agent).has("totals.successes", 20.0)
	if got := redisCLI(t, s, "GET", "circuit_breaker:Last:state"); got != "closed" {
		t.Errorf("state %q in Redis", got)
	}
}

func TestCached_AnswersAloneWhileRedisIsDown(t *testing.T) {
	t.Parallel()
	a, _, s := cachedPair(t)
	const agent = "FailingAgent"
	a.run(agent, "success", 2)
	s.Kill()
	testkit.Eventually(t, "this replica alone to open", 10*time.Second, func() error {
		r := a.acquire(agent)
		if r.status == http.StatusTooManyRequests {
			r.refused("OPEN", "open").has("degraded", true)
			return nil
		}
		a.report(agent, r.text("permit"), "failure").want(http.StatusOK)
		return fmt.Errorf("status %d", r.status)
	})
	s.Restart() // empty: nothing was kept
	testkit.Eventually(t, "the fleet's state to hold again", 15*time.Second, func() error {
		if r := a.acquire(agent); r.status != http.StatusOK || r.get("degraded") != false {
			return fmt.Errorf("status %d %s", r.status, r.body)
		}
		return nil
	})
	a.run(agent, "failure", 5)
	a.acquire(agent).refused("OPEN", "open")
}

// TestCached_DeletedAgentStaysAbsent: unsent outcomes do not bring it back, the flush at the end included.
func TestCached_DeletedAgentStaysAbsent(t *testing.T) {
	t.Parallel()
	a, b, s := cachedPair(t, "CIRCUIT_BREAKER_FLUSH_INTERVAL_MS=1000")
	const agent, kept = "Deleted", "Kept"
	for _, name := range []string{kept, agent} {
		for range 5 {
			permit := a.acquire(name).want(http.StatusOK).text("permit")
			a.report(name, permit, "success").want(http.StatusOK).has("counted", true)
		}
	}
	a.call(http.MethodDelete, adminPath+agent, "").want(http.StatusNoContent)
	a.call(http.MethodGet, adminPath+agent, "").want(http.StatusNotFound)
	if list := a.call(http.MethodGet, strings.TrimSuffix(adminPath, "/"), "").want(http.StatusOK); strings.Contains(string(list.body), agent) {
		t.Errorf("the list shows it: %s", list.body)
	}
	a.signal(syscall.SIGTERM)
	if code := a.ExitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	b.call(http.MethodGet, adminPath+agent, "").want(http.StatusNotFound)
	b.show(kept).has("totals.successes", 5.0)
	if got := redisCLI(t, s, "KEYS", "*:Deleted:*"); got != "" {
		t.Errorf("keys that are left: %s", got)
	}
}
