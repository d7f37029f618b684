package bridgeapi

import (
	"testing"

	"github.com/breakerd/breakerd/internal/access"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/route/routetest"
)

func guarded(t testing.TB, g *access.Guard) *routetest.Client {
	t.Helper()
	return newFixture(t, func(o *Options) { o.Access = g }).Client
}

func TestRoles_EveryOperationKeepsThem(t *testing.T) {
	t.Parallel()
	routetest.KeepsRoles(t, guarded, nil, "callAgentGet", "callAgentPost")
}

func TestRoles_StrangersLearnAndChangeNothing(t *testing.T) {
	t.Parallel()
	routetest.RefusesStrangers(t, guarded, "callAgentGet", "callAgentPost")
}

func TestRoles_BadInputIsRefusedAlsoWithATokenOfEveryRole(t *testing.T) {
	t.Parallel()
	routetest.Conforms(t, func(t testing.TB) *routetest.Client {
		c := guarded(t, routetest.Guard(t))
		c.Token = routetest.TokenOf("admin")
		return c
	}, "callAgentGet", "callAgentPost")
}

// An agent in the body, and the agents of a workflow's steps, are named as one in the path is.
func TestRoles_AgentsOfBodiesAndStepsAreNamed(t *testing.T) {
	t.Parallel()
	c := guarded(t, routetest.Guard(t))
	c.Token = routetest.TokenOf(routetest.Elsewhere)
	c.Do("POST", "/api/v1/agents", `{"name":"a","url":"http://a"}`).WantProblem(403, problem.ForbiddenAgent)
	c.Do("POST", "/api/v1/agents", `{"name":"elsewhere-1","url":"http://a"}`).Want(201)
	c.Do("POST", "/api/v1/workflows/in-directory/execute", `{}`).WantProblem(403, problem.ForbiddenAgent)
	c.Do("POST", "/api/v1/workflows", `{"workflow_id":"w","steps":{"a":{"agent_name":"elsewhere-1"}}}`).Want(201)
	c.Do("POST", "/api/v1/workflows/w/execute", `{}`).Want(200)
}
