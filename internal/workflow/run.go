package workflow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/breakerd/breakerd/internal/budget"
	"github.com/breakerd/breakerd/internal/text"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// maxReason bounds ExecutionError.Reason, in characters.
const maxReason = 500

// run is one execution under way. Everything but the calls happens on one goroutine.
type run struct {
	engine  *Engine
	d       Definition
	timeout time.Duration
	begun   time.Time
	cancel  context.CancelCauseFunc // ends the calls
	x       Execution
	waits   map[string]int      // by step: how many dependencies are not complete
	leads   map[string][]string // by step: which steps wait for it
	ready   []string
	running map[string]time.Time // by step: since when
	results chan stepDone
	values  values
	memory  map[string]*stepMemory // by step: what it holds
	answers atomic.Int64           // see stepMemory
	size    int                    // of the outputs
	stopped bool
}

func newRun(e *Engine, d Definition, input map[string]any, timeout time.Duration, cancel context.CancelCauseFunc) *run {
	now := time.Now()
	if input == nil {
		input = map[string]any{}
	}
	r := &run{
		engine: e, begun: now, d: d, timeout: timeout, cancel: cancel,
		x: Execution{
			ID: newExecutionID(), WorkflowID: d.ID, Status: Completed, StartedAt: stamp(now),
			Steps: make(map[string]StepResult, len(d.Steps)),
		},
		waits: map[string]int{}, leads: map[string][]string{}, running: map[string]time.Time{},
		results: make(chan stepDone, e.o.MaxParallel), memory: map[string]*stepMemory{},
		values: values{input: input, outputs: map[string]json.RawMessage{}},
	}
	on := dependencies(d.Steps)
	for _, id := range sortedKeys(on) {
		r.x.Steps[id] = StepResult{ID: id, Agent: d.Steps[id].Agent, Status: Skipped}
		if r.waits[id] = len(on[id]); r.waits[id] == 0 {
			r.ready = append(r.ready, id)
		}
		for _, other := range on[id] {
			r.leads[other] = append(r.leads[other], id)
		}
	}
	return r
}

// start starts the steps that are ready, up to MaxParallel.
func (r *run) start(ctx context.Context) {
	for len(r.ready) > 0 && len(r.running) < r.engine.o.MaxParallel {
		if ctx.Err() != nil { // also when the execution has stopped
			r.halt(ctx)
			return
		}
		id := r.ready[0]
		r.ready = r.ready[1:]
		s, result := r.d.Steps[id], r.x.Steps[id]
		now := time.Now()
		result.StartedAt = stamp(now)
		r.x.Steps[id] = result
		m := newStepMemory(r.engine.o.Budget, &r.answers)
		input, err := r.values.render(s, m.input)
		if err != nil {
			m.input.Free()
			r.fail(id, err)
			continue
		}
		r.running[id], r.memory[id] = now, m
		go r.engine.call(ctx, Call{
			Agent: s.Agent, WorkflowID: r.d.ID, ExecutionID: r.x.ID, StepID: id,
			Path: s.Path, Timeout: time.Duration(s.Timeout), Input: input,
			memory: m,
		}, r.results)
	}
}

// settle handles the result of a step.
func (r *run) settle(ctx context.Context, res stepDone) {
	m, err := r.memory[res.step], res.err
	m.input.Free()
	if err == nil {
		res.output, err = r.check(res.output)
	}
	switch {
	case err == nil:
		r.complete(res.step, res.output)
		r.x.held = append(r.x.held, m)
	case res.err != nil && res.cut:
		r.halt(ctx)
		r.end(res.step, Cancelled, &ExecutionError{Cause: CauseCancelled, Reason: reason(err)})
	default:
		r.fail(res.step, err)
	}
	if err != nil {
		m.drop()
	}
	delete(r.running, res.step)
}

// check returns an error for an output that cannot be passed on.
func (r *run) check(output json.RawMessage) (json.RawMessage, error) {
	if len(output) == 0 {
		output = json.RawMessage("null")
	}
	switch {
	case !json.Valid(output) || !utf8.Valid(output):
		return nil, &CallError{CauseBadOutput, errors.New("the agent's answer is not JSON")}
	case r.size+len(output) > MaxOutputs:
		return nil, &CallError{CauseBadOutput, errOutputs}
	}
	return output, nil
}

func (r *run) complete(id string, output json.RawMessage) {
	r.size += len(output)
	r.values.outputs[id] = output
	r.end(id, Completed, nil)
	r.advance(id)
}

// advance makes those steps ready that waited for this one alone.
func (r *run) advance(id string) {
	for _, next := range r.leads[id] {
		if r.waits[next]--; r.waits[next] == 0 {
			r.ready = append(r.ready, next)
		}
	}
}

// end records the result of a step.
func (r *run) end(id string, status Status, e *ExecutionError) {
	s := r.x.Steps[id]
	s.Status, s.Output, s.Error = status, r.values.outputs[id], e
	if since, ok := r.running[id]; ok {
		s.DurationMs = time.Since(since).Milliseconds()
	}
	r.x.Steps[id] = s
}

// fail ends a step that failed or was refused, and stops the execution, unless the step's OnFailure lets it go on. A
// bound of the execution stops it in any case.
func (r *run) fail(id string, err error) {
	status, e := Failed, ExecutionError{Cause: CauseAgentFailed, Reason: reason(err)}
	var open *breaker.OpenError
	var call *CallError
	switch {
	case errors.As(err, &open):
		status, e.Cause, e.Reason = Refused, CauseRefused, string(open.Reason)
		e.RetryAfterSeconds = max(1, int64(math.Ceil(open.RetryAfter().Seconds())))
	case errors.As(err, &call) && call.Cause != "":
		e.Cause = call.Cause
	}
	r.end(id, status, &e)
	bound := errors.Is(err, errOutputs) || errors.Is(err, budget.ErrExhausted)
	if r.d.Steps[id].OnFailure == ContinueExecution && !bound && !r.stopped {
		r.x.FailedSteps = append(r.x.FailedSteps, id)
		r.advance(id)
		return
	}
	whole := e
	whole.Step, whole.Agent = id, r.d.Steps[id].Agent
	r.stop(status, whole, err)
}

// halt stops the execution because its context has ended.
func (r *run) halt(ctx context.Context) {
	cause := context.Cause(ctx)
	if !errors.Is(cause, errTimeUp) {
		r.stop(Cancelled, ExecutionError{Cause: CauseCancelled, Reason: reason(cause)}, cause)
		return
	}
	running := slices.Sorted(maps.Keys(r.running))
	late := fmt.Sprintf("not done within %v; running: %s", r.timeout, strings.Join(running, ", "))
	e := ExecutionError{Cause: CauseTimeout, Reason: text.Clip(late, maxReason)}
	if len(running) == 1 {
		e.Step, e.Agent = running[0], r.d.Steps[running[0]].Agent
	}
	r.stop(Failed, e, cause)
}

// stop stops the execution; the first reason counts.
func (r *run) stop(status Status, e ExecutionError, err error) {
	if r.stopped {
		return
	}
	r.stopped = true
	r.x.Status, r.x.Error, r.x.Err = status, &e, err
	r.cancel(errStopped)
}

// finish returns the execution. Nothing runs any more.
func (r *run) finish() Execution {
	for _, id := range sortedKeys(r.waits) {
		if r.waits[id] > 0 && !r.stopped { // ParseDefinition refuses such definitions
			err := fmt.Errorf("step %q waits for what never comes", id)
			e := ExecutionError{Step: id, Agent: r.d.Steps[id].Agent, Cause: CauseBadDefinition, Reason: reason(err)}
			r.stop(Failed, e, err)
		}
	}
	if !r.stopped {
		r.x.Output = map[string]json.RawMessage{}
		for id, s := range r.x.Steps {
			if len(r.leads[id]) == 0 && s.Status == Completed {
				r.x.Output[id] = s.Output
			}
		}
	}
	slices.Sort(r.x.FailedSteps)
	length := time.Since(r.begun)
	r.x.FinishedAt, r.x.DurationMs = stamp(r.begun.Add(length)), length.Milliseconds()
	return r.x
}

// stamp returns a time as JSON shows it: UTC, to the millisecond.
func stamp(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }

func reason(err error) string { return text.Clip(err.Error(), maxReason) }
