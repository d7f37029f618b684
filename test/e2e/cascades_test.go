package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
)

// opening is a part of a tree.
type opening struct {
	Agent    string    `json:"agent_id"`
	Followed []opening `json:"followed"`
}

// On both engines: which agent failed first, and who followed. Parents come from acquire, from a gateway
// whose agent hands its header on, and from a workflow.
func TestCascades_ShowWhichAgentFailedFirst(t *testing.T) {
	t.Parallel()
	for _, embedded := range []bool{true, false} {
		env := []string{"CIRCUIT_BREAKER_TIMEOUT_SECONDS=600"}
		if !embedded {
			env = append(env, "REDIS_URL="+testkit.Start(t).URL())
		}
		d := start(t, env...)
		for _, call := range [][2]string{{"Front", "Search"}, {"Search", "Index"}, {"Index", "Front"}} { // a circle
			d.call(http.MethodPost, dataPath+call[1]+"/acquire", `{"parent_agent":"`+call[0]+`"}`).want(http.StatusOK)
		}
		for _, agent := range []string{"Index", "Alone", "Search", "Front"} {
			d.run(agent, "failure", 5)
			time.Sleep(2 * time.Millisecond) // openings are dated to the millisecond
		}
		asked := d
		if !embedded {
			asked = start(t, env...) // another replica
			testkit.Eventually(t, "the calls to be written", 10*time.Second, func() error {
				if got := asked.call(http.MethodGet, "/v1/admin/cascades", ""); got.get("edges") != 3.0 {
					return errors.New(string(got.body))
				}
				return nil
			})
		}
		var got struct {
			Cascades []opening `json:"cascades"`
			Edges    int       `json:"edges"`
		}
		answer := asked.call(http.MethodGet, "/v1/admin/cascades?last=5m", "").want(http.StatusOK)
		if err := json.Unmarshal(answer.body, &got); err != nil {
			t.Fatal(err)
		}
		if trees := fmt.Sprint(got.Cascades); trees != "[{Index [{Search [{Front []}]}]} {Alone []}]" || got.Edges != 3 {
			t.Errorf("%s: %s", trees, answer.body)
		}
	}
}

func TestCascades_BridgeKnowsWhoCalls(t *testing.T) {
	t.Parallel()
	received := make(chan string, 1)
	h := behind(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		received <- r.Header.Get("X-Circuit-Breaker-Agent")
	}))
	h.call(http.MethodGet, "/agents/Agent/", "", "X-Circuit-Breaker-Agent", "Front").want(http.StatusOK)
	if name := <-received; name != "Agent" {
		t.Errorf("the agent is told that it is %q", name)
	}
	h.call(http.MethodPost, "/api/v1/workflows", late("Agent")).want(http.StatusCreated)
	h.call(http.MethodPost, "/api/v1/workflows/late/execute", "", "X-Circuit-Breaker-Agent", "Front").want(http.StatusOK)
	if name := <-received; name != "Agent" {
		t.Errorf("a step's agent is told that it is %q", name)
	}
	testkit.Eventually(t, "the calls to be written", 10*time.Second, func() error {
		edges := redisCLI(t, h.redis, "HKEYS", "circuit_breaker:edges")
		for _, want := range []string{"Front>Agent", "workflow:late>Agent", "Front>workflow:late"} {
			if !slices.Contains(strings.Fields(edges), want) {
				return errors.New(edges)
			}
		}
		return nil
	})
}
