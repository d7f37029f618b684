package httpapi

import (
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/problem"
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
	if g := f.Do("POST", "/v1/admin/circuit_breakers/quite-another/open", `{"reason":"x"}`).Want(200, "created=true"); g.JSON["nearest"] != nil {
		t.Error(g.Text)
	}
}
