package breaker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/puzpuzpuz/xsync/v4"

	"github.com/breakerd/breakerd/pkg/breaker/internal/flush"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// Options configures a [Manager]. Store is required; every other field has a default.
type Options struct {
	// Store keeps the breakers. [Memory] is for one process; a store that may be down belongs in a [Fallback].
	Store Store
	// Policy is the policy of every agent, unless PerAgent is set. NewManager refuses an invalid one.
	Policy Policy
	// PerAgent returns the policy of one agent in place of Policy; in what it returns, too, a zero field means its
	// default. It is called once per operation, concurrently, and must be fast. An invalid policy is replaced by the
	// agent's last valid one, or by Policy, and reported to Logger and Observer, once for each distinct policy. nil: all
	// agents have Policy.
	PerAgent func(ctx context.Context, agent string) Policy
	// Look is PerAgent for Inspect, which does not count as a use of the agent. nil: PerAgent.
	Look func(ctx context.Context, agent string) Policy
	// Disabled admits every call and records nothing [B21].
	Disabled bool
	// Reporter identifies this process for Policy.MinimumReporters [B23]; see ValidWord. "": none.
	Reporter string
	// Classify turns a call of [Manager.Do] or [Call] into an outcome, whose Duration is set afterwards. It is called
	// concurrently. nil: the function Classify.
	Classify func(ctx context.Context, c CallInfo) Outcome
	// Observer is notified of what the Manager does; for several see [Observers]. nil: nobody.
	Observer Observer
	// OnCall is told that a call of parent's calls agent, each time; see [Manager.NoteCall]. It is called concurrently,
	// and must be quick. nil: nobody.
	OnCall func(parent, agent string)
	// Logger gets trouble: outcomes that were not recorded, policies that are not valid, panics of functions given here.
	// nil: it is not logged.
	Logger *slog.Logger

	// FlushInterval is, in cached mode only, how long a success waits before it is sent, unless a backlog delays it.
	// 0: 10 ms.
	FlushInterval time.Duration
	// MaxStaleness is, in cached mode only, how long calls are admitted from memory after the store's last answer.
	// 0: one second.
	MaxStaleness time.Duration

	// MaxAgents bounds the agents that are tracked at once; Tracking says which ones they are. 0: 100,000.
	MaxAgents int
	// Tracking says which agents have breakers, if callers may name any number of them. Zero: all, up to MaxAgents.
	Tracking Tracking
}

// defaultMaxAgents bounds what is remembered by agent where the caller gives no bound.
const defaultMaxAgents = 100_000

// settleTimeout bounds a record that is sent after its caller's context has ended, or in the background.
const settleTimeout = time.Second

// Manager issues permits and takes outcomes for all agents. It is safe for concurrent use. A Manager that has cached
// agents has outcomes to send, and must be closed.
type Manager struct {
	o        Options
	policies *policies
	tracker  *tracker
	observed bool       // Options.Observer is set
	panics   panics     // of the user's code
	took     *durations // nil: nobody wants them
	gate     atomic.Pointer[Gate]

	// Cached mode; see cached.go.

	agents      *xsync.Map[string, *Agent]
	lookup      lookupCache
	flusher     *flush.Scheduler[*epochBuffer]
	sweeper     sweeper
	started     time.Time   // uptime counts from here
	flushFailed atomic.Bool // the last flush failed, which was logged

	ledger    ledger
	clock     *storeClock // the Fallback's, if there is one
	fallback  *Fallback   // Options.Store, if it is one
	waits     waits
	outOfStep atomic.Bool // there was an outage, and not all that waited is sent
}

// NewManager checks the options and returns a Manager. It starts no goroutine.
func NewManager(o Options) (*Manager, error) {
	if err := checkStore("Options.Store", o.Store); err != nil {
		return nil, fmt.Errorf("breaker: %w", err)
	}
	if o.Reporter != "" && !ValidWord(o.Reporter) {
		return nil, fmt.Errorf("breaker: Options.Reporter %q: want %s", o.Reporter, wantWord)
	}
	if err := o.checkPolicy(o.Policy); err != nil {
		return nil, fmt.Errorf("breaker: Options.Policy: %w", err)
	}
	m := &Manager{
		observed: o.Observer != nil,
		agents:   xsync.NewMap[string, *Agent](), started: time.Now(), sweeper: sweeper{stop: make(chan struct{})},
		waits: newWaits(),
	}
	o.Policy = o.Policy.WithDefaults()
	if o.Look == nil {
		o.Look = o.PerAgent
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	m.panics.log = o.Logger
	if o.Observer == nil {
		o.Observer = NopObserver{}
	} else {
		m.took = durationsOf(o.Observer, &m.panics)
		o.Observer = guarded(o.Observer, &m.panics)
	}
	o.FlushInterval = cmp.Or(max(o.FlushInterval, 0), 10*time.Millisecond)
	o.MaxStaleness = cmp.Or(max(o.MaxStaleness, 0), time.Second)
	o.MaxAgents = cmp.Or(max(o.MaxAgents, 0), defaultMaxAgents)
	m.o = o
	m.policies = newPolicies(o.Policy, o.MaxAgents, o.checkPolicy, m.rejectPolicy)
	m.tracker = newTracker(o.Tracking, o.MaxAgents, &m.panics)
	m.flusher = flush.New(o.FlushInterval, (*epochBuffer).flush)
	m.clock = new(storeClock)
	if f, ok := o.Store.(*Fallback); ok {
		m.fallback, m.clock = f, &f.clock
		f.subscribe(subscriber{changed: m.storeChanged, reset: m.storeReset})
	}
	return m, nil
}

// policy returns the agent's policy, valid and with its defaults.
func (m *Manager) policy(ctx context.Context, agent string) Policy {
	if m.o.PerAgent == nil {
		return m.o.Policy
	}
	if p, ok := m.askPolicy(ctx, "Options.PerAgent", m.o.PerAgent, agent); ok {
		return *m.policies.use(agent, p)
	}
	return *m.policies.lastValid(agent)
}

// Policy returns the policy by which a call of agent is judged now, valid and with its defaults. It is the
// default policy if the Manager is not one that [NewManager] made.
func (m *Manager) Policy(ctx context.Context, agent string) Policy {
	if !m.ready(ctx) {
		return DefaultPolicy()
	}
	return m.policy(ctx, agent)
}

// rejectPolicy reports an invalid policy.
func (m *Manager) rejectPolicy(agent string, err error) {
	m.o.Logger.Warn("policy not taken", "event", "circuit_breaker.bad_policy", "agent", agent, "error", err)
	m.o.Observer.PolicyRejected(agent, err)
}

// Acquire asks for a permit to call agent. It takes one round trip to the store, or none if the agent's policy is
// Cached and its breaker is known to be closed. If ctx has ended, nothing is asked.
//
// Every error means that there is no permit. A refusal is an [*OpenError], which is [ErrOpen]; with Tracking.Refuse it
// may also be [ErrTooManyAgents]. Else it is [ErrBadName], [ErrUnset] (a nil context, a zero Manager), the context's
// error, as it is, or a [*StoreError] if the store is down and there is no [Fallback].
func (m *Manager) Acquire(ctx context.Context, agent string) (Permit, error) {
	if !m.ready(ctx) {
		return Permit{}, m.notReady(ctx)
	}
	if refusal := m.pass(agent); refusal != nil {
		return Permit{}, refusal
	}
	if b := m.activeBuffer(agent); b != nil {
		return b.admit(), nil
	}
	return m.acquireFromStore(ctx, agent)
}

func (m *Manager) acquireFromStore(ctx context.Context, agent string) (Permit, error) {
	if !ValidName(agent) {
		return Permit{}, ErrBadName
	}
	if m.o.Disabled {
		return Permit{permitBody: &permitBody{m: m, agent: agent, kind: permitDisabled, epoch: machine.ZeroEpoch}}, nil
	}
	m.noteNested(ctx, agent)
	if !m.tracker.tracks(ctx, agent) {
		return m.acquireUntracked(agent)
	}
	policy := m.policy(ctx, agent)
	if policy.Consistency != Cached || policy.Disabled {
		return m.acquire(ctx, agent, policy, fill{})
	}
	a := m.cachedAgent(agent)
	if a == nil {
		return m.acquire(ctx, agent, policy, fill{})
	}
	return a.acquire(ctx, policy)
}

// acquire asks the store for a permit. f may cache the answer.
func (m *Manager) acquire(ctx context.Context, agent string, p Policy, f fill) (Permit, error) {
	op := machine.Op{Verb: machine.VerbAcquire, Token: randomHex(), RampPPM: rand.Int64N(machine.Million)}
	a := m.ask(ctx, agent, p, op)
	b := f.end(&a, p)
	m.notify(agent, &a)
	r := a.result
	switch {
	case a.err != nil:
		return Permit{}, a.err
	case r.Code == machine.CodeRefused:
		return Permit{}, m.refused(agent, &r)
	case b != nil:
		return b.admit(), nil
	}
	permit := Permit{permitBody: m.newPermitBody(agent, op, r)}
	m.o.Observer.Admitted(agent, permit)
	return permit, nil
}

// refused makes the error of a refusal, and notifies the observer.
func (m *Manager) refused(agent string, r *machine.Result) *OpenError {
	e := &OpenError{
		Agent: agent, State: refusalState(*r), Reason: r.Reason, Degraded: r.Degraded,
		Wait: time.Duration(r.RetryAfterMs) * time.Millisecond,
	}
	m.waits.refused(agent)
	m.o.Observer.Refused(agent, e)
	return e
}

// newPermitBody makes the body of a permit for one call from the store's answer.
func (m *Manager) newPermitBody(agent string, op machine.Op, r machine.Result) *permitBody {
	body := &permitBody{
		m: m, agent: agent, kind: permitClosed, epoch: r.Epoch, degraded: r.Degraded, wouldRefuse: r.Reason,
	}
	switch {
	case r.Code == machine.CodeDisabled:
		body.kind = permitDisabled
	case r.Code == machine.CodeObserved && r.Reason != ReasonRamping:
		body.kind = permitObserved
	case r.Local:
		body.kind = permitLocal
	case r.LeaseMs > 0:
		body.kind = permitHalfOpen
	}
	if r.LeaseMs > 0 {
		body.token = op.Token
		body.leaseMs.Store(r.LeaseMs)
	}
	return body
}

// refusalState returns the state that a refusal shows: half-open for a ramp, none if the breaker itself did not refuse.
func refusalState(r machine.Result) State {
	switch r.Reason {
	case ReasonRamping:
		return HalfOpen
	case ReasonStoreUnavailable, ReasonShedding:
		return ""
	default:
		return r.State
	}
}

// Resume makes a permit from the text that [Permit.String] returned in this process or in another one. The error is
// ErrBadName or ErrBadPermit. The permit of another agent is no error here; its outcome does not count
// (machine.CodeForeign).
func (m *Manager) Resume(agent, text string) (Permit, error) {
	if err := m.made(); err != nil {
		return Permit{}, err
	}
	if !ValidName(agent) {
		return Permit{}, ErrBadName
	}
	body, err := parsePermit(agent, text)
	if err != nil {
		return Permit{}, err
	}
	body.m = m
	return Permit{permitBody: body}, nil
}

// Record reports an outcome without a permit [B15]. The error is ErrBadName, or as for [Permit.Settle].
func (m *Manager) Record(ctx context.Context, agent string, o Outcome) (Report, error) {
	if err := m.usable(ctx); err != nil {
		return Report{}, err
	}
	if !ValidName(agent) {
		return Report{}, ErrBadName
	}
	if err := o.check(); err != nil {
		return Report{}, err
	}
	return m.settle(ctx, &permitBody{m: m, agent: agent}, o)
}

// settle takes the outcome of a permit that was not given from memory.
func (m *Manager) settle(ctx context.Context, p *permitBody, o Outcome) (Report, error) {
	if m.o.Disabled {
		return m.uncounted(p.agent, o, machine.CodeDisabled), nil
	}
	if m.isUntracked(ctx, p) {
		return Report{Why: CodeUntracked}, nil
	}
	if p.kind == permitDisabled || p.kind == permitObserved || p.kind == permitForeign {
		return m.uncounted(p.agent, o, machine.Code(p.kind)), nil
	}
	if b := m.bufferFor(p, &o); b != nil {
		return b.settle(&o), nil
	}
	m.ledger.take(1)
	policy := m.policy(ctx, p.agent)
	o.Slow = o.Slow || policy.isSlow(o.Duration)
	op := machine.Op{
		Verb: machine.VerbRecord, Epoch: p.epoch, Token: p.token, Summary: o.Summary(),
		Reporter: cmp.Or(o.Reporter, m.o.Reporter), ReportID: o.ReportID, Local: p.kind == permitLocal,
	}
	var res machine.Result
	var err error
	if policy.Consistency == Cached {
		err = m.Flush(ctx, p.agent) // this outcome must not overtake those that wait
	}
	if err == nil {
		res, err = m.apply(ctx, p.agent, policy, op)
	}
	if policy.Consistency == Cached && err == nil {
		m.noteRun(p.agent, &res)
	}
	report, err := m.conclude(p.agent, policy, op, &res, err)
	switch {
	case res.Probe:
		m.o.Observer.Probed(p.agent, o)
	case report.Counted && o.Kind == Failure && res.Run > 0:
		report.failed(res.Run, &policy)
	}
	return m.settled(p.agent, o, report), err
}

// conclude accounts for the outcomes of a record: the store has answered, or they wait until it can [B26]. In strict
// mode without a Fallback the caller gets the store's error instead.
func (m *Manager) conclude(
	agent string, p Policy, op machine.Op, r *machine.Result, err error,
) (Report, error) {
	report := newReport(*r, err)
	calls, why := max(op.Summary.Calls(), 1), cmp.Or(r.Reason, LostLocal)
	lease := op.Token != "" && !op.Local
	epoch := r.Unsent
	if err != nil {
		epoch, why = op.Epoch, LostUnsent
	}
	switch {
	case err == nil && !r.Degraded && !r.Unknown, r.Code == machine.CodeDisabled:
	case op.Summary.Calls() == 0 && !lease:
		report, err = Report{State: r.State, Why: machine.CodeIgnored, Degraded: r.Degraded}, nil
	case (m.fallback != nil || p.Consistency == Cached) &&
		(lease || op.ReportID != "" && !op.Local || report.Why != CodeUnknown && epoch != ""):
		if !m.keep(agent, p, op, epoch, report.Why == CodeUnknown) {
			return Report{State: r.State, Why: machine.CodeLost, Degraded: r.Degraded}, nil
		}
		if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) &&
			!m.outOfStep.Swap(true) {
			m.o.Logger.Warn("outcomes wait until the store takes them", "agent", agent, "error", err)
		}
		return Report{State: r.State, Counted: true, Pending: true, Degraded: r.Degraded}, nil
	case err == nil && report.Why != CodeUnknown: // in this process's memory only
		report.Counted, report.Why = false, machine.CodeLost
	}
	code := cmp.Or(report.Why, machine.CodeOK)
	m.ledger.settle(calls, code, why)
	return report, err
}

// uncounted is the report on an outcome about which the store is not asked.
func (m *Manager) uncounted(agent string, o Outcome, why machine.Code) Report {
	m.ledger.count(why)
	return m.settled(agent, o, Report{Why: why})
}

// storeChanged is called when the store goes down, or is up again.
func (m *Manager) storeChanged(down bool) {
	m.invalidateAll()
	if down {
		m.outOfStep.Store(true)
		return
	}
	l := &m.ledger
	l.mu.Lock()
	outcomes := l.queue.outcomes
	agents, _ := l.queue.waiting()
	m.startReplay()
	l.mu.Unlock()
	if outcomes == 0 {
		m.inStep()
		return
	}
	m.o.Logger.Info(fmt.Sprintf("Replaying %d outcomes of %d agents", outcomes, agents),
		"event", "circuit_breaker.replaying", "outcomes", outcomes, "agents", agents)
}

// inStep logs, once after each outage, that nothing waits any more.
func (m *Manager) inStep() {
	if !m.storeDown() && m.outOfStep.Swap(false) {
		lost := m.Outcomes().Settled[machine.CodeLost]
		m.o.Logger.Info("in step", "event", "circuit_breaker.in_step", "lost_since_start", lost)
	}
}

// settled notifies the observer.
func (m *Manager) settled(agent string, o Outcome, r Report) Report {
	m.took.settled(agent, &o, r.Why)
	m.o.Observer.Settled(agent, o, r)
	return r
}

// Inspect returns an agent's breaker, advanced to now, and its policy. It changes nothing in the store [B11], but first
// sends the outcomes of the agent that this process has not sent yet. The error is ErrBadName, the context's error or a
// [*StoreError].
func (m *Manager) Inspect(ctx context.Context, agent string) (View, Policy, error) {
	if !m.ready(ctx) {
		return View{}, Policy{}, m.notReady(ctx)
	}
	if !ValidName(agent) {
		return View{}, Policy{}, ErrBadName
	}
	if err := m.Flush(ctx, agent); err != nil {
		return View{}, Policy{}, err
	}
	p := m.o.Policy
	if m.o.Look != nil {
		p = m.look(ctx, agent)
	}
	v, err := m.o.Store.Inspect(ctx, agent, p)
	return v, p, err
}

// Force holds, releases or resets an agent's breaker on behalf of an operator [B17], [B18], and returns the breaker's
// state after it. [Manager.Open], [Manager.Release] and [Manager.Reset] are the same in other words. f needs a Target
// and an Actor; its times are at most [MaxDuration], and its Reason is at most 500 bytes of printable text. The error
// is ErrBadName, a [*ForceError], ErrHoldProtected if a protected hold is in force and f.Override is not set,
// ErrHoldExists if f yields to a hold that stands, ErrNotHeld if there is no hold to release, the context's error, or a
// [*StoreError], also with a [Fallback].
func (m *Manager) Force(ctx context.Context, agent string, f Force) (State, error) {
	if !m.ready(ctx) {
		return "", m.notReady(ctx)
	}
	if !ValidName(agent) {
		return "", ErrBadName
	}
	if err := checkForce(&f); err != nil {
		return "", err
	}
	f.Address = cmp.Or(f.Address, AddressOf(ctx))
	m.Track(agent, View{})
	r, err := m.apply(ctx, agent, m.policy(ctx, agent), machine.Op{Verb: machine.VerbForce, Force: f})
	if err != nil {
		return "", err
	}
	switch r.Code {
	case machine.CodeHoldProtected:
		err = ErrHoldProtected
	case machine.CodeHoldExists:
		err = ErrHoldExists
	case machine.CodeNotHeld:
		err = ErrNotHeld
	default:
		return r.State, nil
	}
	return r.State, fmt.Errorf("agent %q: %w", agent, err)
}

// apply is ask and notify.
func (m *Manager) apply(ctx context.Context, agent string, p Policy, op machine.Op) (machine.Result, error) {
	a := m.ask(ctx, agent, p, op)
	m.notify(agent, &a)
	return a.result, a.err
}

// answer is what the store said to an operation.
type answer struct {
	verb   machine.Verb
	took   time.Duration
	result machine.Result
	err    error
}

// ask sends op to the store with fresh random draws, and invalidates what the answer makes stale.
func (m *Manager) ask(ctx context.Context, agent string, p Policy, op machine.Op) answer {
	op.Draw, op.JitterPPM = randomHex()[1:], rand.Int64N(machine.Million)
	start := time.Now()
	r, err := m.o.Store.Apply(ctx, agent, p, op)
	if m.fallback == nil && r.NowMs > 0 {
		m.clock.set(r.NowMs)
	}
	switch {
	case len(r.Events) > 0:
		m.Invalidate(agent)
	case r.Probe && op.Summary.Calls() == 0: // a place is free again
		m.waits.tell(agent)
	}
	m.tracker.see(agent, r.State, r.Hold)
	return answer{verb: op.Verb, took: time.Since(start), result: r, err: err}
}

// notify tells the observer of an answer. It is called where no other caller waits for this one.
func (m *Manager) notify(agent string, a *answer) {
	m.o.Observer.StoreCall(a.verb, a.took, a.err)
	for _, e := range a.result.Events {
		m.o.Observer.Event(agent, e, a.result.Degraded)
	}
}

// randomHex returns a random word of 16 hexadecimal digits.
func randomHex() string { return fmt.Sprintf("%016x", rand.Uint64()) }
