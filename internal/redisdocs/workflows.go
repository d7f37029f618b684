package redisdocs

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/breakerd/breakerd/internal/peer"
	"github.com/breakerd/breakerd/internal/workflow"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

const (
	workflowsKept  = 1000      // in the hash of workflows
	executionsKept = 10_000    // the newest
	executionLives = time.Hour // since it ended, at most
)

// Workflow reads the JSON of one workflow that was made through the API; "" when there is none.
func (d *Docs) Workflow(ctx context.Context, id string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, d.config.Timeout)
	defer cancel()
	text, err := d.client.HGet(ctx, d.keys.Workflows(), id).Result()
	return text, failed("read workflow", "", err)
}

// entryOf is the field of a workflow's entry. No workflow's id begins with #.
func entryOf(id string) string { return "#" + id }

// WorkflowEntries reads the entries, by id, of the workflows that were made through the API; "" for a text that an
// external edit put there without an entry. It does not read the texts.
func (d *Docs) WorkflowEntries(ctx context.Context) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, d.config.Timeout)
	defer cancel()
	key := d.keys.Workflows()
	fields, err := d.client.HKeys(ctx, key).Result()
	if err := failed("list workflows", "", err); err != nil {
		return nil, err
	}
	ids := slices.DeleteFunc(fields, func(f string) bool { return strings.HasPrefix(f, "#") })
	out := make(map[string]string, len(ids))
	for some := range slices.Chunk(ids, chunk) {
		names := make([]string, len(some))
		for i, id := range some {
			names[i] = entryOf(id)
		}
		entries, err := d.client.HMGet(ctx, key, names...).Result()
		if err := failed("list workflows", "", err); err != nil {
			return nil, err
		}
		for i, entry := range entries {
			out[some[i]], _ = entry.(string)
		}
	}
	return out, nil
}

// PutWorkflow writes the JSON of a workflow together with its entry, which is what lists show of it.
// [workflow.ErrFull]: there would be more than 1,000. Replicas that put at the same moment may exceed that, by one
// each.
func (d *Docs) PutWorkflow(ctx context.Context, id, text, entry string) error {
	ctx, cancel := context.WithTimeout(ctx, d.config.Timeout)
	defer cancel()
	key := d.keys.Workflows()
	pipe := d.client.Pipeline()
	old, n := pipe.HExists(ctx, key, id), pipe.HLen(ctx, key)
	_, _ = pipe.Exec(ctx) // each command keeps its own error
	for _, err := range []error{old.Err(), n.Err()} {
		if err := failed("put workflow", "", err); err != nil {
			return err
		}
	}
	if !old.Val() && n.Val() >= 2*workflowsKept {
		return fmt.Errorf("workflow %q: %w", id, workflow.ErrFull)
	}
	err := d.write(ctx, key, func() error { return d.client.HSet(ctx, key, id, text, entryOf(id), entry).Err() })
	if err != nil {
		return failed("put workflow", "", err)
	}
	return d.workflowChanged(ctx, id, "set")
}

// workflowChanged tells of a change of a workflow. If that fails the change has happened, as after any such error.
func (d *Docs) workflowChanged(ctx context.Context, id, how string) error {
	return d.store.Announce(ctx, redisstore.EventWorkflow, peer.Actor(ctx), "workflow "+id+" "+how, true)
}

// DropWorkflow deletes a workflow, and says whether there was one.
func (d *Docs) DropWorkflow(ctx context.Context, id string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, d.config.Timeout)
	defer cancel()
	n, err := d.client.HDel(ctx, d.keys.Workflows(), id, entryOf(id)).Result()
	if err != nil || n == 0 {
		return false, failed("delete workflow", "", err)
	}
	return true, d.workflowChanged(ctx, id, "deleted")
}

// Execution reads the JSON of a finished execution; "" when there is none, or no longer.
func (d *Docs) Execution(ctx context.Context, id string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, d.config.Timeout)
	defer cancel()
	text, err := d.client.Get(ctx, d.keys.Execution(id)).Result()
	return text, failed("read execution", "", err)
}

// PutExecution keeps the JSON of a finished execution for an hour, or until there are 10,000 newer ones.
func (d *Docs) PutExecution(ctx context.Context, id, text string) error {
	ctx, cancel := context.WithTimeout(ctx, d.config.Timeout)
	defer cancel()
	list := d.keys.Executions()
	var kept int64
	err := d.write(ctx, list, func() error {
		pipe := d.client.Pipeline()
		set := pipe.Set(ctx, d.keys.Execution(id), text, executionLives)
		n, lives := pipe.LPush(ctx, list, id), pipe.Expire(ctx, list, executionLives)
		_, _ = pipe.Exec(ctx) // each command keeps its own error
		kept = n.Val()
		return cmp.Or(set.Err(), n.Err(), lives.Err())
	})
	if err == nil && kept > executionsKept { // each new one replaces the oldest
		var oldest string
		if oldest, err = d.client.RPop(ctx, list).Result(); err == nil {
			err = d.client.Unlink(ctx, d.keys.Execution(oldest)).Err()
		}
	}
	return failed("keep execution", "", err)
}
