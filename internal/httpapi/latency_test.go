package httpapi

import (
	"context"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/latency"
	"github.com/breakerd/breakerd/internal/problem"
)

// timed is a fixture that knows how long calls took: by agent the durations, in ms.
func timed(t *testing.T, alone bool, took map[string][]int) *fixture {
	t.Helper()
	begin := time.Unix(1_770_800_400, 0)
	table := latency.New(100, func(string) bool { return false }, begin)
	for agent, all := range took {
		for _, ms := range all {
			table.AddFirstByte(agent, time.Duration(ms)*time.Millisecond, time.Millisecond)
		}
	}
	return newFixture(t, func(o *Options) {
		o.Latency = func(context.Context) (map[string]latency.Figures, bool) { return table.Read(), alone }
	})
}

func TestLatency_ListsTheSlowest(t *testing.T) {
	t.Parallel()
	f := timed(t, false, map[string][]int{"fast": {1, 1, 1, 1}, "steady": {200, 200}, "spiky": {1, 1, 1, 500}})
	const at = "/v1/admin/latency"
	f.Do("GET", at, "").Want(200, `total=3`, `degraded=false`, `agents.0.agent_id="spiky"`, `agents.0.calls=4`,
		`agents.0.average_ms=125.75`, `agents.0.replicas=1`, `agents.0.since="2026-02-11T09:00:00Z"`, `agents.0.first_byte.p99_ms=1`,
		`agents.1.agent_id="steady"`, `agents.1.p50_ms=200`, `agents.1.p95_ms=200`, `agents.1.p99_ms=200`, `agents.2.agent_id="fast"`)
	f.Do("GET", at+"?sort=average", "").Want(200, `agents.0.agent_id="steady"`, `agents.1.agent_id="spiky"`)
	f.Do("GET", at+"?sort=calls&limit=1", "").Want(200, `agents.0.agent_id="fast"`, `total=3`)
	f.Do("GET", at+"?threshold_ms=150", "").Want(200, `total=2`, `agents.1.agent_id="steady"`)
	f.Do("GET", at+"?threshold_ms=150&sort=average", "").Want(200, `total=1`, `agents.0.agent_id="steady"`)
	f.Do("GET", at+"?threshold_ms=2000", "").Want(200, `total=0`, `agents=[]`)
}

func TestLatency_OfOneAgent(t *testing.T) {
	t.Parallel()
	f := timed(t, true, map[string][]int{"steady": {200}, "other": {900}})
	const at = "/v1/admin/latency?agent="
	f.fail("steady", 1)
	f.fail("idle", 1)
	f.Do("GET", at+"steady", "").Want(200, `total=1`, `degraded=true`, `agents.0.average_ms=200`)
	f.Do("GET", at+"idle", "").Want(200, `total=0`)
	f.Do("GET", at+"typo", "").WantProblem(404, problem.AgentUnknown)
	f.Do("GET", "/v1/admin/circuit_breakers/steady", "").Want(200, `latency.calls=1`, `latency.p99_ms=200`)
	if idle := f.Do("GET", "/v1/admin/circuit_breakers/idle", "").Want(200); idle.At("latency") != nil {
		t.Error(idle.At("latency"))
	}
}

func TestLatency_RefusesBadValues(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, query := range []string{
		"threshold_ms=x", "threshold_ms=-1", "threshold_ms=NaN", "threshold_ms=Inf", "threshold_ms=1e300", "sort=p50", "limit=0",
	} {
		f.Do("GET", "/v1/admin/latency?"+query, "").WantProblem(422, problem.InvalidValue)
	}
	f.Do("GET", "/v1/admin/latency", "").Want(200, `agents=[]`)
}
