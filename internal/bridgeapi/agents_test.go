package bridgeapi

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/registry"
)

func TestAgents_AreRegisteredReplacedAndDeleted(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Do("POST", agentsPath, `{"name":"a","url":"http://a:9000/v1","circuit_breaker_config":{"failure_threshold":3,"timeout_seconds":1.5},`+
		`"contact":"x <x@example.org>","labels":{"team":"y"},"timeout_seconds":0.3,"classify":"mcp"}`, "X-Actor", "alice").
		Want(201, `name="a"`, `url="http://a:9000/v1"`, "circuit_breaker_config.failure_threshold=3", "circuit_breaker_config.timeout_seconds=1.5",
			`contact="x <x@example.org>"`, `labels.team="y"`, "timeout_seconds=0.3", `classify="mcp"`, `origin="api"`)
	f.Do("PUT", agentsPath+"/b", `{"url":"https://b"}`).Want(201, `name="b"`, "timeout_seconds=60", `classify="status"`)
	f.Do("PUT", agentsPath+"/b", `{"name":"b"}`).Want(200, "url=null")
	f.Do("POST", agentsPath, `{"name":"a","url":"http://a:9001"}`).Want(200, `url="http://a:9001"`, "contact=null", "circuit_breaker_config.failure_threshold=3")
	f.Do("GET", agentsPath, "").Want(200, `agents.0.name="FileAgent"`, `agents.0.origin="file"`, `agents.1.name="a"`, `agents.1.origin="api"`, "agents.2=null",
		"degraded=null")
	shown := f.Do("GET", agentsPath+"/a", "").Want(200, `breaker.state="CLOSED"`, "breaker.failure_count=0")
	f.Do("PUT", agentsPath+"/a", shown.Text).Want(200, `url="http://a:9001"`, "circuit_breaker_config.failure_threshold=3")
	f.Do("POST", agentsPath, shown.Text).Want(200, `url="http://a:9001"`, "circuit_breaker_config.failure_threshold=3")
	f.Do("DELETE", agentsPath+"/a", "").Want(204)
	f.Do("GET", agentsPath+"/a", "").WantProblem(404, problem.AgentUnknown).Want(404, `agent="a"`)
	f.Do("DELETE", agentsPath+"/a", "").WantProblem(404, problem.AgentUnknown)
}

// What GET gives can be sent back whole, with every field.
func TestAgents_HowCallsCountGoesRoundTrip(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	want := []string{
		`classify="mcp_strict"`, `classify_observe="auto"`, `failure_statuses=[401,"500-599"]`, "ignored_statuses=[404]", "first_token_timeout_seconds=0.3",
		"idle_timeout_seconds=0.5", `count.methods=["POST"]`, `count.path_prefixes=["/v1/"]`,
	}
	f.Do("POST", agentsPath, `{"name":"a","url":"http://a","classify":"mcp_strict","classify_observe":"auto","failure_statuses":[401,"500-599"],"ignored_statuses":[404],`+
		`"first_token_timeout_seconds":0.3,"idle_timeout_seconds":0.5,"count":{"methods":["POST"],"path_prefixes":["/v1/"]}}`).Want(201, want...)
	shown := f.Do("GET", agentsPath+"/a", "").Want(200, want...)
	f.Do("PUT", agentsPath+"/b", strings.Replace(shown.Text, `"name":"a"`, `"name":"b"`, 1)).Want(201, want...)
	f.Do("PUT", agentsPath+"/a", `{"url":"http://a"}`).
		Want(200, `classify="status"`, "classify_observe=null", "failure_statuses=null", "idle_timeout_seconds=null", "count=null")
	f.Do("POST", agentsPath, `{"name":"c","classify_observe":"guess","failure_statuses":[401,"x"],"ignored_statuses":["400-499"],"first_token_timeout_seconds":0,`+
		`"idle_timeout_seconds":null,"count":{"methods":["get"]}}`).WantProblem(422, problem.InvalidValue).
		Want(422, `errors.0.location="body.classify_observe"`, `errors.1.location="body.failure_statuses[1]"`, `errors.2.location="body.ignored_statuses[0]"`,
			`errors.3.location="body.first_token_timeout_seconds"`, `errors.4.location="body.idle_timeout_seconds"`, `errors.5.location="body.count.methods[0]"`)
}

func TestAgents_AreListedInPages(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, name := range []string{"c", "a", "b"} {
		f.Do("PUT", agentsPath+"/"+name, `{"url":"http://h"}`).Want(201)
	}
	var names []string
	var cursor string
	for range 3 {
		g := f.Do("GET", agentsPath+"?limit=2&cursor="+cursor, "").Want(200)
		list, _ := g.JSON["agents"].([]any)
		for i := range list {
			names = append(names, fmt.Sprint(g.At(fmt.Sprintf("agents.%d.name", i))))
		}
		if cursor, _ = g.JSON["next_cursor"].(string); cursor == "" {
			break
		}
		names = append(names, "|")
	}
	if got, want := strings.Join(names, " "), "FileAgent a | b c"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	f.Do("GET", agentsPath+"?limit=4", "").Want(200, "next_cursor=null", `agents.3.name="c"`)
	for _, bad := range []string{"limit=0", "limit=1001", "limit=x", "cursor=%2F", "cursor=IA", "page=2", "limit=1&limit=2"} {
		f.Do("GET", agentsPath+"?"+bad, "").WantProblem(422, problem.InvalidValue)
	}
}

// contended is a registry whose changes are always in conflict.
type contended struct{ Agents }

func (contended) Put(context.Context, registry.Agent, string) (bool, error) {
	return false, fmt.Errorf("register: %w", registry.ErrConflict)
}

func TestAgents_ChangeThatOthersPreventIsAConflict(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(o *Options) { o.Agents = contended{o.Agents} })
	f.Do("PUT", agentsPath+"/a", `{}`).WantProblem(409, problem.AgentConflict).Want(409, `agent="a"`)
	f.Do("POST", agentsPath, `{"name":"a"}`).WantProblem(409, problem.AgentConflict)
}

func TestAgents_OfTheFileAreNotChanged(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Do("PUT", agentsPath+"/FileAgent", `{"url":"http://elsewhere"}`).WantProblem(409, problem.AgentInFile).Want(409, `agent="FileAgent"`)
	f.Do("POST", agentsPath, `{"name":"FileAgent"}`).WantProblem(409, problem.AgentInFile)
	f.Do("DELETE", agentsPath+"/FileAgent", "").WantProblem(409, problem.AgentInFile)
	f.Do("GET", agentsPath+"/FileAgent", "").Want(200, `origin="file"`, `url="http://file-agent:9000"`, `labels.team="x"`)
	f.Unharmed("all")
}

func TestAgents_AreShownWithTheirBreaker(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Do("POST", agentsPath, `{"name":"FailingAgent"}`).Want(201)
	f.workflow("w", "FailingAgent")
	for range 5 {
		f.Do("POST", workflowsPath+"/w/execute", "").WantProblem(502, problem.AgentFailed)
	}
	f.Do("GET", agentsPath+"/FailingAgent", "").Want(200, `breaker.state="OPEN"`, "breaker.failure_count=5", `breaker.reason="consecutive_failures"`)
}

func TestAgents_EachFaultOfARegistrationIsNamed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Do("POST", agentsPath, `{"name":"a b","url":"ftp://x","circuit_breaker_config":{"failure_threshold":-1,"mode":"maybe"},"labels":{"a":1},`+
		`"timeout_seconds":0,"classify":"guess","nonsense":1}`).WantProblem(422, problem.InvalidValue).
		Want(422, `errors.0.location="body.name"`, `errors.1.location="body.url"`, `errors.2.location="body.circuit_breaker_config.failure_threshold"`,
			`errors.3.location="body.circuit_breaker_config.mode"`, `errors.4.location="body.labels.a"`, `errors.5.location="body.timeout_seconds"`,
			`errors.6.location="body.classify"`, `errors.7.location="body.nonsense"`)
	for _, bad := range []string{
		`{}`, `{"name":""}`, `{"name":null}`, `{"name":7}`, `{"name":"a\u0000"}`, `{"name":"` + strings.Repeat("a", 129) + `"}`, `{"name":"a","url":"/x"}`,
		`{"name":"a","url":"http://u:hunter2@h"}`, `{"name":"a","url":"http://h/?q"}`, `{"name":"a","url":"javascript:alert(1)"}`, `{"name":"a","url":""}`,
		`{"name":"a","timeout_seconds":3600.5}`, `{"name":"a","timeout_seconds":"1"}`, `{"name":"a","timeout_seconds":1e-9}`, `{"name":"a","timeout_seconds":-1}`,
		`{"name":"a","circuit_breaker_config":[]}`, `{"name":"a","circuit_breaker_config":{"timeout_seconds":7200}}`, `{"name":"a","Name":"b"}`,
		`{"name":"a","labels":{"a b":"c"}}`, `{"name":"a","contact":"a\nb"}`, `[{"name":"a"}]`, `{"agents":[]}`, `{"name":"a","origin":"heaven"}`,
	} {
		g := f.Do("POST", agentsPath, bad)
		if strings.Contains(bad, `"Name"`) {
			g.WantProblem(400, problem.InvalidJSON)
			continue
		}
		g.WantProblem(422, problem.InvalidValue)
		if strings.Contains(g.Text, "hunter2") {
			t.Errorf("a password is shown: %s", g.Text)
		}
	}
	f.Do("PUT", agentsPath+"/a", `{"name":"b"}`).WantProblem(422, problem.InvalidValue).Want(422, `errors.0.location="body.name"`)
	f.Do("PUT", agentsPath+"/a", `{}`, "X-Actor", "a b").WantProblem(422, problem.InvalidValue)
	f.Do("DELETE", agentsPath+"/a", "", "X-Actor", "a b").WantProblem(422, problem.InvalidValue)
	f.Do("PUT", agentsPath+"/a", "").WantProblem(400, problem.BodyRequired)
	f.Unharmed("all")
}
