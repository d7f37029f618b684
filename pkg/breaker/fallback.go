package breaker

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/puzpuzpuz/xsync/v4"
	"golang.org/x/sync/singleflight"

	"github.com/breakerd/breakerd/internal/bounded"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// Fallback is a [Store] that answers in place of a shared one while that is down, as Policy.OnStoreError says:
//
//   - [OnStoreErrorLocal]: from a breaker in the memory of this process, which begins in the last state that the store
//     answered;
//   - [OnStoreErrorAllow]: it admits every call;
//   - [OnStoreErrorDeny]: it refuses every call (ReasonStoreUnavailable).
//
// The first operation that the store does not answer makes the Fallback degraded: until the store is back, no other
// operation waits for it, and answers are marked as degraded. One goroutine pings the store. Once it answers, its state
// counts again, and the breakers in memory are dropped. An operator's Force is not answered from memory. Outcomes that
// the store did not get wait in the [Manager], which sends them on return [B26].
//
// An operation that the store refuses ([StoreError].Refused) says nothing about other agents: that agent alone is
// answered so, and the store is asked again once a second.
//
// A Fallback serves one Manager. It is safe for concurrent use. Close ends its goroutines.
type Fallback struct {
	o        FallbackOptions
	unusable error // NewFallback got no Store or no Ping
	local    *Memory
	clock    storeClock

	degraded atomic.Bool
	// outage is read-locked while an answer is made from memory, and locked while degraded changes: no such answer mixes
	// two outages.
	outage     sync.RWMutex
	returned   time.Time // when the last outage ended
	relapses   int       // outages that began soon after the one before
	refused    *xsync.Map[string, *refusedAgent]
	refusals   atomic.Int64
	verifying  atomic.Bool // a ping of verify is in progress
	identified atomic.Bool // the identity of the store's data is known, or asked for
	pings      singleflight.Group
	news       news
	panics     panics
	subscriber atomic.Pointer[subscriber]

	lastAnswers *bounded.Map[*atomic.Pointer[lastAnswer]] // by agent
	mu          sync.Mutex
	born        string // the identity of the store's data; "": not known. Guarded by mu.

	stop context.CancelFunc
	ctx  context.Context //nolint:containedctx // of the goroutines, ended by Close
	wg   sync.WaitGroup
}

// subscriber is the Manager of a Fallback.
type subscriber struct {
	changed func(degraded bool)
	reset   func() // the store has lost its data
}

// refusedAgent is an agent one of whose operations the store refuses.
type refusedAgent struct {
	verb  machine.Verb // that is refused
	cause error
	since time.Time    // read by [time.Since] alone, which a clock that is set does not move
	next  atomic.Int64 // from which on, in nanoseconds after since, one operation tries again
}

// FallbackOptions configures a [Fallback]. Store and Ping are required.
type FallbackOptions struct {
	Store Store
	// Ping returns nil if the store is up.
	Ping func(ctx context.Context) error
	// Born returns the identity of the store's data: another one, and the store has lost what it had. It is asked when
	// the store is up again; see also [Fallback.Identify]. nil: the data is taken to be the same.
	Born func(ctx context.Context) (string, error)
	// OnChange is called whenever the Fallback becomes degraded, with the cause, or ceases to be, in that order and on a
	// goroutine of its own. nil: nobody.
	OnChange func(degraded bool, cause error)
	// MaxAgents bounds the agents of which something is remembered. 0: 100,000.
	MaxAgents int
	Logger    *slog.Logger // nil: no logs
}

// NewFallback returns a Fallback. Without a Store or a Ping, its answers are [*StoreError]s, and NewManager refuses it.
func NewFallback(o FallbackOptions) *Fallback {
	if o.OnChange == nil {
		o.OnChange = func(bool, error) {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.MaxAgents = cmp.Or(max(o.MaxAgents, 0), defaultMaxAgents)
	unusable := checkStore("FallbackOptions.Store", o.Store)
	if o.Ping == nil {
		unusable = cmp.Or(unusable, unset("FallbackOptions.Ping"))
		o.Ping = func(context.Context) error { return unusable }
	}
	f := &Fallback{
		o: o, unusable: unusable,
		lastAnswers: bounded.New(bounded.Options[*atomic.Pointer[lastAnswer]]{Max: o.MaxAgents, Class: classOfAnswer}),
		refused:     xsync.NewMap[string, *refusedAgent](),
	}
	f.panics.log = o.Logger
	f.local = NewMemory(f.clock.nowMs, o.MaxAgents)
	f.ctx, f.stop = context.WithCancel(context.Background())
	return f
}

// Identify tells the Fallback the identity of the store's data, as somebody has read it: at the start, and whenever it
// has changed. If it is not the one before, what is remembered of the former data is forgotten, and outcomes that wait
// for it are lost. It is for authors of replicas.
func (f *Fallback) Identify(born string) {
	f.mu.Lock()
	reset := f.born != "" && f.born != born
	f.born = born
	if reset {
		f.lastAnswers.Clear()
	}
	f.mu.Unlock()
	if s := f.subscriber.Load(); reset && s != nil {
		s.reset()
	}
}

// Learn remembers an agent's breaker as the store has shown it, as if an operation of this process had met it. So a
// replica that never called an agent knows its hold when the store goes down. It is for authors of replicas.
func (f *Fallback) Learn(agent string, v View) {
	if v.Degraded || f.degraded.Load() {
		return
	}
	r := machine.Result{State: v.State, Epoch: v.Epoch, NowMs: v.NowMs, Run: v.Run, Hold: v.Hold.Kind}
	if d := v.DeadlineMs(); d > 0 {
		r.LeftMs = d - v.NowMs
	}
	f.remember(agent, &r)
}

// Close ends the pings, and waits until they have ended. A degraded Fallback stays so.
func (f *Fallback) Close() {
	f.outage.Lock()
	f.stop()
	f.outage.Unlock()
	f.wg.Wait()
}

// goes runs what on a goroutine that Close waits for, unless the Fallback is closed.
func (f *Fallback) goes(what func()) {
	f.outage.RLock()
	defer f.outage.RUnlock()
	if f.ctx.Err() == nil {
		f.wg.Go(what)
	}
}

// Degraded reports whether the store is down.
func (f *Fallback) Degraded() bool { return f.degraded.Load() }

// Report tells the Fallback of an error that other code got from the store. A [*StoreError] makes it degraded, unless
// the store refused the operation. It is for authors of replicas.
func (f *Fallback) Report(err error) {
	if storeErr, ok := errors.AsType[*StoreError](err); ok && !storeErr.Refused {
		f.degrade(err)
	}
}

// Apply implements [Store]. If the deadline of ctx ends before the store answers, the error is the store's.
func (f *Fallback) Apply(ctx context.Context, agent string, p Policy, op machine.Op) (machine.Result, error) {
	if err := f.made(); err != nil {
		return machine.Result{}, &StoreError{Verb: op.Verb, Agent: agent, Err: err}
	}
	if f.degraded.Load() {
		return f.applyDegraded(ctx, agent, p, op, nil)
	}
	refused, _ := f.refused.Load(agent)
	if refused != nil && !refused.due(op.Verb) {
		return f.applyDegraded(ctx, agent, p, op, refused.cause)
	}
	r, err := f.ask(ctx, agent, p, op, refused)
	if err == nil {
		return r, nil
	}
	storeErr, ok := errors.AsType[*StoreError](err)
	switch {
	case !ok:
		return r, err
	case storeErr.Refused:
		f.refuse(agent, storeErr)
	case TimeIsUp(ctx): // nobody waits for an answer, and the store may be up
		f.verify(err)
		return r, err
	case storeErr.Cut && f.isUp():
		if op.Verb == machine.VerbRecord && storeErr.Unknown {
			return machine.Result{Code: machine.CodeLost, Unknown: true}, nil
		}
		defer f.forgetLocal(agent)
	default:
		f.degrade(err)
	}
	return f.applyDegraded(ctx, agent, p, op, err)
}

// ask sends op to the store. If the store refused an operation of the agent, that is tried first.
func (f *Fallback) ask(
	ctx context.Context, agent string, p Policy, op machine.Op, refused *refusedAgent,
) (r machine.Result, err error) {
	if refused != nil && (op.Local || op.Verb != refused.verb) && !unanswerable(op.Verb) {
		trial := machine.Op{Verb: refused.verb, Token: randomHex(), Draw: op.Draw} // the token of no lease
		if _, err := f.o.Store.Apply(ctx, agent, p, trial); err != nil {
			return r, err
		}
		f.accepted(agent)
	}
	if op.Local { // the store never saw the epoch of a local permit
		return machine.Result{Code: machine.CodeLost}, nil
	}
	if r, err = f.o.Store.Apply(ctx, agent, p, op); err != nil {
		return r, err
	}
	if refused != nil && op.Verb == refused.verb {
		f.accepted(agent)
	}
	f.remember(agent, &r)
	if !f.identified.Load() {
		f.identifyOnce()
	}
	return r, nil
}

// unanswerable reports whether a verb is never answered from memory.
func unanswerable(verb machine.Verb) bool {
	return verb == machine.VerbForce || verb == machine.VerbReplay
}

// retryRefused is how often the store is asked again for an operation that it refuses.
const retryRefused = time.Second

// due reports whether an operation is to try the store, with the verb that was refused. Until that is accepted, the
// breaker in memory answers all verbs, so that it sees all of the agent's calls. Any verb may try another one, for that
// may never come again; but only an acquire tries an acquire, which may take a lease.
func (a *refusedAgent) due(verb machine.Verb) bool {
	if unanswerable(verb) {
		return true
	}
	now, next := int64(time.Since(a.since)), a.next.Load()
	return (verb == a.verb || a.verb != machine.VerbAcquire) && now >= next &&
		a.next.CompareAndSwap(next, now+int64(retryRefused))
}

// untilAsked is how long an agent's acquires are answered from memory, because the store refuses one of its operations;
// at most 0: the next one asks the store.
func (f *Fallback) untilAsked(agent string) time.Duration {
	a, ok := f.refused.Load(agent)
	if !ok {
		return 0
	}
	return time.Duration(a.next.Load()) - time.Since(a.since)
}

// refuse notes that the store refuses an operation of an agent.
func (f *Fallback) refuse(agent string, err *StoreError) {
	f.refusals.Add(1)
	if unanswerable(err.Verb) || f.refused.Size() >= f.o.MaxAgents {
		return
	}
	a := &refusedAgent{verb: err.Verb, cause: err, since: time.Now()}
	a.next.Store(int64(retryRefused))
	if _, known := f.refused.LoadOrStore(agent, a); !known {
		f.o.Logger.Error("the store refuses the operations of an agent: it alone is answered from memory",
			"event", "circuit_breaker.refused_by_store", "agent", agent, "error", err)
	}
}

// accepted ends the refusal of an agent.
func (f *Fallback) accepted(agent string) {
	f.outage.Lock()
	_, was := f.refused.LoadAndDelete(agent)
	if was && !f.degraded.Load() {
		f.local.drop(agent)
	}
	f.outage.Unlock()
	if was {
		f.o.Logger.Warn("the store accepts the operations of an agent again",
			"event", "circuit_breaker.accepted_by_store", "agent", agent)
	}
}

// forgetLocal drops the breaker that was made for one answer from memory, while the store is up.
func (f *Fallback) forgetLocal(agent string) {
	f.outage.Lock()
	defer f.outage.Unlock()
	if _, refused := f.refused.Load(agent); !refused && !f.degraded.Load() {
		f.local.drop(agent)
	}
}

// Refusals are the errors that the store gave to operations.
type Refusals struct {
	Agents     int   // agents that are answered from memory now, because the store refuses theirs
	Operations int64 // operations that the store has refused since the start
}

// Refusals returns what the store has refused.
func (f *Fallback) Refusals() Refusals { return Refusals{f.refused.Size(), f.refusals.Load()} }

// Inspect implements [Store]. While degraded it returns the breaker in memory, whatever the policy.
func (f *Fallback) Inspect(ctx context.Context, agent string, p Policy) (View, error) {
	if err := f.made(); err != nil {
		return View{}, &StoreError{Verb: machine.VerbInspect, Agent: agent, Err: err}
	}
	if !f.degraded.Load() {
		v, err := f.o.Store.Inspect(ctx, agent, p)
		storeErr, ok := errors.AsType[*StoreError](err)
		switch {
		case !ok || TimeIsUp(ctx):
			return v, err
		case storeErr.Refused, storeErr.Cut && f.isUp():
			defer f.forgetLocal(agent)
		default:
			f.degrade(err)
		}
	}
	return f.inspectLocal(ctx, agent, p)
}

// inspectLocal returns the breaker in memory.
func (f *Fallback) inspectLocal(ctx context.Context, agent string, p Policy) (View, error) {
	f.outage.RLock()
	defer f.outage.RUnlock()
	f.seedLocal(agent)
	v, err := f.local.Inspect(ctx, agent, p)
	v.Degraded = true
	return v, err
}

// TimeIsUp reports whether ctx has ended, or its deadline has passed. It is for authors of stores: a socket that has
// the same deadline may fail a moment before the context ends.
func TimeIsUp(ctx context.Context) bool {
	deadline, some := ctx.Deadline()
	return ctx.Err() != nil || some && !time.Now().Before(deadline)
}

// applyDegraded answers without the store. cause is the store's error, if the store was asked.
func (f *Fallback) applyDegraded(
	ctx context.Context, agent string, p Policy, op machine.Op, cause error,
) (machine.Result, error) {
	if unanswerable(op.Verb) {
		if cause == nil {
			cause = &StoreError{Verb: op.Verb, Agent: agent, Err: errors.New("degraded: this needs the shared store")}
		}
		return machine.Result{}, cause
	}
	f.outage.RLock()
	defer f.outage.RUnlock()
	last := f.lastAnswer(agent)
	r := machine.Result{
		Code: machine.CodeOK, State: last.state, Epoch: last.epoch, NowMs: f.clock.nowMs(), Local: last.state != Closed,
	}
	var err error
	switch {
	case p.OnStoreError == OnStoreErrorLocal:
		r, err = f.applyLocal(ctx, agent, p, op, last)
	case op.Verb == machine.VerbRecord:
		r.Unsent = last.unsent(op)
	case op.Verb != machine.VerbAcquire:
		r.Code = machine.CodeLost
	default:
		a := withoutStore(p)
		r.Code, r.Reason, r.RetryAfterMs = a.Code, a.Reason, a.RetryAfterMs
	}
	r.Degraded = true
	if storeErr, ok := errors.AsType[*StoreError](cause); ok && op.Verb == machine.VerbRecord {
		r.Unknown = storeErr.Unknown
	}
	return r, err
}

// withoutStore is the answer of OnStoreErrorAllow or OnStoreErrorDeny to an acquire.
func withoutStore(p Policy) machine.Result {
	if p.OnStoreError == OnStoreErrorDeny {
		return machine.Result{Code: machine.CodeRefused, Reason: ReasonStoreUnavailable, RetryAfterMs: 1000}
	}
	return machine.Result{Code: machine.CodeOK}
}

// applyLocal answers from the breaker in memory.
func (f *Fallback) applyLocal(
	ctx context.Context, agent string, p Policy, op machine.Op, last *lastAnswer,
) (machine.Result, error) {
	f.seedLocal(agent)
	bare := op.Epoch == "" && op.Token == ""
	before := ""
	if bare && op.Verb == machine.VerbRecord {
		before = f.local.epoch(agent)
	}
	r, err := f.local.Apply(ctx, agent, p, op)
	// A lease of this memory is none of the store, even where both have the same round: the store gives back what an
	// acquire without an answer may have taken.
	r.Local = r.Epoch != last.epoch || r.LeaseMs > 0
	switch {
	case op.Verb != machine.VerbRecord || r.Code == machine.CodeDisabled:
	case !bare:
		r.Unsent = last.unsent(op)
	case r.Code == machine.CodeOK && before == last.epoch:
		r.Unsent = last.epoch
	}
	return r, err
}
