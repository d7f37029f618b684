package breaker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// Replay
//
// An outcome that the store certainly did not get waits in the Manager's queue, and is sent when the store is up [B26]:
//
//   - one of a closed breaker is added to a sum by epoch and bucket. The sums of one agent and epoch are frozen into a
//     batch with a token, which is sent until it is answered, and counts once;
//   - one that settles a lease, or has an idempotency key, is kept as it is, for its record may be sent twice.
//
// One goroutine sends, while there is something to send and the store is not known to be down.

const (
	// maxSums is how many sums by epoch and bucket one agent has: a window has twelve buckets [B9].
	maxSums = 12
	// maxKept bounds the records that are kept as they are.
	maxKept = 10_000
	// lastTries is how often Close sends what the store does not answer.
	lastTries = 5
	// replaysAtOnce is how many of them are sent at once. They share round trips.
	replaysAtOnce = 16
	// The pause before the store is asked again for what it did not answer.
	minReplayPause, maxReplayPause = 50 * time.Millisecond, time.Second
)

// queue is what waits for the store. It is guarded by ledger.mu.
type queue struct {
	outcomes int64 // in all of it
	agents   map[string]*sums
	items    []*queued // batches, and records that are kept as they are
	kept     int       // of items: the latter
	running  bool      // Manager.replay runs
}

// sums are the outcomes of one agent that are not frozen yet.
type sums struct {
	since time.Duration // the uptime at which the first came
	by    map[bucketOf]machine.Counts
}

// bucketOf is a bucket of one epoch.
type bucketOf struct {
	epoch   string
	startMs int64
}

// queued is an operation that may be sent again and again.
type queued struct {
	agent   string
	op      machine.Op
	calls   int64
	since   time.Duration
	unknown bool // it may have been carried out before
	dropped bool // it was accounted for without an answer
}

// waiting returns how many agents have outcomes in the queue, and since when the oldest waits.
func (q *queue) waiting() (agents int, since time.Duration) {
	names := make(map[string]struct{}, len(q.agents))
	note := func(agent string, at time.Duration) {
		if len(names) == 0 || at < since {
			since = at
		}
		names[agent] = struct{}{}
	}
	for agent, s := range q.agents {
		note(agent, s.since)
	}
	for _, i := range q.items {
		note(i.agent, i.since)
	}
	return len(names), since
}

// keep moves outcomes that are under way into the queue, and sends them when the store is up. epoch is the one in which
// they count. It returns false if there is no room: then they are lost.
func (m *Manager) keep(agent string, p Policy, op machine.Op, epoch string, unknown bool) (kept bool) {
	kept, dropped := m.enqueue(agent, p, op, epoch, unknown)
	if dropped.Calls() > 0 {
		m.o.Observer.Flushed(agent, dropped, Report{Why: machine.CodeLost})
	}
	return kept
}

// enqueue is keep. dropped are older outcomes that made room.
func (m *Manager) enqueue(
	agent string, p Policy, op machine.Op, epoch string, unknown bool,
) (kept bool, dropped machine.Summary) {
	now := m.clock.nowMs()
	calls := max(op.Summary.Calls(), 1)
	l := &m.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	l.underWay -= calls
	q := &l.queue
	sum := op.Token == "" && op.ReportID == ""
	switch {
	case sum && !q.add(agent, m.o.MaxAgents, m.uptime()), !sum && q.kept >= maxKept:
		l.settleLocked(calls, machine.CodeLost, LostOverflow)
		return false, dropped
	case sum:
		params := p.Params(time.Hour, 1)
		by := q.agents[agent].by
		at := bucketOf{epoch, params.Bucket(agent, now)}
		c, s := by[at], op.Summary
		by[at] = machine.Counts{
			Successes: c.Successes + s.Successes, Failures: c.Failures + s.Failures, Slow: c.Slow + s.Slow,
		}
		if len(by) > maxSums {
			dropped = l.dropOldest(by, now-params.WindowMs)
		}
	default:
		op.Epoch = cmp.Or(op.Epoch, epoch)
		q.kept++
		q.items = append(q.items, &queued{agent: agent, op: op, calls: calls, since: m.uptime(), unknown: unknown})
	}
	q.outcomes += calls
	m.startReplay()
	return true, dropped
}

// add makes room for an agent's sums.
func (q *queue) add(agent string, most int, now time.Duration) bool {
	if _, ok := q.agents[agent]; ok {
		return true
	}
	if len(q.agents) >= most {
		return false
	}
	if q.agents == nil {
		q.agents = map[string]*sums{}
	}
	q.agents[agent] = &sums{since: now, by: map[bucketOf]machine.Counts{}}
	return true
}

// dropOldest gives up the oldest of an agent's sums.
func (l *ledger) dropOldest(by map[bucketOf]machine.Counts, expiredMs int64) machine.Summary {
	oldest := slices.MinFunc(slices.Collect(maps.Keys(by)), func(a, b bucketOf) int {
		return cmp.Or(cmp.Compare(a.startMs, b.startMs), cmp.Compare(a.epoch, b.epoch))
	})
	why := LostOverflow
	if oldest.startMs <= expiredMs {
		why = LostExpired
	}
	c := by[oldest]
	dropped := machine.Summary{Successes: c.Successes, Failures: c.Failures, Slow: c.Slow}
	delete(by, oldest)
	l.queue.outcomes -= dropped.Calls()
	l.settleLocked(dropped.Calls(), machine.CodeLost, why)
	return dropped
}

// freeze makes batches of the sums, but of those of agents that have batches already: so each agent has at most twelve
// sums, and batches of as many.
func (q *queue) freeze(reporter string) {
	frozen := map[string]bool{}
	for _, i := range q.items {
		frozen[i.agent] = frozen[i.agent] || i.op.Verb == machine.VerbReplay && !i.dropped
	}
	for _, agent := range slices.Sorted(maps.Keys(q.agents)) {
		if frozen[agent] {
			continue
		}
		s := q.agents[agent]
		delete(q.agents, agent)
		batches := map[string]*queued{}
		for _, at := range slices.SortedFunc(maps.Keys(s.by), func(a, b bucketOf) int {
			return cmp.Compare(a.startMs, b.startMs)
		}) {
			b, ok := batches[at.epoch]
			if !ok {
				op := machine.Op{Verb: machine.VerbReplay, Token: randomHex(), Epoch: at.epoch, Reporter: reporter}
				b = &queued{agent: agent, since: s.since, op: op}
				batches[at.epoch] = b
				q.items = append(q.items, b)
			}
			b.op.Batch = append(b.op.Batch, machine.Bucket{StartMs: at.startMs, Counts: s.by[at]})
			b.calls += s.by[at].Successes + s.by[at].Failures
		}
	}
}

// startReplay starts replay, unless it runs, or there is nothing to send, or the store is down. Callers hold ledger.mu.
func (m *Manager) startReplay() {
	q := &m.ledger.queue
	if q.running || q.outcomes == 0 || m.storeDown() || !m.sweeper.goes(m.replay) {
		return
	}
	q.running = true
}

func (m *Manager) storeDown() bool { return m.fallback != nil && m.fallback.Degraded() }

// replay sends what is in the queue, until it is empty or the store is down.
func (m *Manager) replay() {
	l := &m.ledger
	for pause := minReplayPause; ; pause = min(2*pause, maxReplayPause) {
		l.mu.Lock()
		l.queue.freeze(m.o.Reporter)
		items := slices.Clone(l.queue.items)
		if len(items) == 0 || m.storeDown() {
			l.queue.running = false
			l.mu.Unlock()
			m.inStep()
			return
		}
		l.mu.Unlock()
		if m.sendAll(items) {
			pause = minReplayPause
			continue
		}
		select {
		case <-m.sweeper.stop:
			l.mu.Lock()
			l.queue.running = false
			l.mu.Unlock()
			return
		case <-time.After(pause):
		}
	}
}

// sendRest sends what is in the queue, before the Manager is closed.
func (m *Manager) sendRest(ctx context.Context) error {
	l := &m.ledger
	for tries := 0; ; tries++ {
		l.mu.Lock()
		l.queue.freeze(m.o.Reporter)
		items, outcomes := slices.Clone(l.queue.items), l.queue.outcomes
		l.mu.Unlock()
		switch {
		case len(items) == 0:
			return nil
		case m.storeDown(), tries == lastTries:
			return fmt.Errorf("%d outcomes were not sent: %w", outcomes, ErrStoreUnavailable)
		case m.sendAll(items):
			tries = -1
			continue
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d outcomes were not sent: %w", outcomes, ctx.Err())
		case <-time.After(minReplayPause):
		}
	}
}

// sendAll sends items, and reports whether all were answered.
func (m *Manager) sendAll(items []*queued) (all bool) {
	var wg sync.WaitGroup
	turn := make(chan struct{}, replaysAtOnce)
	for _, i := range items {
		turn <- struct{}{}
		wg.Go(func() {
			defer func() { <-turn }()
			m.sendQueued(i)
		})
	}
	wg.Wait()
	l := &m.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue.items = slices.DeleteFunc(l.queue.items, func(i *queued) bool { return i.dropped })
	return !slices.ContainsFunc(items, func(i *queued) bool { return !i.dropped })
}

// sendQueued sends one item. If there is no answer, it stays in the queue.
func (m *Manager) sendQueued(i *queued) {
	if m.storeDown() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), settleTimeout)
	defer cancel()
	p := m.policy(ctx, i.agent)
	r, err := m.apply(ctx, i.agent, p, i.op)
	if err != nil || r.Degraded || r.Unknown {
		storeErr, ok := errors.AsType[*StoreError](err)
		i.unknown = i.unknown || r.Unknown || ok && storeErr.Unknown
		expired := m.clock.nowMs() - p.WindowSize.Milliseconds()
		if i.op.Verb == machine.VerbReplay && i.op.Batch[len(i.op.Batch)-1].StartMs <= expired {
			code := machine.CodeLost
			if i.unknown {
				code = CodeUnknown
			}
			m.answered(i, part{code: code, why: LostExpired, sum: i.sum()})
		}
		return
	}
	if i.op.Verb == machine.VerbReplay {
		counted, rest := i.split(r.Counted)
		m.answered(i, part{code: machine.CodeOK, sum: counted},
			part{code: machine.CodeLost, why: cmp.Or(r.Reason, LostExpired), sum: rest})
		return
	}
	if r.Probe {
		m.o.Observer.Probed(i.agent, Outcome{Kind: kindOf(i.op.Summary)})
	}
	code := r.Code
	if (i.unknown || r.Repeated) && unprovable(code) {
		code = CodeUnknown
	}
	m.answered(i, part{code: code, why: r.Reason, sum: i.sum(), state: r.State})
}

func kindOf(s machine.Summary) OutcomeKind {
	switch {
	case s.Failures > 0:
		return Failure
	case s.Successes > 0:
		return Success
	}
	return Ignored
}

// part is what became of some outcomes of an item.
type part struct {
	code  machine.Code
	why   machine.Reason
	state State
	sum   machine.Summary
}

// sum is what an item holds.
func (i *queued) sum() machine.Summary {
	if i.op.Verb != machine.VerbReplay {
		return i.op.Summary
	}
	all, _ := i.split(i.calls)
	return all
}

// split returns what the store counted of a batch, and the rest: the oldest buckets had left the window.
func (i *queued) split(counted int64) (newest, rest machine.Summary) {
	for _, b := range slices.Backward(i.op.Batch) {
		into := &rest
		if newest.Calls() < counted {
			into = &newest
		}
		into.Successes += b.Successes
		into.Failures += b.Failures
		into.Slow += b.Slow
	}
	return newest, rest
}

// answered accounts for an item, and notifies the observer.
func (m *Manager) answered(i *queued, parts ...part) {
	l := &m.ledger
	l.mu.Lock()
	if i.dropped {
		l.mu.Unlock()
		return
	}
	l.queue.remove(i)
	for _, p := range parts {
		n := p.sum.Calls()
		if i.op.Verb != machine.VerbReplay {
			n = i.calls
		}
		l.settleLocked(n, p.code, p.why)
	}
	l.mu.Unlock()
	for _, p := range parts {
		if p.sum.Calls() > 0 || i.op.Verb != machine.VerbReplay {
			report := Report{State: p.state, Counted: p.code == machine.CodeOK}
			if !report.Counted {
				report.Why = p.code
			}
			m.o.Observer.Flushed(i.agent, p.sum, report)
		}
	}
}

// remove takes an item out of the counts. It leaves items when it is next sent. Callers hold ledger.mu.
func (q *queue) remove(i *queued) {
	i.dropped = true
	q.outcomes -= i.calls
	if i.op.Verb != machine.VerbReplay {
		q.kept--
	}
}

// storeReset gives up all that waits: the store for which it was counted has lost its data.
func (m *Manager) storeReset() {
	l := &m.ledger
	l.mu.Lock()
	rest := queue{agents: l.queue.agents} // of agents that have batches as well
	rest.freeze(m.o.Reporter)
	l.queue.items, l.queue.agents = append(l.queue.items, rest.items...), nil
	var lost []*queued
	for _, i := range l.queue.items {
		if !i.dropped {
			l.queue.remove(i)
			l.settleLocked(i.calls, machine.CodeLost, LostStoreReset)
			lost = append(lost, i)
		}
	}
	l.queue.items = nil
	l.mu.Unlock()
	for _, i := range lost {
		m.o.Observer.Flushed(i.agent, i.sum(), Report{Why: machine.CodeLost})
	}
	m.invalidateAll()
}
