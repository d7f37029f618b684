package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
)

const guide = "circuit-breaker-test"

// TestGuide_FiveFailuresStopTheSixthCallAndAMendedAgentCloses is the deployment guide's section Testing, rows W4, W5,
// W7, W10 and W11.
func TestGuide_FiveFailuresStopTheSixthCallAndAMendedAgentCloses(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.bridge("CIRCUIT_BREAKER_TIMEOUT_SECONDS=3")
	b.awaitText("Initialized CircuitBreakerManager", `"component":"Circuit Breaker"`)
	b.awaitText("CircuitBreakerManager initialized with Redis connection", `"component":"Circuit Breaker"`)
	for range 5 {
		b.execute(guide).failed()
	}
	begin := time.Now()
	b.execute(guide).stopped()
	t.Logf("the refusal took %v", time.Since(begin))
	s.called("FailingAgent", 5)
	if got := redisCLI(t, s.redis, "GET", "circuit_breaker:FailingAgent:state"); got != "open" {
		t.Errorf("state %q in Redis", got)
	}
	for _, what := range []string{"state", "calls", "open_timestamp"} {
		if got := redisCLI(t, s.redis, "KEYS", "circuit_breaker:*:"+what); got != "circuit_breaker:FailingAgent:"+what {
			t.Errorf("KEYS circuit_breaker:*:%s: %q", what, got)
		}
	}
	b.awaitText("Circuit breaker OPENED", "FailingAgent")
	b.awaitText("CircuitBreakerOpenError", "FailingAgent")
	await(b, `circuit_breaker_state{agent="FailingAgent"} 1`, `circuit_breaker_calls_total{agent="FailingAgent",result="failure"} 5`,
		`circuit_breaker_transitions_total{agent="FailingAgent",from="closed",to="open"} 1`,
		`circuit_breaker_rejections_total{agent="FailingAgent",reason="open"} 1`)

	testkit.Eventually(t, "the wait to be over", 15*time.Second, func() error {
		if r := b.execute(guide); r.status != http.StatusBadGateway {
			return errors.New(string(r.body))
		}
		return nil
	})
	s.called("FailingAgent", 6) // the one probe, which failed
	b.execute(guide).stopped()

	s.mode("FailingAgent", "healthy")
	testkit.Eventually(t, "the wait to be over again", 15*time.Second, func() error {
		if r := b.execute(guide); r.status != http.StatusOK {
			return errors.New(string(r.body))
		}
		return nil
	})
	await(b, `circuit_breaker_state{agent="FailingAgent"} 2`)
	for range 2 {
		b.execute(guide).want(http.StatusOK).has("status", "completed").has("steps.step-1.output.agent", "FailingAgent")
	}
	s.called("FailingAgent", 9)
	b.awaitText("Circuit breaker transitioned to CLOSED", "FailingAgent")
	if got := redisCLI(t, s.redis, "GET", "circuit_breaker:FailingAgent:state"); got != "closed" {
		t.Errorf("state %q in Redis", got)
	}
	await(b, `circuit_breaker_state{agent="FailingAgent"} 0`, `circuit_breaker_calls_total{agent="FailingAgent",result="success"} 3`,
		`circuit_breaker_transitions_total{agent="FailingAgent",from="open",to="half_open"} 2`,
		`circuit_breaker_transitions_total{agent="FailingAgent",from="half_open",to="closed"} 1`)
}

// await waits for lines of /metrics, whose states are read at most once a second.
func await(d *daemon, lines ...string) {
	d.t.Helper()
	testkit.Eventually(d.t, "metrics", 10*time.Second, func() error { return d.measured(lines...) })
}

// TestGuide_DeletedKeysResetAllReplicas is row W6.
func TestGuide_DeletedKeysResetAllReplicas(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a, b := s.bridge(), s.bridge()
	for range 5 {
		a.execute(guide).failed()
	}
	for _, d := range []*daemon{a, b} {
		d.execute(guide).stopped()
	}
	s.called("FailingAgent", 5)
	for _, key := range []string{"state", "open_timestamp"} {
		if got := redisCLI(t, s.redis, "DEL", "circuit_breaker:FailingAgent:"+key); got != "1" {
			t.Errorf("DEL of %s: %s", key, got)
		}
	}
	for _, d := range []*daemon{b, a} {
		d.execute(guide).failed()
	}
	s.called("FailingAgent", 7)
}

// TestGuide_DisabledForAllAgents is the guide's section Rollback, row W12.
func TestGuide_DisabledForAllAgents(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.bridge("CIRCUIT_BREAKER_ENABLED=false")
	for range 12 {
		b.execute(guide).failed()
	}
	s.called("FailingAgent", 12)
	if got := redisCLI(t, s.redis, "KEYS", "circuit_breaker:FailingAgent:*"); got != "" {
		t.Errorf("keys %q", got)
	}
}

// TestRegistry_FileIsReadAgainWhileRunning is row W3: one agent is disabled; a bad edit changes only the health.
func TestRegistry_FileIsReadAgainWhileRunning(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.bridge()
	for range 5 {
		b.execute(guide).failed()
	}
	b.execute(guide).stopped()
	s.write("agents.json", "["+s.agent("FailingAgent", `,"circuit_breaker_config":{"enabled":false}`)+"]")
	testkit.Eventually(t, "the edited registry", 15*time.Second, func() error {
		if r := b.execute(guide); r.status != http.StatusBadGateway {
			return errors.New(string(r.body))
		}
		return nil
	})
	b.through("Other", "/").want(http.StatusNotFound).has("code", "agent_unknown")
	b.call(http.MethodGet, "/health/checks", "").want(http.StatusOK).has("status", "healthy").has("checks.registry.status", "healthy")

	s.write("agents.json", `[{"name":"FailingAgent","circuit_breaker_config":{"enabled":"perhaps"}}]`)
	s.health(b, "registry", "degraded")
	warnings := fmt.Sprint(b.call(http.MethodGet, "/health/checks", "").get("checks.registry.warnings"))
	for _, want := range []string{"agents.json:1", "enabled", "perhaps"} {
		if !strings.Contains(warnings, want) {
			t.Errorf("the health names no %q: %s", want, warnings)
		}
	}
	for range 8 {
		b.execute(guide).failed() // the agent is still disabled, and has its address
	}
	s.write("agents.json", "["+s.agent("FailingAgent", `,"circuit_breaker_config":{"failure_threshold":2}`)+"]")
	s.health(b, "registry", "healthy")
	redisCLI(t, s.redis, "DEL", "circuit_breaker:FailingAgent:state", "circuit_breaker:FailingAgent:open_timestamp")
	for range 2 {
		b.execute(guide).failed()
	}
	b.execute(guide).stopped()
}

// health waits until one part of a bridge's health has this status. Nothing else is wrong, so the whole has it too.
func (s *site) health(d *daemon, part, want string) {
	s.t.Helper()
	testkit.Eventually(s.t, "health "+want, 15*time.Second, func() error {
		r := d.call(http.MethodGet, "/health/checks", "").want(http.StatusOK)
		if got := r.get("checks." + part + ".status"); got != want {
			return errors.New(string(r.body))
		}
		return nil
	})
	d.call(http.MethodGet, "/health", "").want(http.StatusOK).has("status", want)
	d.call(http.MethodGet, "/readyz", "").want(http.StatusOK)
}

func TestWorkflows_FilesAreReadAgainWhileRunning(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.bridge()
	file := func(steps string) string { return `{"workflow_id":"chain","steps":{` + steps + `}}` }
	step := func(id, text, more string) string {
		return `"` + id + `":{"id":"` + id + `","agent_name":"Other","input_mapping":{"text":"` + text + `"}` + more + `}`
	}
	b.execute("chain").want(http.StatusNotFound).has("code", "workflow_unknown")
	s.write("workflows/chain.json", file(step("first", "hello", "")+","+step("second", "$.steps.first.output.input.text", "")))
	testkit.Eventually(t, "the new workflow", 15*time.Second, func() error {
		if r := b.execute("chain"); r.status != http.StatusOK {
			return errors.New(string(r.body))
		}
		return nil
	})
	b.execute("chain").want(http.StatusOK).has("output.second.input.text", "hello")

	s.write("workflows/chain.json", file(step("first", "$.steps.second.output", "")+","+step("second", "$.steps.first.output", "")))
	s.health(b, "workflows", "degraded")
	warnings := fmt.Sprint(b.call(http.MethodGet, "/health/checks", "").get("checks.workflows.warnings"))
	if !strings.Contains(warnings, "chain.json") || !strings.Contains(warnings, "first -> second -> first") {
		t.Errorf("the health says %s", warnings)
	}
	b.execute("chain").want(http.StatusOK).has("output.second.input.text", "hello")

	if err := os.Remove(filepath.Join(s.workflows(), "chain.json")); err != nil {
		t.Fatal(err)
	}
	s.health(b, "workflows", "healthy")
	b.execute("chain").want(http.StatusNotFound)
	b.execute(guide).failed() // the other file is unchanged

	s.write("workflows/early.json", `{"workflow_id":"early","steps":{"a":{"id":"a","agent_name":"Newcomer"}}}`)
	s.health(b, "workflows", "degraded")
	b.execute("early").want(http.StatusNotFound)
	b.call(http.MethodPost, "/api/v1/agents", s.agent("Newcomer", "")).want(http.StatusCreated)
	s.health(b, "workflows", "healthy")
	b.execute("early").want(http.StatusOK)
}

// TestRegistry_BadFilesAtStartAreRefusedWithTheirPlace: bridge does not start with a bad registry or workflow.
func TestRegistry_BadFilesAtStartAreRefusedWithTheirPlace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	flows := filepath.Join(dir, "flows")
	if err := os.Mkdir(flows, 0o700); err != nil {
		t.Fatal(err)
	}
	file("flows/tight.json", `{"workflow_id":"w","steps":{"a":{"id":"a","agent_name":"A","depends_on":["b"]},"b":{"id":"b","agent_name":"A","depends_on":["a"]}}}`)
	for _, c := range []struct{ env, says []string }{
		{[]string{"AGENTS_FILE=" + file("a.json", "[\n{\"name\":\"A\",\n\"url\":\"ftp://x\"}]")}, []string{"a.json:3", "url", "http"}},
		{[]string{"AGENTS_FILE=" + dir + "/absent"}, []string{"AGENTS_FILE", "absent"}},
		{[]string{"WORKFLOWS_DIR=" + dir + "/absent"}, []string{"WORKFLOWS_DIR", "absent"}},
		{[]string{"WORKFLOWS_DIR=" + flows}, []string{"tight.json:1", "a -> b -> a"}},
		{[]string{"INBOUND_URL=http://127.0.0.1:1"}, []string{"INBOUND_LISTEN"}},
		{[]string{"BRIDGE_LISTEN=0.0.0.0:0"}, []string{"BRIDGE_LISTEN", "BRIDGE_AUTH=none"}},
	} {
		d := bridge.launch(t, nil, c.env...)
		if code := d.ExitCode(); code != 2 {
			t.Errorf("%q: exit code %d, want 2", c.env, code)
		}
		lacks := slices.DeleteFunc(c.says, func(want string) bool { return strings.Contains(d.Stderr(), want) })
		if len(lacks) > 0 {
			t.Errorf("%q: no %q in\n%s", c.env, lacks, d.Stderr())
		}
	}
}
