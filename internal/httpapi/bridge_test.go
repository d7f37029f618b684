package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/registry"
	"github.com/breakerd/breakerd/internal/workflow"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// newBridgeFixture is the bridge's API on the real registry, library, engine and store, over the keeper; the agents are stubs. Its
// registry file holds FileAgent, its directory the workflow in-directory.
func newBridgeFixture(t testing.TB, change ...func(*BridgeOptions)) *fixture {
	t.Helper()
	f := newParts(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "agents.json")
	write(t, file, `[{"name":"FileAgent","url":"http://file-agent:9000","labels":{"team":"x"}}]`)
	workflows := filepath.Join(dir, "workflows")
	if err := os.Mkdir(workflows, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(workflows, "one.json"), `{"workflow_id":"in-directory","steps":{"a":{"agent_name":"FileAgent"}}}`)
	agents, err := registry.New(registry.Options{Path: file, Default: breaker.DefaultPolicy(), Profiles: f.keeper, Logger: f.logger})
	if err != nil {
		t.Fatal(err)
	}
	library, err := workflow.NewLibrary(workflow.LibraryOptions{
		Dir: workflows, Texts: f.keeper, Logger: f.logger,
		Known: func(_ context.Context, named []string) ([]string, error) {
			return slices.DeleteFunc(named, func(agent string) bool { return agent != "Unknown" }), nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	o := BridgeOptions{
		Manager: f.manager, Agents: agents, Workflows: library, Version: "1.2.3", ReplicaID: "replica-1", Logger: f.logger,
		Execute: workflow.NewEngine(workflow.EngineOptions{Caller: stubs{f.manager}, Logger: f.logger}).Execute,
		Executions: workflow.NewStore(workflow.StoreOptions{
			Records: f.keeper, Logger: f.logger,
		}),
		Gateway: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "gateway "+r.RequestURI) }),
		Health:  healthy, Metrics: http.HandlerFunc(up),
	}
	for _, c := range change {
		c(&o)
	}
	b, err := newBridge(o)
	if err != nil {
		t.Fatal(err)
	}
	return f.serve(b.server)
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// stubs are agents, behind the real breakers, whose names say what they do; others answer with their input.
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

func (k *keeper) Workflow(_ context.Context, id string) (string, error) { return k.get(k.texts, id) }

func (k *keeper) WorkflowEntries(context.Context) (map[string]string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return maps.Clone(k.entries), k.away
}

func (k *keeper) PutWorkflow(_ context.Context, id, text, entry string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.away == nil && len(k.texts) >= 3 {
		return workflow.ErrFull
	}
	if k.away == nil {
		k.texts[id], k.entries[id] = text, entry
	}
	return k.away
}

func (k *keeper) DropWorkflow(_ context.Context, id string) (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, existed := k.texts[id]
	if k.away == nil {
		delete(k.texts, id)
		delete(k.entries, id)
	}
	return existed, k.away
}

func (k *keeper) Execution(_ context.Context, id string) (string, error) { return k.get(k.records, id) }

func (k *keeper) PutExecution(_ context.Context, id, text string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.away == nil {
		k.records[id] = text
	}
	return k.away
}

// workflow makes a workflow of one step.
func (f *fixture) workflow(id, agent string) {
	f.t.Helper()
	g := f.do("POST", workflowsPath, `{"workflow_id":"`+id+`","steps":{"step-1":{"agent_name":"`+agent+`"}}}`)
	if g.status != 200 && g.status != 201 {
		f.t.Fatal(g.text)
	}
}

func TestBridgeOptionsThatAreMissingAreNamed(t *testing.T) {
	t.Parallel()
	if _, err := NewBridge(BridgeOptions{}); err == nil || !strings.Contains(err.Error(), "required") {
		t.Error(err)
	}
}

func TestTheBridgeHasWhatEveryServerHas(t *testing.T) {
	t.Parallel()
	f := newBridgeFixture(t, func(o *BridgeOptions) { o.LoopbackOnly = true })
	f.do("GET", "/livez", "").want(200, `status="ok"`)
	f.do("GET", "/readyz", "").want(200, `status="ready"`)
	f.do("GET", "/health", "").want(200, `status="healthy"`, `version="1.2.3"`)
	f.do("GET", "/health/checks", "").want(200, `checks.redis.status="healthy"`)
	if g := f.do("GET", "/metrics", "").want(200); g.text != "up 1\n" {
		t.Error(g.text)
	}
	f.do("GET", "/openapi.json", "").want(200, `info.title="bridge"`)
	f.do("GET", "/v1/admin/circuit_breakers", "").wantProblem(404, problem.NotFound)
	f.do("POST", workflowsPath, "{}", "Origin", "https://evil.example").wantProblem(403, problem.CrossOrigin)
	f.do("GET", workflowsPath, "", "Host", "evil.example").wantProblem(421, problem.HostNotAllowed)
}

// bridgeSamples has a sample for each operation of the bridge.
func bridgeSamples() map[string]sample {
	agent := func(f *fixture) string { f.do("POST", agentsPath, `{"name":"FailingAgent"}`).want(201); return "" }
	made := func(f *fixture) string { f.workflow("circuit-breaker-test", "Good"); return "" }
	ran := func(f *fixture) string {
		f.workflow("failing", "FailingAgent")
		g := f.do("POST", workflowsPath+"/failing/execute", "").wantProblem(502, problem.AgentFailed)
		id, _ := g.at("execution.execution_id").(string)
		for _, text := range f.keeper.records { // under the id of the document's example
			f.keeper.records[strings.Repeat("0a", 16)] = strings.ReplaceAll(text, id, strings.Repeat("0a", 16))
		}
		return ""
	}
	misdirected := sample{bad: probe{header: []string{"Host", "evil.example"}}}
	return map[string]sample{
		"listAgents":      {before: agent, bad: misdirected.bad},
		"registerAgent":   {bad: probe{body: `{"name":"a b"}`}},
		"getAgent":        {before: agent, bad: probe{path: agentsPath + "/Unknown"}},
		"putAgent":        {bad: probe{path: agentsPath + "/FileAgent", body: `{}`}},
		"deleteAgent":     {before: agent, bad: probe{path: agentsPath + "/Unknown"}},
		"listWorkflows":   {before: made, bad: misdirected.bad},
		"putWorkflow":     {bad: probe{body: `{"workflow_id":"a","steps":{}}`}},
		"getWorkflow":     {before: made, bad: probe{path: workflowsPath + "/unknown"}},
		"deleteWorkflow":  {before: made, bad: probe{path: workflowsPath + "/in-directory"}},
		"executeWorkflow": {before: made, bad: probe{path: workflowsPath + "/unknown/execute"}},
		"getExecution":    {before: ran, bad: probe{path: executionsPath + "/" + strings.Repeat("f", 32)}},
		"callAgentGet":    misdirected, "callAgentPost": misdirected,
		"live": misdirected, "ready": misdirected, "health": misdirected, "healthChecks": misdirected, "metrics": misdirected,
		"openapi": misdirected, "docs": misdirected,
	}
}

func TestEveryOperationOfTheBridgeAnswersAsDocumented(t *testing.T) {
	t.Parallel()
	liveAsDocumented(t, func(t testing.TB) *fixture {
		return newBridgeFixture(t, func(o *BridgeOptions) { o.LoopbackOnly = true })
	}, bridgeSamples())
}

func TestBadNamesAreRefusedByTheBridge(t *testing.T) {
	t.Parallel()
	newBridgeFixture(t).refusesBadNames()
}

func TestBadBodiesAreRefusedByTheBridge(t *testing.T) {
	t.Parallel()
	newBridgeFixture(t).refusesBadBodies()
}

func TestOddPathsOfTheBridgeAreNotRedirected(t *testing.T) {
	t.Parallel()
	f := newBridgeFixture(t)
	for target, want := range map[string]int{
		"//": 404, "/": 404, "/api//v1/agents": 404, "/api/v1/./agents": 404, "/api/v1/x/../agents": 404, "/api%2Fv1/agents": 404,
		"/api/v1/agents/": 400, "/api/v1/agents//": 400, "/api/v1/%61gents/a%20b": 400, "/api/v1/agents/a/b": 404, "/api/v1/agents/a%2Fb": 400,
		"/api/v1/workflows/": 400, "/api/v1/workflows//execute": 400, "/api/v1/workflows/a/%2e%2e": 404, "/api/v1/workflows/../agents": 400,
		"/api/v1/workflows/a/execute/": 400, "/api/v1/workflows/a/b/execute": 400, "/api/v1/executions/": 400, "/api/v1/executions/" + strings.Repeat("A", 32): 400,
		"/api/v1/executions/" + strings.Repeat("0", 33): 400, "/api/v1": 404, "/agentsx": 404, "//agents/a": 404, "/%61gents/a": 404, "/agents%2Fa": 404,
	} {
		if g := f.rawRequest("POST", target, ""); g.status != want || g.json["code"] == nil {
			t.Errorf("%s: %d %s, want %d", target, g.status, g.text, want)
		}
	}
	for path, want := range map[string]string{
		agentsPath: "GET, HEAD, POST", agentsPath + "/a": "GET, HEAD, PUT, DELETE", workflowsPath: "GET, HEAD, POST",
		workflowsPath + "/a": "GET, HEAD, DELETE", workflowsPath + "/a/execute": "POST", executionsPath + "/" + strings.Repeat("0", 32): "GET, HEAD",
	} {
		g := f.do("PATCH", path, "").wantProblem(405, problem.MethodNotAllowed)
		if allow := g.header.Get("Allow"); allow != want {
			t.Errorf("%s: Allow: %s, want %s", path, allow, want)
		}
	}
	f.unharmed("all")
}

func TestStoreAwayIsSaidSoByTheBridge(t *testing.T) {
	t.Parallel()
	f := newBridgeFixture(t)
	f.do("POST", agentsPath, `{"name":"Registered"}`).want(201)
	f.workflow("kept", "Good")
	f.keeper.setAway(false)
	f.do("GET", agentsPath, "").want(200, "degraded=true", `agents.0.name="FileAgent"`, "agents.1=null")
	f.do("GET", workflowsPath, "").want(200, "degraded=true", `workflows.0.workflow_id="in-directory"`, `workflows.1.workflow_id="kept"`)
	f.do("GET", agentsPath+"/FileAgent", "").want(200, "breaker=null")
	f.do("GET", workflowsPath+"/kept", "").want(200)
	f.do("PUT", agentsPath+"/FileAgent", `{}`).wantProblem(409, problem.AgentInFile)
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
		f.do(r[0], r[1], r[2]).wantProblem(503, problem.StoreUnavailable)
	}
}

func TestTheBridgesPageShowsEveryOperation(t *testing.T) {
	t.Parallel()
	newBridgeFixture(t).onThePage()
}
