package app

import (
	"context"
	"errors"

	"github.com/breakerd/breakerd/internal/httpapi"
	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// directory is what the API reads and writes beside breakers: the documents in Redis, and what this replica has not
// written there yet.
type directory struct {
	*redisdocs.Docs

	replica *replica
}

var _ httpapi.Directory = directory{}

// Agents implements [httpapi.Directory]. It lists at once what is new on this replica.
func (d directory) Agents(ctx context.Context) ([]string, error) {
	if err := d.replica.index.flush(ctx); err != nil {
		return nil, err
	}
	return d.Docs.Agents(ctx)
}

// Known implements [httpapi.Directory]. An agent that this replica has just admitted a call to is known at once.
func (d directory) Known(ctx context.Context, agent string) (bool, error) {
	if err := d.replica.index.flush(ctx); err != nil {
		return false, err
	}
	return d.Docs.Known(ctx, agent)
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

// Forget implements [httpapi.Directory]. It sends the agent's outcomes first: sent later, they would bring it back.
func (d directory) Forget(ctx context.Context, agent, actor string, force bool) error {
	if err := d.replica.manager.Flush(ctx, agent); err != nil {
		return err
	}
	if err := d.replica.store.Forget(ctx, agent, actor, force); err != nil {
		return err
	}
	d.replica.evict(agent)
	return nil
}
