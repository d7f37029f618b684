package breaker

import (
	"slices"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// Observer is notified of what a [Manager] does, for metrics and logs. Most methods run on the goroutine of the caller
// and delay it; no lock is held, and a method may use the Manager. Implementations are safe for concurrent use; those
// that embed [NopObserver] implement only what they need.
type Observer interface {
	// Admitted: a call was admitted.
	Admitted(agent string, p Permit)
	// Refused: a call was refused.
	Refused(agent string, e *OpenError)
	// Settled: an outcome was reported. If r.Pending, it is also in the sum of a Flushed, which may come before this.
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

// AgentObserver is an [Observer] that makes another Observer for each agent of cached mode, which need not look the
// agent up at each call.
//
// An Observer that keeps something for each agent may have a method Forget(agent string), which is called for an agent
// that was deleted.
type AgentObserver interface {
	Observer
	// ForAgent returns an Observer of one agent. In place of this one it is notified of the agent's calls that are
	// answered from memory: Admitted, Settled, Flushed. ForAgent may be called again for the same agent; what it returned
	// before must still work.
	ForAgent(agent string) Observer
}

// QuietObserver is an [Observer] that may do without the successes of cached mode, which are most of all calls. Without
// them a call costs as little as with no Observer.
type QuietObserver interface {
	Observer
	// Quiet reports that the Observer need not be notified of calls that are admitted from memory, nor of those of their
	// successes that are pending and not slow, which Flushed sums up. All other outcomes are notified; those of Do in
	// cached mode without a duration, unless the policy or Options.Classify needs it. It is asked again after each flush.
	Quiet() bool
}

// DurationObserver is an [Observer] that also gets how long calls took, those of cached mode included of which a
// QuietObserver is not notified.
type DurationObserver interface {
	Observer
	// Took: that many calls of an agent took so long each. They were successes or failures, whatever became of the
	// outcome but for a foreign or a duplicate one. Calls whose duration nobody measured are missing. calls is 1, except
	// for calls of Do in cached mode whose duration neither the policy nor Options.Classify needs: one in 16, by chance,
	// is measured, and stands for 16. It runs on the goroutine of the caller.
	Took(agent string, d time.Duration, calls int)
}

// forgetter is an [Observer] that keeps something for each agent.
type forgetter interface {
	// Forget is called for an agent that was deleted.
	Forget(agent string)
}

// Observers joins Observers into one, which notifies each in turn; nil ones are left out. A panic of one does not keep
// the others from being notified.
func Observers(all ...Observer) Observer {
	all = slices.DeleteFunc(slices.Clone(all), func(o Observer) bool { return o == nil })
	switch len(all) {
	case 0:
		return NopObserver{}
	case 1:
		return all[0]
	}
	return observers(all)
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
