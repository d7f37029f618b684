package workflow

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"sync"
)

// MaxRecord bounds the text of an execution in Redis, in bytes; a longer one is kept without its outputs.
const MaxRecord = 256 << 10

// Records keeps executions for other replicas, as JSON by id, for an hour. It is safe for concurrent use.
type Records interface {
	Execution(ctx context.Context, id string) (text string, err error) // "" when there is none
	PutExecution(ctx context.Context, id, text string) error
}

// StoreOptions configures a Store.
type StoreOptions struct {
	Records  Records
	Logger   *slog.Logger
	Away     func() bool // whether Redis is known to be away, so that nobody waits for it; nil: never
	Most     int         // executions in memory; 0: 1,000
	MaxBytes int         // of those, as JSON; 0: 64 MiB
}

// Store keeps finished executions: the newest in memory, each in Redis for an hour. It is safe for concurrent use.
type Store struct {
	o     StoreOptions
	mu    sync.Mutex
	of    map[string]kept
	order []string // ids, oldest first
	bytes int
}

type kept struct {
	x    Execution
	size int
}

// NewStore makes a Store.
func NewStore(o StoreOptions) *Store {
	if o.Most <= 0 {
		o.Most = 1000
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = 64 << 20
	}
	if o.Away == nil {
		o.Away = func() bool { return false }
	}
	return &Store{o: o, of: map[string]kept{}}
}

// Keep keeps a finished execution, also when ctx has ended. In Redis it is kept at best: trouble is logged.
func (s *Store) Keep(ctx context.Context, x Execution) {
	x.Err = nil
	text, err := encode(x)
	if err != nil { // no execution of ours
		s.o.Logger.Error("execution not kept", "event", "circuit_breaker.execution_not_kept", "execution", x.ID, "error", err)
		return
	}
	if len(text) > s.o.MaxBytes {
		x = withoutOutputs(x)
		text, _ = encode(x) // it could be encoded with them
	}
	s.add(x, len(text))
	if len(text) > MaxRecord {
		text, _ = encode(withoutOutputs(x))
	}
	if s.o.Away() {
		return
	}
	if err := s.o.Records.PutExecution(context.WithoutCancel(ctx), x.ID, string(text)); err != nil {
		s.o.Logger.Warn("execution kept on this replica only", "event", "circuit_breaker.execution_not_kept", "execution", x.ID, "error", err)
	}
}

// withoutOutputs is x without what may be large.
func withoutOutputs(x Execution) Execution {
	x.Output, x.OutputTruncated = nil, true
	x.Steps = maps.Clone(x.Steps)
	for id, step := range x.Steps {
		step.Output = nil
		x.Steps[id] = step
	}
	return x
}

func (s *Store) add(x Execution, size int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.order) > 0 && (len(s.order) >= s.o.Most || s.bytes+size > s.o.MaxBytes) {
		s.bytes -= s.of[s.order[0]].size
		delete(s.of, s.order[0])
		s.order = s.order[1:]
	}
	s.of[x.ID] = kept{x, size}
	s.order = append(s.order, x.ID)
	s.bytes += size
}

// Get is a finished execution: from memory, else from Redis. ErrUnknown: there is none, or it is older than an hour.
func (s *Store) Get(ctx context.Context, id string) (Execution, error) {
	s.mu.Lock()
	k, ok := s.of[id]
	s.mu.Unlock()
	if ok {
		return k.x, nil
	}
	if !validExecutionID(id) {
		return Execution{}, fmt.Errorf("execution %q: %w", clip(id, 64), ErrUnknown)
	}
	text, err := s.o.Records.Execution(ctx, id)
	if err != nil {
		return Execution{}, fmt.Errorf("execution %q: %w", id, err)
	}
	var x Execution
	if text == "" || json.Unmarshal([]byte(text), &x) != nil || x.ID != id {
		return Execution{}, fmt.Errorf("execution %q: %w", id, ErrUnknown)
	}
	return x, nil
}

func validExecutionID(id string) bool {
	for _, c := range []byte(id) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return len(id) == 32
}
