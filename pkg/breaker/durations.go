package breaker

import (
	"math/rand/v2"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// sampleOneIn is how many calls one measured call stands for, where only a [DurationObserver] wants durations: reading
// the clock twice costs more than all the rest of such a call.
const sampleOneIn = 16

// durations are those of a Manager's observers that get durations.
type durations struct {
	to []DurationObserver
	p  *panics
}

// durationsOf finds them; nil: there are none.
func durationsOf(o Observer, p *panics) *durations {
	if to := durationObservers(o, nil); len(to) > 0 {
		return &durations{to, p}
	}
	return nil
}

func durationObservers(o Observer, to []DurationObserver) []DurationObserver {
	if all, ok := o.(observers); ok {
		for _, one := range all {
			to = durationObservers(one, to)
		}
		return to
	}
	if d, ok := o.(DurationObserver); ok {
		to = append(to, d)
	}
	return to
}

// settled notifies of a call whose outcome was reported.
func (d *durations) settled(agent string, o *Outcome, why machine.Code) {
	if o.Kind != Ignored && why != machine.CodeForeign && why != machine.CodeDuplicate {
		d.note(agent, o.Duration, 1)
	}
}

// samples draws whether a call of cached mode is measured that nobody else measures.
func (d *durations) samples() bool { return d != nil && rand.Uint32()%sampleOneIn == 0 }

// note notifies of calls that were measured; took is 0 if they were not.
func (d *durations) note(agent string, took time.Duration, calls int) {
	if d == nil || took <= 0 {
		return
	}
	for _, o := range d.to {
		d.notify(o, agent, took, calls)
	}
}

func (d *durations) notify(o DurationObserver, agent string, took time.Duration, calls int) {
	defer d.p.recover("Observer.Took")
	o.Took(agent, took, calls)
}

// watch measures a call of cached mode.
type watch struct {
	b         *epochBuffer
	timed     bool // its outcome has a duration
	standsFor int  // how many calls, for those that want durations; 0: it is not measured
	start     time.Duration
}

// watch begins a call. timed: its outcome needs a duration.
func (b *epochBuffer) watch(timed bool) (w watch) {
	w.b, w.timed = b, timed
	switch {
	case timed:
		w.standsFor = 1
	case b.m.took.samples():
		w.standsFor = sampleOneIn
	default:
		return w
	}
	w.start = b.m.uptime()
	return w
}

// took is the time since the call began; 0: it is not measured.
func (w *watch) took() time.Duration {
	if w.standsFor == 0 {
		return 0
	}
	return w.b.m.uptime() - w.start
}

// finish gives the call's outcome its duration. That of a sampled call is not the outcome's, for others have none.
func (w *watch) finish(o *Outcome, d time.Duration) {
	if w.timed {
		o.Duration = d
	} else if o.Kind != Ignored {
		w.b.m.took.note(w.b.agent, d, w.standsFor)
	}
}
