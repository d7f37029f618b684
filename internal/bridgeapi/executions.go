package bridgeapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakerd/breakerd/internal/access"
	"github.com/breakerd/breakerd/internal/budget"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/route"
	"github.com/breakerd/breakerd/internal/text"
	"github.com/breakerd/breakerd/internal/workflow"
	"github.com/breakerd/breakerd/pkg/breaker"
)

type executeBody struct {
	Input input `json:"input,omitempty" doc:"What $.input refers to."`
}

// input is the JSON object that a caller gives a workflow. Its numbers stay as they were written.
type input map[string]any

// UnmarshalJSON implements [json.Unmarshaler].
func (i *input) UnmarshalJSON(text []byte) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	return dec.Decode((*map[string]any)(i))
}

// Schema implements huma.SchemaProvider.
func (input) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}
}

func (b *bridge) executionRoutes() {
	schema := b.executionSchema()
	route.Serve(b.API, route.Operation{
		Route: "POST " + workflowsPath + "/{workflow}/execute", ID: "executeWorkflow", Role: access.Report,
		Tag:      "workflows",
		Optional: true, Free: true, Out: schema, Example: `{"input": {}}`, Budget: b.Budget,
		Summary:  "Run a workflow to its end. A problem of a run that began holds the execution, of 16 KiB at most",
		Refusals: []int{http.StatusServiceUnavailable},
		Codes: []problem.Code{
			problem.WorkflowUnknown, problem.InputMissing, problem.AgentFailed, problem.CircuitBreakerOpen,
			problem.WorkflowTimeout, problem.ExecutionCancelled, problem.StoreUnavailable, problem.TooManyExecutions,
			problem.WorkflowInvalid, problem.WorkflowMemory, problem.LoopDetected, problem.ForbiddenAgent,
		},
	}, b.execute)
	route.Serve(b.API, route.Operation{
		Route: "GET " + executionsPath + "/{execution}", ID: "getExecution", Role: access.Report,
		Tag: "workflows", Out: schema,
		Summary: "What became of an execution; kept for an hour",
		Codes:   []problem.Code{problem.ExecutionUnknown, problem.StoreUnavailable},
	}, b.getExecution)
}

// executionSchema documents an execution, and the fields that a problem has of one.
func (b *bridge) executionSchema() *huma.Schema {
	schema := b.SchemaOf(workflow.Execution{})
	statuses := []any{
		string(workflow.Completed), string(workflow.Failed), string(workflow.Refused), string(workflow.Cancelled),
	}
	b.Properties(schema)["status"].Enum = statuses
	ofStep := b.Properties(b.SchemaOf(workflow.StepResult{}))
	ofStep["status"].Enum = append(slices.Clip(statuses), string(workflow.Skipped))
	fields := b.ProblemProperties()
	fields["step"] = textSchema("Of a workflow: the step that stopped it.")
	fields["cause"] = textSchema("Of a workflow: why, in a word.")
	fields["execution"] = schema
	return schema
}

// writeMargin is how long an answer may take to be sent after the workflow's own time.
const writeMargin = 30 * time.Second

func (b *bridge) execute(r *route.Request, in executeBody) (route.Encoded, error) {
	id := r.PathValue("workflow")
	d, err := b.Workflows.Get(r.Context(), id)
	if err != nil {
		return nil, workflowProblem(id, err)
	}
	for _, step := range d.Steps {
		if err := r.Who.CheckAgent(step.Agent); err != nil {
			return nil, err
		}
	}
	r.MayTake(d.MaxDuration() + writeMargin)
	x := b.Execute(r.Context(), d, in.Input)
	defer x.Release()
	if err := notBegun(x.Err); err != nil {
		return nil, err
	}
	record, err := b.Executions.Keep(r.Context(), x)
	if errors.Is(err, budget.ErrExhausted) {
		x = x.Exhausted()
		record, err = b.Executions.Keep(r.Context(), x)
	}
	if errors.Is(err, budget.ErrExhausted) {
		return nil, noMemory()
	}
	if err != nil {
		return nil, err
	}
	r.Finally(record.Free)
	return route.Encoded(record.Text), executionProblem(x, record.Excerpt)
}

func noMemory() *problem.Problem {
	return problem.NoMemory("workflows hold as much memory as they may; the execution was stopped")
}

// notBegun is the problem of an execution that ran no step; nil: it began.
func notBegun(err error) error {
	missing, ok := errors.AsType[*workflow.InputError](err)
	switch {
	case errors.Is(err, workflow.ErrTooManyExecutions):
		return problem.New(problem.TooManyExecutions, "this bridge runs as many executions as it may; nothing was done").
			With("Retry-After", "1")
	case !ok:
		return nil
	}
	p := problem.New(problem.InputMissing, "the input lacks what the workflow refers to")
	for _, m := range missing.Missing {
		p.Errors = append(p.Errors, problem.FieldError{
			Location: route.BodyPath(strings.TrimPrefix(m.Reference, "$.")),
			Message:  "missing; wanted by " + text.Short(m.UsedBy),
		})
	}
	return p
}

// executionProblem is the problem of an execution that is not complete; nil: it is. excerpt is the execution in JSON.
func executionProblem(x workflow.Execution, excerpt json.RawMessage) error {
	if x.Status == workflow.Completed || x.Error == nil {
		return nil
	}
	e := x.Error
	reason := text.Clip(e.Reason, route.MaxMessage)
	open, refused := errors.AsType[*breaker.OpenError](x.Err)
	_, ofCall := errors.AsType[*workflow.CallError](x.Err)
	var p *problem.Problem
	switch {
	case refused:
		p = problem.Refusal(open).WithStatus(http.StatusServiceUnavailable)
		p.Detail = "step " + e.Step + ": " + p.Detail
	case x.Status == workflow.Cancelled:
		p = problem.New(problem.ExecutionCancelled, "the execution was cancelled: %s", reason)
	case e.Cause == workflow.CauseTimeout && !ofCall:
		p = problem.New(problem.WorkflowTimeout, "the workflow's time is up: %s", reason)
	case e.Cause == workflow.CauseMemory:
		p = noMemory()
	default:
		p = stepProblem(e, reason)
	}
	p.Step, p.Agent, p.Cause, p.Execution = e.Step, e.Agent, text.Short(e.Cause), excerpt
	return p
}

// notTheAgents are the codes of causes for which the agent is not to blame.
func notTheAgents() map[string]problem.Code {
	return map[string]problem.Code{
		string(problem.StoreUnavailable): problem.StoreUnavailable,
		string(problem.AgentUnknown):     problem.WorkflowInvalid,
		string(problem.AgentHasNoURL):    problem.WorkflowInvalid,
		workflow.CauseReference:          problem.WorkflowInvalid,
		workflow.CauseInputTooLarge:      problem.WorkflowInvalid,
		workflow.CauseBadDefinition:      problem.WorkflowInvalid,
		workflow.CausePanic:              problem.Internal,
		string(problem.Internal):         problem.Internal,
		string(problem.LoopDetected):     problem.LoopDetected,
	}
}

// stepProblem is the problem of a step that failed.
func stepProblem(e *workflow.ExecutionError, reason string) *problem.Problem {
	switch c := notTheAgents()[e.Cause]; c {
	case "":
		return problem.New(problem.AgentFailed,
			"step %s: agent %s failed (%s): %s", e.Step, e.Agent, text.Short(e.Cause), reason)
	case problem.StoreUnavailable:
		return problem.Unavailable("step %s: %s", e.Step, reason)
	case problem.LoopDetected: // it is no failure of the agent whose url leads here, either
		return problem.New(c, "step %s: %s", e.Step, reason).ByProxy(problem.ProxyLoop)
	case problem.Internal:
		return problem.New(c, "step %s: unexpected error; the log of this replica says which", e.Step)
	default:
		return problem.New(c, "step %s (agent %s was not called): %s: %s", e.Step, e.Agent, e.Cause, reason)
	}
}

func (b *bridge) getExecution(r *route.Request, _ route.None) (route.Encoded, error) {
	id := r.PathValue("execution")
	record, err := b.Executions.Get(r.Context(), id)
	if errors.Is(err, workflow.ErrUnknown) {
		err = problem.New(problem.ExecutionUnknown, "no execution %s is known; they are kept for an hour", id)
	}
	r.Finally(record.Free)
	return route.Encoded(record.Text), err
}
