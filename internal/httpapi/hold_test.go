package httpapi

import (
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/route/routetest"
)

func TestHold_NeedsAReason(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.fail("a", 1)
	for _, body := range []string{"", "{}", `{"reason":""}`, `{"reason":"  "}`, `{"timeout_seconds":5}`} {
		for _, verb := range []string{"open", "close"} {
			g := f.Do("POST", "/v1/admin/circuit_breakers/a/"+verb, body).WantProblem(422, problem.InvalidValue)
			if at := g.At("errors.0.location"); at != "body.reason" {
				t.Errorf("%s %s: %v", verb, body, at)
			}
		}
	}
	f.Do("GET", "/v1/admin/circuit_breakers/a", "").Want(200, "hold=null")
}

func TestHold_OfAnotherActorIsReplacedByForceAlone(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	hold := func(verb, body string, actor ...string) (do func(status int, code problem.Code)) {
		return func(status int, code problem.Code) {
			t.Helper()
			var header []string
			if len(actor) > 0 {
				header = []string{"X-Actor", actor[0]}
			}
			g := f.Do("POST", "/v1/admin/circuit_breakers/a/"+verb, body, header...)
			if code == "" {
				g.Want(status)
				return
			}
			g.WantProblem(status, code)
		}
	}
	hold("open", `{"reason":"flooding"}`, "alice")(200, "")
	hold("open", `{"reason":"mine"}`, "bob")(409, problem.HoldExists)
	hold("close", `{"reason":"mine"}`, "bob")(409, problem.HoldExists)
	hold("open", `{"reason":"mine"}`)(409, problem.HoldExists)
	f.Do("GET", "/v1/admin/circuit_breakers/a", "").Want(200, `hold.actor="alice"`, `reason="flooding"`)
	hold("open", `{"reason":"still flooding","timeout_seconds":60}`, "alice")(200, "")
	hold("close", `{"reason":"sure","force":true}`, "bob")(200, "")
	f.Do("GET", "/v1/admin/circuit_breakers/a", "").Want(200, `hold.actor="bob"`, `hold.kind="CLOSED"`)
	f.Do("POST", "/v1/admin/circuit_breakers/a/reset", `{"target_state":"CLOSED"}`).Want(200) // lifts anybody's
	hold("open", `{"reason":"one"}`)(200, "")
	hold("open", `{"reason":"another one, who gives no name either"}`)(409, problem.HoldExists)
	hold("open", `{"reason":"locked","protected":true,"force":true}`, "alice")(200, "")
	hold("open", `{"reason":"x"}`, "bob")(409, problem.HoldProtected)
	hold("open", `{"reason":"x"}`, "-")(422, problem.InvalidValue)
}

func TestHold_WithoutALengthLastsTheDefault(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(o *Options) { o.HoldDefault = time.Hour })
	g := f.Do("POST", "/v1/admin/circuit_breakers/a/open", `{"reason":"x"}`).Want(200, "created=true")
	if g.JSON["endless"] != nil {
		t.Error(g.Text)
	}
	f.Do("GET", "/v1/admin/circuit_breakers/a", "").Want(200, `hold.until="2026-02-11T10:00:00Z"`)
	f.Do("POST", "/v1/admin/circuit_breakers/a/close", `{"reason":"x","force":true}`).Want(200, "endless=true")
}

func TestHold_OfANewAgentShowsTheNearestNames(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, agent := range []string{"FailingAgent", "FallingAgent", "failing-agent", "mailer"} {
		f.fail(agent, 1)
	}
	g := f.Do("POST", "/v1/admin/circuit_breakers/FailinAgent/open", `{"reason":"x"}`).Want(200, "created=true", `nearest.0="FailingAgent"`)
	if names, _ := g.JSON["nearest"].([]any); len(names) != 3 {
		t.Errorf("nearest %v", names)
	}
	if g := f.Do("POST", "/v1/admin/circuit_breakers/FailingAgent/open", `{"reason":"x"}`).Want(200); g.JSON["created"] != nil {
		t.Error(g.Text)
	}
	for _, path := range []string{"", "/explain", "/config"} {
		f.Do("GET", "/v1/admin/circuit_breakers/malier"+path, "").Want(404, `code="agent_unknown"`, `nearest.0="mailer"`, "nearest.1=null")
	}
	if g := f.Do("POST", "/v1/admin/circuit_breakers/quite-another/open", `{"reason":"x"}`).Want(200, "created=true"); g.JSON["nearest"] != nil {
		t.Error(g.Text)
	}
}

func TestRelease_EndsAHoldAsItsOwnEndWould(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const path = "/v1/admin/circuit_breakers/a"
	release := func(body string) routetest.Got { return f.Do("POST", path+"/release", body, "X-Actor", "bob") }
	f.fail("a", 1)
	release("").WantProblem(409, problem.NotHeld)
	for verb, state := range map[string]string{"open": "HALF_OPEN", "close": "CLOSED"} {
		f.Do("POST", path+"/"+verb, `{"reason":"fire"}`, "X-Actor", "alice").Want(200)
		release(`{"reason":"it is out"}`).Want(200, `status="released"`, `agent_id="a"`, `state="`+state+`"`)
		f.Do("GET", path, "").Want(200, "hold=null", `state="`+state+`"`)
		f.Do("GET", path+"/events", "").Want(200, `events.0.event="manual_release"`, `events.0.actor="bob"`)
	}
	f.Do("POST", path+"/open", `{"reason":"fire","protected":true}`).Want(200)
	release(`{"reason":"no"}`).WantProblem(409, problem.HoldProtected)
	release(`{"force":true}`).Want(200, `state="HALF_OPEN"`)
	f.Do("POST", "/v1/admin/circuit_breakers/nobody/release", "").WantProblem(404, problem.AgentUnknown)
}

func TestHistory_SaysWhetherAnyIsKept(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const path = "/v1/admin/circuit_breakers/a/history"
	f.fail("a", 3)
	f.Do("GET", path, "").Want(200, `agent_id="a"`, "kept_minutes=0", `minutes.0.at="2026-02-11T08:59:00Z"`, "minutes.0.calls=3", "minutes.0.failures=3")
	f.records.kept = 60
	f.Do("GET", path, "").Want(200, "kept_minutes=60")
	f.advance(time.Minute)
	if g := f.Do("GET", path+"?minutes=2", "").Want(200); g.At("minutes.0") != nil {
		t.Error(g.Text)
	}
	f.Do("GET", path+"?minutes=3", "").Want(200, "minutes.0.calls=3")
	for _, bad := range []string{"0", "1441", "x", "-1"} {
		f.Do("GET", path+"?minutes="+bad, "").WantProblem(422, problem.InvalidValue)
	}
	f.Do("GET", "/v1/admin/circuit_breakers/nobody/history", "").WantProblem(404, problem.AgentUnknown)
}
