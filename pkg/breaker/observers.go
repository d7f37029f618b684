package breaker

import (
	"slices"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// observers are several as one. Each runs by a function of its own, so that the panic of one, which is recovered there,
// spares the others.
type observers []Observer

var (
	_ AgentObserver  = observers(nil)
	_ QuietObserver  = observers(nil)
	_ SourceObserver = observers(nil)
)

// ForAgent implements [AgentObserver].
func (all observers) ForAgent(agent string) Observer {
	out := make(observers, len(all))
	for i, o := range all {
		out[i] = forAgent(o, agent)
	}
	return out
}

// Forget tells those that keep something for each agent.
func (all observers) Forget(agent string) {
	for _, o := range all {
		if f, ok := o.(forgetter); ok {
			f.Forget(agent)
		}
	}
}

// forAgent returns o's Observer of one agent, or o.
func forAgent(o Observer, agent string) Observer {
	if a, ok := o.(AgentObserver); ok {
		return a.ForAgent(agent)
	}
	return o
}

// Bind implements [SourceObserver].
func (all observers) Bind(s Source) {
	for _, o := range all {
		if b, ok := o.(SourceObserver); ok {
			b.Bind(s)
		}
	}
}

// Quiet implements [QuietObserver]: each of them is.
func (all observers) Quiet() bool {
	return !slices.ContainsFunc(all, func(o Observer) bool { return !isQuiet(o) })
}

// isQuiet reports whether o does without the successes of cached mode.
func isQuiet(o Observer) bool {
	q, ok := o.(QuietObserver)
	return ok && q.Quiet()
}

func (all observers) Admitted(agent string, p Permit) {
	for _, o := range all {
		o.Admitted(agent, p)
	}
}

func (all observers) Refused(agent string, e *OpenError) {
	for _, o := range all {
		o.Refused(agent, e)
	}
}

func (all observers) Settled(agent string, out Outcome, r Report) {
	for _, o := range all {
		o.Settled(agent, out, r)
	}
}

func (all observers) Flushed(agent string, s machine.Summary, r Report) {
	for _, o := range all {
		o.Flushed(agent, s, r)
	}
}

func (all observers) Probed(agent string, out Outcome) {
	for _, o := range all {
		o.Probed(agent, out)
	}
}

func (all observers) Event(agent string, e Event, degraded bool) {
	for _, o := range all {
		o.Event(agent, e, degraded)
	}
}

func (all observers) StoreCall(verb machine.Verb, took time.Duration, err error) {
	for _, o := range all {
		o.StoreCall(verb, took, err)
	}
}

func (all observers) PolicyRejected(agent string, err error) {
	for _, o := range all {
		o.PolicyRejected(agent, err)
	}
}
