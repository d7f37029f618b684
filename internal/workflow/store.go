package workflow

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	jsonv1 "github.com/go-json-experiment/json/v1"

	"github.com/breakerd/breakerd/internal/budget"
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
	// Budget is what executions in memory take; the oldest go when somebody else needs it. nil: no bound but MaxBytes.
	Budget *budget.Budget
}

// Record is an execution as JSON. Nobody changes it.
type Record struct {
	Text    json.RawMessage // the whole of it, as far as it is kept
	Excerpt json.RawMessage // the same with at most MaxRecord bytes: without its outputs, or its steps, if need be

	memory *budget.Share
}

// Free ends the use of Text.
func (r Record) Free() { r.memory.Free() }

// Store keeps finished executions: the newest in memory, each in Redis for an hour. It is safe for concurrent use.
type Store struct {
	o     StoreOptions
	mu    sync.Mutex
	of    map[string]Record // by id, as Keep encoded it
	order []string          // ids, oldest first
	bytes int
}

// NewStore makes a Store.
func NewStore(o StoreOptions) *Store {
	o.MaxExecutions = cmp.Or(o.MaxExecutions, 1000)
	o.MaxBytes = cmp.Or(o.MaxBytes, 64<<20)
	if o.StoreDown == nil {
		o.StoreDown = func() bool { return false }
	}
	s := &Store{o: o, of: map[string]Record{}}
	o.Budget.OnShortage(s.shed)
	return s
}

// Keep keeps a finished execution, also if ctx has ended, and returns the whole of it, which the caller frees. An error
// of Redis is logged; [budget.ErrExhausted] means that nothing was kept.
func (s *Store) Keep(ctx context.Context, x Execution) (Record, error) {
	r, err := s.record(x)
	if err != nil {
		return Record{}, fmt.Errorf("execution %q: %w", x.ID, err)
	}
	s.add(x, r)
	if s.o.StoreDown() {
		return r, nil
	}
	if err := s.o.Records.PutExecution(context.WithoutCancel(ctx), x.ID, string(r.Excerpt)); err != nil {
		s.o.Logger.Warn("execution kept on this replica only",
			"event", "circuit_breaker.execution_not_kept", "execution", x.ID, "error", err)
	}
	return r, nil
}

// record encodes x. It takes what the text may need before it is written.
func (s *Store) record(x Execution) (r Record, err error) {
	var out bytes.Buffer
	size := x.size()
	r.memory = s.o.Budget.Open()
	if err = r.memory.Take(size); err == nil {
		out.Grow(size)
		err = jsonv2.MarshalWrite(&out, x,
			jsonv1.DefaultOptionsV1(), jsontext.EscapeForHTML(false), jsontext.EscapeForJS(false))
	}
	if r.Text = out.Bytes(); err == nil && cap(r.Text)-len(r.Text) > len(r.Text)/8 { // too much to be kept
		err = r.memory.Take(len(r.Text))
		r.Text = bytes.Clone(r.Text)
		r.memory.Give(size)
	}
	if err != nil {
		r.memory.Free()
		return Record{}, err
	}
	if r.Excerpt = r.Text; len(r.Text) > MaxRecord {
		r.Excerpt = small(x, MaxRecord)
	}
	return r, nil
}

// size is about as many bytes as x has as JSON.
func (x Execution) size() int {
	const step, most = 512, 6 // bytes beside the texts; bytes of a character that is escaped
	size := 2 * step
	for id, s := range x.Steps {
		size += step + 2*len(id) + len(s.Output) + len(x.Output[id])
		if s.Error != nil {
			size += step + most*len(s.Error.Reason)
		}
	}
	return size
}

// small returns x without outputs, and, if that is more than so many bytes, without steps.
func small(x Execution, most int) json.RawMessage {
	x.Output, x.OutputTruncated = nil, true
	x.Steps = withoutOutputs(x.Steps)
	raw, _ := encode(x) // Keep has encoded more of it
	if len(raw) > most {
		x.Steps = map[string]StepResult{}
		raw, _ = encode(x)
	}
	return raw
}

// add puts an execution into memory.
func (s *Store) add(x Execution, r Record) {
	r.memory.Hold()
	if len(r.Text) > s.o.MaxBytes {
		r.Free()
		r.Text = small(x, s.o.MaxBytes)
		if r.memory = s.o.Budget.Open(); r.memory.Take(len(r.Text)) != nil {
			return // the excerpt is in Redis
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.order) > 0 && (len(s.order) >= s.o.MaxExecutions || s.bytes+len(r.Text) > s.o.MaxBytes) {
		s.drop()
	}
	s.of[x.ID] = r
	s.order = append(s.order, x.ID)
	s.bytes += len(r.Text)
}

// drop drops the oldest execution in memory.
func (s *Store) drop() (freed int) {
	oldest := s.of[s.order[0]]
	delete(s.of, s.order[0])
	s.order = s.order[1:]
	s.bytes -= len(oldest.Text)
	oldest.Free()
	return len(oldest.Text)
}

// shed drops the oldest executions until so many bytes are free.
func (s *Store) shed(bytes int64) (freed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ; bytes > 0 && len(s.order) > 0; freed = true {
		bytes -= int64(s.drop())
	}
	return freed
}

// Get returns a finished execution: from memory, else from Redis. The caller frees it. [ErrUnknown]: there is none, or
// it is older than an hour.
func (s *Store) Get(ctx context.Context, id string) (Record, error) {
	s.mu.Lock()
	kept, ok := s.of[id]
	if ok {
		kept.memory.Hold()
	}
	s.mu.Unlock()
	if ok {
		return kept, nil
	}
	if !ValidExecutionID(id) {
		return Record{}, fmt.Errorf("execution %q: %w", text.Short(id), ErrUnknown)
	}
	record, err := s.o.Records.Execution(ctx, id)
	if err != nil {
		return Record{}, fmt.Errorf("execution %q: %w", id, err)
	}
	var x Execution
	if record == "" || json.Unmarshal([]byte(record), &x) != nil || x.ID != id {
		return Record{}, fmt.Errorf("execution %q: %w", id, ErrUnknown)
	}
	return Record{Text: json.RawMessage(record), Excerpt: json.RawMessage(record)}, nil
}

// ValidExecutionID reports whether id is 32 hex digits, in lower case.
func ValidExecutionID(id string) bool {
	return len(id) == 32 && strings.Trim(id, "0123456789abcdef") == ""
}
