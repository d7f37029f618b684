package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
)

// TestReset_BanOutlivesRedisOnBothPrograms: one that neither a breakerd nor a bridge has ever called for is refused by
// both while Redis is down, and stands again after Redis has come back empty.
func TestReset_BanOutlivesRedisOnBothPrograms(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"strict", "cached"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			env := "CIRCUIT_BREAKER_CONSISTENCY=" + mode
			url := "REDIS_URL=" + s.redis.URL()
			a, b, gateway := start(t, url, env), start(t, url, env), s.bridge(env)
			known := scripts(t, s.redis) + 4 // the ban, and its inspection by each replica
			a.call(http.MethodPost, adminPath+"FailingAgent/open", `{"reason":"flooding","protected":true,"actor":"alice"}`).want(http.StatusOK)
			testkit.Eventually(t, "every replica to know the ban", 10*time.Second, func() error {
				if n := scripts(t, s.redis); n < known {
					return fmt.Errorf("%d scripts have run, want %d", n, known)
				}
				return nil
			})
			s.redis.Kill()
			b.acquire("FailingAgent").refused("OPEN", "forced_open").has("degraded", true)
			gateway.through("FailingAgent", "/").refused("OPEN", "forced_open").has("degraded", true)
			gateway.through("Other", "/").want(http.StatusOK)
			s.redis.Restart() // empty
			for _, d := range []*daemon{a, b, gateway} {
				d.awaitText("store_reset_done")
				d.call(http.MethodGet, "/health/checks", "").want(http.StatusOK).has("status", "healthy").has("checks.redis_data.status", "healthy")
				d.call(http.MethodGet, "/readyz", "").want(http.StatusOK)
				if text := string(d.call(http.MethodGet, "/metrics", "").body); !strings.Contains(text, "\ncircuit_breaker_store_resets_total 1\n") {
					t.Errorf("metrics: %s", text)
				}
			}
			a.show("FailingAgent").has("hold.actor", "alice").has("hold.protected", true).has("hold.until", nil).
				has("reason", "flooding (restored after Redis lost its data)")
			b.acquire("FailingAgent").refused("OPEN", "forced_open").has("degraded", nil)
			gateway.through("FailingAgent", "/").refused("OPEN", "forced_open").has("degraded", nil)
		})
	}
}
