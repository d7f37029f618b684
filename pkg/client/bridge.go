package client

import (
	"context"
	"iter"
)

const (
	registered   = "/api/v1/agents"
	registeredAs = registered + "/"
	workflows    = "/api/v1/workflows"
	workflowsOf  = workflows + "/"
)

// PageQuery says which part of a list is wanted.
type PageQuery struct {
	Limit  int    // of a page, 1000 at most; 0: 1000
	Cursor string // NextCursor of the page before; "": the first page
}

// ListAgents lists one page of the registered agents, by name. [Bridge.AllAgents] lists all pages.
func (b *Bridge) ListAgents(ctx context.Context, q PageQuery) (out RegistrationList, err error) {
	r := get(registered)
	r.page(q.Limit, q.Cursor)
	_, err = b.do(ctx, r, &out)
	return out, err
}

// AllAgents lists the registered agents page by page, beginning at q.Cursor. An error ends the list.
func (b *Bridge) AllAgents(ctx context.Context, q PageQuery) iter.Seq2[Registration, error] {
	return pages(q.Cursor, func(cursor string) ([]Registration, string, error) {
		q.Cursor = cursor
		page, err := b.ListAgents(ctx, q)
		return page.Agents, page.NextCursor, err
	})
}

// RegisterAgent registers an agent, or replaces its registration as a whole. One of the agents file is [ErrConflict].
func (b *Bridge) RegisterAgent(ctx context.Context, in Registration) (out Registration, err error) {
	_, err = b.do(ctx, post(in, registered).by(), &out)
	return out, err
}

// PutAgent is [Bridge.RegisterAgent]; in.Name may be left out.
func (b *Bridge) PutAgent(ctx context.Context, agent string, in Registration) (out Registration, err error) {
	_, err = b.do(ctx, put(in, registeredAs, agent), &out)
	return out, err
}

// GetAgent shows a registered agent, with its breaker.
func (b *Bridge) GetAgent(ctx context.Context, agent string) (out Registration, err error) {
	_, err = b.do(ctx, get(registeredAs, agent), &out)
	return out, err
}

// DeleteAgent removes an agent's registration and its policy override; its breaker stays.
func (b *Bridge) DeleteAgent(ctx context.Context, agent string) error {
	_, err := b.do(ctx, remove(registeredAs, agent), nil)
	return err
}

// ListWorkflows lists all workflows, by id.
func (b *Bridge) ListWorkflows(ctx context.Context) (out WorkflowList, err error) {
	_, err = b.do(ctx, get(workflows), &out)
	return out, err
}

// PutWorkflow makes a workflow, or replaces it as a whole.
func (b *Bridge) PutWorkflow(ctx context.Context, in Workflow) (out Workflow, err error) {
	_, err = b.do(ctx, post(in, workflows).by(), &out)
	return out, err
}

// GetWorkflow reads a workflow, as PutWorkflow takes it.
func (b *Bridge) GetWorkflow(ctx context.Context, id string) (out Workflow, err error) {
	_, err = b.do(ctx, get(workflowsOf, id), &out)
	return out, err
}

// DeleteWorkflow deletes a workflow; executions of it go on.
func (b *Bridge) DeleteWorkflow(ctx context.Context, id string) error {
	_, err := b.do(ctx, remove(workflowsOf, id), nil)
	return err
}

// ExecuteWorkflow runs a workflow to its end, for as long as that and ctx last. An execution that did not complete is
// an [*Error] that holds it. One that got no answer is never begun again.
func (b *Bridge) ExecuteWorkflow(ctx context.Context, id string, in ExecuteRequest) (out Execution, err error) {
	r := post(in, workflowsOf, id, "/execute")
	r.endless = true
	_, err = b.do(ctx, r, &out)
	return out, err
}

// GetExecution shows what became of an execution; the bridge keeps it for an hour.
func (b *Bridge) GetExecution(ctx context.Context, id string) (out Execution, err error) {
	_, err = b.do(ctx, get("/api/v1/executions/", id), &out)
	return out, err
}
