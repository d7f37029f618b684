package bridgeapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakerd/breakerd/internal/access"
	"github.com/breakerd/breakerd/internal/peer"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/route"
	"github.com/breakerd/breakerd/internal/workflow"
	"github.com/breakerd/breakerd/pkg/breaker"
)

type workflowsReply struct {
	Workflows []workflow.Entry `json:"workflows"          nullable:"false"`
	Degraded  bool             `json:"degraded,omitempty" doc:"Redis is down: these are what this replica knows."`
}

const workflowExample = `{"workflow_id": "circuit-breaker-test", "steps": {"step-1": {"id": "step-1", ` +
	`"agent_name": "FailingAgent", "input_mapping": {"text": "test"}}}}`

func (b *bridge) workflowRoutes() {
	one, schema := workflowsPath+"/{workflow}", definitionSchema()
	route.Serve(b.API, route.Operation{
		Route: "GET " + workflowsPath, ID: "listWorkflows", Role: access.Read,
		Tag: "workflows", Summary: "All workflows, by id",
		Codes: []problem.Code{problem.InvalidValue},
	}, b.listWorkflows)
	route.Serve(b.API, route.Operation{
		Route: "POST " + workflowsPath, ID: "putWorkflow", Role: access.Admin,
		Tag: "workflows", Free: true, In: schema, Out: schema,
		Summary: "Make a workflow, or replace it as a whole", Also: []int{http.StatusCreated}, Example: workflowExample,
		Params: []*huma.Param{route.ActorParam()},
		Codes:  []problem.Code{problem.WorkflowInDirectory, problem.TooManyWorkflows, problem.StoreUnavailable},
	}, b.putWorkflow)
	route.Serve(b.API, route.Operation{
		Route: "GET " + one, ID: "getWorkflow", Role: access.Read, Tag: "workflows", Out: schema,
		Summary: "One workflow, as putWorkflow takes it",
		Codes:   []problem.Code{problem.WorkflowUnknown, problem.StoreUnavailable},
	}, b.getWorkflow)
	route.Serve(b.API, route.Operation{
		Route: "DELETE " + one, ID: "deleteWorkflow", Role: access.Admin, Tag: "workflows", Status: http.StatusNoContent,
		Summary: "Delete a workflow; executions of it go on",
		Params:  []*huma.Param{route.ActorParam()},
		Codes:   []problem.Code{problem.WorkflowUnknown, problem.WorkflowInDirectory, problem.StoreUnavailable},
	}, b.deleteWorkflow)
	b.executionRoutes()
}

// definitionSchema documents a definition, which package workflow checks.
func definitionSchema() *huma.Schema {
	seconds := func(about string) *huma.Schema {
		return &huma.Schema{
			Type: huma.TypeNumber, Description: about,
			Minimum: new(workflow.MinTimeout.Seconds()), Maximum: new(workflow.MaxTimeout.Seconds()),
		}
	}
	step := objectSchema(map[string]*huma.Schema{
		"id":         textSchema("The same as its name in steps."),
		"agent_name": {Type: huma.TypeString, Pattern: route.NamePattern},
		"input_mapping": {
			Type: huma.TypeObject, AdditionalProperties: true,
			Description: `The agent's input: literals, and references such as "$.input.text" or ` +
				`"$.steps.step-1.output.text"; "$$." begins a literal "$.".`,
		},
		"depends_on": {
			Type: huma.TypeArray, Items: textSchema(""),
			Description: "Steps to wait for, besides those that input_mapping refers to.",
		},
		"path":            textSchema("Below the agent's address."),
		"timeout_seconds": seconds("Of this call; default: the agent's own."),
		"on_failure": {
			Type: huma.TypeString, Enum: []any{string(workflow.FailExecution), string(workflow.ContinueExecution)},
			Description: "What becomes of the execution when the step fails or is refused; default fail.",
		},
		"defaults": {
			Type: huma.TypeObject, AdditionalProperties: true,
			Description: `Values for references that find nothing, by the reference: {"$.steps.step-1.output": null}.`,
		},
	}, "agent_name")
	return objectSchema(map[string]*huma.Schema{
		"workflow_id": {Type: huma.TypeString, Pattern: route.NamePattern},
		"name":        textSchema("For people."), "description": textSchema(""),
		"timeout_seconds": seconds("Of a whole execution; default 600."),
		"steps": {
			Type: huma.TypeObject, AdditionalProperties: step,
			Description: "By id; those that wait for nothing run at once.",
		},
	}, "workflow_id", "steps")
}

// listWorkflows lists the workflows that this replica knows while Redis is down.
func (b *bridge) listWorkflows(r *route.Request, _ route.None) (out workflowsReply, err error) {
	if _, err := r.Params(); err != nil {
		return out, err
	}
	out.Workflows, err = b.Workflows.List(r.Context())
	if out.Degraded = errors.Is(err, breaker.ErrStoreUnavailable); out.Degraded {
		err = nil
	}
	return out, err
}

func (b *bridge) getWorkflow(r *route.Request, _ route.None) (workflow.Definition, error) {
	id := r.PathValue("workflow")
	out, err := b.Workflows.Get(r.Context(), id)
	return out, workflowProblem(id, err)
}

func (b *bridge) putWorkflow(r *route.Request, in json.RawMessage) (workflow.Definition, error) {
	ctx, err := b.asActor(r)
	if err != nil {
		return workflow.Definition{}, err
	}
	out, created, err := b.Workflows.Put(ctx, in)
	if created {
		r.Status = http.StatusCreated
	}
	if err == nil {
		b.logWorkflow(ctx, "workflow set", out.ID)
	}
	return out, workflowProblem(out.ID, err)
}

// asActor is the context of a request with its actor, for the audit.
func (b *bridge) asActor(r *route.Request) (context.Context, error) {
	actor, err := r.Actor("")
	return peer.As(r.Context(), actor), err
}

func (b *bridge) logWorkflow(ctx context.Context, msg, id string) {
	b.Logger.InfoContext(ctx, msg, "event", "bridge.workflow", "workflow", id, "actor", peer.Actor(ctx),
		"address", breaker.AddressOf(ctx))
}

func (b *bridge) deleteWorkflow(r *route.Request, _ route.None) (none route.None, err error) {
	id := r.PathValue("workflow")
	ctx, err := b.asActor(r)
	if err != nil {
		return none, err
	}
	if err = b.Workflows.Delete(ctx, id); err == nil {
		b.logWorkflow(ctx, "workflow deleted", id)
	}
	return none, workflowProblem(id, err)
}

// workflowProblem gives the problem of an error of the library. It returns other errors, and nil, unchanged.
func workflowProblem(id string, err error) error {
	bad, invalid := errors.AsType[*workflow.DefinitionError](err)
	switch {
	case errors.Is(err, workflow.ErrUnknown):
		return problem.New(problem.WorkflowUnknown, "there is no workflow %s", id)
	case errors.Is(err, workflow.ErrInDirectory):
		return problem.New(problem.WorkflowInDirectory, "workflow %s is in a file of WORKFLOWS_DIR: change it there", id)
	case errors.Is(err, workflow.ErrFull):
		return problem.New(problem.TooManyWorkflows, "%v", workflow.ErrFull)
	case invalid:
		return route.Invalid("workflow", bad)
	}
	return err
}
