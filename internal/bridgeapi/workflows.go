package bridgeapi

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/route"
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
	route.Serve(b.API, route.Operation{
		Method: http.MethodGet, Path: workflowsPath, ID: "listWorkflows", Tag: "workflows", Summary: "All workflows, by id",
	}, b.listWorkflows)
	route.Serve(b.API, route.Operation{
		Method: http.MethodPost, Path: workflowsPath, ID: "putWorkflow", Tag: "workflows", Body: route.RequiredBody, Free: true,
		Summary: "Make a workflow, or replace it as a whole", In: schema, Out: schema, Also: []int{http.StatusCreated}, Example: workflowExample,
		Codes: []problem.Code{problem.BodyRequired, problem.WorkflowInDirectory, problem.TooManyWorkflows, problem.StoreUnavailable},
	}, b.putWorkflow)
	route.Serve(b.API, route.Operation{
		Method: http.MethodGet, Path: one, ID: "getWorkflow", Tag: "workflows", Summary: "One workflow, as putWorkflow takes it", Out: schema,
		Codes: []problem.Code{problem.WorkflowUnknown, problem.StoreUnavailable},
	}, b.getWorkflow)
	route.Serve(b.API, route.Operation{
		Method: http.MethodDelete, Path: one, ID: "deleteWorkflow", Tag: "workflows", Status: http.StatusNoContent,
		Summary: "Delete a workflow; executions of it go on", Codes: []problem.Code{problem.WorkflowUnknown, problem.WorkflowInDirectory, problem.StoreUnavailable},
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
		"agent_name": {Type: huma.TypeString, Pattern: route.NamePattern},
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
			"workflow_id": {Type: huma.TypeString, Pattern: route.NamePattern},
			"name":        text("For people."), "description": text(""),
			"timeout_seconds": seconds("Of a whole execution; default 600."),
			"steps":           {Type: huma.TypeObject, AdditionalProperties: step, Description: "By id; those that wait for nothing run at once."},
		},
	}
}

// listWorkflows shows what is known without Redis, when that is away.
func (b *bridge) listWorkflows(r *route.Request, _ route.None) (out route.Answer[workflowsReply], err error) {
	out.Body.Workflows, err = b.Workflows.List(r.Context())
	if out.Body.Degraded = errors.Is(err, breaker.ErrStoreUnavailable); out.Body.Degraded {
		err = nil
	}
	return out, err
}

func (b *bridge) getWorkflow(r *route.Request, _ route.None) (out route.Answer[workflow.Definition], err error) {
	id := r.PathValue("workflow")
	out.Body, err = b.Workflows.Get(r.Context(), id)
	return out, workflowProblem(id, err)
}

func (b *bridge) putWorkflow(r *route.Request, in json.RawMessage) (out route.Answer[workflow.Definition], err error) {
	d, created, err := b.Workflows.Put(r.Context(), in)
	if err != nil {
		return out, workflowProblem(d.ID, err)
	}
	if out.Body = d; created {
		out.Status = http.StatusCreated
	}
	return out, nil
}

func (b *bridge) deleteWorkflow(r *route.Request, _ route.None) (out route.Answer[route.None], err error) {
	id := r.PathValue("workflow")
	return out, workflowProblem(id, b.Workflows.Delete(r.Context(), id))
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
	return route.Invalid("workflow", bad)
}
