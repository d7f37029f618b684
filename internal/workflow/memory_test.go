package workflow_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"github.com/breakerd/breakerd/internal/budget"
	"github.com/breakerd/breakerd/internal/workflow"
)

// text is a reader of a JSON string of so many bytes.
func text(size int) io.Reader {
	return io.MultiReader(strings.NewReader(`"`), io.LimitReader(xs{}, int64(size-2)), strings.NewReader(`"`))
}

// xs reads as x without end.
type xs struct{}

func (xs) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

// answering calls agents that answer with so many bytes.
func answering(b *budget.Budget, size int) *workflow.Engine {
	return workflow.NewEngine(workflow.EngineOptions{Budget: b, Caller: callerFunc(func(_ context.Context, c workflow.Call) (json.RawMessage, error) {
		return c.ReadAnswer(text(size))
	})})
}

// H4: eight parallel steps of 8 MB each, in many executions at once.
func TestMemory_AnswersAreTakenWhileTheyAreRead(t *testing.T) {
	t.Parallel()
	const most = 20 << 20
	b := budget.New(most)
	e := answering(b, 8_000_000)
	d := wide(t, 8)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			x := e.Execute(t.Context(), d, nil)
			if x.Status != workflow.Failed || x.Error.Cause != workflow.CauseMemory && x.Error.Cause != workflow.CauseBadOutput || b.Taken() > most {
				t.Errorf("%s %+v, %d bytes taken", x.Status, x.Error, b.Taken())
			}
			x.Release()
		})
	}
	wg.Wait()
	if n := b.Taken(); n != 0 {
		t.Errorf("%d bytes were not given back", n)
	}
	one := parsed(t, `{"workflow_id": "w", "steps": {"a": {"agent_name": "a"}}}`)
	if x := e.Execute(t.Context(), one, nil); x.Status != workflow.Completed || b.Taken() < 8_000_000 {
		t.Errorf("%s %+v with %d bytes taken", x.Status, x.Error, b.Taken())
	}
}

func TestMemory_ExhaustedBudgetFailsTheExecutionAndNoOther(t *testing.T) {
	t.Parallel()
	b := budget.New(8 << 20)
	small, large := answering(b, 100_000), answering(b, 3_000_000)
	one := parsed(t, `{"workflow_id": "w", "steps": {"a": {"agent_name": "agent-a"}}}`)
	held := large.Execute(t.Context(), one, nil)
	if held.Status != workflow.Completed {
		t.Fatalf("%s %+v", held.Status, held.Error)
	}
	x := large.Execute(t.Context(), one, nil)
	want := workflow.ExecutionError{Step: "a", Agent: "agent-a", Cause: "workflow_memory", Reason: "the memory budget is exhausted"}
	if x.Status != workflow.Failed || *x.Error != want || !errors.Is(x.Err, budget.ErrExhausted) {
		t.Errorf("%s %+v, %v", x.Status, x.Error, x.Err)
	}
	x.Release()
	if x := small.Execute(t.Context(), one, nil); x.Status != workflow.Completed {
		t.Errorf("another: %s %+v", x.Status, x.Error)
	} else {
		x.Release()
	}
	held.Release()
	if x = large.Execute(t.Context(), one, nil); x.Status != workflow.Completed {
		t.Errorf("when there is room again: %s %+v", x.Status, x.Error)
	}
	x.Release()
	if n := b.Taken(); n != 0 {
		t.Errorf("%d bytes were not given back", n)
	}
}

func TestMemory_InputsOfStepsAreTaken(t *testing.T) {
	t.Parallel()
	b := budget.New(1 << 20)
	e := workflow.NewEngine(workflow.EngineOptions{Budget: b, Caller: callerFunc(func(_ context.Context, c workflow.Call) (json.RawMessage, error) {
		if n := b.Taken(); n < int64(len(c.Input)) {
			t.Errorf("%d bytes taken, the input has %d", n, len(c.Input))
		}
		return nil, nil
	})})
	d := parsed(t, `{"workflow_id": "w", "steps": {"a": {"agent_name": "a", "input_mapping": {"x": "$.input.text", "y": ["$.input.text"]}}}}`)
	for size, cause := range map[int]string{100_000: "", 600_000: workflow.CauseMemory} {
		x := e.Execute(t.Context(), d, map[string]any{"text": strings.Repeat("x", size)})
		if x.Error == nil && cause != "" || x.Error != nil && x.Error.Cause != cause || b.Taken() != 0 {
			t.Errorf("%d: %s %+v, %d bytes taken", size, x.Status, x.Error, b.Taken())
		}
	}
	into := parsed(t, `{"workflow_id": "w", "steps": {"a": {"agent_name": "a"},
		"b": {"agent_name": "b", "input_mapping": {"x": "$.steps.a.output.n"}}}}`)
	look := workflow.NewEngine(workflow.EngineOptions{Budget: b, Caller: callerFunc(func(_ context.Context, c workflow.Call) (json.RawMessage, error) {
		return c.ReadAnswer(io.MultiReader(strings.NewReader(`{"n": 1, "x": `), text(400_000), strings.NewReader("}")))
	})})
	if x := look.Execute(t.Context(), into, nil); x.Error == nil || x.Error.Cause != workflow.CauseMemory || x.Error.Step != "b" {
		t.Errorf("looking into an output: %s %+v", x.Status, x.Error)
	}
}

// The answers that are read at once are bounded as the outputs are.
func TestMemory_ExecutionStopsReadingAtMaxOutputs(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	read := 0
	e := workflow.NewEngine(workflow.EngineOptions{Caller: callerFunc(func(_ context.Context, c workflow.Call) (json.RawMessage, error) {
		out, err := c.ReadAnswer(&counted{text(7 << 20), &mu, &read})
		if call, ok := errors.AsType[*workflow.CallError](err); err != nil && (!ok || call.Cause != workflow.CauseBadOutput) {
			t.Errorf("%v", err)
		}
		return out, err
	})})
	x := e.Execute(t.Context(), wide(t, 8), nil)
	if x.Status != workflow.Failed || x.Error.Cause != workflow.CauseBadOutput || x.Error.Reason != "the outputs of the execution are larger than 8388608 bytes" {
		t.Errorf("%s %+v", x.Status, x.Error)
	}
	if most := workflow.MaxOutputs + 8*(4<<20); read > most { // what each read at last
		t.Errorf("%d bytes were read", read)
	}
}

type counted struct {
	io.Reader
	mu *sync.Mutex
	n  *int
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	*c.n += n
	return n, err
}

// Whatever steps answer, however they fail, the budget is never exceeded and whole in the end.
func TestMemory_BudgetIsWholeInTheEnd(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p, most := drawPlan(t), int64(rapid.IntRange(0, 60_000).Draw(t, "most"))
		b, seed := budget.New(most), rapid.Uint64().Draw(t, "seed")
		d, err := workflow.ParseDefinition([]byte(p.text(t, func(i int, fields map[string]any) {
			if seed>>(i%64)&1 == 1 {
				fields["on_failure"] = "continue"
			}
		})), nil)
		if err != nil {
			t.Fatal(err)
		}
		call := func(ctx context.Context, c workflow.Call) (json.RawMessage, error) {
			random := rand.New(rand.NewPCG(seed, uint64(len(c.StepID)+int(c.StepID[1])*7+int(c.StepID[2]))))
			answer := io.MultiReader(strings.NewReader(`{"n": 1, "x": `), text(2+random.IntN(8000)), strings.NewReader("}"))
			switch random.IntN(6) {
			case 0:
				answer = io.MultiReader(answer, iotest.ErrReader(errors.New("broken off")))
			case 1:
				answer = strings.NewReader("no JSON")
			case 2:
				if err := c.Hold(random.IntN(9000)); err != nil {
					return nil, err
				}
			case 3:
				if random.IntN(4) == 0 {
					panic("a bug")
				}
			}
			if b.Taken() > most {
				return nil, fmt.Errorf("%d bytes of %d are taken", b.Taken(), most)
			}
			out, err := c.ReadAnswer(answer)
			return out, errors.Join(err, ctx.Err())
		}
		e := workflow.NewEngine(workflow.EngineOptions{Caller: callerFunc(call), Budget: b, MaxParallel: 1 + int(seed%8)})
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				x := e.Execute(context.Background(), d, nil)
				x.Release()
				x.Release() // gives nothing back twice
			})
		}
		wg.Wait()
		if b.Taken() != 0 {
			t.Fatalf("%d bytes were not given back", b.Taken())
		}
	})
}
