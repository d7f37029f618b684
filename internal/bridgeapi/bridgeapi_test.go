package bridgeapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"go.uber.org/goleak"

	"github.com/breakerd/breakerd/internal/health"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/registry"
	"github.com/breakerd/breakerd/internal/route"
	"github.com/breakerd/breakerd/internal/route/routetest"
	"github.com/breakerd/breakerd/internal/workflow"
	"github.com/breakerd/breakerd/pkg/breaker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixture is the bridge's API on the real registry, library, engine and store, over records in memory; the agents are
// stubs. Its registry file holds FileAgent, its directory the workflow in-directory.
type fixture struct {
	*routetest.Client

	handler http.Handler
	records records
}

func newFixture(t testing.TB, change ...func(*Options)) *fixture {
	t.Helper()
	logger, log := routetest.Logger()
	f := &fixture{records: records{routetest.NewStore()}}
	manager, err := breaker.NewManager(breaker.Options{Store: f.records, Reporter: "replica-1", Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "agents.json")
	write(t, file, `[{"name":"FileAgent","url":"http://file-agent:9000","labels":{"team":"x"}}]`)
	workflows := filepath.Join(dir, "workflows")
	if err := os.Mkdir(workflows, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(workflows, "one.json"), `{"workflow_id":"in-directory","steps":{"a":{"agent_name":"FileAgent"}}}`)
	agents, err := registry.New(registry.Options{Path: file, Default: breaker.DefaultPolicy(), Profiles: f.records, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	library, err := workflow.NewLibrary(workflow.LibraryOptions{
		Dir: workflows, Texts: f.records, Logger: logger,
		Known: func(_ context.Context, named []string) ([]string, error) {
			return slices.DeleteFunc(named, func(agent string) bool { return agent != "Unknown" }), nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	o := Options{
		Manager: manager, Agents: agents, Workflows: library, Logger: logger,
		Execute:    workflow.NewEngine(workflow.EngineOptions{Caller: stubs{manager}, Logger: logger}).Execute,
		Executions: workflow.NewStore(workflow.StoreOptions{Records: f.records, Logger: logger}),
		HealthOptions: route.HealthOptions{
			Version: "1.2.3", ReplicaID: "replica-1",
			Health: func(context.Context, time.Duration) health.Report {
				return health.Report{Status: health.Healthy, Checks: map[string]health.Check{"redis": {Since: "2026-02-11T09:00:00Z", Status: health.Healthy}}}
			},
			Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "up 1\n") }),
		},
	}
	for _, c := range change {
		c(&o)
	}
	b, err := newBridge(o)
	if err != nil {
		t.Fatal(err)
	}
	f.handler = b.guarded()
	f.Client = &routetest.Client{TB: t, Doc: b.OpenAPI, Log: log, Keys: f.records.Keys, Find: func(method, path string) *huma.Operation {
		if strings.HasPrefix(path, "/agents/") { // not on this handler
			return nil
		}
		return f.OperationAt(method, path)
	}}
	f.Serve(f.handler)
	return f
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// stubs calls agents, through real breakers, that do what their names say. Other agents answer with their input.
type stubs struct{ manager *breaker.Manager }

func (s stubs) Call(ctx context.Context, c workflow.Call) (out json.RawMessage, err error) {
	err = s.manager.Do(ctx, c.Agent, func(ctx context.Context) error {
		switch c.Agent {
		case "FailingAgent":
			return &workflow.CallError{Cause: "status_503", Err: errors.New("the agent answered 503 Service Unavailable")}
		case "TimingOut":
			return &workflow.CallError{Cause: "timeout", Err: context.DeadlineExceeded}
		case "Slow":
			<-ctx.Done()
			return ctx.Err()
		}
		out = c.Input
		return nil
	})
	return out, err
}

// records are what the bridge keeps in Redis, in memory.
type records struct{ *routetest.Store }

// The kinds of texts.
const (
	overrides  = "override"
	profiles   = "profile"
	workflows  = "workflow"
	entries    = "entry"
	executions = "execution"
)

// all reads the texts of several agents.
func (r records) all(kind string, agents []string) ([]string, error) {
	texts, err := r.Texts(kind)
	out := make([]string, len(agents))
	for i, agent := range agents {
		out[i] = texts[agent]
	}
	return out, err
}

func (r records) Agents(context.Context) ([]string, error) { return r.Keys(), r.Down() }

func (r records) ProfilesOf(_ context.Context, agents []string) ([]string, error) {
	return r.all(profiles, agents)
}

func (r records) Overrides(_ context.Context, agents []string) ([]string, error) {
	return r.all(overrides, agents)
}

func (r records) Profile(_ context.Context, agent string) (string, error) {
	return r.Text(profiles, agent)
}

func (r records) Override(_ context.Context, agent string) (string, error) {
	return r.Text(overrides, agent)
}

func (r records) PutBoth(_ context.Context, agent string, profile, override [2]string, _ string) error {
	return errors.Join(r.Put(profiles, agent, profile[1]), r.Put(overrides, agent, override[1]))
}

func (r records) Workflow(_ context.Context, id string) (string, error) { return r.Text(workflows, id) }

func (r records) WorkflowEntries(context.Context) (map[string]string, error) { return r.Texts(entries) }

func (r records) PutWorkflow(_ context.Context, id, text, entry string) error {
	if all, err := r.Texts(workflows); err == nil && len(all) >= 3 {
		return workflow.ErrFull
	}
	return errors.Join(r.Put(workflows, id, text), r.Put(entries, id, entry))
}

func (r records) DropWorkflow(_ context.Context, id string) (bool, error) {
	text, _ := r.Text(workflows, id)
	return text != "", errors.Join(r.Put(workflows, id, ""), r.Put(entries, id, ""))
}

func (r records) Execution(_ context.Context, id string) (string, error) {
	return r.Text(executions, id)
}

func (r records) PutExecution(_ context.Context, id, text string) error {
	return r.Put(executions, id, text)
}

// workflow makes a workflow of one step.
func (f *fixture) workflow(id, agent string) {
	f.Helper()
	g := f.Do("POST", workflowsPath, `{"workflow_id":"`+id+`","steps":{"step-1":{"agent_name":"`+agent+`"}}}`)
	if g.Status != 200 && g.Status != 201 {
		f.Fatal(g.Text)
	}
}

func TestNew_NamesMissingOptions(t *testing.T) {
	t.Parallel()
	if _, err := New(Options{}); err == nil || !strings.Contains(err.Error(), "required") {
		t.Error(err)
	}
}

func TestAPI_HasHealthAndGuards(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(o *Options) { o.LoopbackOnly = true })
	f.Do("GET", "/livez", "").Want(200, `status="ok"`)
	f.Do("GET", "/readyz", "").Want(200, `status="ready"`)
	f.Do("GET", "/health", "").Want(200, `status="healthy"`, `version="1.2.3"`)
	f.Do("GET", "/health/checks", "").Want(200, `checks.redis.status="healthy"`)
	if g := f.Do("GET", "/metrics", "").Want(200); g.Text != "up 1\n" {
		t.Error(g.Text)
	}
	f.Do("GET", "/openapi.json", "").Want(200, `info.title="bridge"`)
	f.Do("GET", "/v1/admin/circuit_breakers", "").WantProblem(404, problem.NotFound)
	f.Do("GET", "/agents/a", "").WantProblem(404, problem.NotFound)
	f.Do("POST", workflowsPath, "{}", "Origin", "https://evil.example").WantProblem(403, problem.CrossOrigin)
	f.Do("GET", workflowsPath, "", "Host", "evil.example").WantProblem(421, problem.HostNotAllowed)
}

// samples has a sample for each operation of the bridge.
func samples() map[string]routetest.Sample[*fixture] {
	agent := func(f *fixture) string { f.Do("POST", agentsPath, `{"name":"FailingAgent"}`).Want(201); return "" }
	made := func(f *fixture) string { f.workflow("circuit-breaker-test", "Good"); return "" }
	ran := func(f *fixture) string {
		f.workflow("failing", "FailingAgent")
		g := f.Do("POST", workflowsPath+"/failing/execute", "").WantProblem(502, problem.AgentFailed)
		id, _ := g.At("execution.execution_id").(string)
		example := strings.Repeat("0a", 16) // the document's
		text, _ := f.records.Text(executions, id)
		if err := f.records.Put(executions, example, strings.ReplaceAll(text, id, example)); err != nil {
			f.Fatal(err)
		}
		return ""
	}
	misdirected := routetest.Sample[*fixture]{Bad: routetest.Probe{Header: []string{"Host", "evil.example"}}}
	return map[string]routetest.Sample[*fixture]{
		"listAgents":      {Before: agent, Bad: misdirected.Bad},
		"registerAgent":   {Bad: routetest.Probe{Body: `{"name":"a b"}`}},
		"getAgent":        {Before: agent, Bad: routetest.Probe{Path: agentsPath + "/Unknown"}},
		"putAgent":        {Bad: routetest.Probe{Path: agentsPath + "/FileAgent", Body: `{}`}},
		"deleteAgent":     {Before: agent, Bad: routetest.Probe{Path: agentsPath + "/Unknown"}},
		"listWorkflows":   {Before: made, Bad: misdirected.Bad},
		"putWorkflow":     {Bad: routetest.Probe{Body: `{"workflow_id":"a","steps":{}}`}},
		"getWorkflow":     {Before: made, Bad: routetest.Probe{Path: workflowsPath + "/unknown"}},
		"deleteWorkflow":  {Before: made, Bad: routetest.Probe{Path: workflowsPath + "/in-directory"}},
		"executeWorkflow": {Before: made, Bad: routetest.Probe{Path: workflowsPath + "/unknown/execute"}},
		"getExecution":    {Before: ran, Bad: routetest.Probe{Path: executionsPath + "/" + strings.Repeat("f", 32)}},
		"live":            misdirected, "ready": misdirected, "health": misdirected, "healthChecks": misdirected, "metrics": misdirected,
		"openapi": misdirected, "docs": misdirected,
	}
}

func TestAPI_AnswersAsDocumented(t *testing.T) {
	t.Parallel()
	routetest.AnswersAsDocumented(t, func(t testing.TB) (*fixture, *routetest.Client) {
		f := newFixture(t, func(o *Options) { o.LoopbackOnly = true })
		return f, f.Client
	}, samples(), "callAgentGet", "callAgentPost")
}

func TestAPI_ConformsToItsDocument(t *testing.T) {
	t.Parallel()
	routetest.Conforms(t, func(t testing.TB) *routetest.Client { return newFixture(t).Client }, "callAgentGet", "callAgentPost")
}

func TestPaths_AreNotRedirected(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for target, want := range map[string]int{
		"//": 404, "/": 404, "/api//v1/agents": 404, "/api/v1/./agents": 404, "/api/v1/x/../agents": 404, "/api%2Fv1/agents": 404,
		"/api/v1/agents/": 400, "/api/v1/agents//": 400, "/api/v1/%61gents/a%20b": 400, "/api/v1/agents/a/b": 404, "/api/v1/agents/a%2Fb": 400,
		"/api/v1/workflows/": 400, "/api/v1/workflows//execute": 400, "/api/v1/workflows/a/%2e%2e": 404, "/api/v1/workflows/../agents": 400,
		"/api/v1/workflows/a/execute/": 400, "/api/v1/workflows/a/b/execute": 400, "/api/v1/executions/": 400, "/api/v1/executions/" + strings.Repeat("A", 32): 400,
		"/api/v1/executions/" + strings.Repeat("0", 33): 400, "/api/v1": 404, "/agentsx": 404, "//agents/a": 404, "/%61gents/a": 404, "/agents%2Fa": 404,
	} {
		if g := f.RawRequest("POST", target, ""); g.Status != want || g.JSON["code"] == nil {
			t.Errorf("%s: %d %s, want %d", target, g.Status, g.Text, want)
		}
	}
	for path, want := range map[string]string{
		agentsPath: "GET, HEAD, POST", agentsPath + "/a": "GET, HEAD, PUT, DELETE", workflowsPath: "GET, HEAD, POST",
		workflowsPath + "/a": "GET, HEAD, DELETE", workflowsPath + "/a/execute": "POST", executionsPath + "/" + strings.Repeat("0", 32): "GET, HEAD",
	} {
		g := f.Do("PATCH", path, "").WantProblem(405, problem.MethodNotAllowed)
		if allow := g.Header.Get("Allow"); allow != want {
			t.Errorf("%s: Allow: %s, want %s", path, allow, want)
		}
	}
	f.Unharmed("all")
}

func TestStoreDown_IsA503(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Do("POST", agentsPath, `{"name":"Registered"}`).Want(201)
	f.workflow("kept", "Good")
	f.records.TakeDown(false)
	f.Do("GET", agentsPath, "").Want(200, "degraded=true", `agents.0.name="FileAgent"`, "agents.1=null")
	f.Do("GET", workflowsPath, "").Want(200, "degraded=true", `workflows.0.workflow_id="in-directory"`, `workflows.1.workflow_id="kept"`)
	f.Do("GET", agentsPath+"/FileAgent", "").Want(200, "breaker=null")
	f.Do("GET", workflowsPath+"/kept", "").Want(200)
	f.Do("PUT", agentsPath+"/FileAgent", `{}`).WantProblem(409, problem.AgentInFile)
	for _, r := range [][3]string{
		{"GET", agentsPath + "/NeverMet", ""},
		{"PUT", agentsPath + "/a", `{}`},
		{"POST", agentsPath, `{"name":"a"}`},
		{"DELETE", agentsPath + "/Registered", ""},
		{"GET", workflowsPath + "/never-met", ""},
		{"POST", workflowsPath, workflowExample},
		{"DELETE", workflowsPath + "/kept", ""},
		{"POST", workflowsPath + "/never-met/execute", ""},
		{"GET", executionsPath + "/" + strings.Repeat("0", 32), ""},
	} {
		f.Do(r[0], r[1], r[2]).WantProblem(503, problem.StoreUnavailable)
	}
}

func TestAPI_KeepsWhatIsPromised(t *testing.T) {
	t.Parallel()
	newFixture(t).Promised(t)
}
