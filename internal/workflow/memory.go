package workflow

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"sync/atomic"

	"github.com/breakerd/breakerd/internal/budget"
)

// errOutputs: the outputs of an execution are larger than MaxOutputs. It stops the execution, whatever its step says.
var errOutputs = fmt.Errorf("the outputs of the execution are larger than %d bytes", MaxOutputs)

// stepMemory is what a step holds of EngineOptions.Budget.
type stepMemory struct {
	input, answer *budget.Share
	answers       *atomic.Int64 // bytes of the execution's answers, those that are being read included
	read          int64         // of this one
}

func newStepMemory(b *budget.Budget, answers *atomic.Int64) *stepMemory {
	return &stepMemory{input: b.Open(), answer: b.Open(), answers: answers}
}

// drop frees an answer that is no output.
func (m *stepMemory) drop() {
	m.answers.Add(-m.read)
	m.answer.Free()
}

// ReadAnswer reads the agent's answer to its end. It takes each part from EngineOptions.Budget before it is read, and
// stops where all answers of the execution together are larger than MaxOutputs. The error is the reader's own or a
// [*CallError], which is not the agent's fault.
func (c Call) ReadAnswer(body io.Reader) ([]byte, error) {
	if c.memory == nil {
		return io.ReadAll(body)
	}
	text, err := c.memory.answer.ReadAll(answerReader{body, c.memory})
	if errors.Is(err, errOutputs) {
		return nil, &CallError{CauseBadOutput, err}
	}
	return text, inMemory(err)
}

// inMemory names the cause of an exhausted budget.
func inMemory(err error) error {
	if errors.Is(err, budget.ErrExhausted) {
		return &CallError{CauseMemory, err}
	}
	return err
}

// Hold takes n bytes more for the answer. The error is a [*CallError].
func (c Call) Hold(n int) error {
	if c.memory == nil {
		return nil
	}
	return inMemory(c.memory.answer.Take(n))
}

// Release gives back to EngineOptions.Budget what the outputs take. Nothing may use them afterwards.
func (x Execution) Release() {
	for _, m := range x.held {
		m.answer.Free()
	}
}

// Exhausted is x as it failed for want of memory to answer with its outputs. They are released.
func (x Execution) Exhausted() Execution {
	x.Release()
	x.held, x.Output, x.OutputTruncated = nil, nil, true
	x.Steps = withoutOutputs(x.Steps)
	x.Status, x.Err = Failed, inMemory(budget.ErrExhausted)
	x.Error = &ExecutionError{Cause: CauseMemory, Reason: x.Err.Error()}
	return x
}

func withoutOutputs(steps map[string]StepResult) map[string]StepResult {
	steps = maps.Clone(steps)
	for id, step := range steps {
		step.Output = nil
		steps[id] = step
	}
	return steps
}

// answerReader counts what it reads.
type answerReader struct {
	io.Reader

	of *stepMemory
}

// Read implements [io.Reader].
func (r answerReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.of.read += int64(n)
	if all := r.of.answers.Add(int64(n)); all > MaxOutputs && all > r.of.read {
		err = errOutputs
	}
	return n, err
}
