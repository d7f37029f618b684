package breaker

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// The user's functions that are called beside a call: Options.Observer, Classify, PerAgent and Look, and those of
// FallbackOptions. A panic in one is recovered, for it must not cost a lease, an outcome or the process. What fn of Do
// panics with goes on to its caller.

// panics logs the panics of the user's code, the first of each function. It is safe for concurrent use.
type panics struct {
	log    *slog.Logger
	logged sync.Map // of names of functions
}

// recover is to be deferred around a call of the user's code, of that name.
func (p *panics) recover(name string) {
	v := recover()
	if v == nil || !p.first(name) {
		return
	}
	p.log.Error("panic recovered: later ones of this function are not logged", "function", name,
		"panic", fmt.Sprintf("%.500v", v))
	if p.log.Enabled(context.Background(), slog.LevelDebug) {
		p.log.Debug("panic recovered", "function", name, "stack", fmt.Sprintf("%.3000s", debug.Stack()))
	}
}

// first reports whether nothing was logged of name before.
func (p *panics) first(name string) bool {
	_, before := p.logged.LoadOrStore(name, true)
	return !before
}

// classify turns a call into an outcome. If Options.Classify panics or returns a bad outcome, the function Classify
// does it; if that panics, which a nil pointer in err may cause, it is a failure.
func classify[T any](
	ctx context.Context, m *Manager, agent string, result T, err error, took time.Duration,
) Outcome {
	if m.o.Classify != nil {
		c := CallInfo{Agent: agent, Err: err, Duration: took}
		if _, is := any(result).(none); !is {
			c.Result = result
		}
		own := func() Outcome { return m.o.Classify(ctx, c) }
		if o, ok := m.callClassify("Options.Classify", own); ok {
			return o
		}
	}
	if err == nil {
		return Outcome{Kind: Success}
	}
	if o, ok := m.callClassify("Classify", func() Outcome { return Classify(ctx, err) }); ok {
		return o
	}
	return Outcome{Kind: Failure, Class: fmt.Sprintf("%T", err)}
}

func (m *Manager) callClassify(name string, f func() Outcome) (o Outcome, ok bool) {
	defer m.panics.recover(name)
	o = f()
	if bad := o.check(); bad != nil {
		if m.panics.first(name + " outcome") {
			m.o.Logger.Error("outcome not taken: later ones are not logged", "function", name, "error", bad)
		}
		return o, false
	}
	return o, true
}

// askPolicy calls Options.PerAgent or Look. ok: it has returned.
func (m *Manager) askPolicy(
	ctx context.Context, name string, f func(context.Context, string) Policy, agent string,
) (p Policy, ok bool) {
	defer m.panics.recover(name)
	return f(ctx, agent), true
}

// look returns the policy that Inspect shows.
func (m *Manager) look(ctx context.Context, agent string) Policy {
	if p, ok := m.askPolicy(ctx, "Options.Look", m.o.Look, agent); ok {
		return *m.policies.peek(agent, p)
	}
	return *m.policies.lastValid(agent)
}

// guardedObserver is the Observer that a user gave, whose panics are recovered.
type guardedObserver struct {
	o Observer
	p *panics
}

// guarded guards an Observer, and each of several.
func guarded(o Observer, p *panics) Observer {
	if all, ok := o.(observers); ok {
		out := make(observers, len(all))
		for i, o := range all {
			out[i] = guarded(o, p)
		}
		return out
	}
	return &guardedObserver{o, p}
}

// ForAgent implements [AgentObserver]. After a panic the agent's calls are notified to the Observer of all.
func (g *guardedObserver) ForAgent(agent string) (o Observer) {
	o = g
	defer g.p.recover("Observer.ForAgent")
	if own := forAgent(g.o, agent); own != nil {
		return guarded(own, g.p)
	}
	return o
}

// Quiet implements [QuietObserver]. After a panic it is not.
func (g *guardedObserver) Quiet() (quiet bool) {
	defer g.p.recover("Observer.Quiet")
	return isQuiet(g.o)
}

// Forget tells the Observer, if it keeps something for each agent.
func (g *guardedObserver) Forget(agent string) {
	defer g.p.recover("Observer.Forget")
	if f, ok := g.o.(forgetter); ok {
		f.Forget(agent)
	}
}

func (g *guardedObserver) Admitted(agent string, p Permit) {
	defer g.p.recover("Observer.Admitted")
	g.o.Admitted(agent, p)
}

func (g *guardedObserver) Refused(agent string, e *OpenError) {
	defer g.p.recover("Observer.Refused")
	g.o.Refused(agent, e)
}

func (g *guardedObserver) Settled(agent string, o Outcome, r Report) {
	defer g.p.recover("Observer.Settled")
	g.o.Settled(agent, o, r)
}

func (g *guardedObserver) Flushed(agent string, s machine.Summary, r Report) {
	defer g.p.recover("Observer.Flushed")
	g.o.Flushed(agent, s, r)
}

func (g *guardedObserver) Probed(agent string, o Outcome) {
	defer g.p.recover("Observer.Probed")
	g.o.Probed(agent, o)
}

func (g *guardedObserver) Event(agent string, e Event, degraded bool) {
	defer g.p.recover("Observer.Event")
	g.o.Event(agent, e, degraded)
}

func (g *guardedObserver) StoreCall(verb machine.Verb, took time.Duration, err error) {
	defer g.p.recover("Observer.StoreCall")
	g.o.StoreCall(verb, took, err)
}

func (g *guardedObserver) PolicyRejected(agent string, err error) {
	defer g.p.recover("Observer.PolicyRejected")
	g.o.PolicyRejected(agent, err)
}
