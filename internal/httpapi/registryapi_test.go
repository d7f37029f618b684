package httpapi

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/registry"
)

func TestAgentsAreRegisteredReplacedAndDeleted(t *testing.T) {
	t.Parallel()
	f := newBridgeFixture(t)
	f.do("POST", agentsPath, `{"name":"a","url":"http://a:9000/v1","circuit_breaker_config":{"failure_threshold":3,"timeout_seconds":1.5},`+
		`"contact":"x <x@example.org>","labels":{"team":"y"},"timeout_seconds":0.3,"classify":"mcp"}`, "X-Actor", "alice").
		want(201, `name="a"`, `url="http://a:9000/v1"`, "circuit_breaker_config.failure_threshold=3", "circuit_breaker_config.timeout_seconds=1.5",
			`contact="x <x@example.org>"`, `labels.team="y"`, "timeout_seconds=0.3", `classify="mcp"`, `origin="api"`)
	f.do("PUT", agentsPath+"/b", `{"url":"https://b"}`).want(201, `name="b"`, "timeout_seconds=60", `classify="status"`)
	f.do("PUT", agentsPath+"/b", `{"name":"b"}`).want(200, "url=null")
	f.do("POST", agentsPath, `{"name":"a","url":"http://a:9001"}`).want(200, `url="http://a:9001"`, "contact=null", "circuit_breaker_config.failure_threshold=3")
	f.do("GET", agentsPath, "").want(200, `agents.0.name="FileAgent"`, `agents.0.origin="file"`, `agents.1.name="a"`, `agents.1.origin="api"`, "agents.2=null",
		"degraded=null")
	shown := f.do("GET", agentsPath+"/a", "").want(200, `breaker.state="CLOSED"`, "breaker.failure_count=0")
	f.do("PUT", agentsPath+"/a", shown.text).want(200, `url="http://a:9001"`, "circuit_breaker_config.failure_threshold=3")
	f.do("POST", agentsPath, shown.text).want(200, `url="http://a:9001"`, "circuit_breaker_config.failure_threshold=3")
	f.do("DELETE", agentsPath+"/a", "").want(204)
	f.do("GET", agentsPath+"/a", "").wantProblem(404, problem.AgentUnknown).want(404, `agent="a"`)
	f.do("DELETE", agentsPath+"/a", "").wantProblem(404, problem.AgentUnknown)
}

func TestAgentsAreListedInPages(t *testing.T) {
	t.Parallel()
	f := newBridgeFixture(t)
	for _, name := range []string{"c", "a", "b"} {
		f.do("PUT", agentsPath+"/"+name, `{"url":"http://h"}`).want(201)
	}
	var names []string
	var cursor string
	for range 3 {
		g := f.do("GET", agentsPath+"?limit=2&cursor="+cursor, "").want(200)
		list, _ := g.json["agents"].([]any)
		for i := range list {
			names = append(names, fmt.Sprint(g.at(fmt.Sprintf("agents.%d.name", i))))
		}
		if cursor, _ = g.json["next_cursor"].(string); cursor == "" {
			break
		}
		names = append(names, "|")
	}
	if got, want := strings.Join(names, " "), "FileAgent a | b c"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	f.do("GET", agentsPath+"?limit=4", "").want(200, "next_cursor=null", `agents.3.name="c"`)
	for _, bad := range []string{"limit=0", "limit=1001", "limit=x", "cursor=%2F", "cursor=IA", "page=2", "limit=1&limit=2"} {
		f.do("GET", agentsPath+"?"+bad, "").wantProblem(422, problem.InvalidValue)
	}
}

// contended is a registry in which others are always first.
type contended struct{ Agents }

func (contended) Put(context.Context, registry.Agent, string) (bool, error) {
	return false, fmt.Errorf("register: %w", registry.ErrConflict)
}

func TestAChangeThatOthersKeepFromHappeningIsAConflict(t *testing.T) {
	t.Parallel()
	f := newBridgeFixture(t, func(o *BridgeOptions) { o.Agents = contended{o.Agents} })
	f.do("PUT", agentsPath+"/a", `{}`).wantProblem(409, problem.AgentConflict).want(409, `agent="a"`)
	f.do("POST", agentsPath, `{"name":"a"}`).wantProblem(409, problem.AgentConflict)
}

func TestTheAgentsFileIsNotChangedByTheAPI(t *testing.T) {
	t.Parallel()
	f := newBridgeFixture(t)
	f.do("PUT", agentsPath+"/FileAgent", `{"url":"http://elsewhere"}`).wantProblem(409, problem.AgentInFile).want(409, `agent="FileAgent"`)
	f.do("POST", agentsPath, `{"name":"FileAgent"}`).wantProblem(409, problem.AgentInFile)
	f.do("DELETE", agentsPath+"/FileAgent", "").wantProblem(409, problem.AgentInFile)
	f.do("GET", agentsPath+"/FileAgent", "").want(200, `origin="file"`, `url="http://file-agent:9000"`, `labels.team="x"`)
	f.unharmed("all")
}

func TestTheBreakerOfAnAgentIsShownWithIt(t *testing.T) {
	t.Parallel()
	f := newBridgeFixture(t)
	f.do("POST", agentsPath, `{"name":"FailingAgent"}`).want(201)
	f.workflow("w", "FailingAgent")
	for range 5 {
		f.do("POST", workflowsPath+"/w/execute", "").wantProblem(502, problem.AgentFailed)
	}
	f.do("GET", agentsPath+"/FailingAgent", "").want(200, `breaker.state="OPEN"`, "breaker.failure_count=5", `breaker.reason="consecutive_failures"`)
}

func TestEachFaultOfARegistrationIsNamed(t *testing.T) {
	t.Parallel()
	f := newBridgeFixture(t)
	f.do("POST", agentsPath, `{"name":"a b","url":"ftp://x","circuit_breaker_config":{"failure_threshold":-1,"mode":"maybe"},"labels":{"a":1},`+
		`"timeout_seconds":0,"classify":"guess","nonsense":1}`).wantProblem(422, problem.InvalidValue).
		want(422, `errors.0.location="body.name"`, `errors.1.location="body.url"`, `errors.2.location="body.circuit_breaker_config.failure_threshold"`,
			`errors.3.location="body.circuit_breaker_config.mode"`, `errors.4.location="body.labels.a"`, `errors.5.location="body.timeout_seconds"`,
			`errors.6.location="body.classify"`, `errors.7.location="body.nonsense"`)
	for _, bad := range []string{
		`{}`, `{"name":""}`, `{"name":null}`, `{"name":7}`, `{"name":"a\u0000"}`, `{"name":"` + strings.Repeat("a", 129) + `"}`, `{"name":"a","url":"/x"}`,
		`{"name":"a","url":"http://u:hunter2@h"}`, `{"name":"a","url":"http://h/?q"}`, `{"name":"a","url":"javascript:alert(1)"}`, `{"name":"a","url":""}`,
		`{"name":"a","timeout_seconds":3600.5}`, `{"name":"a","timeout_seconds":"1"}`, `{"name":"a","timeout_seconds":1e-9}`, `{"name":"a","timeout_seconds":-1}`,
		`{"name":"a","circuit_breaker_config":[]}`, `{"name":"a","circuit_breaker_config":{"timeout_seconds":7200}}`, `{"name":"a","Name":"b"}`,
		`{"name":"a","labels":{"a b":"c"}}`, `{"name":"a","contact":"a\nb"}`, `[{"name":"a"}]`, `{"agents":[]}`, `{"name":"a","origin":"heaven"}`,
	} {
		g := f.do("POST", agentsPath, bad)
		if strings.Contains(bad, `"Name"`) {
			g.wantProblem(400, problem.InvalidJSON)
			continue
		}
		g.wantProblem(422, problem.InvalidValue)
		if strings.Contains(g.text, "hunter2") {
			t.Errorf("a password is shown: %s", g.text)
		}
	}
	f.do("PUT", agentsPath+"/a", `{"name":"b"}`).wantProblem(422, problem.InvalidValue).want(422, `errors.0.location="body.name"`)
	f.do("PUT", agentsPath+"/a", `{}`, "X-Actor", "a b").wantProblem(422, problem.InvalidValue)
	f.do("DELETE", agentsPath+"/a", "", "X-Actor", "a b").wantProblem(422, problem.InvalidValue)
	f.do("PUT", agentsPath+"/a", "").wantProblem(400, problem.BodyRequired)
	f.unharmed("all")
}
