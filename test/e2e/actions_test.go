package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/internal/testkit"
)

// The caller of 10,000 resets leaves, and the replica that carries them out is killed half-way: another one goes on, and
// each breaker is reset exactly once.
func TestActions_AnotherReplicaFinishesThem(t *testing.T) {
	t.Parallel()
	const many = 10_000
	server := testkit.Start(t)
	client := server.Client(t)
	url := "REDIS_URL=" + server.URL()
	replicas := map[string]*daemon{"a": start(t, url, "REPLICA_ID=a"), "b": start(t, url, "REPLICA_ID=b")}
	names := make([]string, many)
	pipe := client.Pipeline()
	for i := range names {
		names[i] = fmt.Sprintf("agent-%05d", i)
		pipe.Set(t.Context(), "circuit_breaker:"+names[i]+":state", "open", 0)
		pipe.ZAdd(t.Context(), "circuit_breaker:agents", redis.Z{Score: float64(time.Now().Unix()), Member: names[i]})
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}

	ctx, leave := context.WithCancel(t.Context())
	body := `{"agents":["` + strings.Join(names, `","`) + `"],"action":"reset","reason":"provider is back"}`
	left := make(chan error, 1)
	go func() {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+replicas["a"].addr+"/v1/admin/actions", strings.NewReader(body))
		if err == nil {
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("X-Actor", "ops")
			var res *http.Response
			if res, err = http.DefaultClient.Do(r); err == nil {
				res.Body.Close()
			}
		}
		left <- err
	}()
	var id string
	testkit.Eventually(t, "a tenth of the agents to be done", 60*time.Second, func() error {
		ids, err := client.ZRange(t.Context(), "circuit_breaker:actions", 0, -1).Result()
		if err != nil || len(ids) != 1 {
			return fmt.Errorf("%v, %w", ids, err)
		}
		id = ids[0]
		fields, err := client.HVals(t.Context(), "circuit_breaker:action."+id).Result()
		done := 0
		for _, v := range fields {
			if v == "done" {
				done++
			}
		}
		if done < many/10 {
			return fmt.Errorf("%d, %w", done, err)
		}
		return nil
	})
	leave()
	<-left
	worker := client.Get(t.Context(), "circuit_breaker:action_turn."+id).Val()
	replicas[worker].signal(syscall.SIGKILL)
	other := replicas["a"]
	if worker == "a" {
		other = replicas["b"]
	}
	testkit.Eventually(t, "the other to finish", 60*time.Second, func() error {
		r := other.call(http.MethodGet, "/v1/admin/actions/"+id, "").want(http.StatusOK)
		if r.get("finished") != true {
			return fmt.Errorf("todo %v", r.get("todo"))
		}
		return nil
	})
	r := other.call(http.MethodGet, "/v1/admin/actions/"+id, "").has("matched", float64(many)).has("todo", 0.0).has("actor", "ops")
	if n := strings.Count(string(r.body), `"result":"done"`); n != many {
		t.Errorf("%d are done", n)
	}
	entries, err := client.XRange(t.Context(), "circuit_breaker:audit", "-", "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	resets, actions := map[string]int{}, 0
	for _, e := range entries {
		text := fmt.Sprint(e.Values)
		switch {
		case strings.Contains(text, " manual_reset "):
			agent, _ := e.Values["agent"].(string)
			resets[agent]++
		case strings.Contains(text, " action "):
			actions++
		}
	}
	for _, name := range names {
		if resets[name] != 1 {
			t.Fatalf("%s was reset %d times", name, resets[name])
		}
	}
	if len(resets) != many || actions != 1 {
		t.Errorf("%d agents were reset, by %d entries of an action", len(resets), actions)
	}
}
