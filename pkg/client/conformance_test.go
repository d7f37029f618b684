package client_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/app"
	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/client"
)

// trip opens an agent's breaker by failures.
func trip(t *testing.T, c *client.Client, agent string) {
	t.Helper()
	for range 5 {
		must(c.Report(t.Context(), agent, client.ReportRequest{Outcome: "failure", Error: "boom"}, ""))(t)
	}
}

func TestClient_CallsThroughABreaker(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, redis string) {
		c := breakerdOn(t, redis)
		permit := must(c.Acquire(t.Context(), "payments", client.AcquireRequest{ParentAgent: "shop"}))(t)
		if !permit.Allowed || permit.State != "CLOSED" || permit.LeaseSeconds != 0 {
			t.Errorf("%+v", permit)
		}
		in := client.ReportRequest{Permit: permit.Permit, Outcome: "success", DurationMs: 12.5}
		first := must(c.Report(t.Context(), "payments", in, "one"))(t)
		again := must(c.Report(t.Context(), "payments", in, "one"))(t)
		if !first.Counted || again.Counted || again.Why != "duplicate" {
			t.Errorf("first %+v, again %+v", first, again)
		}
		trip(t, c, "payments")
		_, err := c.Acquire(t.Context(), "payments", client.AcquireRequest{})
		open, refused := errors.AsType[*breaker.OpenError](err)
		if !errors.Is(err, breaker.ErrOpen) || !refused || open.Agent != "payments" || open.Reason != breaker.ReasonOpen ||
			open.State != breaker.Open || open.RetryAfter() <= 50*time.Second {
			t.Errorf("refused: %v, %+v", err, open)
		}
		_, err = c.Gate(t.Context(), "payments", client.GateRequest{DenyStatus: http.StatusForbidden})
		e, _ := errors.AsType[*client.Error](err)
		if e == nil || e.Status != http.StatusForbidden || !errors.Is(err, breaker.ErrOpen) || errors.Is(err, client.ErrForbidden) {
			t.Errorf("the gate: %v", err)
		}
		must(c.Gate(t.Context(), "calm", client.GateRequest{Parent: "payments"}))(t)
		must(c.GateBelow(t.Context(), "calm", "v1/x", client.GateRequest{}))(t)

		must(c.ResetCircuitBreaker(t.Context(), "payments", client.ResetRequest{TargetState: "HALF_OPEN"}))(t)
		probe := must(c.Acquire(t.Context(), "payments", client.AcquireRequest{}))(t)
		if probe.State != "HALF_OPEN" || probe.LeaseSeconds != 60 {
			t.Errorf("the probe: %+v", probe)
		}
		if r := must(c.Renew(t.Context(), "payments", client.RenewRequest{Permit: probe.Permit}))(t); r.LeaseSeconds != 60 {
			t.Errorf("renewed: %+v", r)
		}
		results := must(c.Batch(t.Context(), []client.BatchOp{
			{Op: "acquire", Agent: "calm"},
			{Op: "renew", Agent: "payments", Permit: probe.Permit},
			{Op: "report", Agent: "payments", Permit: probe.Permit, Outcome: "success"},
			{Op: "renew", Agent: "payments", Permit: probe.Permit},
		}))(t)
		if len(results) != 4 || !results[0].Acquired.Allowed || results[1].Renewed.LeaseSeconds != 60 ||
			!results[2].Reported.Counted || !errors.Is(results[3].Err, breaker.ErrLeaseLost) {
			t.Errorf("batch: %+v", results)
		}
		for _, agent := range []string{"", ".", "..", "a/../b", "a b", "a?x=y#z", "%2e", "\n"} {
			if _, err := c.Acquire(t.Context(), agent, client.AcquireRequest{}); !errors.Is(err, breaker.ErrBadName) {
				t.Errorf("agent %q: %v", agent, err)
			}
			if _, err := c.GetCircuitBreaker(t.Context(), agent); !errors.Is(err, breaker.ErrBadName) {
				t.Errorf("agent %q: %v", agent, err)
			}
		}
		if _, err := c.Renew(t.Context(), "payments", client.RenewRequest{Permit: "v1"}); !errors.Is(err, breaker.ErrBadPermit) {
			t.Errorf("a bad permit: %v", err)
		}
	})
}

func TestClient_OperatesBreakers(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, redis string) {
		c := breakerdOn(t, redis)
		ctx := t.Context()
		holds(t, c)
		trip(t, c, "trips")
		for i := range 5 {
			must(c.Report(ctx, fmt.Sprintf("calm-%d", i), client.ReportRequest{Outcome: "success"}, ""))(t)
		}
		lists(t, c)

		detail := must(c.GetCircuitBreaker(ctx, "trips"))(t)
		if detail.State != "OPEN" || detail.Reason != "consecutive_failures" || detail.OpenedAt.IsZero() ||
			time.Until(detail.TimeoutUntil) < 50*time.Second || string(detail.Policy["failure_threshold"].Value) != "5" {
			t.Errorf("%+v", detail)
		}
		if held := must(c.GetCircuitBreaker(ctx, "banned"))(t); held.Hold == nil || held.Hold.Actor != "alice" || !held.Hold.Until.IsZero() {
			t.Errorf("%+v", held.Hold)
		}
		explained := must(c.ExplainCircuitBreaker(ctx, "trips"))(t)
		if len(explained.Because) == 0 || explained.Because[0].Code != "consecutive_failures" {
			t.Errorf("%+v", explained)
		}
		if e := must(c.ListEvents(ctx, "trips"))(t); len(e.Events) == 0 || e.Events[0].Event != "opened" {
			t.Errorf("%+v", e)
		}
		if s := must(c.GetSummary(ctx))(t); s.States["OPEN"] != 1 || s.Holds.Closed != 1 || s.Agents != 7 {
			t.Errorf("%+v", s)
		}
		latencies(t, c)
		testkit.Eventually(t, "the cascade", 10*time.Second, func() error {
			if s, err := c.ListCascades(ctx, time.Minute); err != nil || !slices.ContainsFunc(s.Cascades, func(t client.Trip) bool { return t.AgentID == "trips" }) {
				return fmt.Errorf("%+v %w", s, err)
			}
			return nil
		})
		if h := must(c.GetHistory(ctx, "trips", 5))(t); h.KeptMinutes != 0 || len(h.Minutes) == 0 || h.Minutes[len(h.Minutes)-1].Failures == 0 {
			t.Errorf("%+v", h)
		}
		writes(t, c)
		acts(t, c)
		releases(t, c)
		for f, err := range c.AllFindings(ctx, client.FindingQuery{Deep: true, Limit: 2}) {
			if err != nil || f.Replica != "" { // the replica's first heartbeat may be to come
				t.Errorf("%+v %v", f, err)
			}
		}
		if tokens := must(c.ListTokens(ctx))(t); tokens.File != "" || len(tokens.Tokens) > 0 {
			t.Errorf("%+v", tokens)
		}
		if err := c.DeleteCircuitBreaker(ctx, "trips", false); err != nil {
			t.Error(err)
		}
		if _, err := c.GetCircuitBreaker(ctx, "trips"); !errors.Is(err, client.ErrNotFound) {
			t.Errorf("a deleted one: %v", err)
		}
	})
}

// latencies asks how long calls took.
func latencies(t *testing.T, c *client.Client) {
	t.Helper()
	ctx := t.Context()
	must(c.Report(ctx, "calm-0", client.ReportRequest{Outcome: "success", DurationMs: 250}, ""))(t)
	slow := must(c.ListLatency(ctx, client.LatencyQuery{Threshold: 100 * time.Millisecond, Sort: "average", Limit: 5}))(t)
	if len(slow.Agents) != 1 || slow.Agents[0].AgentID != "calm-0" || slow.Agents[0].AverageMs != 250 || slow.Degraded {
		t.Errorf("%+v", slow)
	}
	if l := must(c.GetCircuitBreaker(ctx, "calm-0"))(t).Latency; l == nil || l.Calls != 1 || l.P99Ms != 250 || l.Replicas != 1 {
		t.Errorf("%+v", l)
	}
	if none, err := c.ListLatency(ctx, client.LatencyQuery{Agent: "nobody"}); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("%+v %v", none, err)
	}
}

// holds has two operators hold one breaker.
func holds(t *testing.T, c *client.Client) {
	t.Helper()
	ctx := t.Context()
	hold := client.HoldRequest{Reason: "flooding_quarantine", TimeoutSeconds: 3600, Protected: true}
	opened := must(c.OpenCircuitBreaker(ctx, "banned", hold))(t)
	if opened.State != "OPEN" || !opened.Created || opened.Endless {
		t.Errorf("%+v", opened)
	}
	bob := must(c.As("bob"))(t)
	if _, err := bob.OpenCircuitBreaker(ctx, "banned", hold); !errors.Is(err, breaker.ErrHoldProtected) {
		t.Errorf("a protected hold: %v", err)
	}
	must(c.CloseCircuitBreaker(ctx, "banned", client.HoldRequest{Reason: "known", Force: true}))(t)
	_, err := bob.OpenCircuitBreaker(ctx, "banned", hold)
	if e, _ := errors.AsType[*client.Error](err); e == nil || e.Code != client.CodeHoldExists || !errors.Is(err, client.ErrConflict) {
		t.Errorf("a hold of another: %v", err)
	}
	_, err = c.OpenCircuitBreaker(ctx, "banned", client.HoldRequest{})
	if e, _ := errors.AsType[*client.Error](err); e == nil || len(e.Fields) != 1 || e.Fields[0].Location != "body.reason" {
		t.Errorf("no reason: %v", err)
	}
}

// releases ends holds.
func releases(t *testing.T, c *client.Client) {
	t.Helper()
	ctx := t.Context()
	if _, err := c.ReleaseCircuitBreaker(ctx, "trips", client.ReleaseRequest{}); !errors.Is(err, breaker.ErrNotHeld) {
		t.Errorf("nothing to release: %v", err)
	}
	hold := client.HoldRequest{Reason: "flooding_quarantine", Protected: true}
	must(c.OpenCircuitBreaker(ctx, "trips", hold))(t)
	if _, err := c.ReleaseCircuitBreaker(ctx, "trips", client.ReleaseRequest{}); !errors.Is(err, breaker.ErrHoldProtected) {
		t.Errorf("a protected hold: %v", err)
	}
	released := must(c.ReleaseCircuitBreaker(ctx, "trips", client.ReleaseRequest{Reason: "resolved", Force: true}))(t)
	if released.Status != "released" || released.State != "HALF_OPEN" {
		t.Errorf("%+v", released)
	}
	if e := must(c.ListEvents(ctx, "trips"))(t); e.Events[0].Event != "manual_release" || e.Events[0].Actor != "alice" {
		t.Errorf("%+v", e.Events[0])
	}
	if audit := must(c.ListAudit(ctx, client.AuditQuery{EventQuery: client.EventQuery{Agent: "trips", Kinds: []string{"manual_release"}}}))(t); len(audit.Entries) != 1 {
		t.Errorf("%+v", audit)
	}
}

// acts changes several breakers at once.
func acts(t *testing.T, c *client.Client) {
	t.Helper()
	selected := client.ActionRequest{
		Action: "reset", Reason: "provider is back", Selector: &client.Selector{State: []string{"OPEN"}}, Expect: new(int64(0)),
	}
	if _, err := c.PostAction(t.Context(), selected); !errors.Is(err, client.ErrConflict) {
		t.Errorf("more than expected: %v", err)
	}
	selected.Expect = new(int64(1))
	action := must(c.PostAction(t.Context(), selected))(t)
	done := must(c.GetAction(t.Context(), action.ID))(t)
	if done.Matched != 1 || !done.Finished || done.Results[0] != (client.ActionResult{AgentID: "trips", Result: "done"}) {
		t.Errorf("%+v", done)
	}
}

// lists reads seven breakers page by page.
func lists(t *testing.T, c *client.Client) {
	t.Helper()
	var names []string
	for b, err := range c.AllCircuitBreakers(t.Context(), client.ListQuery{Limit: 2}) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, b.AgentID)
	}
	if len(names) != 7 || names[0] != "trips" && names[1] != "trips" {
		t.Errorf("all pages: %v", names)
	}
	page := must(c.ListCircuitBreakers(t.Context(), client.ListQuery{
		States: []string{"OPEN", "HALF_OPEN"}, Holds: []string{"none"}, Name: "TRIP", Reason: "failures", Sort: "worst", Include: []string{"window", "profile"},
	}))(t)
	if page.Total != 1 || page.CircuitBreakers[0].Window.Failures != 5 || page.NextCursor != "" {
		t.Errorf("%+v", page)
	}
	for _, err := range c.AllCircuitBreakers(t.Context(), client.ListQuery{Sort: "luck"}) {
		if e, _ := errors.AsType[*client.Error](err); e == nil || e.Status != http.StatusUnprocessableEntity {
			t.Errorf("a bad query: %v", err)
		}
	}
}

// writes changes what people write about an agent.
func writes(t *testing.T, c *client.Client) {
	t.Helper()
	ctx := t.Context()
	set := must(c.PutConfig(ctx, "tuned", client.Override{FailureThreshold: new(int64(0)), Mode: "observe", Reason: "load test"}, ""))(t)
	if *set.FailureThreshold != 0 || set.By != "alice" || set.At.IsZero() || set.ETag == "" || set.Enabled != nil {
		t.Errorf("%+v", set)
	}
	if _, err := c.PutConfig(ctx, "tuned", client.Override{}, ""); !errors.Is(err, client.ErrConflict) {
		t.Errorf("an override that there is: %v", err)
	}
	read := must(c.GetConfig(ctx, "tuned"))(t)
	if read.ETag != set.ETag || read.Mode != "observe" {
		t.Errorf("%+v", read)
	}
	must(c.PutConfig(ctx, "tuned", read, read.ETag))(t) // what was read can be sent back
	if err := c.DeleteConfig(ctx, "tuned", `"old"`); !errors.Is(err, client.ErrConflict) {
		t.Errorf("another tag: %v", err)
	}
	if err := c.DeleteConfig(ctx, "tuned", "*"); err != nil {
		t.Error(err)
	}
	if _, err := c.GetConfig(ctx, "tuned"); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("no override: %v", err)
	}
	agent := must(c.PutAgent(ctx, "tuned", client.Profile{
		Contact: "ops@example.org", Labels: map[string]string{"team": "pay"},
		Calls: client.Calls{FailureStatuses: []any{401, "500-599"}},
	}, ""))(t)
	shown := must(c.GetAgent(ctx, "tuned"))(t)
	if agent.ETag != shown.ETag || shown.Contact != "ops@example.org" || len(shown.FailureStatuses) != 2 {
		t.Errorf("%+v, %+v", agent, shown)
	}
	labelled := must(c.ListCircuitBreakers(ctx, client.ListQuery{Labels: map[string]string{"team": "pay"}}))(t)
	if labelled.Total != 1 {
		t.Errorf("by label: %+v", labelled)
	}
	testkit.Eventually(t, "the quarantine", 10*time.Second, func() error {
		q, err := c.ListQuarantine(ctx, "trips", 1)
		if err == nil && len(q.Items) != 1 {
			err = fmt.Errorf("%+v", q)
		}
		return err
	})
}

func TestClient_OperatesTheFleet(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, redis string) {
		c := breakerdOn(t, redis)
		ctx := t.Context()
		if f := must(c.GetFleet(ctx))(t); f.Action != "none" || f.Share != 1 {
			t.Errorf("%+v", f)
		}
		shed := must(c.PutFleet(ctx, client.FleetRequest{Action: "stop", Reason: "fire", UntilSeconds: 60}, ""))(t)
		if shed.Action != "stop" || shed.ETag == "" || shed.Actor != "alice" {
			t.Errorf("%+v", shed)
		}
		testkit.Eventually(t, "the stop", 10*time.Second, func() error {
			_, err := c.Acquire(ctx, "a", client.AcquireRequest{})
			if open, ok := errors.AsType[*breaker.OpenError](err); !ok || open.Reason != breaker.ReasonEmergencyStop || open.State != breaker.Open {
				return fmt.Errorf("%w", err)
			}
			return nil
		})
		if _, err := c.PutFleet(ctx, client.FleetRequest{Action: "shed", Percentage: 5, Reason: "x"}, `"other"`); !errors.Is(err, client.ErrConflict) {
			t.Errorf("another tag: %v", err)
		}
		if f := must(c.DeleteFleet(ctx, shed.ETag))(t); f.Action != "none" {
			t.Errorf("%+v", f)
		}
		testkit.Eventually(t, "the replica", 10*time.Second, func() error {
			r, err := c.ListReplicas(ctx)
			if err == nil && len(r.Replicas) != 1 {
				err = fmt.Errorf("%+v", r)
			}
			return err
		})
		if w := must(c.ListWebhooks(ctx))(t); w.Webhooks == nil || len(w.Webhooks) != 0 {
			t.Errorf("%+v", w)
		}
		events := must(c.ListFleetEvents(ctx, client.EventQuery{Kinds: []string{"gate"}, Agent: "-"}))(t)
		if len(events.Events) != 2 || events.Events[0].ID == "" || events.Events[0].AgentID != "" {
			t.Errorf("%+v", events)
		}
		n := 0
		for e, err := range c.AllFleetEvents(ctx, client.EventQuery{Since: "2020-01-01T00:00:00Z", Kinds: []string{"gate"}, Limit: 1}) {
			if n++; err != nil || e.Event.Event != "gate" {
				t.Error(e, err)
			}
		}
		must(c.OpenCircuitBreaker(ctx, "a", client.HoldRequest{Reason: "fraud"}))(t)
		audit := client.AuditQuery{Actor: "alice", EventQuery: client.EventQuery{Agent: "a"}}
		if a := must(c.ListAudit(ctx, audit))(t); len(a.Entries) != 1 || a.Entries[0].Reason != "fraud" || a.Entries[0].To != "OPEN" {
			t.Errorf("%+v", a)
		}
		for e, err := range c.AllAudit(ctx, audit) {
			if n++; err != nil || e.Actor != "alice" {
				t.Error(e, err)
			}
		}
		if n != 3 {
			t.Errorf("%d entries, want 2 of the gate and one of the audit", n)
		}
	})
}

func TestClient_AsksForHealth(t *testing.T) {
	t.Parallel()
	c := breakerdOn(t, "embedded://")
	ctx := t.Context()
	live, ready := must(c.Live(ctx))(t), must(c.Ready(ctx))(t)
	health, checks := must(c.Health(ctx))(t), must(c.HealthChecks(ctx))(t)
	if live != (client.Live{Status: "ok"}) || ready != (client.Ready{Status: "ready"}) || health.ReplicaID == "" || checks.Status != health.Status || checks.Checks["redis"].Status == "" {
		t.Errorf("%+v %+v %+v %+v", live, ready, health, checks)
	}
	has(t, must(c.Metrics(ctx))(t), "circuit_breaker")
	has(t, string(must(c.OpenAPI(ctx))(t)), `"3.1.0"`)

	// What an unhealthy replica answers is an answer.
	sick := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(`{"status":"unhealthy","new_field":1}`))
	}))
	t.Cleanup(sick.Close)
	if h := must(newClient(t, sick.URL).Health(ctx))(t); h.Status != "unhealthy" {
		t.Errorf("%+v", h)
	}
}

func TestBridge_AgentsWorkflowsExecutions(t *testing.T) {
	t.Parallel()
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/fails" {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"n":12345678901234567890}`))
	}))
	t.Cleanup(agent.Close)
	onEachEngine(t, func(t *testing.T, redis string) {
		url := serve(t, app.Bridge(), "REDIS_URL="+redis, patient)
		b := must(client.NewBridge(client.Options{Servers: []string{url}}))(t)
		b = must(b.As("alice"))(t)
		ctx := t.Context()
		in := client.Registration{Name: "echo", URL: agent.URL, CircuitBreakerConfig: &client.Override{FailureThreshold: new(int64(1))}}
		if out := must(b.RegisterAgent(ctx, in))(t); out.TimeoutSeconds != 60 || *out.CircuitBreakerConfig.FailureThreshold != 1 {
			t.Errorf("%+v", out)
		}
		shown := must(b.GetAgent(ctx, "echo"))(t)
		if shown.Breaker == nil || shown.Breaker.State != "CLOSED" || shown.Origin != "api" {
			t.Errorf("%+v", shown)
		}
		must(b.PutAgent(ctx, "echo", shown))(t) // what was read can be sent back
		must(b.RegisterAgent(ctx, client.Registration{Name: "other", URL: agent.URL}))(t)
		var names []string
		for a, err := range b.AllAgents(ctx, client.PageQuery{Limit: 1}) {
			names = append(names, fmt.Sprint(a.Name, err))
		}
		if !slices.Equal(names, []string{"echo<nil>", "other<nil>"}) {
			t.Error(names)
		}
		if page := must(b.ListAgents(ctx, client.PageQuery{}))(t); len(page.Agents) != 2 {
			t.Errorf("%+v", page)
		}
		if err := b.DeleteAgent(ctx, "other"); err != nil {
			t.Error(err)
		}
		executions(t, b)
	})
}

func executions(t *testing.T, b *client.Bridge) {
	t.Helper()
	ctx := t.Context()
	w := client.Workflow{WorkflowID: "w", Steps: map[string]client.Step{
		"one": {AgentName: "echo", InputMapping: map[string]any{"text": "$.input.text"}},
	}}
	if out := must(b.PutWorkflow(ctx, w))(t); out.Steps["one"].AgentName != "echo" {
		t.Errorf("%+v", out)
	}
	if got := must(b.GetWorkflow(ctx, "w"))(t); got.WorkflowID != "w" {
		t.Errorf("%+v", got)
	}
	if all := must(b.ListWorkflows(ctx))(t); len(all.Workflows) != 1 || all.Workflows[0].Steps != 1 {
		t.Errorf("%+v", all)
	}
	x := must(b.ExecuteWorkflow(ctx, "w", client.ExecuteRequest{Input: map[string]any{"text": "hello"}}))(t)
	if x.Status != "completed" || x.FinishedAt.Before(x.StartedAt) || !json.Valid(x.Output["one"]) {
		t.Errorf("%+v", x)
	}
	has(t, string(x.Output["one"]), "12345678901234567890")
	if kept := must(b.GetExecution(ctx, x.ExecutionID))(t); kept.Steps["one"].Status != "completed" {
		t.Errorf("%+v", kept)
	}
	w.Steps["one"] = client.Step{AgentName: "echo", Path: "/fails", InputMapping: map[string]any{}}
	must(b.PutWorkflow(ctx, w))(t)
	for _, want := range []client.Code{client.CodeAgentFailed, client.CodeCircuitBreakerOpen} {
		_, err := b.ExecuteWorkflow(ctx, "w", client.ExecuteRequest{})
		e, _ := errors.AsType[*client.Error](err)
		if e == nil || e.Code != want || e.Step != "one" || e.Execution == nil || e.Execution.Steps["one"].Error == nil {
			t.Errorf("%v, want %s", err, want)
		}
		if errors.Is(err, breaker.ErrOpen) != (want == client.CodeCircuitBreakerOpen) {
			t.Errorf("%v is no refusal", err)
		}
	}
	if err := b.DeleteWorkflow(ctx, "w"); err != nil {
		t.Error(err)
	}
	if _, err := b.GetWorkflow(ctx, "w"); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("a deleted one: %v", err)
	}
}
