package breaker

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/puzpuzpuz/xsync/v4"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// Fallback stands before a shared Store and answers while that is away, as each agent's on_store_error says:
//
//   - local: the same machine in this process's memory, from the last state it saw of each agent;
//   - allow: everything is admitted, nothing recorded;
//   - deny: everything is refused, reason store_unavailable.
//
// After one time-out it is degraded at once, and nobody else waits; one background probe decides the return. Then the shared
// store wins, and what happened in memory is forgotten. Answers given so are marked degraded. An operator's Force is never
// answered from memory. It is safe for concurrent use; Close ends its probe.
type Fallback struct {
	store    Store
	ping     func(context.Context) error
	onChange func(degraded bool, cause error)
	local    *Memory
	clock    clock
	most     int

	degraded   atomic.Bool
	turn       sync.RWMutex // answers from memory against the turn to it: no answer straddles two outages
	suspecting atomic.Bool
	seen       *xsync.Map[string, *lastAnswer]
	mu         sync.Mutex // of what decides whose answer is dropped
	order      []string   // whose answers are kept: a ring
	oldest     int        // where in it the next one goes, once it is full
	stop       context.CancelFunc
	ctx        context.Context //nolint:containedctx // the life of the probe, ended by Close
	wg         sync.WaitGroup
}

// NewFallback wraps store. ping says whether it is back; onChange (may be nil) is told each change, once, and must not call
// back. It remembers at most maxAgents agents (0: 100,000).
func NewFallback(store Store, ping func(context.Context) error, maxAgents int, onChange func(degraded bool, cause error)) *Fallback {
	if onChange == nil {
		onChange = func(bool, error) {}
	}
	if maxAgents <= 0 {
		maxAgents = 100_000
	}
	f := &Fallback{store: store, ping: ping, onChange: onChange, most: maxAgents, seen: xsync.NewMap[string, *lastAnswer]()}
	f.local = NewMemory(f.clock.nowMs, maxAgents)
	f.ctx, f.stop = context.WithCancel(context.Background())
	return f
}

// Close ends the background probe.
func (f *Fallback) Close() {
	f.stop()
	f.wg.Wait()
}

// Degraded says whether the shared store is away.
func (f *Fallback) Degraded() bool { return f.degraded.Load() }

// Report tells of a failure that was met elsewhere, as when a policy was read: nobody need wait for the same once more.
func (f *Fallback) Report(err error) {
	if errors.Is(err, ErrStoreUnavailable) {
		f.degrade(err)
	}
}

// Apply implements Store.
func (f *Fallback) Apply(ctx context.Context, agent string, p Policy, op machine.Op) (machine.Result, error) {
	if f.degraded.Load() {
		return f.alone(ctx, agent, p, op, nil)
	}
	if op.Local { // the shared store never saw this permit's epoch
		return machine.Result{Code: machine.CodeLost}, nil
	}
	r, err := f.store.Apply(ctx, agent, p, op)
	if err == nil {
		f.remember(agent, &r)
		return r, nil
	}
	if !errors.Is(err, ErrStoreUnavailable) {
		return r, err
	}
	if TimeIsUp(ctx) { // the caller is gone: no answer is due, but the store may be why
		f.suspect(err)
		return r, err
	}
	f.degrade(err)
	return f.alone(ctx, agent, p, op, err)
}

// Inspect implements Store; while degraded it shows this process's memory.
func (f *Fallback) Inspect(ctx context.Context, agent string, p Policy) (View, error) {
	if !f.degraded.Load() {
		v, err := f.store.Inspect(ctx, agent, p)
		if err == nil || TimeIsUp(ctx) || !errors.Is(err, ErrStoreUnavailable) {
			return v, err
		}
		f.degrade(err)
	}
	f.turn.RLock()
	defer f.turn.RUnlock()
	f.plant(agent)
	v, err := f.local.Inspect(ctx, agent, p)
	v.Degraded = true
	return v, err
}

// TimeIsUp says whether a caller's own time is over. A socket's deadline, which is the context's, can fire a moment before the
// context knows: that is no fault of the store either.
func TimeIsUp(ctx context.Context) bool {
	deadline, some := ctx.Deadline()
	return ctx.Err() != nil || some && !time.Now().Before(deadline)
}

// alone answers without the store. cause is the store's error if it was asked just now.
func (f *Fallback) alone(ctx context.Context, agent string, p Policy, op machine.Op, cause error) (machine.Result, error) {
	var away *StoreError
	unknown := errors.As(cause, &away) && away.Unknown && op.Verb == machine.VerbRecord
	if op.Verb == machine.VerbForce {
		if cause == nil {
			cause = &StoreError{Verb: op.Verb, Agent: agent, Err: errors.New("degraded: an operator's action needs the shared store")}
		}
		return machine.Result{}, cause
	}
	r := machine.Result{State: Closed, Epoch: machine.ZeroEpoch, NowMs: f.clock.nowMs(), Degraded: true, Unknown: unknown, Code: machine.CodeOK}
	switch {
	case p.OnStoreError == OnStoreErrorLocal:
		f.turn.RLock()
		defer f.turn.RUnlock()
		seeded := f.plant(agent)
		res, err := f.local.Apply(ctx, agent, p, op)
		res.Degraded, res.Unknown = true, unknown
		res.Local = res.Epoch != seeded
		return res, err
	case op.Verb != machine.VerbAcquire:
		r.Code = machine.CodeLost
	case p.OnStoreError == OnStoreErrorDeny:
		r.Code, r.Reason, r.RetryAfterMs = machine.CodeRefused, ReasonStoreUnavailable, 1000
	default:
		r.Local = true
	}
	return r, nil
}

// lastAnswer is the last that the shared store said of one agent.
type lastAnswer struct{ atomic.Pointer[answer] }

// answer is what plant needs of a Result.
type answer struct {
	state, hold   State
	epoch         string
	run           int64
	nowMs, leftMs int64
}

// says is whether r would plant the same breaker.
func (a *answer) says(r *machine.Result) bool {
	if r.NowMs == 0 { // a plainly closed acquire says nothing but the epoch
		return a.epoch == r.Epoch
	}
	if a.state != r.State || a.hold != r.Hold || a.epoch != r.Epoch || a.run != r.Run {
		return false
	}
	endless := r.Hold != "" && a.leftMs <= 0 && r.LeftMs <= 0
	return r.Hold == "" && r.State != Open || endless || a.nowMs+a.leftMs == r.NowMs+r.LeftMs
}

// remember keeps what the store last said of an agent. Most answers say what the one before said: they take no lock.
func (f *Fallback) remember(agent string, r *machine.Result) {
	if r.NowMs > 0 {
		f.clock.set(r.NowMs)
	}
	last, ok := f.seen.Load(agent)
	if ok && last.Load().says(r) {
		return
	}
	a := &answer{state: r.State, hold: r.Hold, epoch: r.Epoch, run: r.Run, nowMs: r.NowMs, leftMs: r.LeftMs}
	if !ok {
		last = f.keep(agent, a)
	}
	last.Store(a)
}

// keep makes room for a new agent's answer: the one that came first goes.
func (f *Fallback) keep(agent string, a *answer) *lastAnswer {
	f.mu.Lock()
	defer f.mu.Unlock()
	last := new(lastAnswer)
	last.Store(a)
	if other, ok := f.seen.LoadOrStore(agent, last); ok {
		return other
	}
	if len(f.order) < f.most {
		f.order = append(f.order, agent)
		return last
	}
	f.seen.Delete(f.order[f.oldest])
	f.order[f.oldest] = agent
	f.oldest = (f.oldest + 1) % f.most
	return last
}

// plant begins the local breaker where the shared one was last seen, and gives the epoch that both know.
func (f *Fallback) plant(agent string) (epoch string) {
	last, ok := f.seen.Load(agent)
	if !ok {
		return machine.ZeroEpoch
	}
	a := last.Load()
	s := machine.Snapshot{Present: true, State: a.state, Epoch: a.epoch, Run: a.run}
	if a.hold != "" {
		s.Hold = machine.Hold{Kind: a.hold, StartMs: a.nowMs, LengthMs: max(a.leftMs, 0)}
	}
	if a.state == Open {
		s.OpenedMs, s.WaitMs = a.nowMs, max(a.leftMs, 1)
	}
	f.local.seed(agent, s)
	return a.epoch
}

// degrade turns to memory, once, and begins to look for the store's return.
func (f *Fallback) degrade(cause error) {
	f.turn.Lock()
	defer f.turn.Unlock()
	if f.ctx.Err() != nil || f.degraded.Load() {
		return
	}
	f.local.clear()
	f.degraded.Store(true)
	f.onChange(true, cause)
	f.wg.Add(1)
	go f.await()
}

// suspect asks in the background whether a store that let a caller's time run out is there.
func (f *Fallback) suspect(cause error) {
	if f.ctx.Err() != nil || f.degraded.Load() || !f.suspecting.CompareAndSwap(false, true) {
		return
	}
	f.wg.Go(func() {
		defer f.suspecting.Store(false)
		ctx, cancel := context.WithTimeout(f.ctx, pingTimeout)
		defer cancel()
		if f.ping(ctx) != nil {
			f.degrade(cause)
		}
	})
}

const (
	pingTimeout = 500 * time.Millisecond
	pingFirst   = 50 * time.Millisecond // then doubling
	pingMost    = 500 * time.Millisecond
)

// await is the one background probe.
func (f *Fallback) await() {
	defer f.wg.Done()
	for wait := pingFirst; ; wait = min(2*wait, pingMost) {
		t := time.NewTimer(wait)
		select {
		case <-f.ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		ctx, cancel := context.WithTimeout(f.ctx, pingTimeout)
		err := f.ping(ctx)
		cancel()
		if err == nil {
			f.turn.Lock()
			f.degraded.Store(false)
			f.onChange(false, nil)
			f.turn.Unlock()
			return
		}
	}
}

// clock extrapolates the store's time monotonically from its last reply [B1]; before the first it is this machine's.
type clock struct{ base atomic.Pointer[instant] }

type instant struct {
	storeMs int64
	at      time.Time
}

// clockLead is how far the clock may be ahead of a reply, which took its time to come, before it is set.
const clockLead = 10 // ms

func (c *clock) set(ms int64) {
	old := c.base.Load()
	if old != nil {
		age := time.Since(old.at)
		lead := old.storeMs + age.Milliseconds() - ms
		if age <= time.Second && (ms < old.storeMs || lead >= 0 && lead <= clockLead) {
			return
		}
	}
	c.base.Store(&instant{storeMs: ms, at: time.Now()})
}

func (c *clock) nowMs() int64 {
	b := c.base.Load()
	if b == nil {
		return time.Now().UnixMilli()
	}
	return b.storeMs + time.Since(b.at).Milliseconds()
}
