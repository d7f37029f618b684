package workflow

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/breakerd/breakerd/internal/text"
)

// DefaultMaxParallel is how many steps of one execution run at once, unless the engine is told otherwise.
const DefaultMaxParallel = 8

// DefaultMaxExecutions is how many executions run at once, unless the engine is told otherwise. Each may hold MaxOutputs, and of each
// step that runs MaxInput.
const DefaultMaxExecutions = 32

// MaxOutputs bounds the outputs of all steps of one execution, in bytes.
const MaxOutputs = 8 << 20

// ErrTooManyExecutions is the Execution.Err of one that has not begun, because as many as may are under way.
var ErrTooManyExecutions = errors.New("too many executions are under way")

// EngineOptions configures an Engine.
type EngineOptions struct {
	Caller        Caller
	Logger        *slog.Logger // is told of a Caller that panics
	MaxParallel   int          // calls of one execution at once; 0: DefaultMaxParallel
	MaxExecutions int          // executions at once; 0: DefaultMaxExecutions
}

// Engine executes workflows. It is safe for concurrent use.
type Engine struct {
	o     EngineOptions
	slots chan struct{} // one for each execution under way
}

// NewEngine makes an Engine.
func NewEngine(o EngineOptions) *Engine {
	if o.MaxParallel <= 0 {
		o.MaxParallel = DefaultMaxParallel
	}
	if o.MaxExecutions <= 0 {
		o.MaxExecutions = DefaultMaxExecutions
	}
	return &Engine{o: o, slots: make(chan struct{}, o.MaxExecutions)}
}

// errTimeUp is why a context ends when an execution has used up its time; errStopped, when a step has failed.
var (
	errTimeUp  = fmt.Errorf("the execution's time is up: %w", context.DeadlineExceeded)
	errStopped = errors.New("the execution has stopped")
)

// Execute runs a workflow and returns when nothing of it runs any more. Each step runs as soon as what it depends on is complete.
// The first step that fails or is refused, the end of the definition's time, or the end of ctx stops it: steps that run are
// cancelled, the others skipped. Calls are never ended by a deadline, always by cancelling: that they were cut short is not their
// agents' failure. Nothing runs if the input lacks what a step refers to: Execution.Err is then an *InputError; nor if too many
// executions are under way: ErrTooManyExecutions, at once.
func (e *Engine) Execute(ctx context.Context, d Definition, input map[string]any) Execution {
	timeout := d.Timeout
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
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
		r.stop(Failed, ExecutionError{Cause: CauseInputMissing, Reason: text.Clip(err.Error(), maxReason)}, err)
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
			done = nil // what runs is waited for
		}
	}
}

// call runs one step, on a goroutine of its own. It always sends a result.
func (e *Engine) call(ctx context.Context, c Call, results chan<- stepDone) {
	res := stepDone{step: c.StepID, err: &CallError{CausePanic, errors.New("the call ended its goroutine")}}
	defer func() {
		if p := recover(); p != nil {
			res.err = &CallError{CausePanic, fmt.Errorf("panic: %v", p)}
			if e.o.Logger != nil {
				e.o.Logger.ErrorContext(ctx, "a workflow's step panicked", "event", "circuit_breaker.workflow_panic", "workflow", c.WorkflowID,
					"execution", c.ExecutionID, "step", c.StepID, "agent", c.Agent, "error", res.err, "stack", string(debug.Stack()))
			}
		}
		res.cut = ctx.Err() != nil
		results <- res
	}()
	output, err := e.o.Caller.Call(ctx, c)
	res.output, res.err = output, err
}

// stepDone is what became of a step's call.
type stepDone struct {
	step   string
	output json.RawMessage
	err    error
	cut    bool // the context had ended when the call returned
}

func newExecutionID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // it never fails
	return hex.EncodeToString(id[:])
}
