package breaker

import (
	"time"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// OutcomeKind is how one call ended [B4].
type OutcomeKind string

// The outcomes [B4].
const (
	Success OutcomeKind = "success"
	Failure OutcomeKind = "failure"
	Ignored OutcomeKind = "ignored"
)

// Outcome is what one call came to [B4].
type Outcome struct {
	Kind       OutcomeKind
	Slow       bool          // set by Permit.Settle from Duration and the policy, when Duration is given
	Duration   time.Duration // 0: not measured
	Class      string        // error class, for the quarantine and the log; free text
	RetryAfter time.Duration // what the upstream asked for [B22]; 0: nothing
	Reporter   string        // who saw it, a word; "": the Manager's own [B23]
	ReportID   string        // idempotency key of a report by HTTP [B14]; "": none
}

// Summary is what o alone is to a breaker [B5].
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
