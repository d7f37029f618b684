package httpapi

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/workflow"
	"github.com/breakerd/breakerd/pkg/breaker"
)

type workflowsReply struct {
	Workflows []workflow.Entry `json:"workflows"          nullable:"false"`
	Degraded  bool             `json:"degraded,omitempty" doc:"Redis is away: these are what this replica knows."`
}

const workflowExample = `{"workflow_id": "circuit-breaker-test", "steps": {"step-1": {"id": "step-1", "agent_name": "FailingAgent", ` +
	`"input_mapping": {"text": "test"}}}}`

func (b *bridge) workflowRoutes() {
	one, schema := workflowsPath+"/{workflow}", definitionSchema()
	serve(b.server, endpoint{
		method: http.MethodGet, path: workflowsPath, id: "listWorkflows", tag: "workflows", summary: "All workflows, by id",
	}, b.listWorkflows)
	serve(b.server, endpoint{
		method: http.MethodPost, path: workflowsPath, id: "putWorkflow", tag: "workflows", body: requiredBody, free: true,
		summary: "Make a workflow, or replace it as a whole", in: schema, out: schema, also: []int{http.StatusCreated}, example: workflowExample,
		codes: []problem.Code{problem.BodyRequired, problem.WorkflowInDirectory, problem.TooManyWorkflows, problem.StoreUnavailable},
	}, b.putWorkflow)
	serve(b.server, endpoint{
		method: http.MethodGet, path: one, id: "getWorkflow", tag: "workflows", summary: "One workflow, as putWorkflow takes it", out: schema,
		codes: []problem.Code{problem.WorkflowUnknown, problem.StoreUnavailable},
	}, b.getWorkflow)
	serve(b.server, endpoint{
		method: http.MethodDelete, path: one, id: "deleteWorkflow", tag: "workflows", status: http.StatusNoContent,
		summary: "Delete a workflow; executions of it go on", codes: []problem.Code{problem.WorkflowUnknown, problem.WorkflowInDirectory, problem.StoreUnavailable},
	}, b.deleteWorkflow)
	b.executionRoutes()
}

// definitionSchema documents a definition; package workflow is what checks one.
func definitionSchema() *huma.Schema {
	text := func(about string) *huma.Schema { return &huma.Schema{Type: huma.TypeString, Description: about} }
	seconds := func(about string) *huma.Schema {
		return &huma.Schema{
			Type: huma.TypeNumber, Description: about,
			Minimum: new(workflow.MinTimeout.Seconds()), Maximum: new(workflow.MaxTimeout.Seconds()),
		}
	}
	step := &huma.Schema{Type: huma.TypeObject, AdditionalProperties: false, Required: []string{"agent_name"}, Properties: map[string]*huma.Schema{
		"id":         text("The same as its name in steps."),
		"agent_name": {Type: huma.TypeString, Pattern: namePattern},
		"input_mapping": {
			Type: huma.TypeObject, AdditionalProperties: true,
			Description: `The agent's input: literals, and references such as "$.input.text" or "$.steps.step-1.output.text"; "$$." begins a literal "$.".`,
		},
		"depends_on":      {Type: huma.TypeArray, Items: text(""), Description: "Steps to wait for, besides those that input_mapping refers to."},
		"path":            text("Below the agent's address."),
		"timeout_seconds": seconds("Of this call; default: the agent's own."),
	}}
	return &huma.Schema{
		Type: huma.TypeObject, AdditionalProperties: false, Required: []string{"workflow_id", "steps"}, Properties: map[string]*huma.Schema{
			"workflow_id": {Type: huma.TypeString, Pattern: namePattern},
			"name":        text("For people."), "description": text(""),
			"timeout_seconds": seconds("Of a whole execution; default 600."),
			"steps":           {Type: huma.TypeObject, AdditionalProperties: step, Description: "By id; those that wait for nothing run at once."},
		},
	}
}

// listWorkflows shows what is known without Redis, when that is away.
func (b *bridge) listWorkflows(r *request, _ none) (out answer[workflowsReply], err error) {
	out.body.Workflows, err = b.Workflows.List(r.ctx())
	if out.body.Degraded = errors.Is(err, breaker.ErrStoreUnavailable); out.body.Degraded {
		err = nil
	}
	return out, err
}

func (b *bridge) getWorkflow(r *request, _ none) (out answer[workflow.Definition], err error) {
	id := r.PathValue("workflow")
	out.body, err = b.Workflows.Get(r.ctx(), id)
	return out, workflowProblem(id, err)
}

func (b *bridge) putWorkflow(r *request, in json.RawMessage) (out answer[workflow.Definition], err error) {
	d, created, err := b.Workflows.Put(r.ctx(), in)
	if err != nil {
		return out, workflowProblem(d.ID, err)
	}
	if out.body = d; created {
		out.status = http.StatusCreated
	}
	return out, nil
}

func (b *bridge) deleteWorkflow(r *request, _ none) (out answer[none], err error) {
	id := r.PathValue("workflow")
	return out, workflowProblem(id, b.Workflows.Delete(r.ctx(), id))
}

// workflowProblem names the library's errors; others, and nil, stay as they are.
func workflowProblem(id string, err error) error {
	bad, invalid := errors.AsType[*workflow.DefinitionError](err)
	switch {
	case errors.Is(err, workflow.ErrUnknown):
		return problem.New(problem.WorkflowUnknown, "there is no workflow %s", id)
	case errors.Is(err, workflow.ErrInDirectory):
		return problem.New(problem.WorkflowInDirectory, "workflow %s stands in a file of WORKFLOWS_DIR: change it there", id)
	case errors.Is(err, workflow.ErrFull):
		return problem.New(problem.TooManyWorkflows, "%v", workflow.ErrFull)
	case !invalid:
		return err
	}
	return withFaults(problem.New(problem.InvalidValue, "the workflow is not valid: %d faults", len(bad.Faults)+bad.More), bad)
}
