package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/internal/testkit"
)

const mostNames = 2000 // MAX_AGENTS

// TestNames_MadeUpOnesFillNothing sends 60,000 names that nobody knows, and looks at what real agents have of it: an
// agent in use, one that is registered, one that is overridden and one that is banned.
//
// OmniRoute PR 4114, anticapture PR 2148, Hystrix 1737.
func TestNames_MadeUpOnesFillNothing(t *testing.T) {
	t.Parallel()
	server := testkit.Start(t)
	client := server.Client(t)
	registry := filepath.Join(t.TempDir(), "agents.json")
	if err := os.WriteFile(registry, []byte(`[{"name":"registered"}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	d := start(t, "REDIS_URL="+server.URL(), "AGENTS_FILE="+registry, fmt.Sprint("MAX_AGENTS=", mostNames),
		"NEW_AGENTS_PER_SECOND=0", "METRICS_MAX_AGENTS=20")
	d.acquire("in-use").want(http.StatusOK)
	d.call(http.MethodPost, adminPath+"banned/open", `{"reason":"flooding","protected":true}`).want(http.StatusOK)
	d.override("overridden", `{"failure_threshold":2}`)

	flood(d, 60_000)
	keys, err := client.DBSize(t.Context()).Result()
	if err != nil || keys > 5*mostNames {
		t.Errorf("%d keys in Redis, %v", keys, err)
	}
	info, err := client.Info(t.Context(), "memory").Result()
	if err != nil || usedMemory(t, info) > 16<<20 {
		t.Errorf("%d bytes used by Redis, %v", usedMemory(t, info), err)
	}
	if n := callsOf(t, client, "get", 3*time.Second); n > 12_000 { // 42,010 a second, when each agent in use was polled
		t.Errorf("%d GET in three seconds", n)
	}

	t.Logf("%d keys, %d bytes", keys, usedMemory(t, info))

	open := func(agent string, failures int) {
		t.Helper()
		d.run(agent, "failure", failures)
		d.acquire(agent).refused("OPEN", "open")
	}
	open("in-use", 5)
	open("registered", 5)
	open("overridden", 2)
	d.acquire("banned").refused("OPEN", "forced_open")
	metrics := string(d.call(http.MethodGet, "/metrics", "").want(http.StatusOK).body)
	for _, agent := range []string{"in-use", "registered", "overridden"} {
		if !strings.Contains(metrics, fmt.Sprintf(`circuit_breaker_state{agent=%q} 1`, agent)) {
			t.Errorf("no metric of %s", agent)
		}
	}
	if strings.Contains(metrics, "\ncircuit_breaker_untracked_calls_total 0\n") || !strings.Contains(metrics, "circuit_breaker_untracked_calls_total ") {
		t.Error("no untracked call is counted")
	}
	r := d.call(http.MethodPost, "/v1/circuit_breakers/nobody-knows-me/report", `{"outcome":"failure"}`).want(http.StatusOK)
	r.has("counted", false).has("why", "untracked")

	server.Kill()
	flood(d, 5000)
	d.acquire("banned").refused("OPEN", "forced_open").has("degraded", true)
	for _, agent := range []string{"in-use", "registered", "overridden"} {
		d.acquire(agent).refused("OPEN", "open").has("degraded", true)
	}
}

// flood makes calls of so many names: most in batches, some by each other way.
func flood(d *daemon, madeUp int) {
	d.t.Helper()
	const batch = 256
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for first := worker * batch; first < madeUp; first += 4 * batch {
				var ops []string
				for i := first; i < min(first+batch, madeUp); i++ {
					what := `{"op":"acquire","agent":"made-up-%d"}`
					if i%2 == 0 {
						what = `{"op":"report","agent":"made-up-%d","outcome":"failure"}`
					}
					ops = append(ops, fmt.Sprintf(what, i))
				}
				if r, err := d.try(http.MethodPost, "/v1/batch", `{"operations":[`+strings.Join(ops, ",")+`]}`); err != nil || r.status != http.StatusOK {
					d.t.Errorf("batch: %d, %v", r.status, err)
				}
				path := fmt.Sprintf("/v1/circuit_breakers/made-up-too-%d/", first)
				_, _ = d.try(http.MethodPost, path+"acquire", "")
				_, _ = d.try(http.MethodPost, path+"report", `{"outcome":"failure"}`)
				_, _ = d.try(http.MethodGet, fmt.Sprintf("/v1/gate/made-up-gate-%d", first), "", "X-Breaker-Gate", "1")
			}
		})
	}
	wg.Wait()
}

func TestNames_RefuseSaysTooManyAgents(t *testing.T) {
	t.Parallel()
	d := start(t, "MAX_AGENTS=2", "UNKNOWN_AGENTS=refuse")
	d.acquire("a").want(http.StatusOK)
	d.acquire("b").want(http.StatusOK)
	for _, r := range []reply{
		d.acquire("c"), d.call(http.MethodGet, "/v1/gate/c", "", "X-Breaker-Gate", "1"),
	} {
		r.want(http.StatusTooManyRequests).has("code", "too_many_agents").has("agent", "c").has("retry_after_seconds", 1.0)
		if got := r.header.Get("Retry-After"); got != "1" {
			t.Errorf("Retry-After %q", got)
		}
	}
	d.acquire("a").want(http.StatusOK)
	d.call(http.MethodGet, "/v1/gate/c?deny_status=403", "", "X-Breaker-Gate", "1").want(http.StatusForbidden).has("code", "too_many_agents")
}

// callsOf counts a command for a while.
func callsOf(t *testing.T, client *redis.Client, command string, during time.Duration) (n int) {
	t.Helper()
	count := func() (calls int) {
		info, err := client.Info(t.Context(), "commandstats").Result()
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(info, "cmdstat_"+command+":calls=")
		_, _ = fmt.Sscanf(rest, "%d", &calls)
		return calls
	}
	before := count()
	<-time.After(during)
	return count() - before
}

func usedMemory(t *testing.T, info string) (bytes int) {
	t.Helper()
	_, rest, _ := strings.Cut(info, "used_memory:")
	if _, err := fmt.Sscanf(rest, "%d", &bytes); err != nil {
		t.Fatal(err)
	}
	return bytes
}
