package breaker

import (
	"errors"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// OutcomeKind is how one call ended [B4].
type OutcomeKind string

// The kinds of outcomes [B4].
const (
	Success OutcomeKind = "success" // the agent works
	Failure OutcomeKind = "failure" // counts against the agent
	Ignored OutcomeKind = "ignored" // says nothing about the agent; it frees a probe's place, and else does nothing
)

// Outcome describes how one call ended [B4]. Only Kind is required.
type Outcome struct {
	Kind       OutcomeKind
	Slow       bool          // the call was slow [B8]; also set if Duration exceeds Policy.SlowCallDuration
	Duration   time.Duration // 0: not measured
	Class      string        // the class of the error, for observers; free text
	RetryAfter time.Duration // how long the agent asked its callers to wait [B22]; 0: it did not ask
	Reporter   string        // who saw the outcome [B23], see ValidWord; "": Options.Reporter
	ReportID   string        // idempotency key [B14]; "": none
}

// Summary returns o as a summary of one call [B5]. It is for authors of stores.
func (o Outcome) Summary() machine.Summary {
	switch o.Kind {
	case Success:
		return machine.One(false, o.Slow, 0)
	case Failure:
		return machine.One(true, o.Slow, o.RetryAfter.Milliseconds())
	default:
		return machine.Summary{}
	}
}

// Report says what became of an outcome.
type Report struct {
	State   State // the breaker's after the outcome; "" if the store was not asked
	Counted bool
	// Why says why the outcome did not count: CodeLate, CodeForeign, CodeIgnored, CodeObserved, CodeDisabled,
	// CodeDuplicate or CodeLost of package machine, [CodeUnknown] or [CodeUntracked]. It is "" if the outcome counted.
	Why      machine.Code
	Degraded bool // counted in this process's memory only
	Pending  bool // counted in this process, and sent to the store soon, joined with others (cached mode)

	// Of a failure that counts in a closed breaker: the failures in a row with it [B6], at most machine.MaxRun, and the
	// policy's FailureThreshold at which they open the breaker; 0: off. If Pending, the run is as this process knows it:
	// outcomes of others since the last answer of the store are missing. Of all else both are 0.
	Run       int64
	Threshold int
}

// failed adds the run of failures.
func (r *Report) failed(run int64, p *Policy) {
	r.Run, r.Threshold = min(run, machine.MaxRun), max(p.FailureThreshold, 0)
}

// CodeUnknown says that the store may or may not have counted an outcome: it did not answer in time, or the connection
// broke.
const CodeUnknown machine.Code = "unknown"

// unprovable reports whether an answer to the second copy of a record leaves open whether the first one counted.
func unprovable(code machine.Code) bool {
	return code == machine.CodeDuplicate || code == machine.CodeLate
}

// newReport makes the report on a record from the store's answer.
func newReport(r machine.Result, err error) Report {
	report := Report{State: r.State, Counted: r.Code == machine.CodeOK, Degraded: r.Degraded}
	storeErr, ok := errors.AsType[*StoreError](err)
	switch {
	case ok && storeErr.Unknown, r.Unknown, r.Repeated && unprovable(r.Code):
		report.Counted, report.Why = false, CodeUnknown
	case err != nil:
		report.Counted, report.Why = false, machine.CodeLost
	case !report.Counted:
		report.Why = r.Code
	}
	return report
}
