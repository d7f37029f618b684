package page_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
	goredis "github.com/redis/go-redis/v9"
)

// soon is how long the page may take to say what happened; with -short, on a machine that may be busy, four times that.
var soon = 2 * time.Second

// verdict waits until the sentence about the fleet is right.
func (p *tab) verdict(want string) {
	p.Helper()
	took := p.sees("#sentence", want, soon)
	p.Logf("%-40s after %s: %s", want, took.Round(10*time.Millisecond), p.text("#sentence"))
}

// TestVerdict_IsRightWithinTwoSeconds of each fault, in each browser.
func TestVerdict_IsRightWithinTwoSeconds(t *testing.T) {
	for _, name := range browsers() {
		t.Run(name, func(t *testing.T) { verdicts(t, look{width: 1440, height: 900, browser: name}) })
	}
}

func verdicts(t *testing.T, how look) {
	t.Helper()
	redis := testkit.Start(t)
	s := serve(t, "REDIS_URL="+redis.URL(), "REPLICA_ID=one")
	address := strings.TrimPrefix(s.url, "http://")
	for i := range 10 {
		s.report(fmt.Sprintf("agent-%d", i), "success", 2)
	}
	s.report("flappy", "success", 1)
	p := open(t, s.url+"/ui/", how)
	p.verdict("all 11 closed")
	p.sees("#fresh", "live", soon)

	s.trip("agent-3")
	p.verdict("1 agent OPEN since")
	p.sees("#sentence", "agent-3 (5 of 7 failed) · next probe 0", soon)
	p.sees("table.fleet tbody tr.open", "agent-3", soon)
	s.do(http.MethodPost, breakers+"agent-3/reset", `{"target_state":"CLOSED","reason":"mended"}`)
	p.verdict("all 11 closed")

	for range 3 {
		s.trip("flappy")
		p.verdict("flappy (")
		s.do(http.MethodPost, breakers+"flappy/reset", `{"target_state":"CLOSED","reason":"again"}`)
		p.verdict("all 11 closed")
	}
	p.verdict("flappy flaps: opened 3 times in 10 min")

	s.do(http.MethodPost, breakers+"agent-5/open", `{"reason":"floods","timeout_seconds":600}`, "X-Actor", "alice")
	p.verdict("1 agent OPEN")
	p.sees("#sentence", "agent-5, held by alice: floods", soon)
	p.sees("table.fleet tbody tr.open", "held until", soon)
	s.do(http.MethodPost, breakers+"agent-5/reset", `{"target_state":"HALF_OPEN","reason":"try"}`)
	p.verdict("1 agent HALF-OPEN")
	s.do(http.MethodPost, breakers+"agent-5/reset", `{"target_state":"CLOSED","reason":"done"}`)
	p.verdict("all 11 closed")

	s.do(http.MethodPut, "/v1/admin/fleet", `{"action":"stop","reason":"prices are wrong"}`, "X-Actor", "bob")
	p.verdict("every call is STOPPED since")
	p.sees("#banners", "by bob", soon)
	p.sees("#banners", "prices are wrong", soon)
	s.do(http.MethodDelete, "/v1/admin/fleet", "")
	p.verdict("all 11 closed")

	plantDegraded(t, redis)
	p.verdict("1 replica degraded")
	p.sees("#banners", "7 outcomes queued", soon)
	if err := redis.Client(t).ZRem(t.Context(), "circuit_breaker:replicas", "two").Err(); err != nil {
		t.Fatal(err)
	}
	if err := redis.Client(t).Del(t.Context(), "circuit_breaker:replica.two").Err(); err != nil {
		t.Fatal(err)
	}

	s.trip("agent-1")
	p.verdict("1 agent OPEN")
	if err := redis.Client(t).FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	p.sees("#banners", "Data", soon)
	p.verdict("Redis lost its data")

	redis.Kill()
	p.verdict("unknown: Redis is away")
	p.sees("#banners", "Redis", soon)
	redis.Restart()
	p.sees("#sentence", "no agent is known yet", 30*time.Second)

	s.end()
	p.verdict("unknown: breakerd does not answer")
	p.sees("#fresh", "STALE", 4*time.Second)
	p.sees("#fresh", "numbers of", soon)
	s.start(address, "REDIS_URL="+redis.URL(), "REPLICA_ID=one")
	p.sees("#sentence", "no agent is known yet", 5*time.Second)
	p.quiet()
}

// plantDegraded writes the heartbeat of a replica that is degraded.
func plantDegraded(t *testing.T, redis *testkit.Server) {
	t.Helper()
	client, now := redis.Client(t), float64(time.Now().UnixMilli())
	text, err := client.Get(t.Context(), "circuit_breaker:replica.one").Result()
	if err != nil {
		t.Fatal(err)
	}
	var beat map[string]any
	if err := json.Unmarshal([]byte(text), &beat); err != nil {
		t.Fatal(text, err)
	}
	beat["degraded_since_ms"], beat["waiting_outcomes"] = now, 7
	planted, err := json.Marshal(beat)
	if err == nil {
		err = client.Set(t.Context(), "circuit_breaker:replica.two", planted, 0).Err()
	}
	if err == nil {
		err = client.ZAdd(t.Context(), "circuit_breaker:replicas", goredis.Z{Score: now, Member: "two"}).Err()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestVerdict_SaysWhatDoesNotGuard: the global switch, and a Redis that may evict breakers.
func TestVerdict_SaysWhatDoesNotGuard(t *testing.T) {
	redis := testkit.Start(t, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
	s := serve(t, "REDIS_URL="+redis.URL(), "CIRCUIT_BREAKER_ENABLED=false")
	p := open(t, s.url+"/ui/", desk)
	p.verdict("breakers are switched OFF at this replica")
	p.sees("#banners", "Global switch", soon)
	p.sees("#banners", "Memory of Redis", soon)
	p.quiet()
}
