package app

import (
	"context"
	"errors"
	"time"

	"github.com/breakerd/breakerd/internal/httpapi"
	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/internal/replica"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// directory is what the API reads and writes beside breakers: the documents in Redis, and what this replica has not
// written there yet.
type directory struct {
	*redisdocs.Docs

	replica *replica.Replica
}

var (
	_ httpapi.Directory = directory{}
	_ httpapi.Fleet     = directory{}
	_ httpapi.Keys      = (*redisdocs.Docs)(nil)
)

// Agents implements [httpapi.Directory]. It lists at once what is new on this replica.
func (d directory) Agents(ctx context.Context) ([]string, error) { return d.replica.Agents(ctx) }

// Known implements [httpapi.Directory].
func (d directory) Known(ctx context.Context, agent string) (bool, error) {
	return d.replica.Known(ctx, agent)
}

// PutOverride implements [httpapi.Directory].
func (d directory) PutOverride(ctx context.Context, agent, expected, text, actor string) error {
	return conflict(d.Docs.PutOverride(ctx, agent, expected, text, actor))
}

// PutProfile implements [httpapi.Directory].
func (d directory) PutProfile(ctx context.Context, agent, expected, text, actor string) error {
	return conflict(d.Docs.PutProfile(ctx, agent, expected, text, actor))
}

func conflict(err error) error {
	if errors.Is(err, redisstore.ErrConflict) {
		return httpapi.ErrConflict
	}
	return err
}

// PutGate implements [httpapi.Fleet].
func (d directory) PutGate(ctx context.Context, was *redisdocs.Gate, c *redisdocs.GateChange, actor string) error {
	return conflict(d.replica.PutGate(ctx, was, c, actor))
}

// Self implements [httpapi.Fleet].
func (d directory) Self() redisdocs.Heard { return d.replica.Self() }

// Act implements [httpapi.Fleet].
func (d directory) Act(
	ctx context.Context, f breaker.Force, agents []string, text string, wait time.Duration,
) (string, error) {
	return d.replica.Act(ctx, f, agents, text, wait)
}

// Calls is for [httpapi.Options].
func (d directory) Calls(ctx context.Context) (map[string][]string, error) {
	edges, err := d.replica.Edges(ctx)
	if err != nil {
		return nil, err
	}
	calls := map[string][]string{}
	for _, e := range edges {
		calls[e.Parent] = append(calls[e.Parent], e.Agent)
	}
	return calls, nil
}

// Forget implements [httpapi.Directory].
func (d directory) Forget(ctx context.Context, agent, actor string, force bool) error {
	return d.replica.Forget(ctx, agent, actor, force)
}
