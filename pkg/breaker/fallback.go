package breaker

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/puzpuzpuz/xsync/v4"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// Fallback is a [Store] that answers in place of a shared one while that is down, as Policy.OnStoreError says:
//
//   - [OnStoreErrorLocal]: from a breaker in the memory of this process, which begins in the last state that the store
//     answered;
//   - [OnStoreErrorAllow]: it admits every call, and counts none;
//   - [OnStoreErrorDeny]: it refuses every call (ReasonStoreUnavailable).
//
// The first operation that the store does not answer makes the Fallback degraded: until the store is back, no other
// operation waits for it, and answers are marked as degraded. One goroutine pings the store. Once it answers, its state
// counts again, and the breakers in memory are dropped. An operator's Force is not answered from memory.
//
// It is safe for concurrent use. Close ends the goroutine.
type Fallback struct {
	store     Store
	ping      func(context.Context) error
	onChange  func(degraded bool, cause error)
	local     *Memory
	clock     storeClock
	maxAgents int

	degraded atomic.Bool
	// outage is read-locked while an answer is made from memory, and locked while degraded changes: no such answer mixes
	// two outages.
	outage    sync.RWMutex
	verifying atomic.Bool // a ping of verify is in progress

	lastAnswers *xsync.Map[string, *atomic.Pointer[lastAnswer]] // by agent
	mu          sync.Mutex                                      // for additions to lastAnswers, and for the ring
	ring        []string                                        // the keys of lastAnswers
	oldest      int                                             // in the ring, once it is full

	stop context.CancelFunc
	ctx  context.Context //nolint:containedctx // of the goroutines, ended by Close
	wg   sync.WaitGroup
}

// NewFallback returns a Fallback for store. ping returns nil if the store is up. onChange is called whenever the
// Fallback becomes degraded, with the cause, or ceases to be; it must not call the Fallback; nil: none. The Fallback
// remembers the last answers of maxAgents agents (0: 100,000).
func NewFallback(
	store Store, ping func(context.Context) error, maxAgents int, onChange func(degraded bool, cause error),
) *Fallback {
	if onChange == nil {
		onChange = func(bool, error) {}
	}
	f := &Fallback{
		store: store, ping: ping, onChange: onChange, maxAgents: cmp.Or(max(maxAgents, 0), defaultMaxAgents),
		lastAnswers: xsync.NewMap[string, *atomic.Pointer[lastAnswer]](),
	}
	f.local = NewMemory(f.clock.nowMs, f.maxAgents)
	f.ctx, f.stop = context.WithCancel(context.Background())
	return f
}

// Close ends the pings, and waits until they have ended. A degraded Fallback stays so.
func (f *Fallback) Close() {
	f.stop()
	f.wg.Wait()
}

// Degraded reports whether the store is down.
func (f *Fallback) Degraded() bool { return f.degraded.Load() }

// Report tells the Fallback of an error that other code got from the store. A [*StoreError] makes it degraded.
func (f *Fallback) Report(err error) {
	if errors.Is(err, ErrStoreUnavailable) {
		f.degrade(err)
	}
}

// Apply implements [Store]. If the deadline of ctx ends before the store answers, the error is the store's.
func (f *Fallback) Apply(ctx context.Context, agent string, p Policy, op machine.Op) (machine.Result, error) {
	if f.degraded.Load() {
		return f.applyDegraded(ctx, agent, p, op, nil)
	}
	if op.Local { // the store never saw the epoch of this permit
		return machine.Result{Code: machine.CodeLost}, nil
	}
	r, err := f.store.Apply(ctx, agent, p, op)
	switch {
	case err == nil:
		f.remember(agent, &r)
		return r, nil
	case !errors.Is(err, ErrStoreUnavailable):
		return r, err
	case TimeIsUp(ctx): // nobody waits for an answer, and the store may be up
		f.verify(err)
		return r, err
	}
	f.degrade(err)
	return f.applyDegraded(ctx, agent, p, op, err)
}

// Inspect implements [Store]. While degraded it returns the breaker in memory, whatever the policy.
func (f *Fallback) Inspect(ctx context.Context, agent string, p Policy) (View, error) {
	if !f.degraded.Load() {
		v, err := f.store.Inspect(ctx, agent, p)
		if err == nil || TimeIsUp(ctx) || !errors.Is(err, ErrStoreUnavailable) {
			return v, err
		}
		f.degrade(err)
	}
	f.outage.RLock()
	defer f.outage.RUnlock()
	f.seedLocal(agent)
	v, err := f.local.Inspect(ctx, agent, p)
	v.Degraded = true
	return v, err
}

// TimeIsUp reports whether ctx has ended, or its deadline has passed: a socket that has the same deadline may fail a
// moment before the context ends.
func TimeIsUp(ctx context.Context) bool {
	deadline, some := ctx.Deadline()
	return ctx.Err() != nil || some && !time.Now().Before(deadline)
}

// applyDegraded answers without the store. cause is the store's error, if the store was asked.
func (f *Fallback) applyDegraded(
	ctx context.Context, agent string, p Policy, op machine.Op, cause error,
) (machine.Result, error) {
	if op.Verb == machine.VerbForce {
		if cause == nil {
			cause = &StoreError{
				Verb: op.Verb, Agent: agent, Err: errors.New("degraded: an operator's action needs the shared store"),
			}
		}
		return machine.Result{}, cause
	}
	storeErr, ok := errors.AsType[*StoreError](cause)
	r := machine.Result{
		Code: machine.CodeOK, State: Closed, Epoch: machine.ZeroEpoch, NowMs: f.clock.nowMs(), Degraded: true,
		Unknown: ok && storeErr.Unknown && op.Verb == machine.VerbRecord,
	}
	switch {
	case p.OnStoreError == OnStoreErrorLocal:
		f.outage.RLock()
		defer f.outage.RUnlock()
		storeEpoch := f.seedLocal(agent)
		local, err := f.local.Apply(ctx, agent, p, op)
		local.Degraded, local.Unknown, local.Local = true, r.Unknown, local.Epoch != storeEpoch
		return local, err
	case op.Verb != machine.VerbAcquire:
		r.Code = machine.CodeLost
	case p.OnStoreError == OnStoreErrorDeny:
		r.Code, r.Reason, r.RetryAfterMs = machine.CodeRefused, ReasonStoreUnavailable, 1000
	default:
		r.Local = true
	}
	return r, nil
}

// lastAnswer is what seedLocal needs of the store's last answer on an agent.
type lastAnswer struct {
	state, hold   State
	epoch         string
	run           int64
	nowMs, leftMs int64
}

// equivalent reports whether r seeds the same breaker.
func (a *lastAnswer) equivalent(r *machine.Result) bool {
	if r.NowMs == 0 { // the answer of the fast path has only the epoch
		return a.epoch == r.Epoch
	}
	if a.state != r.State || a.hold != r.Hold || a.epoch != r.Epoch || a.run != r.Run {
		return false
	}
	endless := r.Hold != "" && a.leftMs <= 0 && r.LeftMs <= 0
	return r.Hold == "" && r.State != Open || endless || a.nowMs+a.leftMs == r.NowMs+r.LeftMs
}

// remember keeps the store's last answer on an agent. It takes no lock if the answer is equivalent to the one before,
// as most are.
func (f *Fallback) remember(agent string, r *machine.Result) {
	if r.NowMs > 0 {
		f.clock.set(r.NowMs)
	}
	last, ok := f.lastAnswers.Load(agent)
	if ok && last.Load().equivalent(r) {
		return
	}
	a := &lastAnswer{state: r.State, hold: r.Hold, epoch: r.Epoch, run: r.Run, nowMs: r.NowMs, leftMs: r.LeftMs}
	if !ok {
		last = f.addAnswer(agent, a)
	}
	last.Store(a)
}

// addAnswer adds an agent to lastAnswers. If it is full, the agent that was added first makes room.
func (f *Fallback) addAnswer(agent string, a *lastAnswer) *atomic.Pointer[lastAnswer] {
	f.mu.Lock()
	defer f.mu.Unlock()
	last := new(atomic.Pointer[lastAnswer])
	last.Store(a)
	if other, ok := f.lastAnswers.LoadOrStore(agent, last); ok {
		return other
	}
	if len(f.ring) < f.maxAgents {
		f.ring = append(f.ring, agent)
		return last
	}
	f.lastAnswers.Delete(f.ring[f.oldest])
	f.ring[f.oldest] = agent
	f.oldest = (f.oldest + 1) % f.maxAgents
	return last
}

// seedLocal stores a breaker in memory, unless there is one, in the state of the store's last answer. It returns the
// epoch of that answer.
func (f *Fallback) seedLocal(agent string) (epoch string) {
	last, ok := f.lastAnswers.Load(agent)
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

// degrade makes the Fallback degraded, and starts the pings. It does nothing if the Fallback is degraded or closed.
func (f *Fallback) degrade(cause error) {
	f.outage.Lock()
	defer f.outage.Unlock()
	if f.ctx.Err() != nil || f.degraded.Load() {
		return
	}
	f.local.clear()
	f.degraded.Store(true)
	f.onChange(true, cause)
	f.wg.Go(f.pingUntilUp)
}

// verify pings the store in the background, after the store did not answer within a caller's deadline. The Fallback
// becomes degraded if the ping fails.
func (f *Fallback) verify(cause error) {
	if f.ctx.Err() != nil || f.degraded.Load() || !f.verifying.CompareAndSwap(false, true) {
		return
	}
	f.wg.Go(func() {
		defer f.verifying.Store(false)
		if f.pingOnce() != nil {
			f.degrade(cause)
		}
	})
}

const (
	pingTimeout  = 500 * time.Millisecond
	minPingPause = 50 * time.Millisecond // doubles after each ping
	maxPingPause = 500 * time.Millisecond
)

func (f *Fallback) pingOnce() error {
	ctx, cancel := context.WithTimeout(f.ctx, pingTimeout)
	defer cancel()
	return f.ping(ctx)
}

// pingUntilUp pings the store until it is up, or the Fallback is closed.
func (f *Fallback) pingUntilUp() {
	for pause := minPingPause; ; pause = min(2*pause, maxPingPause) {
		select {
		case <-f.ctx.Done():
			return
		case <-time.After(pause):
		}
		if f.pingOnce() == nil {
			f.outage.Lock()
			defer f.outage.Unlock()
			f.degraded.Store(false)
			f.onChange(false, nil)
			return
		}
	}
}

// storeClock continues the store's time monotonically from its answers [B1]. Before the first answer it is the clock of
// this machine.
type storeClock struct{ last atomic.Pointer[storeTime] }

type storeTime struct {
	ms int64
	at time.Time // when this process got it
}

// maxLeadMs is how far the clock may be ahead of an answer, which took a while to arrive, before it is set back.
const maxLeadMs = 10

func (c *storeClock) set(ms int64) {
	if last := c.last.Load(); last != nil {
		age := time.Since(last.at)
		lead := last.ms + age.Milliseconds() - ms
		if age <= time.Second && (ms < last.ms || lead >= 0 && lead <= maxLeadMs) {
			return
		}
	}
	c.last.Store(&storeTime{ms: ms, at: time.Now()})
}

func (c *storeClock) nowMs() int64 {
	last := c.last.Load()
	if last == nil {
		return time.Now().UnixMilli()
	}
	return last.ms + time.Since(last.at).Milliseconds()
}
