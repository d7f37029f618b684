package bridgeapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/budget"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/route/routetest"
	"github.com/breakerd/breakerd/internal/workflow"
)

func TestExecute_CompletedExecutionIsAnsweredAndKept(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Do("POST", workflowsPath, `{"workflow_id":"w","steps":{"one":{"agent_name":"A","input_mapping":{"n":"$.input.n"}},`+
		`"two":{"agent_name":"B","input_mapping":{"m":"$.steps.one.output.n"}}}}`).Want(201)
	g := f.Do("POST", workflowsPath+"/w/execute", `{"input":{"n":12345678901234567890}}`).
		Want(200, `workflow_id="w"`, `status="completed"`, `steps.one.status="completed"`, `steps.two.agent_name="B"`)
	if !strings.Contains(g.Text, `"output":{"two":{"m":12345678901234567890}}`) {
		t.Errorf("the number did not survive: %s", g.Text)
	}
	id, _ := g.JSON["execution_id"].(string)
	if again := f.Do("GET", executionsPath+"/"+id, "").Want(200); again.Text != g.Text {
		t.Errorf("kept as %s, answered as %s", again.Text, g.Text)
	}
	f.Do("GET", executionsPath+"/"+strings.Repeat("0", 32), "").WantProblem(404, problem.ExecutionUnknown)
	for _, id := range []string{"x", strings.Repeat("0", 31), strings.Repeat("G", 32), strings.ToUpper(id[:31] + "a")} {
		f.Do("GET", executionsPath+"/"+id, "").WantProblem(400, problem.InvalidExecutionID)
	}
}

func TestExecute_FailingAgentIsA502AndItsOpenBreakerA503(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Do("POST", workflowsPath, `{"workflow_id":"w","steps":{"step-1":{"agent_name":"FailingAgent"},"step-2":{"agent_name":"A","depends_on":["step-1"]}}}`).Want(201)
	for range 5 {
		g := f.Do("POST", workflowsPath+"/w/execute", `{"input": {}}`).WantProblem(502, problem.AgentFailed).
			Want(502, `step="step-1"`, `agent="FailingAgent"`, `cause="status_503"`, `execution.status="failed"`, `execution.steps.step-1.status="failed"`,
				`execution.steps.step-2.status="skipped"`)
		for _, word := range []string{"step-1", "FailingAgent", "status_503", "503 Service Unavailable"} {
			if detail, _ := g.JSON["detail"].(string); !strings.Contains(detail, word) {
				t.Errorf("the detail does not name %s: %s", word, g.Text)
			}
		}
	}
	f.records.NowMs.Add(500)
	g := f.Do("POST", workflowsPath+"/w/execute", `{"input": {}}`).WantProblem(503, problem.CircuitBreakerOpen).
		Want(503, `agent="FailingAgent"`, `reason="open"`, `state="OPEN"`, "retry_after_seconds=60", `step="step-1"`, `execution.status="refused"`,
			`execution.steps.step-1.status="refused"`, `execution.steps.step-2.status="skipped"`)
	if g.Header.Get("X-Circuit-Breaker-State") != "OPEN" || g.Header.Get("Retry-After") != "60" {
		t.Error(g.Header)
	}
	id, _ := g.At("execution.execution_id").(string)
	f.Do("GET", executionsPath+"/"+id, "").Want(200, `status="refused"`, `error.agent="FailingAgent"`)
	f.records.NowMs.Add(60_000)
	f.Do("POST", workflowsPath+"/w/execute", "").WantProblem(502, problem.AgentFailed) // a probe
}

func TestExecute_InputThatLacksSomethingRunsNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Do("POST", workflowsPath, `{"workflow_id":"w","steps":{"s":{"agent_name":"FailingAgent","input_mapping":{"t":"$.input.text","u":["$.input.u.v"]}}}}`).Want(201)
	for _, body := range []string{"", `{}`, `{"input":{}}`, `{"input":{"u":{}}}`, `{"input":{"Text":1}}`} {
		g := f.Do("POST", workflowsPath+"/w/execute", body).WantProblem(422, problem.InputMissing).Want(422, `errors.0.location="body.input.text"`,
			`errors.1.location="body.input.u.v"`, "execution=null")
		if !strings.Contains(g.Text, "steps.s.input_mapping.t") {
			t.Errorf("who wants it? %s", g.Text)
		}
	}
	for _, body := range []string{`{"input":[]}`, `{"input":"x"}`, `{"inputs":{}}`, `{"input":{},"more":1}`, `{"input":{"a":1e400}}`} {
		f.Do("POST", workflowsPath+"/w/execute", body).WantProblem(422, problem.InvalidValue)
	}
	if kept, _ := f.records.Texts(executions); len(kept) > 0 {
		t.Error(kept)
	}
}

func TestExecute_TellsTheWorkflowsTimeoutFromTheAgents(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Do("POST", workflowsPath, `{"workflow_id":"slow","timeout_seconds":0.001,"steps":{"s":{"agent_name":"Slow"}}}`).Want(201)
	f.Do("POST", workflowsPath+"/slow/execute", "").WantProblem(504, problem.WorkflowTimeout).
		Want(504, `cause="timeout"`, `execution.status="failed"`, `execution.steps.s.status="cancelled"`)
	f.workflow("w", "TimingOut")
	f.Do("POST", workflowsPath+"/w/execute", "").WantProblem(502, problem.AgentFailed).Want(502, `cause="timeout"`, `agent="TimingOut"`)
}

func TestExecute_WorkflowsTimeoutDoesNotOpenAHealthyBreaker(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Do("POST", workflowsPath, `{"workflow_id":"short","timeout_seconds":0.001,"steps":{"s":{"agent_name":"Slow"}}}`).Want(201)
	for range 10 {
		f.Do("POST", workflowsPath+"/short/execute", "").WantProblem(504, problem.WorkflowTimeout)
	}
}

func TestExecute_AgentIsNotBlamedForTheFaultsOfOthers(t *testing.T) {
	t.Parallel()
	broken := map[string]error{}
	for _, cause := range []string{"store_unavailable", "agent_unknown", "agent_has_no_url", "internal", "bad_output", "status_418", "loop_detected"} {
		broken[cause] = &workflow.CallError{Cause: cause, Err: errors.New("because")}
	}
	f := newFixture(t, func(o *Options) {
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
		{`"s":{"agent_name":"loop_detected"}`, "s", "loop_detected", 508, problem.LoopDetected, []string{"because"}},
		{`"s":{"agent_name":"bad_output"}`, "s", "bad_output", 502, problem.AgentFailed, []string{"bad_output"}},
		{`"s":{"agent_name":"status_418"}`, "s", "status_418", 502, problem.AgentFailed, []string{"status_418"}},
	} {
		f.Do("POST", workflowsPath, `{"workflow_id":"w","steps":{`+c.steps+`}}`)
		g := f.Do("POST", workflowsPath+"/w/execute", "").WantProblem(c.status, c.code)
		g.Want(c.status, `step="`+c.step+`"`, `cause="`+c.cause+`"`, `execution.status="failed"`)
		f.AsDocumented(f.Operations()["executeWorkflow"], g)
		detail, _ := g.JSON["detail"].(string)
		for _, word := range append(c.words, "step "+c.step) {
			if !strings.Contains(detail, word) {
				t.Errorf("%s: the detail does not name %q: %s", c.cause, word, detail)
			}
		}
		if got := g.Header.Get("Proxy-Status"); (got == "breakerd; error=proxy_loop_detected") != (c.status == 508) {
			t.Errorf("%s: Proxy-Status: %q", c.cause, got) // by it the bridge that called counts it for no breaker
		}
		if got := g.Header.Get("Retry-After"); (got == "1") != (c.status == 503) {
			t.Errorf("%s: Retry-After: %q", c.cause, got)
		}
	}
}

// callFunc is a workflow.Caller.
type callFunc func(c workflow.Call) (json.RawMessage, error)

func (f callFunc) Call(_ context.Context, c workflow.Call) (json.RawMessage, error) { return f(c) }

func TestExecute_TooManyAreTurnedAway(t *testing.T) {
	t.Parallel()
	begun, end := make(chan struct{}), make(chan struct{})
	f := newFixture(t, func(o *Options) {
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
		f.handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, workflowsPath+"/w/execute", http.NoBody))
		first <- w.Code
	}()
	<-begun
	g := f.Do("POST", workflowsPath+"/w/execute", "").WantProblem(503, problem.TooManyExecutions).Want(503, "execution=null")
	if got := g.Header.Get("Retry-After"); got != "1" {
		t.Errorf("Retry-After: %q", got)
	}
	close(end)
	if code := <-first; code != 200 {
		t.Errorf("the first got %d", code)
	}
	if kept, _ := f.records.Texts(executions); len(kept) != 1 {
		t.Errorf("%d executions are kept, want the one that ran", len(kept))
	}
}

func TestExecute_CallerThatLeavesEndsIt(t *testing.T) {
	t.Parallel()
	begun, kept := make(chan struct{}), make(keptExecutions, 1)
	f := newFixture(t, func(o *Options) {
		execute := o.Execute
		o.Executions = kept
		o.Execute = func(ctx context.Context, d workflow.Definition, input map[string]any) workflow.Execution {
			close(begun)
			return execute(ctx, d, input)
		}
	})
	f.workflow("w", "Slow")
	conn := f.Dial()
	if _, err := io.WriteString(conn, "POST "+workflowsPath+"/w/execute HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-begun
	conn.Close()
	if x := <-kept; x.Status != workflow.Cancelled {
		t.Errorf("%+v", x)
	}
}

// sized answers with a JSON string of as many bytes as the agent's name says after its "A"; "Failing" fails.
func sized(c workflow.Call) (json.RawMessage, error) {
	size, err := strconv.Atoi(strings.TrimPrefix(c.Agent, "A"))
	if err != nil {
		return nil, &workflow.CallError{Cause: "status_500", Err: errors.New("it answered 500")}
	}
	return c.ReadAnswer(strings.NewReader(`"` + strings.Repeat("x", size-2) + `"`))
}

// bounded is a fixture whose executions share a budget.
func bounded(t *testing.T, most int64) *fixture {
	t.Helper()
	b := budget.New(most)
	store := records{routetest.NewStore()}
	f := newFixture(t, func(o *Options) {
		o.Budget = b
		o.Executions = workflow.NewStore(workflow.StoreOptions{Records: store, Logger: o.Logger, Budget: b})
		o.Execute = workflow.NewEngine(workflow.EngineOptions{Logger: o.Logger, Caller: callFunc(sized), Budget: b}).Execute
	})
	t.Cleanup(func() { // what is kept gives way, all else must have been given back
		s := b.Open()
		if err := s.Take(int(most)); err != nil {
			t.Errorf("%d of %d bytes were not given back", b.Taken(), most)
		}
		s.Free()
	})
	return f
}

// H4.
func TestExecute_ExhaustedMemoryIsA503AndOthersGoOn(t *testing.T) {
	t.Parallel()
	f := bounded(t, 8<<20)
	one := func(agent string) routetest.Got {
		f.workflow("w", agent)
		return f.Do("POST", workflowsPath+"/w/execute", "")
	}
	for range 5 {
		one("A1000000").Want(200, `status="completed"`)
		g := one("A7000000").WantProblem(503, problem.WorkflowMemory).
			Want(503, `step="step-1"`, `cause="workflow_memory"`, `execution.status="failed"`, `execution.steps.step-1.error.cause="workflow_memory"`)
		f.AsDocumented(f.Operations()["executeWorkflow"], g)
		if len(g.Text) > 4000 || g.Header.Get("Retry-After") != "1" {
			t.Errorf("%d bytes, %v", len(g.Text), g.Header)
		}
	}
	f.workflow("w", "A1000")
	values := `{"input":{"list":[` + strings.Repeat("0,", 150_000) + `0]}}` // 300 KB that take 10 MB when decoded
	f.Do("POST", workflowsPath+"/w/execute", values).WantProblem(503, problem.WorkflowMemory).Want(503, "execution=null")
	f.Do("POST", workflowsPath+"/w/execute", `{"input":{"text":"`+strings.Repeat("x", 200_000)+`"}}`).Want(200)
}

func TestExecute_RecordThatDoesNotFitFailsIt(t *testing.T) {
	t.Parallel()
	f := bounded(t, 8<<20)
	f.workflow("w", "A2600000") // the execution holds it; its record has it twice
	g := f.Do("POST", workflowsPath+"/w/execute", "").WantProblem(503, problem.WorkflowMemory).
		Want(503, `cause="workflow_memory"`, `execution.status="failed"`, `execution.steps.step-1.status="completed"`, "execution.output_truncated=true")
	id, _ := g.At("execution.execution_id").(string)
	f.Do("GET", executionsPath+"/"+id, "").Want(200, `status="failed"`, `error.cause="workflow_memory"`)
}

func TestExecute_ProblemHasNoLargeOutputs(t *testing.T) {
	t.Parallel()
	f := bounded(t, 32<<20)
	f.Do("POST", workflowsPath, `{"workflow_id":"w","steps":{"a":{"agent_name":"A2000000"},"b":{"agent_name":"Failing","depends_on":["a"]}}}`).Want(201)
	g := f.Do("POST", workflowsPath+"/w/execute", "").WantProblem(502, problem.AgentFailed).
		Want(502, `step="b"`, `execution.steps.a.status="completed"`, "execution.steps.a.output=null", "execution.output_truncated=true")
	f.AsDocumented(f.Operations()["executeWorkflow"], g)
	if len(g.Text) > workflow.MaxRecord+4000 {
		t.Errorf("%d bytes", len(g.Text))
	}
	id, _ := g.At("execution.execution_id").(string)
	whole := f.Do("GET", executionsPath+"/"+id, "").Want(200, "output_truncated=null")
	if len(whole.Text) < 2_000_000 {
		t.Errorf("%d bytes are kept", len(whole.Text))
	}
}

// keptExecutions is a store that sends what it is to keep.
type keptExecutions chan workflow.Execution

func (k keptExecutions) Keep(_ context.Context, x workflow.Execution) (workflow.Record, error) {
	k <- x
	return workflow.Record{Text: json.RawMessage("{}"), Excerpt: json.RawMessage("{}")}, nil
}

func (k keptExecutions) Get(context.Context, string) (workflow.Record, error) {
	return workflow.Record{}, workflow.ErrUnknown
}

func TestExecute_CancelledIsA503(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.workflow("w", "Slow")
	ctx, leave := context.WithCancel(t.Context())
	leave()
	res := httptest.NewRecorder()
	f.handler.ServeHTTP(res, httptest.NewRequestWithContext(ctx, http.MethodPost, workflowsPath+"/w/execute", http.NoBody))
	g := f.Read(res.Result()).WantProblem(503, problem.ExecutionCancelled).Want(503, `execution.status="cancelled"`)
	f.AsDocumented(f.Operations()["executeWorkflow"], g)
	id, _ := g.At("execution.execution_id").(string)
	f.Do("GET", executionsPath+"/"+id, "").Want(200, `status="cancelled"`)
}

// deadlines is a writer that records its deadlines.
type deadlines struct {
	*httptest.ResponseRecorder
	read, write time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error  { d.read = t; return nil }
func (d *deadlines) SetWriteDeadline(t time.Time) error { d.write = t; return nil }

func TestExecute_ServersTimeoutsDoNotCutIt(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(o *Options) {
		o.Execute = func(_ context.Context, d workflow.Definition, _ map[string]any) workflow.Execution {
			return workflow.Execution{ID: strings.Repeat("0", 32), WorkflowID: d.ID, Status: workflow.Completed, Steps: map[string]workflow.StepResult{}}
		}
	})
	f.workflow("w", "A")
	f.Do("POST", workflowsPath, `{"workflow_id":"long","timeout_seconds":3600,"steps":{"s":{"agent_name":"A"}}}`).Want(201)
	for id, length := range map[string]time.Duration{"w": workflow.DefaultTimeout, "long": time.Hour} {
		w := &deadlines{ResponseRecorder: httptest.NewRecorder(), read: time.Now()}
		f.handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, workflowsPath+"/"+id+"/execute", http.NoBody))
		if left := time.Until(w.write); !w.read.IsZero() || left < length || left > length+writeMargin {
			t.Errorf("%s: reading ends at %v, writing in %v", id, w.read, left)
		}
	}
	w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
	f.handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/livez", http.NoBody))
	if read, write := time.Until(w.read), time.Until(w.write); read <= 0 || read > readWithin || write <= readWithin || write > writeWithin {
		t.Errorf("another answer: reading ends in %v, writing in %v", read, write)
	}
}
