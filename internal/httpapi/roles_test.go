package httpapi

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/breakerd/breakerd/internal/access"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/route/routetest"
)

func guarded(t testing.TB, g *access.Guard) *routetest.Client {
	t.Helper()
	return newFixture(t, func(o *Options) { o.Access = g }).Client
}

// bodies are a profile that operate may set, and an action that names an agent.
var bodies = map[string]string{
	"putAgent": `{"contact":"ops@example.org"}`, "postAction": `{"agents":["FailingAgent"],"action":"reset","reason":"x"}`,
}

func TestRoles_EveryOperationKeepsThem(t *testing.T) {
	t.Parallel()
	routetest.KeepsRoles(t, guarded, bodies)
}

func TestRoles_StrangersLearnAndChangeNothing(t *testing.T) {
	t.Parallel()
	routetest.RefusesStrangers(t, guarded, "gate", "gateBelow")
}

func TestRoles_BadInputIsRefusedAlsoWithATokenOfEveryRole(t *testing.T) {
	t.Parallel()
	routetest.Conforms(t, func(t testing.TB) *routetest.Client {
		c := guarded(t, routetest.Guard(t))
		c.Token = routetest.TokenOf("admin")
		return c
	}, "gate", "gateBelow")
}

func TestRoles_AnotherURLNeedsAdmin(t *testing.T) {
	t.Parallel()
	c := guarded(t, routetest.Guard(t))
	const path, withURL = "/v1/admin/agents/a", `{"url":"http://a.internal:9000","contact":"x"}`
	as := func(name string) *routetest.Client {
		c.Token = routetest.TokenOf(name)
		return c
	}
	as("operate").Do("PUT", path, withURL).WantProblem(403, problem.Forbidden)
	etag := as("admin").Do("PUT", path, withURL).Want(201).Header.Get("ETag")
	as("operate").Do("PUT", path, `{"url":"http://evil.example"}`, "If-Match", etag).WantProblem(403, problem.Forbidden)
	as("operate").Do("PUT", path, `{}`, "If-Match", etag).WantProblem(403, problem.Forbidden)
	as("operate").Do("PUT", path, `{"url":"http://a.internal:9000","contact":"y"}`, "If-Match", etag).Want(200)
}

func TestRoles_ABatchIsRefusedByAgent(t *testing.T) {
	t.Parallel()
	c := guarded(t, routetest.Guard(t))
	c.Token = routetest.TokenOf(routetest.Elsewhere)
	c.Do("POST", "/v1/batch", `{"operations":[{"op":"acquire","agent":"a"},{"op":"acquire","agent":"elsewhere-1"},{"op":"report","agent":"b","outcome":"failure"}]}`).
		Want(200, `results.0.code="forbidden_agent"`, `results.0.status=403`, `results.1.status=200`, `results.2.code="forbidden_agent"`)
	c.Do("GET", "/v1/admin/quarantine?agent_id=a", "").WantProblem(403, problem.ForbiddenAgent)
	c.Do("GET", "/v1/admin/circuit_breakers", "").Want(200, `total=1`)
}

func TestRoles_TheNameIsTheActor(t *testing.T) {
	t.Parallel()
	c := guarded(t, routetest.Guard(t))
	c.Token = routetest.TokenOf("operate")
	hold := func(want int, body string, header ...string) routetest.Got {
		return c.Do("POST", "/v1/admin/circuit_breakers/a/open", body, header...).Want(want)
	}
	hold(200, `{"reason":"fire","actor":"bob"}`, "X-Actor", "mallory")
	c.Do("GET", "/v1/admin/circuit_breakers/a", "").Want(200, `hold.actor="operate"`)
	hold(200, `{"reason":"his own","actor":"carol"}`)
	c.Token = routetest.TokenOf("admin")
	hold(409, `{"reason":"x"}`, "X-Actor", "operate").WantProblem(409, problem.HoldExists)
	hold(422, `{"reason":"x"}`, "X-Actor", "a b")
	if log := c.Log.String(); !contains(log, "event=access.claim", "actor=operate", "claim=bob") {
		t.Errorf("log: %s", log)
	}
}

func contains(text string, parts ...string) bool {
	for _, p := range parts {
		if !strings.Contains(text, p) {
			return false
		}
	}
	return true
}

func TestRoles_ActionsOnManyAgentsNeedAdmin(t *testing.T) {
	t.Parallel()
	c := guarded(t, routetest.Guard(t))
	agents := make([]string, mostWithoutAdmin+1)
	for i := range agents {
		agents[i] = fmt.Sprintf("elsewhere-%03d", i)
	}
	act := func(name string, agents []string) routetest.Got {
		body, err := json.Marshal(map[string]any{"agents": agents, "action": "reset", "reason": "x", "dry_run": true})
		if err != nil {
			t.Fatal(err)
		}
		c.Token = routetest.TokenOf(name)
		return c.Do("POST", actionsPath, string(body))
	}
	act("operate", agents).WantProblem(403, problem.Forbidden)
	act("operate", agents[1:]).Want(200, "matched=100")
	act("admin", agents).Want(200, "matched=101")
	act(routetest.Elsewhere, agents).Want(200, "matched=101")
	act(routetest.Elsewhere, []string{"elsewhere-1", "other"}).WantProblem(403, problem.ForbiddenAgent)
	act("admin", []string{"elsewhere-1", "other"}).Want(200, "matched=2")
}
