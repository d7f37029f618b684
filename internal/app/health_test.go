package app

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/internal/health"
	"github.com/breakerd/breakerd/internal/testkit"
)

// awaitCheck waits until a component has this status and score, and is named so in the metrics.
func (w *whole) awaitCheck(t *testing.T, name string, status health.Status, score float64) {
	t.Helper()
	testkit.Eventually(t, fmt.Sprintf("%s to be %s", name, status), 40*time.Second, func() error {
		g := w.Do(http.MethodGet, "/health/checks", "").Want(http.StatusOK)
		c, _ := g.At("checks." + name).(map[string]any)
		if c["status"] != string(status) || c["score"] != score {
			return fmt.Errorf("%v", c)
		}
		if bad := status != health.Healthy; bad != (c["advice"] != nil) {
			t.Errorf("%s advises %v", name, c["advice"])
		}
		code := map[string]string{
			"redis 0.3": "unreachable", "redis_memory 0.6": "evicts", "redis_memory 0.3": "full", "redis_replication 0.3": "is_replica",
		}[fmt.Sprintf("%s %v", name, score)]
		if code != "" && (c["code"] != code || c["server"] == nil) {
			return fmt.Errorf("code %v of %v, want %s", c["code"], c["server"], code)
		}
		line := fmt.Sprintf("circuit_breaker_component_health_score{component=%q} %v\n", name, score)
		if text := w.Do(http.MethodGet, "/metrics", "").Text; !strings.Contains(text, line) {
			return fmt.Errorf("the metrics lack %s", line)
		}
		return nil
	})
}

// TestHealth_EachComponentFailsForRealAndComesBack of those that a running replica shows.
func TestHealth_EachComponentFailsForRealAndComesBack(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("make quick leaves it out: outcomes wait for ten seconds")
	}
	const degraded, critical = health.ScoreDegraded, health.ScoreCritical
	server := testkit.Start(t)
	client := server.Client(t)
	dropped := new(atomic.Int64)
	agents := filepath.Join(t.TempDir(), "agents.json")
	write := func(text string) {
		if err := os.WriteFile(agents, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"agents":[]}`)
	w := newWholeOf(t, server.URL(), dropped.Load, "AGENTS_FILE="+agents, "REDIS_TIMEOUT_MS=500")
	w.Start(t.Context(), append(w.parts.tasks, w.monitor.Run)...)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	set := func(name, value string) { must(client.ConfigSet(t.Context(), name, value).Err()) }
	other := testkit.Start(t)
	host, port, _ := strings.Cut(strings.TrimPrefix(other.URL(), "redis://"), ":")
	port, _, _ = strings.Cut(port, "/")
	for _, c := range []struct {
		name       string
		score      float64
		fail, mend func()
	}{
		{"redis_memory", degraded, func() { set("maxmemory", "1gb"); set("maxmemory-policy", "allkeys-lru") }, func() { set("maxmemory-policy", "noeviction") }},
		{"redis_memory", critical, func() {
			used, _ := strconv.ParseInt(infoField(t, client, "used_memory"), 10, 64)
			set("maxmemory", strconv.FormatInt(used+used/20, 10))
		}, func() { set("maxmemory", "0") }},
		{"redis_replication", critical, func() { must(client.ReplicaOf(t.Context(), host, port).Err()) }, func() { must(client.ReplicaOf(t.Context(), "NO", "ONE").Err()) }},
		{"scripts", critical, func() {
			must(client.Do(t.Context(), "ACL", "SETUSER", "default", "resetkeys", "~circuit_breaker:[^z]*", "~circuit_breaker:z:config").Err())
			w.Do(http.MethodPost, "/v1/circuit_breakers/z/acquire", "")
		}, func() {
			must(client.Do(t.Context(), "ACL", "SETUSER", "default", "allkeys").Err())
			testkit.Eventually(t, "z to be asked for again", 20*time.Second, func() error {
				g := w.Do(http.MethodPost, "/v1/circuit_breakers/z/acquire", "").Want(http.StatusOK)
				if g.JSON["degraded"] == true {
					return errors.New("degraded")
				}
				return nil
			})
		}},
		{"replicas", degraded, func() {
			must(client.ZAdd(t.Context(), "circuit_breaker:replicas", redis.Z{Score: float64(time.Now().Add(-20 * time.Second).UnixMilli()), Member: "ghost"}).Err())
		}, func() { must(client.ZRem(t.Context(), "circuit_breaker:replicas", "ghost").Err()) }},
		{"fleet_gate", degraded, func() {
			w.Do(http.MethodPut, "/v1/admin/fleet", `{"action":"stop","reason":"fire"}`).Want(http.StatusOK)
		}, func() { w.Do(http.MethodDelete, "/v1/admin/fleet", "").Want(http.StatusOK) }},
		{"holds", degraded, func() {
			w.Do(http.MethodPost, "/v1/admin/circuit_breakers/banned/open", `{"reason":"ban"}`).Want(http.StatusOK)
			must(client.HSet(t.Context(), "circuit_breaker:banned:control", "hold_ms", time.Now().Add(-25*time.Hour).UnixMilli()).Err())
			w.Do(http.MethodPut, "/v1/admin/agents/banned", `{"contact":"ops"}`).Want(http.StatusCreated) // it looks anew
		}, func() {
			w.Do(http.MethodPost, "/v1/admin/circuit_breakers/banned/reset", `{"target_state":"CLOSED"}`).Want(http.StatusOK)
		}},
		{"overrides", degraded, func() {
			w.Do(http.MethodPut, "/v1/admin/circuit_breakers/o/config", `{"failure_threshold":3}`).Want(http.StatusCreated)
			must(client.Set(t.Context(), "circuit_breaker:o:config", `{"failure_threshold":-3}`, 0).Err())
			must(client.Incr(t.Context(), "circuit_breaker:overrides").Err())
			w.Do(http.MethodPut, "/v1/admin/agents/o", `{"contact":"ops"}`).Want(http.StatusCreated) // it looks anew
		}, func() {
			w.Do(http.MethodDelete, "/v1/admin/circuit_breakers/o/config", "", "If-Match", "*").Want(http.StatusNoContent)
		}},
		{"registry", degraded, func() { write(`{"agents":`) }, func() { write(`{"agents":[]}`) }},
	} {
		w.awaitCheck(t, c.name, health.Healthy, health.ScoreHealthy)
		c.fail()
		w.awaitCheck(t, c.name, health.Degraded, c.score)
		c.mend()
		w.awaitCheck(t, c.name, health.Healthy, health.ScoreHealthy)
	}

	w.awaitCheck(t, "log", health.Healthy, health.ScoreHealthy)
	dropped.Add(1) // it is degraded for ten minutes
	w.awaitCheck(t, "log", health.Degraded, degraded)

	w.awaitCheck(t, "outcomes", health.Healthy, health.ScoreHealthy)
	server.Kill()
	w.Do(http.MethodPost, "/v1/circuit_breakers/a/report", `{"outcome":"success"}`).Want(http.StatusOK)
	w.awaitCheck(t, "redis", health.Degraded, critical)
	w.awaitCheck(t, "clock", health.Degraded, degraded)
	w.awaitCheck(t, "outcomes", health.Degraded, degraded)
	server.Restart()
	for _, name := range []string{"redis", "outcomes", "clock", "redis_data"} {
		w.awaitCheck(t, name, health.Healthy, health.ScoreHealthy)
	}
	if text := w.Do(http.MethodGet, "/metrics", "").Text; !strings.Contains(text, "\ncircuit_breaker_health_score 0.6\n") {
		t.Error("the log still counts in the score")
	}
}

func infoField(t *testing.T, client *redis.Client, name string) string {
	t.Helper()
	text, err := client.Info(t.Context(), "memory").Result()
	_, rest, found := strings.Cut(text, "\n"+name+":")
	value, _, _ := strings.Cut(rest, "\r")
	if err != nil || !found {
		t.Fatalf("%s: %v", name, err)
	}
	return value
}

func TestHealth_GlobalSwitchAndClock(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	w := newWholeOf(t, "redis://"+m.Addr(), func() int64 { return 0 }, "CIRCUIT_BREAKER_ENABLED=false")
	w.awaitCheck(t, "global_switch", health.Degraded, health.ScoreCritical)
	m.SetTime(time.Now().Add(time.Minute))
	w.awaitCheck(t, "clock", health.Degraded, health.ScoreDegraded)
	m.SetTime(time.Time{})
	w.awaitCheck(t, "clock", health.Healthy, health.ScoreHealthy)
	on := newWholeOf(t, "redis://"+m.Addr(), func() int64 { return 0 })
	on.awaitCheck(t, "global_switch", health.Healthy, health.ScoreHealthy)
}

// Behind Sentinel a master without a replica has nothing to fail over to.
func TestHealth_MasterWithoutAReplica(t *testing.T) {
	t.Parallel()
	set := testkit.StartSentinel(t)
	w := newWholeOf(t, set.URL(), func() int64 { return 0 })
	w.awaitCheck(t, "redis_replication", health.Healthy, health.ScoreHealthy)
	for _, r := range set.Replicas {
		r.Kill()
	}
	w.awaitCheck(t, "redis_replication", health.Degraded, health.ScoreDegraded)
}

// TestHealth_EachCheckIsDocumented in the table of docs/health.md.
func TestHealth_EachCheckIsDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/health.md")
	if err != nil {
		t.Fatal(err)
	}
	w := newWhole(t, "embedded://", false)
	for _, name := range w.monitor.Names() {
		if !strings.Contains(string(page), "\n| `"+name+"` |") {
			t.Errorf("docs/health.md lacks %s", name)
		}
	}
}
