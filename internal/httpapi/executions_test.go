package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/workflow"
)

func TestAnExecutionThatCompletesIsAnsweredAndKept(t *testing.T) {
	t.Parallel()
	f := newBridgeFixture(t)
	f.do("POST", workflowsPath, `{"workflow_id":"w","steps":{"one":{"agent_name":"A","input_mapping":{"n":"$.input.n"}},`+
		`"two":{"agent_name":"B","input_mapping":{"m":"$.steps.one.output.n"}}}}`).want(201)
	g := f.do("POST", workflowsPath+"/w/execute", `{"input":{"n":12345678901234567890}}`).
		want(200, `workflow_id="w"`, `status="completed"`, `steps.one.status="completed"`, `steps.two.agent_name="B"`)
	if !strings.Contains(g.text, `"output":{"two":{"m":12345678901234567890}}`) {
		t.Errorf("the number did not survive: %s", g.text)
	}
	id, _ := g.json["execution_id"].(string)
	if again := f.do("GET", executionsPath+"/"+id, "").want(200); again.text != g.text {
		t.Errorf("kept as %s, answered as %s", again.text, g.text)
	}
	f.do("GET", executionsPath+"/"+strings.Repeat("0", 32), "").wantProblem(404, problem.ExecutionUnknown)
	for _, id := range []string{"x", strings.Repeat("0", 31), strings.Repeat("G", 32), strings.ToUpper(id[:31] + "a")} {
		f.do("GET", executionsPath+"/"+id, "").wantProblem(400, problem.InvalidExecutionID)
	}
}

func TestAFailingAgentIsA502AndItsOpenBreakerA503(t *testing.T) {
	t.Parallel()
	f := newBridgeFixture(t)
	f.do("POST", workflowsPath, `{"workflow_id":"w","steps":{"step-1":{"agent_name":"FailingAgent"},"step-2":{"agent_name":"A","depends_on":["step-1"]}}}`).want(201)
	for range 5 {
		g := f.do("POST", workflowsPath+"/w/execute", `{"input": {}}`).wantProblem(502, problem.AgentFailed).
			want(502, `step="step-1"`, `agent="FailingAgent"`, `cause="status_503"`, `execution.status="failed"`, `execution.steps.step-1.status="failed"`,
				`execution.steps.step-2.status="skipped"`)
		for _, word := range []string{"step-1", "FailingAgent", "status_503", "503 Service Unavailable"} {
			if detail, _ := g.json["detail"].(string); !strings.Contains(detail, word) {
				t.Errorf("the detail does not name %s: %s", word, g.text)
			}
		}
	}
	f.advance(500 * time.Millisecond)
	g := f.do("POST", workflowsPath+"/w/execute", `{"input": {}}`).wantProblem(503, problem.CircuitBreakerOpen).
		want(503, `agent="FailingAgent"`, `reason="open"`, `state="OPEN"`, "retry_after_seconds=60", `step="step-1"`, `execution.status="refused"`,
			`execution.steps.step-1.status="refused"`, `execution.steps.step-2.status="skipped"`)
	if g.header.Get("X-Circuit-Breaker-State") != "OPEN" || g.header.Get("Retry-After") != "60" {
		t.Error(g.header)
	}
	id, _ := g.at("execution.execution_id").(string)
	f.do("GET", executionsPath+"/"+id, "").want(200, `status="refused"`, `error.agent="FailingAgent"`)
	f.advance(time.Minute)
	f.do("POST", workflowsPath+"/w/execute", "").wantProblem(502, problem.AgentFailed) // a probe
}

func TestAnInputThatLacksSomethingRunsNothing(t *testing.T) {
	t.Parallel()
	f := newBridgeFixture(t)
	f.do("POST", workflowsPath, `{"workflow_id":"w","steps":{"s":{"agent_name":"FailingAgent","input_mapping":{"t":"$.input.text","u":["$.input.u.v"]}}}}`).want(201)
	for _, body := range []string{"", `{}`, `{"input":{}}`, `{"input":{"u":{}}}`, `{"input":{"Text":1}}`} {
		g := f.do("POST", workflowsPath+"/w/execute", body).wantProblem(422, problem.InputMissing).want(422, `errors.0.location="body.input.text"`,
			`errors.1.location="body.input.u.v"`, "execution=null")
		if !strings.Contains(g.text, "steps.s.input_mapping.t") {
			t.Errorf("who wants it? %s", g.text)
		}
	}
	for _, body := range []string{`{"input":[]}`, `{"input":"x"}`, `{"inputs":{}}`, `{"input":{},"more":1}`, `{"input":{"a":1e400}}`} {
		f.do("POST", workflowsPath+"/w/execute", body).wantProblem(422, problem.InvalidValue)
	}
	if len(f.keeper.records) > 0 {
		t.Error(f.keeper.records)
	}
}

func TestAWorkflowsOwnTimeIsItsOwnAndAnAgentsTheAgents(t *testing.T) {
	t.Parallel()
	f := newBridgeFixture(t)
	f.do("POST", workflowsPath, `{"workflow_id":"slow","timeout_seconds":0.001,"steps":{"s":{"agent_name":"Slow"}}}`).want(201)
	f.do("POST", workflowsPath+"/slow/execute", "").wantProblem(504, problem.WorkflowTimeout).
		want(504, `cause="timeout"`, `execution.status="failed"`, `execution.steps.s.status="cancelled"`)
	f.workflow("w", "TimingOut")
	f.do("POST", workflowsPath+"/w/execute", "").wantProblem(502, problem.AgentFailed).want(502, `cause="timeout"`, `agent="TimingOut"`)
}

func TestAWorkflowsOwnTimeDoesNotOpenAHealthyAgentsBreaker(t *testing.T) {
	t.Parallel()
	f := newBridgeFixture(t)
	f.do("POST", workflowsPath, `{"workflow_id":"short","timeout_seconds":0.001,"steps":{"s":{"agent_name":"Slow"}}}`).want(201)
	for range 10 {
		f.do("POST", workflowsPath+"/short/execute", "").wantProblem(504, problem.WorkflowTimeout)
	}
}

func TestWhatIsNotTheAgentsFaultIsNotBlamedOnIt(t *testing.T) {
	t.Parallel()
	broken := map[string]error{}
	for _, cause := range []string{"store_unavailable", "agent_unknown", "agent_has_no_url", "internal", "bad_output", "status_418"} {
		broken[cause] = &workflow.CallError{Cause: cause, Err: errors.New("because")}
	}
	f := newBridgeFixture(t, func(o *BridgeOptions) {
		o.Execute = workflow.NewEngine(workflow.EngineOptions{Logger: o.Logger, Caller: callFunc(func(c workflow.Call) (json.RawMessage, error) {
			if c.Agent == "panic" {
				panic("in the gateway")
			}
			return c.Input, broken[c.Agent]
		})}).Execute
	})
	for _, c := range []struct {
		steps, step, cause string
		status             int
		code               problem.Code
		words              []string
	}{
		{`"s":{"agent_name":"store_unavailable"}`, "s", "store_unavailable", 503, problem.StoreUnavailable, []string{"because"}},
		{`"s":{"agent_name":"agent_unknown"}`, "s", "agent_unknown", 422, problem.WorkflowInvalid, []string{"agent_unknown", "because", "not called"}},
		{`"s":{"agent_name":"agent_has_no_url"}`, "s", "agent_has_no_url", 422, problem.WorkflowInvalid, []string{"agent_has_no_url", "not called"}},
		{
			`"a":{"agent_name":"A"},"s":{"agent_name":"B","input_mapping":{"x":"$.steps.a.output.y"}}`, "s", "reference_missing", 422, problem.WorkflowInvalid,
			[]string{"input_mapping.x", "$.steps.a.output.y", "output of step a"},
		},
		{`"s":{"agent_name":"internal"}`, "s", "internal", 500, problem.Internal, nil},
		{`"s":{"agent_name":"panic"}`, "s", "panic", 500, problem.Internal, nil},
		{`"s":{"agent_name":"bad_output"}`, "s", "bad_output", 502, problem.AgentFailed, []string{"bad_output"}},
		{`"s":{"agent_name":"status_418"}`, "s", "status_418", 502, problem.AgentFailed, []string{"status_418"}},
	} {
		f.do("POST", workflowsPath, `{"workflow_id":"w","steps":{`+c.steps+`}}`)
		g := f.do("POST", workflowsPath+"/w/execute", "").wantProblem(c.status, c.code)
		g.want(c.status, `step="`+c.step+`"`, `cause="`+c.cause+`"`, `execution.status="failed"`)
		f.api.doc.asDocumented(f.api.doc.operations()["executeWorkflow"], g)
		detail, _ := g.json["detail"].(string)
		for _, word := range append(c.words, "step "+c.step) {
			if !strings.Contains(detail, word) {
				t.Errorf("%s: the detail does not name %q: %s", c.cause, word, detail)
			}
		}
		if got := g.header.Get("Retry-After"); (got == "1") != (c.status == 503) {
			t.Errorf("%s: Retry-After: %q", c.cause, got)
		}
	}
}

// callFunc is a Caller.
type callFunc func(c workflow.Call) (json.RawMessage, error)

func (f callFunc) Call(_ context.Context, c workflow.Call) (json.RawMessage, error) { return f(c) }

func TestTooManyExecutionsAreTurnedAway(t *testing.T) {
	t.Parallel()
	begun, end := make(chan struct{}), make(chan struct{})
	f := newBridgeFixture(t, func(o *BridgeOptions) {
		o.Execute = workflow.NewEngine(workflow.EngineOptions{Logger: o.Logger, MaxExecutions: 1, Caller: callFunc(func(workflow.Call) (json.RawMessage, error) {
			close(begun)
			<-end
			return nil, nil
		})}).Execute
	})
	f.workflow("w", "A")
	first := make(chan int)
	go func() {
		w := httptest.NewRecorder()
		f.api.handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, workflowsPath+"/w/execute", http.NoBody))
		first <- w.Code
	}()
	<-begun
	g := f.do("POST", workflowsPath+"/w/execute", "").wantProblem(503, problem.TooManyExecutions).want(503, "execution=null")
	if got := g.header.Get("Retry-After"); got != "1" {
		t.Errorf("Retry-After: %q", got)
	}
	close(end)
	if code := <-first; code != 200 {
		t.Errorf("the first got %d", code)
	}
	if n := len(f.keeper.records); n != 1 {
		t.Errorf("%d executions are kept, want the one that ran", n)
	}
}

func TestACallerThatLeavesEndsItsExecution(t *testing.T) {
	t.Parallel()
	begun, kept := make(chan struct{}), make(keptExecutions, 1)
	f := newBridgeFixture(t, func(o *BridgeOptions) {
		execute := o.Execute
		o.Executions = kept
		o.Execute = func(ctx context.Context, d workflow.Definition, input map[string]any) workflow.Execution {
			close(begun)
			return execute(ctx, d, input)
		}
	})
	f.workflow("w", "Slow")
	conn := f.dial()
	if _, err := io.WriteString(conn, "POST "+workflowsPath+"/w/execute HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-begun
	conn.Close()
	if x := <-kept; x.Status != workflow.Cancelled {
		t.Errorf("%+v", x)
	}
}

// keptExecutions hands on what is kept.
type keptExecutions chan workflow.Execution

func (k keptExecutions) Keep(_ context.Context, x workflow.Execution) (json.RawMessage, error) {
	k <- x
	return json.RawMessage("{}"), nil
}

func (k keptExecutions) Get(context.Context, string) (json.RawMessage, error) {
	return nil, workflow.ErrUnknown
}

func TestAnExecutionThatIsCancelledIsSaidSo(t *testing.T) {
	t.Parallel()
	f := newBridgeFixture(t)
	f.workflow("w", "Slow")
	ctx, leave := context.WithCancel(t.Context())
	leave()
	res := httptest.NewRecorder()
	f.api.handler().ServeHTTP(res, httptest.NewRequestWithContext(ctx, http.MethodPost, workflowsPath+"/w/execute", http.NoBody))
	g := f.read(res.Result()).wantProblem(503, problem.ExecutionCancelled).want(503, `execution.status="cancelled"`)
	f.api.doc.asDocumented(f.api.doc.operations()["executeWorkflow"], g)
	id, _ := g.at("execution.execution_id").(string)
	f.do("GET", executionsPath+"/"+id, "").want(200, `status="cancelled"`)
}

// deadlines remembers the deadlines that a handler asked for.
type deadlines struct {
	*httptest.ResponseRecorder
	read, write time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error  { d.read = t; return nil }
func (d *deadlines) SetWriteDeadline(t time.Time) error { d.write = t; return nil }

func TestTheServersTimeoutsDoNotCutALongExecution(t *testing.T) {
	t.Parallel()
	f := newBridgeFixture(t, func(o *BridgeOptions) {
		o.Execute = func(_ context.Context, d workflow.Definition, _ map[string]any) workflow.Execution {
			return workflow.Execution{ID: strings.Repeat("0", 32), WorkflowID: d.ID, Status: workflow.Completed, Steps: map[string]workflow.StepResult{}}
		}
	})
	f.workflow("w", "A")
	f.do("POST", workflowsPath, `{"workflow_id":"long","timeout_seconds":3600,"steps":{"s":{"agent_name":"A"}}}`).want(201)
	for id, length := range map[string]time.Duration{"w": workflow.DefaultTimeout, "long": time.Hour} {
		w := &deadlines{ResponseRecorder: httptest.NewRecorder(), read: time.Now()}
		f.api.handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, workflowsPath+"/"+id+"/execute", http.NoBody))
		if left := time.Until(w.write); !w.read.IsZero() || left < length || left > length+writeMargin {
			t.Errorf("%s: reading ends at %v, writing in %v", id, w.read, left)
		}
	}
}
