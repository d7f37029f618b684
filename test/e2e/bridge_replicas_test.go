package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
)

func TestBridge_FailuresOfTwoReplicasOpenOneBreaker(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a, b := s.bridge(), s.bridge()
	for range 3 {
		a.through("FailingAgent", "/").want(http.StatusInternalServerError)
	}
	for range 2 {
		b.execute(guide).failed()
	}
	for _, d := range []*daemon{a, b} {
		d.through("FailingAgent", "/").refused("OPEN", "open")
		d.execute(guide).stopped()
		d.through("Other", "/").want(http.StatusOK)
	}
	s.called("FailingAgent", 5)
	core := start(t, "REDIS_URL="+s.redis.URL())
	core.acquire("FailingAgent").refused("OPEN", "open")
	core.reset("FailingAgent", "CLOSED")
	for _, d := range []*daemon{a, b} {
		d.through("FailingAgent", "/").want(http.StatusInternalServerError)
	}
}

func TestBridge_ReplicasShareRegistryAndWorkflows(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a, b := s.bridge(), s.bridge()
	b.through("Newcomer", "/x").want(http.StatusNotFound).has("code", "agent_unknown") // b may cache that for a second
	a.call(http.MethodPost, "/api/v1/agents", s.agent("Newcomer", "")).want(http.StatusCreated).has("origin", "api")
	a.through("Newcomer", "/x").want(http.StatusOK)
	begin := time.Now()
	testkit.Eventually(t, "the agent at the other bridge", 3*time.Second, func() error {
		if r := b.through("Newcomer", "/x"); r.status != http.StatusOK {
			return errors.New(string(r.body))
		}
		return nil
	})
	t.Logf("the other bridge called it after %v", time.Since(begin).Round(time.Millisecond))

	const flow = `{"workflow_id":"shared","steps":{"only":{"id":"only","agent_name":"Newcomer","input_mapping":{"text":"$.input.text"}}}}`
	a.call(http.MethodPost, "/api/v1/workflows", flow).want(http.StatusCreated)
	done := b.call(http.MethodPost, "/api/v1/workflows/shared/execute", `{"input":{"text":"hello"}}`).want(http.StatusOK).
		has("output.only.input.text", "hello")
	id := done.text("execution_id")
	a.call(http.MethodGet, "/api/v1/executions/"+id, "").want(http.StatusOK).has("status", "completed").has("workflow_id", "shared").
		has("steps.only.output.input.text", "hello")

	id = a.execute(guide).failed().text("execution.execution_id")
	b.call(http.MethodGet, "/api/v1/executions/"+id, "").want(http.StatusOK).has("status", "failed").has("error.cause", "status_500").
		has("steps.step-1.status", "failed")

	b.call(http.MethodDelete, "/api/v1/workflows/shared", "").want(http.StatusNoContent)
	a.execute("shared").want(http.StatusNotFound).has("code", "workflow_unknown")
	b.call(http.MethodDelete, "/api/v1/agents/Newcomer", "").want(http.StatusNoContent)
	testkit.Eventually(t, "the agent to be gone at the other bridge", 3*time.Second, func() error {
		if r := a.through("Newcomer", "/x"); r.status != http.StatusNotFound {
			return errors.New("it is still called")
		}
		return nil
	})
}

// TestBridge_AnswersAloneWhileRedisIsDown: callers notice nothing; health and metrics do.
func TestBridge_AnswersAloneWhileRedisIsDown(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a, b := s.bridge(), s.bridge()
	stop := keepCalling(a)
	for _, d := range []*daemon{a, b} {
		d.through("FailingAgent", "/").want(http.StatusInternalServerError)
	}
	s.redis.Kill()
	testkit.Eventually(t, "the loss to show", 10*time.Second, func() error {
		a.through("Other", "/").want(http.StatusOK)
		if r := a.call(http.MethodGet, "/health", "").want(http.StatusOK); r.get("status") != "degraded" {
			return errors.New(string(r.body))
		}
		return nil
	})
	a.call(http.MethodGet, "/readyz", "").want(http.StatusOK)
	testkit.Eventually(t, "this bridge alone to open", 10*time.Second, func() error {
		if r := a.through("FailingAgent", "/"); r.status != http.StatusTooManyRequests || r.get("degraded") != true {
			return errors.New(string(r.body))
		}
		return nil
	})
	a.execute(guide).stopped().has("degraded", true)
	s.redis.Restart() // empty: nothing was kept
	for _, d := range []*daemon{a, b} {
		testkit.Eventually(t, "a bridge to be in step", 15*time.Second, func() error {
			r := d.call(http.MethodGet, "/health/checks", "").want(http.StatusOK)
			if r.get("checks.redis.status") != "healthy" || r.get("checks.redis_data.status") == nil {
				return errors.New(string(r.body))
			}
			d.through("Other", "/").want(http.StatusOK)
			return nil
		})
	}
	for range 3 {
		a.through("FailingAgent", "/").want(http.StatusInternalServerError)
	}
	for range 2 {
		b.through("FailingAgent", "/").want(http.StatusInternalServerError)
	}
	for _, d := range []*daemon{a, b} {
		d.through("FailingAgent", "/").refused("OPEN", "open").has("degraded", nil)
	}
	if calls, err := stop(); err != nil || calls < 10 {
		t.Errorf("a caller of the other agent made %d calls: %v", calls, err)
	}
}

// keepCalling calls the healthy agent until stop. Every call must succeed.
func keepCalling(d *daemon) (stop func() (calls int, err error)) {
	ctx, cancel := context.WithCancel(d.t.Context())
	calls, ended := 0, make(chan error, 1)
	go func() {
		for ctx.Err() == nil {
			r, err := d.try(http.MethodGet, "/agents/Other/", "")
			if err == nil && r.status != http.StatusOK {
				err = fmt.Errorf("status %d: %s", r.status, r.body)
			}
			if err != nil {
				ended <- err
				return
			}
			calls++
		}
		ended <- nil
	}()
	return func() (int, error) {
		cancel()
		err := <-ended
		return calls, err
	}
}
