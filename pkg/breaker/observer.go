package breaker

import (
	"time"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// Observer is notified of what a [Manager] does, for metrics and logs. All methods but Flushed run on the goroutine of
// the caller and delay it. Implementations are safe for concurrent use; those that embed [NopObserver] implement only
// what they need.
type Observer interface {
	// Admitted: a call was admitted.
	Admitted(agent string, p Permit)
	// Refused: a call was refused.
	Refused(agent string, e *OpenError)
	// Settled: an outcome was reported. If r.Pending, Flushed follows.
	Settled(agent string, o Outcome, r Report)
	// Flushed: the pending outcomes in s were sent to the store, or dropped; r is the report on all of them. It runs on a
	// goroutine of the Manager.
	Flushed(agent string, s machine.Summary, r Report)
	// Probed: a probe was settled with outcome o. Settled follows.
	Probed(agent string, o Outcome)
	// Event: an operation of this process caused a transition, a repair or a manual action; degraded: in its own memory
	// only.
	Event(agent string, e Event, degraded bool)
	// StoreCall: the store took that long to answer, or to fail.
	StoreCall(verb machine.Verb, took time.Duration, err error)
	// PolicyRejected: Options.PerAgent or Options.Look returned an invalid policy; err is a *PolicyError. Each distinct
	// policy is reported once, for the first agent that has it.
	PolicyRejected(agent string, err error)
}

// NopObserver is an [Observer] that does nothing.
type NopObserver struct{}

// Admitted implements [Observer].
func (NopObserver) Admitted(string, Permit) {}

// Refused implements [Observer].
func (NopObserver) Refused(string, *OpenError) {}

// Settled implements [Observer].
func (NopObserver) Settled(string, Outcome, Report) {}

// Flushed implements [Observer].
func (NopObserver) Flushed(string, machine.Summary, Report) {}

// Probed implements [Observer].
func (NopObserver) Probed(string, Outcome) {}

// Event implements [Observer].
func (NopObserver) Event(string, Event, bool) {}

// StoreCall implements [Observer].
func (NopObserver) StoreCall(machine.Verb, time.Duration, error) {}

// PolicyRejected implements [Observer].
func (NopObserver) PolicyRejected(string, error) {}
