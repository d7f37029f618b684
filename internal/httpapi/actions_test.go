package httpapi

import (
	"fmt"
	"strings"
	"testing"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/pkg/breaker"
)

const actionsAt = "/v1/admin/actions"

// TestActions_SelectAsTheListDoes and do to each what one agent's own path does.
func TestActions_SelectAsTheListDoes(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, agent := range []string{"a", "b", "c"} {
		f.fail(agent, 5)
	}
	f.fail("healthy", 1)
	f.Do("PUT", "/v1/admin/agents/healthy", `{"labels":{"team":"x"}}`).Want(201)
	f.Do("POST", "/v1/admin/circuit_breakers/b/open", `{"reason":"ban"}`, "X-Actor", "bob").Want(200)
	f.Do("POST", "/v1/admin/circuit_breakers/c/open", `{"reason":"ban","protected":true}`, "X-Actor", "bob").Want(200)

	f.Do("POST", actionsAt, `{"selector":{"state":["open"]},"action":"reset","reason":"back","dry_run":true}`).
		Want(200, `dry_run=true`, `matched=3`, `todo=3`, `finished=true`, `results.0.agent_id="a"`, `results.0.result="todo"`)
	f.Do("POST", actionsAt, `{"selector":{"state":["open"]},"action":"reset","reason":"back","expect":2}`).
		WantProblem(409, problem.MoreThanExpected)
	f.Do("GET", "/v1/admin/circuit_breakers/a", "").Want(200, `state="OPEN"`)
	done := f.Do("POST", actionsAt, `{"selector":{"state":["OPEN"],"hold":["none"]},"action":"reset","reason":"back","expect":1,"gradual_seconds":60}`, "X-Actor", "ops").
		Want(200, `matched=1`, `todo=0`, `finished=true`, `actor="ops"`, `action="reset"`, `results.0.result="done"`)
	if f.fleet.asked != "reset of 1 agents: back" {
		t.Error(f.fleet.asked)
	}
	f.Do("GET", fmt.Sprint(actionsAt, "/", done.JSON["id"]), "").Want(200, `results.0.agent_id="a"`)
	v, _, err := f.manager.Inspect(t.Context(), "a")
	if err != nil || v.State != breaker.Closed || v.Ramp.LengthMs != 60_000 {
		t.Errorf("%+v, %v", v, err)
	}

	held := `{"agents":["b","c","c","a"],"action":"open","reason":"fire","timeout_seconds":60`
	f.Do("POST", actionsAt, held+`}`, "X-Actor", "ops").Want(200, `matched=3`,
		`results.0.result="done"`, `results.1.result="hold_exists"`, `results.2.result="hold_protected"`)
	f.Do("POST", actionsAt, held+`}`).Want(200, `results.0.result="hold_exists"`)
	f.Do("POST", actionsAt, held+`,"force":true}`).Want(200, `results.0.result="done"`, `results.1.result="done"`, `results.2.result="done"`)
	f.Do("POST", actionsAt, `{"selector":{"hold":["any"]},"action":"release","reason":"over"}`).Want(200, `matched=3`, `todo=0`)
	f.Do("POST", actionsAt, `{"selector":{"label":["team=x"]},"action":"half_open","reason":"try"}`).Want(200, `matched=1`)
	f.Do("GET", "/v1/admin/circuit_breakers/healthy", "").Want(200, `state="HALF_OPEN"`)
	f.Do("POST", actionsAt, `{"selector":{"q":"HEAL"},"action":"close","reason":"known"}`).Want(200, `matched=1`)
	f.Do("POST", actionsAt, `{"selector":{"q":"nobody"},"action":"close","reason":"known"}`).Want(200, `matched=0`, `finished=true`)

	f.fleet.slow = true
	slow := f.Do("POST", actionsAt, `{"agents":["a"],"action":"reset","reason":"x"}`).Want(202, `finished=false`, `todo=1`, `results.0.result="todo"`)
	f.Do("GET", fmt.Sprint(actionsAt, "/", slow.JSON["id"]), "").Want(200, `finished=false`)
}

func TestActions_BadOnesAreRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.fail("a", 5)
	for _, body := range []string{
		`{}`, `{"action":"reset","reason":"x"}`, `{"agents":[],"action":"reset","reason":"x"}`, `{"agents":["a"],"action":"reset"}`,
		`{"agents":["a"],"action":"erase","reason":"x"}`, `{"agents":["a"],"action":"reset","reason":"a\nb"}`, `{"agents":["a",""],"action":"reset","reason":"x"}`,
		`{"agents":["a"],"selector":{"q":"a"},"action":"reset","reason":"x"}`, `{"selector":{},"action":"reset","reason":"x"}`,
		`{"selector":{"state":["ajar"]},"action":"reset","reason":"x"}`, `{"selector":{"hold":["x"]},"action":"reset","reason":"x"}`,
		`{"selector":{"label":["x"]},"action":"reset","reason":"x"}`, `{"selector":{"q":"` + strings.Repeat("q", 129) + `"},"action":"reset","reason":"x"}`,
		`{"selector":{"name":"a"},"action":"reset","reason":"x"}`, `{"agents":["a"],"action":"reset","reason":"x","expect":-1}`,
		`{"agents":["a"],"action":"reset","reason":"x","timeout_seconds":5}`, `{"agents":["a"],"action":"open","reason":"x","gradual_seconds":5}`,
		`{"agents":["a"],"action":"open","reason":"x","timeout_seconds":0}`, `{"agents":["a"],"action":"open","reason":" "}`,
		`{"agents":["a"],"action":"open","reason":"x","timeout_seconds":1e18}`, `{"agents":["a"],"action":"reset","reason":"x","expect":0.5}`,
	} {
		if g := f.Do("POST", actionsAt, body); g.Status != 422 || g.JSON["code"] == nil {
			t.Errorf("%s: %d %s", body, g.Status, g.Text)
		}
	}
	f.Do("GET", actionsAt+"/0000000000000001", "").WantProblem(404, problem.ActionUnknown)
	f.Do("GET", actionsAt+"/1", "").WantProblem(400, problem.InvalidActionID)
	if len(f.fleet.actions) != 0 {
		t.Errorf("%d actions", len(f.fleet.actions))
	}
}

// TestFleet_RecoverResetsWhatIsOpenAndNotHeld with a ramp as long as the gate's.
func TestFleet_RecoverResetsWhatIsOpenAndNotHeld(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.fail("open", 5)
	f.fail("closed", 1)
	f.Do("POST", "/v1/admin/circuit_breakers/banned/open", `{"reason":"ban"}`, "X-Actor", "bob").Want(200)
	recovering := `{"action":"recover","duration_seconds":600,"reset_open":true,"reason":"over"}`
	g := f.Do("PUT", "/v1/admin/fleet", recovering, "X-Actor", "ops").Want(200, `action="recover"`)
	f.Do("GET", fmt.Sprint(actionsAt, "/", g.JSON["reset_action"]), "").
		Want(200, `matched=1`, `actor="ops"`, `reason="over"`, `results.0.agent_id="open"`, `results.0.result="done"`)
	v, _, err := f.manager.Inspect(t.Context(), "open")
	if err != nil || v.State != breaker.Closed || v.Ramp.LengthMs != 600_000 {
		t.Errorf("%+v, %v", v, err)
	}
	f.Do("GET", "/v1/admin/circuit_breakers/banned", "").Want(200, `state="OPEN"`)
	if again := f.Do("PUT", "/v1/admin/fleet", recovering).Want(200); again.JSON["reset_action"] != nil {
		t.Errorf("nothing is open: %s", again.Text)
	}
	f.Do("PUT", "/v1/admin/fleet", `{"action":"stop","reset_open":true,"reason":"x"}`).WantProblem(422, problem.InvalidValue)
}
