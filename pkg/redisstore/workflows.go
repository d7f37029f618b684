package redisstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// ErrFull says that Redis holds as many workflows as it may.
var ErrFull = errors.New("too many workflows are kept")

const (
	workflowsKept  = 1000      // in the hash of workflows
	executionsKept = 10_000    // the newest
	executionLives = time.Hour // since it ended, at most
)

// Workflow reads the JSON of one workflow that was made through the API; "" when there is none.
func (s *Store) Workflow(ctx context.Context, id string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	text, err := s.client.HGet(ctx, s.keys.Workflows(), id).Result()
	return text, workflowError("read workflow", err)
}

// entryOf is the field of a workflow's entry in lists; no workflow's id begins so.
func entryOf(id string) string { return "#" + id }

// WorkflowEntries reads what lists show of the workflows that were made through the API, as PutWorkflow was given it, by id; "" where
// somebody put a text there without. The texts are not read.
func (s *Store) WorkflowEntries(ctx context.Context) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	key := s.keys.Workflows()
	fields, err := s.client.HKeys(ctx, key).Result()
	if err := workflowError("list workflows", err); err != nil {
		return nil, err
	}
	ids := slices.DeleteFunc(fields, func(f string) bool { return strings.HasPrefix(f, "#") })
	out := make(map[string]string, len(ids))
	for some := range slices.Chunk(ids, 500) {
		names := make([]string, len(some))
		for i, id := range some {
			names[i] = entryOf(id)
		}
		entries, err := s.client.HMGet(ctx, key, names...).Result()
		if err := workflowError("list workflows", err); err != nil {
			return nil, err
		}
		for i, entry := range entries {
			out[some[i]], _ = entry.(string)
		}
	}
	return out, nil
}

// PutWorkflow keeps the JSON of a workflow and, in the same moment, its entry in lists. ErrFull: it would be one more than 1,000.
// (Replicas that put at the same moment may go beyond by as many.)
func (s *Store) PutWorkflow(ctx context.Context, id, text, entry string) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	key := s.keys.Workflows()
	pipe := s.client.Pipeline()
	old, n := pipe.HExists(ctx, key, id), pipe.HLen(ctx, key)
	_, _ = pipe.Exec(ctx) // each command keeps its own error
	for _, err := range []error{old.Err(), n.Err()} {
		if err := workflowError("put workflow", err); err != nil {
			return err
		}
	}
	if !old.Val() && n.Val() >= 2*workflowsKept {
		return fmt.Errorf("workflow %q: %w", id, ErrFull)
	}
	err := s.mended(ctx, key, func() error { return s.client.HSet(ctx, key, id, text, entryOf(id), entry).Err() })
	return workflowError("put workflow", err)
}

// DropWorkflow deletes a workflow, and says whether there was one.
func (s *Store) DropWorkflow(ctx context.Context, id string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	n, err := s.client.HDel(ctx, s.keys.Workflows(), id, entryOf(id)).Result()
	return n > 0, workflowError("delete workflow", err)
}

// Execution reads the JSON of a finished execution; "" when there is none, or it ended more than an hour, or 10,000 others, ago.
func (s *Store) Execution(ctx context.Context, id string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	text, err := s.client.Get(ctx, s.keys.Execution(id)).Result()
	return text, workflowError("read execution", err)
}

// PutExecution keeps the JSON of a finished execution for an hour, but no longer than it is among the 10,000 newest.
func (s *Store) PutExecution(ctx context.Context, id, text string) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	list := s.keys.Executions()
	var kept int64
	err := s.mended(ctx, list, func() error {
		pipe := s.client.Pipeline()
		set, n, lives := pipe.Set(ctx, s.keys.Execution(id), text, executionLives), pipe.LPush(ctx, list, id), pipe.Expire(ctx, list, executionLives)
		_, _ = pipe.Exec(ctx) // each command keeps its own error
		kept = n.Val()
		return cmp.Or(set.Err(), n.Err(), lives.Err())
	})
	if err == nil && kept > executionsKept { // each that comes sends one away
		var oldest string
		if oldest, err = s.client.RPop(ctx, list).Result(); err == nil {
			err = s.client.Unlink(ctx, s.keys.Execution(oldest)).Err()
		}
	}
	return workflowError("keep execution", err)
}

// nilIsNone: what is not there, or is a planted key of another type, is no trouble [B20].
func nilIsNone(err error) error {
	if errors.Is(err, redis.Nil) || redis.HasErrorPrefix(err, "WRONGTYPE") {
		return nil
	}
	return err
}

func workflowError(verb machine.Verb, err error) error {
	if err = nilIsNone(err); err != nil {
		return storeError(verb, "", err)
	}
	return nil
}
