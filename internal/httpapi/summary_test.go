package httpapi

import (
	"fmt"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/redisdocs"
)

const summaryPath = "/v1/admin/summary"

func TestSummary_CountsWhatIsWrong(t *testing.T) {
	t.Parallel()
	f := mixed(t)
	f.Do("PUT", listPath+"/tripped/config", `{"mode":"observe"}`).Want(201)
	f.Do("PUT", listPath+"/calm-held/config", `{"enabled":false}`).Want(201)
	f.Do("PUT", "/v1/admin/agents/tripped", `{"labels":{"team":"web"}}`).Want(201)
	g := f.Do("GET", summaryPath, "").Want(200,
		"enabled=true", "agents=8", "states.CLOSED=3", "states.OPEN=4", "states.HALF_OPEN=1", fmt.Sprintf("now_ms=%d", f.records.NowMs.Load()),
		"holds.open=2", "holds.closed=1", "holds.protected=1",
		"causes.consecutive_failures=3", "causes.operator=2", "causes.probe_failed=null",
		"modes.enforce=6", "modes.observe=1", "modes.disabled=1",
		`labels.0.name="team"`, `labels.0.value="web"`, "labels.0.agents=2", "labels.0.not_closed=1", "labels.1.not_closed=0",
		`oldest_open.0.agent_id="tripped"`, "oldest_open.0.held=false", `oldest_open.1.agent_id="banned"`, "oldest_open.1.held=true",
		"unregistered.count=5", `unregistered.names.0="banned"`, "overrides=4", "invalid_overrides.count=1", `invalid_overrides.names.0="calm"`, "idle.count=0", "idle.names=[]", "flappers=[]")
	if n := len(g.JSON["oldest_open"].([]any)); n != 4 {
		t.Errorf("%d open breakers: %s", n, g.Text)
	}
}

func TestSummary_OfNobody(t *testing.T) {
	t.Parallel()
	newFixture(t).Do("GET", summaryPath, "").Want(200, "agents=0", "states.OPEN=0", "causes={}", "labels=[]", "oldest_open=[]", "flappers=[]")
}

func TestSummary_NamesFlappers(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	happen := func(agent, kind string, ago time.Duration, seq int) {
		at := f.records.NowMs.Load() - ago.Milliseconds()
		f.records.happen(fmt.Sprintf("%d-%d", at, seq), agent, fmt.Sprintf("%d %s closed>open 00000000000000a1 - 5/5/5/0 consecutive_failures", at, kind))
	}
	happen("long-ago", "opened", 11*time.Minute, 0)
	for i := range 3 {
		happen("flaps", "opened", 9*time.Minute, 1+i)
		happen("long-ago", "half_opened", 8*time.Minute, i)
	}
	f.Do("GET", summaryPath, "").Want(200, `flappers.0.agent_id="flaps"`, "flappers.0.openings=3", "flappers.1=null")
	happen("long-ago", "opened", time.Minute, 0)
	happen("flaps", "opened", time.Minute, 1)
	f.Do("POST", listPath+"/x/open", `{"reason":"the next summary is read anew"}`).Want(200)
	f.Do("GET", summaryPath, "").Want(200, "flappers.0.openings=4", "flappers.1=null")
}

func TestSummary_HasTheGateAndTheReplicas(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	degraded := heard("degraded", "follows", time.Second, true)
	degraded.DegradedMs = f.records.NowMs.Load()
	f.fleet.heard = []redisdocs.Heard{
		heard("a", "follows", time.Second, true), degraded, heard("cut", "old", 8*time.Second, true), heard("dead", "old", time.Minute, true),
		heard("off", "follows", time.Second, false), heard("slow", "old", time.Second, true),
	}
	f.Do("GET", summaryPath, "").Want(200, `gate.action="none"`, "gate.share=1", "gate.until=null")
	f.Do("PUT", "/v1/admin/fleet", `{"action":"stop","reason":"fire"}`, "X-Actor", "ops").Want(200)
	f.Do("GET", summaryPath, "").Want(200, `gate.action="stop"`, "gate.share=0", `gate.reason="fire"`, `gate.actor="ops"`,
		"replicas.alive=4", "replicas.missing.count=2", `replicas.missing.names.1="dead"`, `replicas.degraded.names.0="degraded"`,
		`replicas.not_enabled.names.0="off"`, "replicas.behind_gate.count=1", `replicas.behind_gate.names.0="slow"`)
}

func TestSummary_RefusesParameters(t *testing.T) {
	t.Parallel()
	newFixture(t).Do("GET", summaryPath+"?state=OPEN", "").WantProblem(422, problem.InvalidValue)
}
