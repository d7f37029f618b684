package workflow

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/breakerd/breakerd/internal/budget"
)

// Defaults of EngineOptions.
const (
	defaultMaxParallel   = 8
	defaultMaxExecutions = 32
)

// MaxOutputs bounds the outputs of all steps of one execution, in bytes.
const MaxOutputs = 8 << 20

// ErrTooManyExecutions is the Execution.Err of one that has not begun: EngineOptions.MaxExecutions are under way.
var ErrTooManyExecutions = errors.New("too many executions are under way")

// EngineOptions configures an Engine.
type EngineOptions struct {
	Caller        Caller
	Logger        *slog.Logger   // logs a Caller that panics; nil: silent
	MaxParallel   int            // calls of one execution at once; 0: defaultMaxParallel
	MaxExecutions int            // executions at once; 0: defaultMaxExecutions
	Budget        *budget.Budget // of what all executions hold; nil: no bound
}

// Engine executes workflows. It is safe for concurrent use.
type Engine struct {
	o     EngineOptions
	slots chan struct{} // has an element for each execution under way
}

// NewEngine makes an Engine.
func NewEngine(o EngineOptions) *Engine {
	o.MaxParallel = cmp.Or(o.MaxParallel, defaultMaxParallel)
	o.MaxExecutions = cmp.Or(o.MaxExecutions, defaultMaxExecutions)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Engine{o: o, slots: make(chan struct{}, o.MaxExecutions)}
}

// Why an execution's context ends: its time is up, or a step has failed.
var (
	errTimeUp  = fmt.Errorf("the execution's time is up: %w", context.DeadlineExceeded)
	errStopped = errors.New("the execution has stopped")
)

// Execute runs a workflow and returns when nothing of it runs any more. A step runs as soon as the steps that it
// depends on are complete. The first step that fails or is refused, the end of the definition's time, or the end of
// ctx stops the execution: steps that run are cancelled, the others skipped. A call is cancelled without a deadline,
// for that it was cut short is not its agent's failure.
//
// Nothing runs if the input lacks what a step refers to (Execution.Err is an [*InputError]), or if too many executions
// are under way ([ErrTooManyExecutions], at once).
func (e *Engine) Execute(ctx context.Context, d Definition, input map[string]any) Execution {
	timeout := d.MaxDuration()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(errStopped)
	r := newRun(e, d, input, timeout, stop)
	select {
	case e.slots <- struct{}{}:
		defer func() { <-e.slots }()
	default:
		r.stop(Failed, ExecutionError{Cause: CauseTooMany, Reason: ErrTooManyExecutions.Error()}, ErrTooManyExecutions)
		return r.finish()
	}
	defer time.AfterFunc(timeout, func() { stop(errTimeUp) }).Stop()
	if err := d.CheckInput(input); err != nil {
		r.stop(Failed, ExecutionError{Cause: CauseInputMissing, Reason: reason(err)}, err)
	}
	for done := ctx.Done(); ; {
		r.start(ctx)
		if len(r.running) == 0 {
			return r.finish()
		}
		select {
		case res := <-r.results:
			r.settle(ctx, res)
		case <-done:
			r.halt(ctx)
			done = nil // steps that run are waited for
		}
	}
}

// call runs one step on its own goroutine. It always sends a result, also if the Caller panics or calls Goexit.
func (e *Engine) call(ctx context.Context, c Call, results chan<- stepDone) {
	res := stepDone{step: c.StepID, err: &CallError{CausePanic, errors.New("the call ended its goroutine")}}
	defer func() {
		if p := recover(); p != nil {
			res.err = &CallError{CausePanic, fmt.Errorf("panic: %v", p)}
			e.o.Logger.ErrorContext(ctx, "a workflow's step panicked", "event", "circuit_breaker.workflow_panic",
				"workflow", c.WorkflowID, "execution", c.ExecutionID, "step", c.StepID, "agent", c.Agent,
				"error", res.err, "stack", string(debug.Stack()))
		}
		res.cut = ctx.Err() != nil
		results <- res
	}()
	output, err := e.o.Caller.Call(ctx, c)
	res.output, res.err = output, err
}

// stepDone is the result of a step's call.
type stepDone struct {
	step   string
	output json.RawMessage
	err    error
	cut    bool // the context had ended when the call returned
}

func newExecutionID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}
