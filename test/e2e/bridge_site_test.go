package e2e

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/breakerd/breakerd/internal/testkit"
)

// site is what the bridges of a fleet share: Redis, the demo agents, a registry file and a directory of workflows.
type site struct {
	t     testing.TB
	redis *testkit.Server
	demo  *daemon
	dir   string
}

// guideWorkflow is the deployment guide's own.
const guideWorkflow = `{
  "workflow_id": "circuit-breaker-test",
  "steps": {
    "step-1": {
      "id": "step-1",
      "agent_name": "FailingAgent",
      "input_mapping": {
        "text": "test"
      }
    }
  }
}`

// newSite has the guide's workflow and two agents: FailingAgent, which fails, and Other, which works.
func newSite(t testing.TB) *site {
	t.Helper()
	s := &site{t: t, redis: testkit.Start(t), demo: demoAgent.start(t), dir: t.TempDir()}
	if err := os.Mkdir(s.workflows(), 0o700); err != nil {
		t.Fatal(err)
	}
	s.write("agents.json", "["+s.agent("FailingAgent", "")+","+s.agent("Other", "")+"]")
	s.write("workflows/test.json", guideWorkflow)
	return s
}

func (s *site) workflows() string { return filepath.Join(s.dir, "workflows") }

func (s *site) write(file, text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, file), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// agent is the registration of a demo agent; more is fields besides name and url, as `,"contact":"ops"`.
func (s *site) agent(name, more string) string {
	return `{"name":"` + name + `","url":"http://` + s.demo.addr + `/` + name + `"` + more + `}`
}

// bridge starts one of the fleet.
func (s *site) bridge(env ...string) *daemon {
	s.t.Helper()
	return bridge.start(s.t, append([]string{
		"REDIS_URL=" + s.redis.URL(), "AGENTS_FILE=" + filepath.Join(s.dir, "agents.json"), "WORKFLOWS_DIR=" + s.workflows(),
	}, env...)...)
}

// mode sets how a demo agent responds.
func (s *site) mode(agent, mode string) {
	s.t.Helper()
	s.demo.call(http.MethodPut, "/modes/"+agent, `{"mode":"`+mode+`"}`).want(http.StatusOK)
}

// called wants a demo agent to have had n calls.
func (s *site) called(agent string, want int) {
	s.t.Helper()
	s.demo.call(http.MethodGet, "/modes/"+agent, "").want(http.StatusOK).has("calls", float64(want))
}

// execute runs a workflow as the guide does.
func (d *daemon) execute(id string) reply {
	d.t.Helper()
	return d.call(http.MethodPost, "/api/v1/workflows/"+id+"/execute", `{"input": {}}`)
}

// failed wants an execution that failed at the agent.
func (r reply) failed() reply {
	r.t.Helper()
	return r.want(http.StatusBadGateway).has("code", "agent_failed").has("step", "step-1").has("agent", "FailingAgent").
		has("cause", "status_500").has("execution.status", "failed")
}

// stopped wants an execution that an open breaker refused.
func (r reply) stopped() reply {
	r.t.Helper()
	r.want(http.StatusServiceUnavailable).has("code", "circuit_breaker_open").has("reason", "open").has("execution.status", "refused")
	if got := r.header.Get("X-Circuit-Breaker-State"); got != "OPEN" || r.header.Get("Retry-After") == "" {
		r.t.Errorf("%s: x-circuit-breaker-state %q, retry-after %q", r.what, got, r.header.Get("Retry-After"))
	}
	return r
}

// through calls an agent through the gateway.
func (d *daemon) through(agent, path string) reply {
	d.t.Helper()
	return d.call(http.MethodGet, "/agents/"+agent+path, "")
}

// breakerOf reads the breaker of a registered agent from bridge. path is for example totals.failures.
func (d *daemon) breakerOf(agent, path string) any {
	d.t.Helper()
	return d.call(http.MethodGet, "/api/v1/agents/"+agent, "").want(http.StatusOK).get("breaker." + path)
}

// measured wants lines in /metrics.
func (d *daemon) measured(lines ...string) error {
	d.t.Helper()
	page := "\n" + string(d.call(http.MethodGet, "/metrics", "").want(http.StatusOK).body)
	for _, line := range lines {
		if !strings.Contains(page, "\n"+line+"\n") {
			return missing(line)
		}
	}
	return nil
}

// missing is the error for lines that are absent.
type missing string

func (m missing) Error() string { return "there is no " + string(m) }

// array reads a JSON array of objects at a path.
func (r reply) array(path string) []map[string]any {
	r.t.Helper()
	text, err := json.Marshal(r.get(path))
	if err != nil {
		r.t.Fatal(err)
	}
	var list []map[string]any
	if err := json.Unmarshal(text, &list); err != nil {
		r.t.Fatalf("%s: %s is no array of objects: %s", r.what, path, r.body)
	}
	return list
}
