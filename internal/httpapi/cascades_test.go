package httpapi

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// shape is a tree as text: A(B C(D)).
func shape(trips []*trip) string {
	var words []string
	for _, t := range trips {
		word := strings.Join(append([]string{t.AgentID}, t.Via...), "<")
		if len(t.Followed) > 0 {
			word += "(" + shape(t.Followed) + ")"
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

// The names open in the order in which they are written.
func TestTrees_PutEachTripBelowTheOneThatItFollowed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ opened, calls, want string }{
		{"", "", ""},
		{"C B A", "", "C B A"},
		{"C B A", "A>B B>C", "C(B(A))"},
		{"C B A", "A>C B>C", "C(B A)"},
		{"A B C", "A>B B>C", "A B C"},        // a caller that opened first followed nobody
		{"C A", "A>B B>C", "C(A<B)"},         // B has not opened
		{"C A", "A>w w>B B>C", "C(A<B<w)"},   // from the one that was followed on
		{"A B C", "A>B B>C C>A", "A(B<C C)"}, // a circle: no trip follows a later one
		{"A B", "A>B B>A", "A(B)"},
		{"A A2 B", "B>A2 B>A", "A(B) A2"}, // of two as near, the first
		{"Z A", "A>1 1>2 2>3 3>4 4>Z", "Z(A<4<3<2<1)"},
		{"Z A", "A>1 1>2 2>3 3>4 4>5 5>Z", "Z A"},
		{"A", "A>A", "A"},
	} {
		var trips []*trip
		for name := range strings.FieldsSeq(c.opened) {
			trips = append(trips, &trip{AgentID: name})
		}
		calls := map[string][]string{}
		for call := range strings.FieldsSeq(c.calls) {
			parent, agent, _ := strings.Cut(call, ">")
			calls[parent] = append(calls[parent], agent)
		}
		if got := shape(trees(trips, calls)); got != c.want {
			t.Errorf("opened %q, calls %q: %s, want %s", c.opened, c.calls, got, c.want)
		}
	}
}

func TestCascades_AreTreesOfTheOpeningsOfTheTime(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.records.calls = map[string][]string{"Front": {"Search"}, "Search": {"Index"}}
	now := time.Now().UnixMilli()
	for i, e := range []struct {
		agent, change, cause string
		ago                  int64
	}{
		{"Old", "closed>open", "failure_rate", 600},
		{"Index", "closed>open", "consecutive_failures", 100},
		{"Index", "open>half_open", "", 90},
		{"Search", "closed>open", "failure_rate", 80},
		{"Index", "half_open>open", "probe_failed", 70},
		{"Front", "closed>open", "slow_rate", 60},
		{"Alone", "closed>open", "a ban", 50},
	} {
		at := now - e.ago*1000
		f.records.happen(fmt.Sprintf("%d-%d", at, i), e.agent,
			fmt.Sprintf("%d opened %s %016x - 5/5/5/0 %s", at, e.change, i, e.cause))
	}
	f.records.happen(fmt.Sprintf("%d-9", now), "-", "") // no event
	f.Do("GET", "/v1/admin/cascades?last=5m", "").Want(200,
		`cascades.0.agent_id="Index"`, `cascades.0.openings=2`, `cascades.0.cause="consecutive_failures"`,
		`cascades.0.epoch="0000000000000001"`, `cascades.0.followed.0.agent_id="Search"`,
		`cascades.0.followed.0.followed.0.agent_id="Front"`, `cascades.1.agent_id="Alone"`, `edges=2`, `truncated=false`)
	f.Do("GET", "/v1/admin/cascades?last=1h", "").Want(200, `cascades.0.agent_id="Old"`)
	f.Do("GET", "/v1/admin/cascades?last=1s", "").Want(200, `cascades=[]`)
	for _, last := range []string{"5", "0s", "25h", "x", "-5m", "999999999h"} {
		f.Do("GET", "/v1/admin/cascades?last="+last, "").WantProblem(422, "invalid_value")
	}
	f.records.TakeDown(false)
	f.Do("GET", "/v1/admin/cascades", "").WantProblem(503, "store_unavailable")
}

func TestParentAgent_IsNotedByAcquireBatchAndGate(t *testing.T) {
	t.Parallel()
	var noted []string
	f := newFixture(t, func(o *Options) {
		var err error
		o.Manager, err = breaker.NewManager(breaker.Options{
			Store: o.Directory.(*records), OnCall: func(parent, agent string) { noted = append(noted, parent+">"+agent) },
		})
		if err != nil {
			t.Fatal(err)
		}
	})
	const acquire = "/v1/circuit_breakers/B/acquire"
	f.Do("POST", acquire, `{"parent_agent":"A1"}`).Want(200)
	f.Do("POST", "/v1/batch", `{"operations":[{"op":"acquire","agent":"B","parent_agent":"A2"}]}`).
		Want(200, `results.0.status=200`)
	f.Do("GET", "/v1/gate/B", "", "X-Circuit-Breaker-Agent", "A3").Want(200)
	f.Do("POST", acquire, `{"parent_agent":"B"}`).Want(200) // itself
	f.Do("POST", acquire, "").Want(200)
	if got := strings.Join(noted, " "); got != "A1>B A2>B A3>B" {
		t.Error(got)
	}
	f.Do("POST", acquire, `{"parent_agent":"a b"}`).WantProblem(422, "invalid_value")
	f.Do("GET", "/v1/gate/B", "", "X-Circuit-Breaker-Agent", "a>b").WantProblem(422, "invalid_value")
	f.Do("POST", "/v1/batch", `{"operations":[{"op":"acquire","agent":"B","parent_agent":"a b"},
		{"op":"report","agent":"B","outcome":"success","parent_agent":"A"}]}`).
		Want(200, `results.0.status=422`, `results.1.status=422`)
}
