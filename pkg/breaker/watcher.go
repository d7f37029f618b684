package breaker

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

const (
	// minPause is between two questions of one watcher.
	minPause = 50 * time.Millisecond
	// maxPause is how long a refusal is relied on: an event may be lost, and an edit of the keys is not pushed.
	maxPause = 5 * time.Second
	// maxBusyPause is maxPause where the end is not pushed at all, as when another replica gives a place back.
	maxBusyPause = time.Second
	// freshFor is how long an answer that admits all calls is relied on.
	freshFor = time.Second

	// Waiters leave within a tenth of the time that they have waited, within these bounds.
	minSpread, maxSpread = 100 * time.Millisecond, 5 * time.Second
	// Of a closed breaker they leave within so much a waiter, within minSpread and maxClosedSpread.
	closedSpread, maxClosedSpread = time.Millisecond, time.Second
	// rampPause is what a refusal of a ramp says [B3].
	rampPause = time.Second

	never = time.Duration(1<<63 - 1)
)

// waits are all calls of Manager.Wait. mu guards them, their watchers and their waiters. It is not held while the store
// is asked, and under it no other lock is taken.
type waits struct {
	draw    func() float64  // from [0, 1)
	ctx     context.Context //nolint:containedctx // of questions to the store, ended by close
	stop    context.CancelFunc
	running sync.WaitGroup // watchers
	watched atomic.Int32   // len(watchers): without waiters nobody takes the lock

	mu       sync.Mutex
	closed   bool
	watchers map[string]*watcher
}

// waiter is one call of Manager.Wait.
type waiter struct {
	of    *watcher
	done  chan error // has room for the one answer
	since time.Duration
	draw  float64
	told  bool // an answer has kept it waiting: it leaves at a moment drawn at random
	// drawn: the share of a ramp was drawn, and the waiter leaves not before notBefore.
	drawn     bool
	notBefore time.Duration
}

// outlook is the sense of an answer.
type outlook int

const (
	refusing  outlook = iota // no call may be tried; also without an answer
	probing                  // so many calls as the round has free places
	ramping                  // a share of the calls
	admitting                // every call
)

// watcher asks the store on behalf of all waiters of one agent, on a goroutine of its own. It ends once it has no
// waiters, but not within minPause of its last question: a loop of Wait and Do asks no faster.
type watcher struct {
	m       *Manager
	agent   string
	waiters map[*waiter]struct{}
	wake    chan struct{} // has room for one

	askedAt    time.Duration // as all times here, the uptime
	answeredAt time.Duration
	events     int  // that were heard of
	stale      bool // something was heard of after the last question
	outlook    outlook
	prospect   prospect
	places     int64         // probing: that are free
	from       time.Duration // the moment from which on calls may be tried
	spread     time.Duration // ramping, admitting
	pollAt     time.Duration // refusing: the next question, if it is before from
}

func newWaits() waits {
	ctx, stop := context.WithCancel(context.Background())
	return waits{draw: rand.Float64, ctx: ctx, stop: stop, watchers: map[string]*watcher{}}
}

// join returns a new waiter; nil once the Manager is closed.
func (all *waits) join(m *Manager, agent string) *waiter {
	now := m.uptime()
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.closed {
		return nil
	}
	w, ok := all.watchers[agent]
	if !ok {
		w = &watcher{
			m: m, agent: agent, waiters: map[*waiter]struct{}{}, wake: make(chan struct{}, 1), askedAt: now - minPause,
			stale: true,
		}
		all.watchers[agent] = w
		all.watched.Add(1)
		all.running.Go(w.run)
	}
	x := &waiter{of: w, done: make(chan error, 1), since: now, draw: all.draw(), told: !w.stale && w.outlook == refusing}
	w.waiters[x] = struct{}{}
	w.signal()
	return x
}

// leave removes a waiter whose context has ended.
func (all *waits) leave(x *waiter) {
	all.mu.Lock()
	defer all.mu.Unlock()
	delete(x.of.waiters, x)
	if len(x.of.waiters) == 0 {
		x.of.signal()
	}
}

// tell makes the watcher of an agent ask again: something has happened to the breaker.
func (all *waits) tell(agent string) {
	if all.watched.Load() == 0 {
		return
	}
	all.mu.Lock()
	defer all.mu.Unlock()
	if w, ok := all.watchers[agent]; ok {
		w.tell()
	}
}

func (all *waits) tellAll() {
	all.mu.Lock()
	defer all.mu.Unlock()
	for _, w := range all.watchers {
		w.tell()
	}
}

// refused tells of a refusal in this process. An answer that lets waiters go is no longer relied on.
func (all *waits) refused(agent string) {
	if all.watched.Load() == 0 {
		return
	}
	all.mu.Lock()
	defer all.mu.Unlock()
	if w, ok := all.watchers[agent]; ok && w.outlook != refusing {
		w.stale = true
	}
}

// close ends all waiters, and waits for their watchers.
func (all *waits) close() {
	all.mu.Lock()
	all.closed = true
	for _, w := range all.watchers {
		w.endAll(ErrManagerClosed)
		w.signal()
	}
	all.mu.Unlock()
	all.stop()
	all.running.Wait()
}

// run asks, and lets waiters go, until there are none.
func (w *watcher) run() {
	for {
		pause, ask, over := w.step()
		switch {
		case over:
			return
		case ask:
			w.ask()
		default:
			select {
			case <-w.wake:
			case <-time.After(max(pause, time.Millisecond)):
			}
		}
	}
}

// step lets go the waiters that are due, and says what comes next: a question, or a pause until the next step.
func (w *watcher) step() (pause time.Duration, ask, over bool) {
	all := &w.m.waits
	all.mu.Lock()
	defer all.mu.Unlock()
	now := w.m.uptime()
	due := w.release(now)
	untilQuestion := w.askedAt + minPause - now // at least
	if len(w.waiters) == 0 {
		if over = all.closed || untilQuestion <= 0; over {
			delete(all.watchers, w.agent)
			all.watched.Add(-1)
		}
		return untilQuestion, false, over
	}
	next := due
	if w.outlook == refusing && w.pollAt < w.from { // after from, who is due asks
		next = min(next, w.pollAt)
	}
	if !w.stale && next > now {
		return next - now, false, false
	}
	if untilQuestion > 0 {
		return untilQuestion, false, false
	}
	w.askedAt = now
	return 0, true, false
}

// ask asks the store, and lets go the waiters that are due.
func (w *watcher) ask() {
	all := &w.m.waits
	_ = w.m.Flush(all.ctx, w.agent) // what that causes, the answer has
	all.mu.Lock()
	events := w.events
	all.mu.Unlock()
	p, err := w.m.prospect(all.ctx, w.agent)
	all.mu.Lock()
	defer all.mu.Unlock()
	if err != nil {
		w.stale = true
		w.endAll(err)
		return
	}
	now := w.m.uptime()
	w.take(p, now)
	w.stale = w.events != events
	w.release(now)
}

// take takes an answer.
func (w *watcher) take(p prospect, now time.Duration) {
	r := p.acquire(machine.Million - 1) // which a ramp refuses, whatever its share
	before := w.outlook
	w.prospect, w.answeredAt, w.places = p, now, 0
	switch {
	case r.Code == machine.CodeRefused && (r.Reason == ReasonRamping || r.Reason == ReasonShedding):
		w.outlook = ramping
	case r.Code == machine.CodeRefused:
		w.outlook = refusing
	case r.LeaseMs > 0:
		w.outlook, w.places = probing, p.view.Free()
	default:
		w.outlook = admitting
	}
	switch {
	case w.outlook == refusing:
		w.from = now + time.Duration(r.RetryAfterMs)*time.Millisecond
		poll := maxBusyPause
		if r.Reason == ReasonOpen || r.Reason == ReasonForcedOpen {
			poll = maxPause
		}
		w.pollAt = now + poll/2 + portion(poll/2, w.m.waits.draw()) // replicas hear of an opening at one moment
		for x := range w.waiters {
			x.told, x.drawn, x.notBefore = true, false, 0
		}
	case w.outlook == probing:
		w.from = min(w.from, now)
	case w.outlook != before:
		w.from, w.spread = now, clamp(time.Duration(len(w.waiters))*closedSpread, minSpread, maxClosedSpread)
	}
}

// release lets go the waiters that are due, and returns when the first of the others is due.
func (w *watcher) release(now time.Duration) (due time.Duration) {
	due = never
	for x := range w.waiters {
		if at := w.due(x, now); at > now || !w.mayGo(now) {
			due = min(due, at)
			continue
		}
		if w.outlook == probing {
			w.places--
		}
		w.end(x, nil)
	}
	return due
}

// due is the moment at which a waiter leaves, if calls may be tried then.
func (w *watcher) due(x *waiter, now time.Duration) time.Duration {
	if w.outlook == ramping && !x.drawn {
		x.drawn = true
		share := w.prospect.acquire(int64(w.m.waits.draw() * machine.Million))
		if share.Code == machine.CodeRefused {
			x.notBefore = now + rampPause/2 + portion(rampPause, x.draw)
		}
	}
	switch {
	case !x.told:
		return max(x.since, x.notBefore)
	case w.outlook == ramping, w.outlook == admitting:
		return max(w.from+portion(w.spread, x.draw), x.notBefore)
	}
	return w.from + portion(clamp((w.from-x.since)/10, minSpread, maxSpread), x.draw)
}

// mayGo reports whether the last answer lets a waiter go now.
func (w *watcher) mayGo(now time.Duration) bool {
	switch {
	case w.stale:
		return false
	case w.outlook == probing:
		return w.places > 0 && now < w.answeredAt+minPause
	}
	return w.outlook != refusing && now < w.answeredAt+freshFor
}

func (w *watcher) tell() {
	w.events++
	w.stale = true
	w.signal()
}

func (w *watcher) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *watcher) end(x *waiter, err error) {
	delete(w.waiters, x)
	x.done <- err
}

func (w *watcher) endAll(err error) {
	for x := range w.waiters {
		w.end(x, err)
	}
}

func clamp(d, least, most time.Duration) time.Duration { return max(least, min(d, most)) }

func portion(d time.Duration, of float64) time.Duration { return time.Duration(float64(d) * of) }
