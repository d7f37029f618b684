package workflow

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"

	"github.com/breakerd/breakerd/internal/text"
)

// MaxRecord bounds the text of an execution in Redis, in bytes. A longer one is kept without its outputs, and, if that
// is not enough, without its steps.
const MaxRecord = 16 << 10

// Records keeps executions for other replicas, as JSON, for an hour at most. It is safe for concurrent use.
type Records interface {
	Execution(ctx context.Context, id string) (text string, err error) // "" when there is none
	PutExecution(ctx context.Context, id, text string) error
}

// StoreOptions configures a Store.
type StoreOptions struct {
	Records       Records
	Logger        *slog.Logger
	StoreDown     func() bool // whether Redis is known to be down, so that nobody waits for it; nil: never
	MaxExecutions int         // executions in memory; 0: 1,000
	MaxBytes      int         // of those, as JSON; 0: 64 MiB
}

// Store keeps finished executions: the newest in memory, each in Redis for an hour. It is safe for concurrent use.
type Store struct {
	o     StoreOptions
	mu    sync.Mutex
	of    map[string]json.RawMessage // by id, as Keep encoded it
	order []string                   // ids, oldest first
	bytes int
}

// NewStore makes a Store.
func NewStore(o StoreOptions) *Store {
	o.MaxExecutions = cmp.Or(o.MaxExecutions, 1000)
	o.MaxBytes = cmp.Or(o.MaxBytes, 64<<20)
	if o.StoreDown == nil {
		o.StoreDown = func() bool { return false }
	}
	return &Store{o: o, of: map[string]json.RawMessage{}}
}

// Keep keeps a finished execution, also if ctx has ended, and returns the whole of it as JSON. An error of Redis is
// logged.
func (s *Store) Keep(ctx context.Context, x Execution) (json.RawMessage, error) {
	text, err := encode(x)
	if err != nil {
		return nil, fmt.Errorf("execution %q: %w", x.ID, err)
	}
	kept := text
	if len(kept) > s.o.MaxBytes {
		kept = small(x, s.o.MaxBytes)
	}
	s.add(x.ID, kept)
	if len(kept) > MaxRecord {
		kept = small(x, MaxRecord)
	}
	if s.o.StoreDown() {
		return text, nil
	}
	if err := s.o.Records.PutExecution(context.WithoutCancel(ctx), x.ID, string(kept)); err != nil {
		s.o.Logger.Warn("execution kept on this replica only",
			"event", "circuit_breaker.execution_not_kept", "execution", x.ID, "error", err)
	}
	return text, nil
}

// small returns x without outputs, and, if that is more than so many bytes, without steps.
func small(x Execution, most int) json.RawMessage {
	x.Output, x.OutputTruncated = nil, true
	x.Steps = maps.Clone(x.Steps)
	for id, step := range x.Steps {
		step.Output = nil
		x.Steps[id] = step
	}
	raw, _ := encode(x) // Keep has encoded more of it
	if len(raw) > most {
		x.Steps = map[string]StepResult{}
		raw, _ = encode(x)
	}
	return raw
}

func (s *Store) add(id string, text json.RawMessage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.order) > 0 && (len(s.order) >= s.o.MaxExecutions || s.bytes+len(text) > s.o.MaxBytes) {
		s.bytes -= len(s.of[s.order[0]])
		delete(s.of, s.order[0])
		s.order = s.order[1:]
	}
	s.of[id] = text
	s.order = append(s.order, id)
	s.bytes += len(text)
}

// Get returns a finished execution as JSON: from memory, else from Redis. Nobody changes it. [ErrUnknown]: there is
// none, or it is older than an hour.
func (s *Store) Get(ctx context.Context, id string) (json.RawMessage, error) {
	s.mu.Lock()
	kept, ok := s.of[id]
	s.mu.Unlock()
	if ok {
		return kept, nil
	}
	if !ValidExecutionID(id) {
		return nil, fmt.Errorf("execution %q: %w", text.Short(id), ErrUnknown)
	}
	record, err := s.o.Records.Execution(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("execution %q: %w", id, err)
	}
	var x Execution
	if record == "" || json.Unmarshal([]byte(record), &x) != nil || x.ID != id {
		return nil, fmt.Errorf("execution %q: %w", id, ErrUnknown)
	}
	return json.RawMessage(record), nil
}

// ValidExecutionID reports whether id is 32 hex digits, in lower case.
func ValidExecutionID(id string) bool {
	return len(id) == 32 && strings.Trim(id, "0123456789abcdef") == ""
}
