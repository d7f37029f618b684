package workflow

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Status is the result of an execution or of a step.
type Status string

// The statuses. Only a step is skipped: it never started.
const (
	Completed Status = "completed"
	Failed    Status = "failed"
	Refused   Status = "refused"   // by a circuit breaker: the agent was not called
	Cancelled Status = "cancelled" // the caller left; of a step also: the execution stopped while it ran
	Skipped   Status = "skipped"
)

// The causes of a failure that this package names. A Caller may name others.
const (
	CauseAgentFailed   = "agent_failed"         // the Caller's error names no cause
	CauseRefused       = "circuit_breaker_open" // reason is the breaker's: open, probes_busy, …
	CauseTimeout       = "timeout"              // of the whole execution
	CauseCancelled     = "cancelled"
	CausePanic         = "panic"
	CauseReference     = "reference_missing"   // a reference finds nothing in an output, or that is too large
	CauseInputMissing  = "input_missing"       // of the whole execution; Execution.Err is an *InputError
	CauseTooMany       = "too_many_executions" // of the whole execution; Execution.Err is ErrTooManyExecutions
	CauseInputTooLarge = "input_too_large"     // of a step, with the values of its references
	CauseBadOutput     = "bad_output"          // the Caller's answer is not JSON, or too large
	CauseBadDefinition = "bad_definition"      // ParseDefinition did not make it
	CauseMemory        = "workflow_memory"     // of the whole execution: EngineOptions.Budget is exhausted
)

// Caller calls agents through their breakers. It is called from several goroutines at once, and returns soon after ctx
// is done.
type Caller interface {
	// Call returns the agent's answer as JSON (nil: null). A [*breaker.OpenError] is a refusal, a [*CallError] names its
	// cause, any other error is CauseAgentFailed.
	Call(ctx context.Context, c Call) (json.RawMessage, error)
}

// Call is one call of an agent.
type Call struct {
	Agent       string
	WorkflowID  string
	ExecutionID string
	StepID      string
	Path        string          // of the step; "": the agent's own address
	Timeout     time.Duration   // of the step; 0: the agent's own. The Caller applies it: it is the agent's failure
	Input       json.RawMessage // an object, at most maxInput bytes

	memory *stepMemory // nil: not counted
}

// CallError is an agent's failure with its cause, a word such as timeout, connection or status_503.
type CallError struct {
	Cause string
	Err   error
}

func (e *CallError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *CallError) Unwrap() error { return e.Err }

// Execution is one finished run of a workflow. It never changes and may be shared.
type Execution struct {
	ID         string                `json:"execution_id" doc:"32 hex digits, random."`
	WorkflowID string                `json:"workflow_id"`
	Status     Status                `json:"status"       doc:"refused: by a circuit breaker. cancelled: its caller went away."`
	StartedAt  time.Time             `json:"started_at"   doc:"To the millisecond, UTC."`
	FinishedAt time.Time             `json:"finished_at"`
	DurationMs int64                 `json:"duration_ms"`
	Steps      map[string]StepResult `json:"steps"        doc:"By id: all of the workflow, also those that never began."`

	Output          map[string]json.RawMessage `json:"output,omitempty"           doc:"Of a completed execution: the output of each step that no other depends on, by the step's id; without those that failed."`
	FailedSteps     []string                   `json:"failed_steps,omitempty"     doc:"Steps that failed or were refused and whose on_failure is continue; sorted."`
	OutputTruncated bool                       `json:"output_truncated,omitempty" doc:"Too large to be kept: all outputs are left out, and where that is not enough, all steps."`
	Error           *ExecutionError            `json:"error,omitempty"            doc:"What stopped it; absent when completed."`

	// Err is the error behind Error, as the Caller returned it; nil when completed, and in an Execution from a Store.
	Err error `json:"-"`

	held []*stepMemory // see Release
}

// StepResult is the result of one step.
type StepResult struct {
	ID         string          `json:"id"`
	Agent      string          `json:"agent_name"`
	Status     Status          `json:"status"              doc:"refused: by the agent's circuit breaker. cancelled: the execution stopped while it ran. skipped: it never began."`
	StartedAt  time.Time       `json:"started_at,omitzero" doc:"Absent when skipped."`
	DurationMs int64           `json:"duration_ms"`
	Output     json.RawMessage `json:"output,omitempty"    doc:"The agent's answer; only when completed."`
	Error      *ExecutionError `json:"error,omitempty"`
}

// ExecutionError is why an execution or a step did not complete.
type ExecutionError struct {
	Step              string `json:"step,omitempty"                doc:"Absent when it is not of one step."`
	Agent             string `json:"agent,omitempty"               doc:"The step's agent, called or not."`
	Cause             string `json:"cause"                         doc:"A word: circuit_breaker_open, timeout, status_503, upstream_unreachable, reference_missing, …"`
	Reason            string `json:"reason"                        doc:"In words; of a refusal, the breaker's reason: open, probes_busy, …"`
	RetryAfterSeconds int64  `json:"retry_after_seconds,omitempty" doc:"Of a refusal."`
}

// InputError lists the parts that the input of an execution lacks.
type InputError struct {
	Missing []MissingInput // at most 20
	More    int            // parts beyond those
}

// MissingInput is one part that the input lacks.
type MissingInput struct {
	Reference string // $.input.text
	UsedBy    string // steps.step-1.input_mapping.text; the first of several
}

func (e *InputError) Error() string {
	var out []string
	for _, m := range e.Missing {
		out = append(out, fmt.Sprintf("%s is missing (%s wants it)", m.Reference, m.UsedBy))
	}
	if e.More > 0 {
		out = append(out, fmt.Sprintf("and %d more", e.More))
	}
	return strings.Join(out, "; ")
}
