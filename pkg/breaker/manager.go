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
	// Classify turns the error of a call into an outcome. It is called concurrently. nil: the function Classify.
	Classify func(ctx context.Context, err error) Outcome
	Observer Observer     // nil: none
	Logger   *slog.Logger // nil: no logs

	// The rest is for agents whose policy is Cached.

	// FlushInterval is how long a success waits before it is sent, unless a backlog delays it. 0: 10 ms.
	FlushInterval time.Duration
	// MaxStaleness is how long calls are admitted from memory after the last answer of the store. 0: one second.
	MaxStaleness time.Duration
	// MaxAgents bounds the agents that are cached at once; calls of further ones ask the store. 0: 100,000.
	MaxAgents int
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
	observed bool // Options.Observer is set
	// fastPath: neither Options.Observer nor Options.Classify is set, so a call without an error needs no Outcome.
	fastPath bool

	// Cached mode; see cached.go.

	agents      *xsync.Map[string, *Agent]
	lookup      lookupCache
	flusher     *flush.Scheduler[*epochBuffer]
	sweeper     sweeper
	started     time.Time   // uptime counts from here
	degraded    atomic.Bool // the last answer was given without the store
	flushFailed atomic.Bool // the last flush failed, which was logged
}

// NewManager checks the options and returns a Manager. It starts no goroutine.
func NewManager(o Options) (*Manager, error) {
	if o.Store == nil {
		return nil, errors.New("breaker: Options.Store is required")
	}
	if o.Reporter != "" && !ValidWord(o.Reporter) {
		return nil, fmt.Errorf("breaker: Options.Reporter %q: want 1 to 64 of A-Z a-z 0-9 . _ : @ -", o.Reporter)
	}
	if err := o.Policy.Validate(); err != nil {
		return nil, fmt.Errorf("breaker: Options.Policy: %w", err)
	}
	m := &Manager{
		observed: o.Observer != nil, fastPath: o.Observer == nil && o.Classify == nil,
		agents: xsync.NewMap[string, *Agent](), started: time.Now(), sweeper: sweeper{stop: make(chan struct{})},
	}
	o.Policy = o.Policy.WithDefaults()
	if o.Look == nil {
		o.Look = o.PerAgent
	}
	if o.Classify == nil {
		o.Classify = Classify
	}
	if o.Observer == nil {
		o.Observer = NopObserver{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.FlushInterval = cmp.Or(max(o.FlushInterval, 0), 10*time.Millisecond)
	o.MaxStaleness = cmp.Or(max(o.MaxStaleness, 0), time.Second)
	o.MaxAgents = cmp.Or(max(o.MaxAgents, 0), defaultMaxAgents)
	m.o = o
	m.policies = newPolicies(o.Policy, o.MaxAgents, m.rejectPolicy)
	m.flusher = flush.New(o.FlushInterval, (*epochBuffer).flush)
	return m, nil
}

// policy returns the agent's policy, valid and with its defaults.
func (m *Manager) policy(ctx context.Context, agent string) Policy {
	if m.o.PerAgent == nil {
		return m.o.Policy
	}
	return *m.policies.use(agent, m.o.PerAgent(ctx, agent))
}

// rejectPolicy reports an invalid policy.
func (m *Manager) rejectPolicy(agent string, err error) {
	m.o.Logger.Warn("policy not taken", "event", "circuit_breaker.bad_policy", "agent", agent, "error", err)
	m.o.Observer.PolicyRejected(agent, err)
}

// Acquire asks for a permit to call agent. It takes one round trip to the store, or none if the agent's policy is
// Cached and its breaker is known to be closed. A refusal is an [*OpenError]. Every other error also means that there
// is no permit: ErrBadName, the context's error, or a [*StoreError] if the store is down and there is no [Fallback].
func (m *Manager) Acquire(ctx context.Context, agent string) (Permit, error) {
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
	policy := m.policy(ctx, agent)
	fill, err := m.beginFill(ctx, agent, policy)
	if err != nil {
		return Permit{}, err
	}
	op := machine.Op{Verb: machine.VerbAcquire, Token: randomHex(), RampPPM: rand.Int64N(machine.Million)}
	r, err := m.apply(ctx, agent, policy, op)
	if err != nil {
		return Permit{}, err
	}
	if r.Code == machine.CodeRefused {
		e := &OpenError{
			Agent: agent, State: refusalState(r), Reason: r.Reason, Degraded: r.Degraded,
			RetryAfter: time.Duration(r.RetryAfterMs) * time.Millisecond,
		}
		m.o.Observer.Refused(agent, e)
		return Permit{}, e
	}
	if b := fill.activate(r, policy); b != nil {
		return b.admit(), nil
	}
	p := Permit{permitBody: m.newPermitBody(agent, op, r)}
	m.o.Observer.Admitted(agent, p)
	return p, nil
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
	if !ValidName(agent) {
		return Report{}, ErrBadName
	}
	return m.settle(ctx, &permitBody{m: m, agent: agent}, o)
}

// settle takes the outcome of a permit that was not given from memory.
func (m *Manager) settle(ctx context.Context, p *permitBody, o Outcome) (Report, error) {
	if m.o.Disabled {
		return m.settled(p.agent, o, Report{Why: machine.CodeDisabled}), nil
	}
	if p.kind == permitDisabled || p.kind == permitObserved || p.kind == permitForeign {
		return m.settled(p.agent, o, Report{Why: machine.Code(p.kind)}), nil
	}
	if b := m.bufferFor(p, &o); b != nil {
		return b.settle(&o), nil
	}
	policy := m.policy(ctx, p.agent)
	if policy.Consistency == Cached {
		if err := m.Flush(ctx, p.agent); err != nil { // this outcome must not overtake those that wait
			return m.settled(p.agent, o, Report{Why: machine.CodeLost}), err
		}
	}
	o.Slow = o.Slow || policy.isSlow(o.Duration)
	res, err := m.apply(ctx, p.agent, policy, machine.Op{
		Verb: machine.VerbRecord, Epoch: p.epoch, Token: p.token, Summary: o.Summary(),
		Reporter: cmp.Or(o.Reporter, m.o.Reporter), ReportID: o.ReportID, Local: p.kind == permitLocal,
	})
	if res.Probe {
		m.o.Observer.Probed(p.agent, o)
	}
	return m.settled(p.agent, o, newReport(res, err)), err
}

// settled notifies the observer.
func (m *Manager) settled(agent string, o Outcome, r Report) Report {
	m.o.Observer.Settled(agent, o, r)
	return r
}

// Inspect returns an agent's breaker, advanced to now, and its policy. It changes nothing in the store [B11], but first
// sends the outcomes of the agent that this process has not sent yet. The error is ErrBadName, the context's error or a
// [*StoreError].
func (m *Manager) Inspect(ctx context.Context, agent string) (View, Policy, error) {
	if !ValidName(agent) {
		return View{}, Policy{}, ErrBadName
	}
	if err := m.Flush(ctx, agent); err != nil {
		return View{}, Policy{}, err
	}
	p := m.o.Policy
	if m.o.Look != nil {
		p = *m.policies.peek(agent, m.o.Look(ctx, agent))
	}
	v, err := m.o.Store.Inspect(ctx, agent, p)
	return v, p, err
}

// Force holds or resets an agent's breaker on behalf of an operator [B17], [B18], and returns the breaker's state after
// it. The error is ErrBadName, ErrHoldProtected if a protected hold is in force and f.Override is not set, or a
// [*StoreError], also with a [Fallback].
func (m *Manager) Force(ctx context.Context, agent string, f Force) (State, error) {
	if !ValidName(agent) {
		return "", ErrBadName
	}
	if !ValidWord(f.Actor) {
		return "", fmt.Errorf("actor %q: want 1 to 64 of A-Z a-z 0-9 . _ : @ -", f.Actor)
	}
	r, err := m.apply(ctx, agent, m.policy(ctx, agent), machine.Op{Verb: machine.VerbForce, Force: f})
	if err != nil {
		return "", err
	}
	if r.Code == machine.CodeHoldProtected {
		return r.State, fmt.Errorf("agent %q: %w", agent, ErrHoldProtected)
	}
	return r.State, nil
}

// apply sends op to the store with fresh random draws, notifies the observer, and invalidates what the answer makes
// stale.
func (m *Manager) apply(ctx context.Context, agent string, p Policy, op machine.Op) (machine.Result, error) {
	op.Draw, op.JitterPPM = randomHex()[1:], rand.Int64N(machine.Million)
	start := time.Now()
	r, err := m.o.Store.Apply(ctx, agent, p, op)
	m.o.Observer.StoreCall(op.Verb, time.Since(start), err)
	for _, e := range r.Events {
		m.o.Observer.Event(agent, e, r.Degraded)
	}
	switch {
	case err == nil && r.Degraded != m.degraded.Load() && r.Degraded != m.degraded.Swap(r.Degraded):
		m.invalidateAll()
	case len(r.Events) > 0:
		m.Invalidate(agent)
	}
	return r, err
}

// randomHex returns a random word of 16 hexadecimal digits.
func randomHex() string { return fmt.Sprintf("%016x", rand.Uint64()) }
