package replica

import (
	"context"
	"sync"
	"time"

	"github.com/breakerd/breakerd/internal/bounded"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

const (
	// evidenceAfter is how long an opening may be ahead of the report of the outcome that caused it.
	evidenceAfter = 200 * time.Millisecond
	// evidenceEvery bounds what a replica adds to the stream, which keeps the newest 10,000 events: when a thousand
	// agents open at once, what each replica says of them may not push the openings out.
	evidenceEvery = 200 * time.Millisecond
	// evidenceWaiting bounds the openings that are not answered yet. Of more, this replica says nothing.
	evidenceWaiting = 100
)

// evidence counts what this replica reports of each agent, and says it when the agent's breaker has opened: the machine
// counts for the whole fleet, and an operator has to see if one replica fails alone [B23].
type evidence struct {
	breaker.NopObserver

	window   func(agent string) time.Duration
	say      func(ctx context.Context, agent, epoch string, c reported) error
	agents   *bounded.Map[*reports]
	openings chan opening
}

var _ breaker.QuietObserver = (*evidence)(nil)

// opening is one that was heard of.
type opening struct {
	agent, epoch string
	at           time.Time // when it was
}

// reported is what a replica has reported of an agent.
type reported struct{ failures, calls int64 }

// reports are those of one agent, in two parts of half a window each: what counts is between one half and a whole
// window old at the most.
type reports struct {
	mu          sync.Mutex
	now, before reported
	since       time.Time     // when now began; before is half a window older
	half        time.Duration // of the agent's window, when now began
}

func newEvidence(r *Replica) *evidence {
	return &evidence{
		window:   func(agent string) time.Duration { return r.Policies.Look(context.Background(), agent).WindowSize },
		agents:   bounded.New(bounded.Options[*reports]{Max: r.o.MaxAgents, Hard: true}),
		openings: make(chan opening, evidenceWaiting),
		say: func(ctx context.Context, agent, epoch string, c reported) error {
			return r.Store.AnnounceEvidence(ctx, agent, epoch, r.ID, c.failures, c.calls)
		},
	}
}

// Quiet implements [breaker.QuietObserver]: Flushed has the successes that are left out.
func (*evidence) Quiet() bool { return true }

// Settled implements [breaker.Observer]. What is pending comes by Flushed, too.
func (v *evidence) Settled(agent string, o breaker.Outcome, r breaker.Report) {
	if !r.Counted || r.Pending {
		return
	}
	c := reported{calls: 1}
	if o.Kind == breaker.Failure {
		c.failures = 1
	}
	v.add(agent, c)
}

// Flushed implements [breaker.Observer].
func (v *evidence) Flushed(agent string, s machine.Summary, r breaker.Report) {
	if r.Counted {
		v.add(agent, reported{failures: s.Failures, calls: s.Calls()})
	}
}

func (v *evidence) add(agent string, c reported) {
	of, ok := v.agents.Load(agent)
	if !ok {
		of, _ = v.agents.LoadOrStore(agent, &reports{})
	}
	of.mu.Lock()
	defer of.mu.Unlock()
	v.turn(agent, of)
	of.now.failures += c.failures
	of.now.calls += c.calls
}

// turn begins a new half, if it is time. The lock is held.
func (v *evidence) turn(agent string, of *reports) {
	now := time.Now()
	switch age := now.Sub(of.since); {
	case age < of.half:
		return
	case age < 2*of.half:
		of.before = of.now
	default:
		of.before = reported{}
	}
	of.now, of.since, of.half = reported{}, now, v.window(agent)/2
}

// sum is what was reported within about a window.
func (v *evidence) sum(agent string) reported {
	of, ok := v.agents.Load(agent)
	if !ok {
		return reported{}
	}
	of.mu.Lock()
	defer of.mu.Unlock()
	v.turn(agent, of)
	return reported{of.now.failures + of.before.failures, of.now.calls + of.before.calls}
}

// hear takes an event of any replica. It never waits.
func (v *evidence) hear(agent string, e breaker.Event) {
	if e.Kind != machine.EventOpened || e.From != breaker.Closed {
		return // of a round of probes, Redis knows all
	}
	select {
	case v.openings <- opening{agent, e.Epoch, time.Now()}:
	default:
	}
}

// Forget is called for an agent that was deleted.
func (v *evidence) Forget(agent string) { v.agents.Delete(agent) }

// run answers openings until ctx ends.
func (v *evidence) run(ctx context.Context) {
	pause := func(d time.Duration) bool {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(d):
			return true
		}
	}
	for {
		select {
		case <-ctx.Done():
			return
		case o := <-v.openings:
			if !pause(time.Until(o.at.Add(evidenceAfter))) {
				return
			}
			if c := v.sum(o.agent); c.failures > 0 {
				_ = v.say(ctx, o.agent, o.epoch, c) // the store reports its own health
				if !pause(evidenceEvery) {
					return
				}
			}
		}
	}
}
