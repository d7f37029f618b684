package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
)

// exchange is one request and the status that it must get.
type exchange struct {
	method, path, body string
	status             int
	header             []string
}

// life lists every operation on one agent that needs no permit: those before the calls of live, and those after.
func life(agent string) (before, after []exchange) {
	admin, profile := adminPath+agent, "/v1/admin/agents/"+agent
	before = []exchange{
		{http.MethodGet, admin, "", http.StatusNotFound, nil},
		{http.MethodPut, profile, `{"contact":"ops@example.org"}`, http.StatusCreated, nil},
		{http.MethodGet, profile, "", http.StatusOK, nil},
		{http.MethodPut, admin + "/config", `{"timeout_seconds":90,"half_open_max_calls":2}`, http.StatusCreated, nil},
		{http.MethodGet, admin + "/config", "", http.StatusOK, nil},
	}
	after = []exchange{
		{http.MethodGet, admin, "", http.StatusOK, nil},
		{http.MethodGet, admin + "/events", "", http.StatusOK, nil},
		{http.MethodPost, admin + "/open", `{"reason":"ban"}`, http.StatusOK, nil},
		{http.MethodPost, dataPath + agent + "/acquire", "", http.StatusTooManyRequests, nil},
		{http.MethodPost, admin + "/close", `{"reason":"trust","force":true}`, http.StatusOK, nil},
		{http.MethodPost, admin + "/reset", `{"target_state":"CLOSED"}`, http.StatusOK, nil},
		{http.MethodGet, "/v1/admin/quarantine?agent_id=" + agent, "", http.StatusOK, nil},
		{http.MethodDelete, admin + "/config", "", http.StatusNoContent, []string{"If-Match", "*"}},
		{http.MethodGet, admin + "/config", "", http.StatusNotFound, nil},
	}
	return before, after
}

func (d *daemon) exchange(list ...exchange) (last reply, err error) {
	for _, x := range list {
		if last, err = d.try(x.method, x.path, x.body, x.header...); err != nil {
			return last, err
		}
		if last.status != x.status {
			return last, fmt.Errorf("%s %s: status %d, want %d: %s", x.method, x.path, last.status, x.status, last.body)
		}
	}
	return last, nil
}

// live runs all of life. Between its halves, five failures open the breaker, and a probe is renewed and succeeds.
func (d *daemon) live(agent string) error {
	before, after := life(agent)
	if _, err := d.exchange(before...); err != nil {
		return err
	}
	verb := func(verb, body string, header ...string) (reply, error) {
		return d.exchange(exchange{http.MethodPost, dataPath + agent + verb, body, http.StatusOK, header})
	}
	call := func(outcome string) (reply, error) {
		r, err := verb("/acquire", "")
		if err != nil {
			return r, err
		}
		body := reportBody(r.text("permit"), outcome)
		if r.get("state") == "HALF_OPEN" {
			if _, err := verb("/renew", `{"permit":"`+r.text("permit")+`"}`); err != nil {
				return r, err
			}
		}
		if _, err := verb("/report", body, "Idempotency-Key", agent+outcome); err != nil {
			return r, err
		}
		return verb("/report", body, "Idempotency-Key", agent+outcome) // counts once
	}
	if r, err := call("failure"); err != nil || r.get("why") != "duplicate" {
		return fmt.Errorf("the same report again: %s, %w", r.body, err)
	}
	for _, want := range []string{"CLOSED", "CLOSED", "CLOSED", "OPEN"} {
		if r, err := verb("/report", `{"outcome":"failure"}`); err != nil || r.get("state") != want {
			return fmt.Errorf("a failure, want %s: %s, %w", want, r.body, err)
		}
	}
	reset := exchange{http.MethodPost, adminPath + agent + "/reset", `{"target_state":"HALF_OPEN"}`, http.StatusOK, nil}
	if _, err := d.exchange(reset); err != nil {
		return err
	}
	if r, err := call("success"); err != nil || r.get("state") != "HALF_OPEN" {
		return fmt.Errorf("probe: %s, %w", r.body, err)
	}
	_, err := d.exchange(after...)
	return err
}

// each calls do for every agent, four at a time.
func each(t *testing.T, agents []string, do func(agent string) error) {
	t.Helper()
	queue := make(chan string)
	errs := make([]error, 4)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			for agent := range queue {
				if err := do(agent); err != nil {
					errs[i] = fmt.Errorf("%s: %w", agent, err)
				}
			}
		})
	}
	for _, agent := range agents {
		queue <- agent
	}
	close(queue)
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func TestCluster_TakesEveryOperation(t *testing.T) {
	t.Parallel()
	set := testkit.StartCluster(t)
	d := start(t, "REDIS_URL="+set.URL())
	agents := make([]string, 100)
	for i := range agents {
		agents[i] = "Agent." + strconv.Itoa(i)
	}
	each(t, agents, d.live)

	ops := make([]string, len(agents))
	for i, agent := range agents {
		ops[i] = `{"op":"report","agent":"` + agent + `","outcome":"success"}`
	}
	batch := d.call(http.MethodPost, "/v1/batch", `{"operations":[`+strings.Join(ops, ",")+`]}`).want(http.StatusOK)
	results, _ := batch.get("results").([]any)
	for i, v := range results {
		if result, _ := v.(map[string]any); result["status"] != 200.0 || result["counted"] != true {
			t.Errorf("batch, operation %d: %v", i, v)
		}
	}
	list, _ := d.call(http.MethodGet, "/v1/admin/circuit_breakers", "").want(http.StatusOK).get("circuit_breakers").([]any)
	if len(list) != len(agents) || len(results) != len(agents) {
		t.Errorf("%d agents are listed, %d batched, want %d", len(list), len(results), len(agents))
	}
	if metrics := string(d.call(http.MethodGet, "/metrics", "").body); !strings.Contains(metrics, `circuit_breaker_state{agent="Agent.99"} 0`) {
		t.Error("no state of Agent.99 in the metrics")
	}
	for _, keys := range clusterKeys(t, set) {
		if len(keys) < 100 {
			t.Errorf("a master holds %d keys: the agents are not spread", len(keys))
		}
	}
	each(t, agents, func(agent string) error {
		_, err := d.exchange(exchange{http.MethodDelete, adminPath + agent, "", http.StatusNoContent, nil},
			exchange{http.MethodGet, adminPath + agent, "", http.StatusNotFound, nil})
		return err
	})
	testkit.Eventually(t, "nothing to be left of deleted agents", 5*time.Second, func() error {
		left := slices.DeleteFunc(slices.Concat(clusterKeys(t, set)...), func(key string) bool { return strings.Contains(key, ":report:") })
		if len(left) > 0 {
			return fmt.Errorf("keys %q", left)
		}
		return nil
	})
}

// clusterKeys returns each master's keys of agents. Such a key must have the agent in braces.
func clusterKeys(t *testing.T, set *testkit.ClusterSet) [][]string {
	t.Helper()
	var all [][]string
	for _, node := range set.Nodes {
		keys, err := node.Client(t).Keys(t.Context(), "*").Result()
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range keys {
			if !strings.HasPrefix(key, "circuit_breaker:{Agent.") && !ofFleet(key) {
				t.Errorf("key %q", key)
			}
		}
		all = append(all, slices.DeleteFunc(keys, ofFleet))
	}
	return all
}

// ofFleet says whether a key belongs to the fleet and to no agent.
func ofFleet(key string) bool {
	return strings.Count(key, ":") == 1 // an agent's keys have three segments, the fleet's two
}
