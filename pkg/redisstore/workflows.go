package redisstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// ErrFull says that Redis holds as many workflows as it may.
var ErrFull = errors.New("too many workflows are kept")

const (
	workflowsKept  = 10_000    // in the hash of workflows
	executionLives = time.Hour // since it ended
)

// Workflow reads the JSON of one workflow that was made through the API; "" when there is none.
func (s *Store) Workflow(ctx context.Context, id string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	text, err := s.client.HGet(ctx, s.keys.Workflows(), id).Result()
	return text, workflowError("read workflow", err)
}

// Workflows reads the JSON of all workflows that were made through the API, by id.
func (s *Store) Workflows(ctx context.Context) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	texts, err := s.client.HGetAll(ctx, s.keys.Workflows()).Result()
	return texts, workflowError("list workflows", err)
}

// PutWorkflow keeps the JSON of a workflow. ErrFull: it would be one more than 10,000. (Replicas that put at the same moment may
// go beyond by as many.)
func (s *Store) PutWorkflow(ctx context.Context, id, text string) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	key := s.keys.Workflows()
	pipe := s.client.Pipeline()
	old, n := pipe.HGet(ctx, key, id), pipe.HLen(ctx, key)
	_, _ = pipe.Exec(ctx) // each command keeps its own error
	for _, err := range []error{old.Err(), n.Err()} {
		if err := workflowError("put workflow", err); err != nil {
			return err
		}
	}
	if errors.Is(old.Err(), redis.Nil) && n.Val() >= workflowsKept {
		return fmt.Errorf("workflow %q: %w", id, ErrFull)
	}
	err := s.mended(ctx, key, func() error { return s.client.HSet(ctx, key, id, text).Err() })
	return workflowError("put workflow", err)
}

// DropWorkflow deletes a workflow, and says whether there was one.
func (s *Store) DropWorkflow(ctx context.Context, id string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	n, err := s.client.HDel(ctx, s.keys.Workflows(), id).Result()
	return n > 0, workflowError("delete workflow", err)
}

// Execution reads the JSON of a finished execution; "" when there is none, or it ended more than an hour ago.
func (s *Store) Execution(ctx context.Context, id string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	text, err := s.client.Get(ctx, s.keys.Execution(id)).Result()
	return text, workflowError("read execution", err)
}

// PutExecution keeps the JSON of a finished execution for an hour.
func (s *Store) PutExecution(ctx context.Context, id, text string) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	return workflowError("keep execution", s.client.Set(ctx, s.keys.Execution(id), text, executionLives).Err())
}

// nilIsNone: what is not there, or is a planted key of another type, is no trouble [B20].
func nilIsNone(err error) error {
	if errors.Is(err, redis.Nil) || redis.HasErrorPrefix(err, "WRONGTYPE") {
		return nil
	}
	return err
}

func workflowError(verb breaker.Verb, err error) error {
	if err = nilIsNone(err); err != nil {
		return storeError(verb, "", err)
	}
	return nil
}
