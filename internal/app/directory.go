package app

import (
	"context"
	"errors"

	"github.com/breakerd/breakerd/internal/httpapi"
	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/internal/registry"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// directory is what the service keeps in Redis, as the API and the policies want it.
type directory struct {
	*redisdocs.Docs
	store  *redisstore.Store
	index  *indexer
	flush  func(ctx context.Context, agent string) error // sends what is kept of an agent; nil: nothing is
	forget func(agent string)                            // told of an agent that is gone; nil: nobody
}

var (
	_ httpapi.Directory = directory{}
	_ registry.Profiles = directory{}
)

// Agents implements httpapi.Directory. What this replica has met is listed at once; the index is written first.
func (d directory) Agents(ctx context.Context) ([]string, error) {
	if err := d.index.flush(ctx); err != nil {
		return nil, err
	}
	return d.Docs.Agents(ctx)
}

// Known implements httpapi.Directory: an agent that this replica has just admitted a call to is known at once.
func (d directory) Known(ctx context.Context, agent string) (bool, error) {
	if err := d.index.flush(ctx); err != nil {
		return false, err
	}
	return d.Docs.Known(ctx, agent)
}

// PutOverride implements httpapi.Directory.
func (d directory) PutOverride(ctx context.Context, agent, expected, text, actor string) error {
	return conflict(d.Docs.PutOverride(ctx, agent, expected, text, actor))
}

// PutProfile implements httpapi.Directory.
func (d directory) PutProfile(ctx context.Context, agent, expected, text, actor string) error {
	return conflict(d.Docs.PutProfile(ctx, agent, expected, text, actor))
}

func conflict(err error) error {
	if errors.Is(err, redisstore.ErrConflict) {
		return httpapi.ErrConflict
	}
	return err
}

// Forget implements httpapi.Directory; the agent's series go too.
func (d directory) Forget(ctx context.Context, agent, actor string, force bool) error {
	if d.flush != nil { // or it would come back with outcomes that were not sent yet
		if err := d.flush(ctx, agent); err != nil {
			return err
		}
	}
	if err := d.store.Forget(ctx, agent, actor, force); err != nil {
		return err
	}
	if d.forget != nil {
		d.forget(agent)
	}
	return nil
}
