package workflow_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/budget"
	"github.com/breakerd/breakerd/internal/workflow"
)

// records are Records in memory.
type records struct {
	mu   sync.Mutex
	of   map[string]string
	down error // nil: it is up
}

func newRecords() *records { return &records{of: map[string]string{}} }

func (r *records) Execution(_ context.Context, id string) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.of[id], r.down
}

func (r *records) PutExecution(ctx context.Context, id, text string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := errors.Join(ctx.Err(), r.down); err != nil {
		return err
	}
	r.of[id] = text
	return nil
}

// execution returns the n-th execution, with an output of so many bytes.
func execution(n, size int) workflow.Execution {
	output := json.RawMessage(`"` + strings.Repeat("x", size) + `"`)
	at := time.Date(2026, 2, 11, 9, 0, 0, 1_000_000, time.UTC)
	return workflow.Execution{
		ID: fmt.Sprintf("%032x", n), WorkflowID: "w", Status: workflow.Completed, StartedAt: at, FinishedAt: at.Add(time.Second), DurationMs: 1000,
		Steps:  map[string]workflow.StepResult{"a": {ID: "a", Agent: "g", Status: workflow.Completed, StartedAt: at, Output: output}},
		Output: map[string]json.RawMessage{"a": output},
		Err:    errors.New("not kept"),
	}
}

func keep(t *testing.T, s *workflow.Store, x workflow.Execution) []byte {
	t.Helper()
	r, err := s.Keep(t.Context(), x)
	if err != nil {
		t.Error(err)
	}
	r.Free()
	return r.Text
}

func got(t *testing.T, s *workflow.Store, id string) (x workflow.Execution) {
	t.Helper()
	r, err := s.Get(t.Context(), id)
	if err := errors.Join(err, json.Unmarshal(r.Text, &x)); err != nil {
		t.Error(err)
	}
	r.Free()
	return x
}

func TestStore_AnotherReplicaGetsTheSameExecution(t *testing.T) {
	t.Parallel()
	r := newRecords()
	one := workflow.NewStore(workflow.StoreOptions{Records: r, Logger: discard()})
	other := workflow.NewStore(workflow.StoreOptions{Records: r, Logger: discard()})
	x := execution(1, 10)
	x.Error = &workflow.ExecutionError{Step: "b", Cause: "timeout", Reason: "r", RetryAfterSeconds: 3}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // an execution is kept also if its caller has left
	if r, err := one.Keep(ctx, x); err != nil || string(r.Text) != asJSON(t, x) || string(r.Excerpt) != asJSON(t, x) {
		t.Errorf("%s, %v", r.Text, err)
	}
	for name, s := range map[string]*workflow.Store{"this": one, "other": other} {
		got, err := s.Get(t.Context(), x.ID)
		if err != nil || string(got.Text) != asJSON(t, x) {
			t.Errorf("%s: %s, %v", name, got.Text, err)
		}
	}
	for _, id := range []string{execution(2, 0).ID, "", "../x", strings.ToUpper("abcdefabcdefabcdefabcdefabcdefab"), strings.Repeat("0", 33)} {
		if _, err := one.Get(t.Context(), id); !errors.Is(err, workflow.ErrUnknown) {
			t.Errorf("%q: %v", id, err)
		}
	}
}

func TestStore_MemoryHoldsTheNewest(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		options      workflow.StoreOptions
		first, count int
	}{
		"by number": {workflow.StoreOptions{MaxExecutions: 3}, 7, 10},
		"by bytes":  {workflow.StoreOptions{MaxBytes: 10_000}, 6, 10}, // about 2,400 each, for the output is there twice
		"as given":  {workflow.StoreOptions{}, 5, 1005},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRecords()
			c.options.Records, c.options.Logger = r, discard()
			s := workflow.NewStore(c.options)
			for n := range c.count {
				keep(t, s, execution(n, 1000))
			}
			gone := errors.New("gone")
			r.down = gone // Get finds what is in memory
			for n := range c.count {
				if _, err := s.Get(t.Context(), execution(n, 0).ID); (err == nil) != (n >= c.first) || err != nil && !errors.Is(err, gone) {
					t.Errorf("execution %d of %d: %v; want those from %d on", n, c.count, err, c.first)
				}
			}
		})
	}
}

func TestStore_OutputsAreKeptAsTheyCame(t *testing.T) {
	t.Parallel()
	x := execution(1, 1)
	x.Output = map[string]json.RawMessage{"a": json.RawMessage("{\"\u2028\": \"<&>\\u00e9\\/\", \"n\": 1e400, \"n\": 1.0}")}
	got := keep(t, workflow.NewStore(workflow.StoreOptions{Records: newRecords(), Logger: discard()}), x)
	if want := "\"output\":{\"a\":{\"\u2028\":\"<&>\\u00e9\\/\",\"n\":1e400,\"n\":1.0}}"; !bytes.Contains(got, []byte(want)) {
		t.Errorf("got %s, want %s", got, want)
	}
}

// What is kept gives way to executions that need the memory; a text that is in use is not given back before its end.
func TestStore_GivesWayWhenTheBudgetIsShort(t *testing.T) {
	t.Parallel()
	b := budget.New(100_000)
	s := workflow.NewStore(workflow.StoreOptions{Records: newRecords(), Logger: discard(), Budget: b})
	for n := range 20 {
		keep(t, s, execution(n, 10_000)) // about 20,000 bytes each
	}
	if n := b.Taken(); n < 60_000 || n > 100_000 {
		t.Errorf("%d bytes taken", n)
	}
	newest, err := s.Get(t.Context(), execution(19, 0).ID)
	if err != nil || len(newest.Text) < 20_000 {
		t.Fatalf("%d bytes, %v", len(newest.Text), err)
	}
	other := b.Open()
	if err := other.Take(75_000); err != nil {
		t.Error(err)
	}
	if err := other.Take(20_000); !errors.Is(err, budget.ErrExhausted) {
		t.Errorf("what is being read was given back: %v", err)
	}
	newest.Free()
	if err := other.Take(20_000); err != nil {
		t.Error(err)
	}
	if _, err := s.Keep(t.Context(), execution(20, 10_000)); !errors.Is(err, budget.ErrExhausted) {
		t.Errorf("kept beyond the budget: %v", err)
	}
	if x := got(t, s, execution(19, 0).ID); !x.OutputTruncated {
		t.Error("Redis has no excerpt of what went")
	}
	other.Free()
	if b.Taken() != 0 {
		t.Errorf("%d bytes were not given back", b.Taken())
	}
	x := execution(21, 10_000).Exhausted()
	if kept := keep(t, s, x); x.Status != workflow.Failed || x.Error.Cause != workflow.CauseMemory || len(kept) > 2000 || !errors.Is(x.Err, budget.ErrExhausted) {
		t.Errorf("%s", kept)
	}
}

func TestStore_LeavesLargeOutputsOut(t *testing.T) {
	t.Parallel()
	r := newRecords()
	options := workflow.StoreOptions{Records: r, Logger: discard(), MaxBytes: 1 << 20}
	s := workflow.NewStore(options)
	kept, large, huge := execution(1, 7<<10), execution(2, 200<<10), execution(3, 600<<10)
	for _, x := range []workflow.Execution{kept, large, huge} {
		if text := keep(t, s, x); string(text) != asJSON(t, x) {
			t.Errorf("of %s %d bytes are answered, want all", x.ID, len(text))
		}
	}
	other := workflow.NewStore(options)
	for _, c := range []struct {
		x            workflow.Execution
		here, others bool // truncated
	}{{kept, false, false}, {large, false, true}, {huge, true, true}} {
		here, there := got(t, s, c.x.ID), got(t, other, c.x.ID)
		for x, truncated := range map[*workflow.Execution]bool{&here: c.here, &there: c.others} {
			if x.OutputTruncated != truncated || (x.Output == nil) != truncated || (x.Steps["a"].Output == nil) != truncated || x.Steps["a"].Agent != "g" {
				t.Errorf("%s: truncated %v, want %v; %d bytes", x.ID, x.OutputTruncated, truncated, len(x.Steps["a"].Output))
			}
		}
		if len(c.x.Steps["a"].Output) < 1000 {
			t.Error("the caller's execution has lost its output")
		}
		if n := len(r.of[c.x.ID]); n > workflow.MaxRecord {
			t.Errorf("%d bytes in Redis", n)
		}
	}
}

func TestStore_RecordIsBoundedWithAnyNumberOfSteps(t *testing.T) {
	t.Parallel()
	r, x := newRecords(), execution(1, 10)
	for i := range 256 {
		id := fmt.Sprintf("%064d", i)
		x.Steps[id] = workflow.StepResult{ID: id, Agent: strings.Repeat("g", 128), Status: workflow.Skipped}
	}
	x.Error = &workflow.ExecutionError{Step: "a", Cause: "status_503", Reason: strings.Repeat("\u2028", 500)}
	here := workflow.NewStore(workflow.StoreOptions{Records: r, Logger: discard()})
	keep(t, here, x)
	if n := len(got(t, here, x.ID).Steps); n != 257 {
		t.Errorf("%d steps in memory", n)
	}
	there := got(t, workflow.NewStore(workflow.StoreOptions{Records: r, Logger: discard()}), x.ID)
	if n := len(r.of[x.ID]); n > workflow.MaxRecord || !there.OutputTruncated || there.Steps == nil || len(there.Steps) > 0 || *there.Error != *x.Error {
		t.Errorf("%d bytes in Redis: %+v", n, there)
	}
}

func TestStore_RedisErrorIsOnlyLogged(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	r, gone, down := newRecords(), errors.New("gone"), false
	r.down = gone
	s := workflow.NewStore(workflow.StoreOptions{Records: r, Logger: slog.New(slog.NewTextHandler(&log, nil)), StoreDown: func() bool { return down }})
	keep(t, s, execution(1, 1))
	if n := strings.Count(log.String(), "event=circuit_breaker.execution_not_kept"); n != 1 {
		t.Errorf("%d lines:\n%s", n, log.String())
	}
	down = true
	keep(t, s, execution(2, 1))
	if n := strings.Count(log.String(), "\n"); n != 1 {
		t.Errorf("known to be down, Redis is called: %s", log.String())
	}
	if _, err := s.Get(t.Context(), execution(2, 1).ID); err != nil {
		t.Error(err)
	}
	if _, err := s.Get(t.Context(), execution(3, 1).ID); !errors.Is(err, gone) || errors.Is(err, workflow.ErrUnknown) {
		t.Errorf("%v", err)
	}
	r.down = nil
	r.of[execution(4, 1).ID], r.of[execution(5, 1).ID] = "{", asJSON(t, execution(6, 1))
	for _, n := range []int{4, 5} {
		if _, err := s.Get(t.Context(), execution(n, 1).ID); !errors.Is(err, workflow.ErrUnknown) {
			t.Errorf("damaged: %v", err)
		}
	}
}
