package workflow

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Status is what became of an execution or of a step.
type Status string

// The statuses. An execution is never skipped; a step that is skipped was never started.
const (
	Completed Status = "completed"
	Failed    Status = "failed"
	Refused   Status = "refused"   // by a circuit breaker: the agent was not called
	Cancelled Status = "cancelled" // its caller went away; of a step: or the execution stopped while it ran
	Skipped   Status = "skipped"
)

// The causes of a failure that are not the Caller's to name.
const (
	CauseAgentFailed   = "agent_failed"         // the Caller gave an error that names no cause
	CauseRefused       = "circuit_breaker_open" // reason is the breaker's: open, probes_busy, …
	CauseTimeout       = "timeout"              // of the whole execution
	CauseCancelled     = "cancelled"
	CausePanic         = "panic"
	CauseReference     = "reference_missing"   // what a step refers to is not in the output, or that is too large to be looked into
	CauseInputMissing  = "input_missing"       // of the whole execution; Execution.Err is an *InputError
	CauseTooMany       = "too_many_executions" // of the whole execution; Execution.Err is ErrTooManyExecutions
	CauseInputTooLarge = "input_too_large"     // of a step, once its references are filled in
	CauseBadOutput     = "bad_output"          // the Caller's answer is not JSON, or too much
	CauseBadDefinition = "bad_definition"      // made by hand, past ParseDefinition
)

// Caller calls agents, through their breakers. It is called from several goroutines at once, and returns soon after ctx is done.
type Caller interface {
	// Call gives the agent's answer as JSON (nil: null). An error that is a *breaker.OpenError is a refusal, a *CallError names
	// its cause; any other is CauseAgentFailed.
	Call(ctx context.Context, c Call) (json.RawMessage, error)
}

// Call is one call of an agent.
type Call struct {
	Agent       string
	WorkflowID  string
	ExecutionID string
	StepID      string
	Path        string          // of the step; "": the agent's own address
	Timeout     time.Duration   // of the step; 0: the agent's own. The Caller keeps it: a time-out is the agent's failure
	Input       json.RawMessage // an object, at most MaxInput bytes
}

// CallError is an agent's failure with its cause, a word such as timeout, connection or status_503.
type CallError struct {
	Cause string
	Err   error
}

func (e *CallError) Error() string { return e.Err.Error() }

// Unwrap gives the error within.
func (e *CallError) Unwrap() error { return e.Err }

// Execution is one finished run of a workflow. Nobody changes it, so that it may be shared.
type Execution struct {
	ID         string                `json:"execution_id" doc:"32 hex digits, random."`
	WorkflowID string                `json:"workflow_id"`
	Status     Status                `json:"status"       doc:"refused: by a circuit breaker. cancelled: its caller went away."`
	StartedAt  time.Time             `json:"started_at"   doc:"To the millisecond, UTC."`
	FinishedAt time.Time             `json:"finished_at"`
	DurationMs int64                 `json:"duration_ms"`
	Steps      map[string]StepResult `json:"steps"        doc:"By id: all of the workflow, also those that never began."`

	Output          map[string]json.RawMessage `json:"output,omitempty"           doc:"Of a completed execution: the output of each step that no other depends on, by the step's id."`
	OutputTruncated bool                       `json:"output_truncated,omitempty" doc:"Too large to be kept: all outputs are left out, and where that is not enough, all steps."`
	Error           *ExecutionError            `json:"error,omitempty"            doc:"What stopped it; absent when completed."`

	// Err is the error behind Error, as the Caller gave it; nil when completed, and in what was read back from a Store.
	Err error `json:"-"`
}

// StepResult is what became of one step.
type StepResult struct {
	ID         string          `json:"id"`
	Agent      string          `json:"agent_name"`
	Status     Status          `json:"status"              doc:"refused: by the agent's circuit breaker. cancelled: the execution stopped while it ran. skipped: it never began."`
	StartedAt  time.Time       `json:"started_at,omitzero" doc:"Absent when skipped."`
	DurationMs int64           `json:"duration_ms"`
	Output     json.RawMessage `json:"output,omitempty"    doc:"The agent's answer; only when completed."`
	Error      *ExecutionError `json:"error,omitempty"`
}

// ExecutionError says what went wrong, for people and programs.
type ExecutionError struct {
	Step              string `json:"step,omitempty"                doc:"Absent when it is not of one step."`
	Agent             string `json:"agent,omitempty"               doc:"The step's agent, called or not."`
	Cause             string `json:"cause"                         doc:"A word: circuit_breaker_open, timeout, status_503, upstream_unreachable, reference_missing, …"`
	Reason            string `json:"reason"                        doc:"In words; of a refusal, the breaker's reason: open, probes_busy, …"`
	RetryAfterSeconds int64  `json:"retry_after_seconds,omitempty" doc:"Of a refusal."`
}

// InputError says which parts of the input an execution lacks.
type InputError struct {
	Missing []MissingInput // at most 20
	More    int            // parts beyond those
}

// MissingInput is one part of the input that is not there.
type MissingInput struct {
	Reference string // $.input.text
	UsedBy    string // steps.step-1.input_mapping.text; the first that does
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
