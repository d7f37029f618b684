package breaker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// Options configures a Manager. Store is required; every other field has a default.
type Options struct {
	Store Store
	// Policy is how breakers behave. NewManager refuses a bad one.
	Policy Policy
	// PerAgent answers how one agent's breaker behaves now, in place of Policy: a zero field is its default, not Policy's value. It
	// is asked on every call, so it must be quick. nil: Policy counts for all. A bad answer is replaced by the agent's last good
	// one, or by Policy. It is logged and told to the Observer, once for each distinct value.
	PerAgent func(ctx context.Context, agent string) Policy
	// Look is PerAgent for Inspect, which is no use of the agent. nil: PerAgent.
	Look func(ctx context.Context, agent string) Policy
	// Disabled is the global switch: every call is admitted, nothing is asked or recorded [B21].
	Disabled bool
	// Reporter is who this process is, for minimum_reporters [B23]; a word. "": none.
	Reporter string
	// Classify makes an outcome of what a call returned. nil: Classify.
	Classify func(ctx context.Context, err error) Outcome
	Observer Observer     // nil: none
	Logger   *slog.Logger // nil: silent
	// What follows is for agents whose policy is Cached. FlushInterval is how long a success waits at most before it is sent, if
	// the store keeps up (0: 10 ms); MaxStaleness how old what is known of a closed breaker may grow (0: one second); MaxAgents
	// how many agents are known at once, others are asked for as in strict mode (0: 100,000).
	FlushInterval, MaxStaleness time.Duration
	MaxAgents                   int
}

// Manager gives permits and takes outcomes for every agent. It is safe for concurrent use, and holds no lock while an agent is
// called. State is the Store's; of agents whose policy is Cached a Manager keeps what it knows and what it has not sent yet: Close
// sends that.
type Manager struct {
	o       Options
	watched bool // there is an Observer
	bare    bool // there is none, and a call without an error is a success
	judge   *judge
	cached
}

// NewManager checks the options and makes a Manager.
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
	o.Policy = o.Policy.WithDefaults()
	if o.Look == nil {
		o.Look = o.PerAgent
	}
	m := &Manager{watched: o.Observer != nil, bare: o.Observer == nil && o.Classify == nil}
	if o.Classify == nil {
		o.Classify = Classify
	}
	if o.Observer == nil {
		o.Observer = NopObserver{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	m.o = o
	m.begin(m)
	m.judge = newJudge(o.Policy, m.most, m.reject)
	return m, nil
}

// policy is the agent's, valid and filled in.
func (m *Manager) policy(ctx context.Context, agent string) Policy {
	if m.o.PerAgent == nil {
		return m.o.Policy
	}
	return *m.judge.of(agent, m.o.PerAgent(ctx, agent))
}

// look is policy for one who only looks.
func (m *Manager) look(ctx context.Context, agent string) Policy {
	if m.o.Look == nil {
		return m.o.Policy
	}
	return *m.judge.look(agent, m.o.Look(ctx, agent))
}

// reject tells of a bad policy.
func (m *Manager) reject(agent string, err error) {
	m.o.Logger.Warn("policy not taken", "event", "circuit_breaker.bad_policy", "agent", agent, "error", err)
	m.o.Observer.PolicyRejected(agent, err)
}

func (m *Manager) classify(ctx context.Context, err error) Outcome { return m.o.Classify(ctx, err) }

// settleTimeout bounds a record that does not wait for a caller.
const settleTimeout = time.Second

func (m *Manager) outlive(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
}

// Acquire asks for leave to call agent: one round trip, or none where the policy is Cached and the breaker known to be closed. A
// refusal is an *OpenError. Any other error (ErrBadName, the context's end, a *StoreError where no fallback stands in) also means
// no permit.
func (m *Manager) Acquire(ctx context.Context, agent string) (Permit, error) {
	if c := m.bufferOf(agent); c != nil {
		c.admitted()
		return Permit{permitBody: &c.permitBody}, nil
	}
	return m.ask(ctx, agent)
}

// ask asks the store for leave to call agent.
func (m *Manager) ask(ctx context.Context, agent string) (Permit, error) {
	if !ValidName(agent) {
		return Permit{}, ErrBadName
	}
	if m.o.Disabled {
		return Permit{permitBody: &permitBody{m: m, agent: agent, kind: permitDisabled, epoch: machine.ZeroEpoch}}, nil
	}
	policy := m.policy(ctx, agent)
	asked, err := m.question(ctx, agent, policy)
	if err != nil {
		return Permit{}, err
	}
	op := machine.Op{Verb: machine.VerbAcquire, Token: drawToken(), RampPPM: rand.Int64N(machine.Million)}
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
	body := asked.adopt(r, policy)
	if body == nil {
		body = m.permit(agent, op, r)
	}
	m.o.Observer.Admitted(agent, Permit{permitBody: body})
	return Permit{permitBody: body}, nil
}

// permit is what the store gave, for one call.
func (m *Manager) permit(agent string, op machine.Op, r machine.Result) *permitBody {
	body := &permitBody{m: m, agent: agent, kind: permitClosed, epoch: r.Epoch, degraded: r.Degraded, wouldRefuse: r.Reason}
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

// refusalState is what x-circuit-breaker-state shows: a ramp is shown as half-open, a store that is away as nothing.
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

// Resume takes up a permit from its text, as String gave it in this process or another. ErrBadPermit: no such text.
// A permit of another agent is taken; its outcome will be foreign.
func (m *Manager) Resume(agent, text string) (Permit, error) {
	if !ValidName(agent) {
		return Permit{}, ErrBadName
	}
	body, foreign, err := parsePermit(agent, text)
	if err != nil {
		return Permit{}, err
	}
	body.m = m
	if foreign {
		body.kind = permitForeign
	}
	return Permit{permitBody: body}, nil
}

// Record reports an outcome without a permit [B15].
func (m *Manager) Record(ctx context.Context, agent string, o Outcome) (Report, error) {
	if !ValidName(agent) {
		return Report{}, ErrBadName
	}
	return m.settle(ctx, &permitBody{m: m, agent: agent}, o)
}

// settle sends one outcome to the breaker, unless the permit's kind already says that it cannot count.
func (m *Manager) settle(ctx context.Context, p *permitBody, o Outcome) (Report, error) {
	if m.o.Disabled || p.kind == permitDisabled || p.kind == permitObserved || p.kind == permitForeign {
		r := Report{Why: machine.Code(p.kind)}
		if m.o.Disabled {
			r.Why = machine.CodeDisabled
		}
		m.o.Observer.Settled(p.agent, o, r)
		return r, nil
	}
	if c := m.bufferFor(p, &o); c != nil {
		return c.settle(&o), nil
	}
	policy := m.policy(ctx, p.agent)
	if policy.Consistency == Cached {
		if err := m.Flush(ctx, p.agent); err != nil { // it must not overtake what came before it
			r := Report{Why: machine.CodeLost}
			m.o.Observer.Settled(p.agent, o, r)
			return r, err
		}
	}
	o.Slow = o.Slow || policy.isSlow(o.Duration)
	op := machine.Op{
		Verb: machine.VerbRecord, Epoch: p.epoch, Token: p.token, Summary: o.Summary(), Reporter: o.Reporter, ReportID: o.ReportID,
		Local: p.kind == permitLocal,
	}
	if op.Reporter == "" {
		op.Reporter = m.o.Reporter
	}
	res, err := m.apply(ctx, p.agent, policy, op)
	r := reportOf(res, err)
	if res.Probe {
		m.o.Observer.Probed(p.agent, o)
	}
	m.o.Observer.Settled(p.agent, o, r)
	return r, err
}

// Inspect shows one agent's breaker, advanced to now, and the policy it follows. Nothing is saved [B11]. What this process has counted,
// and not sent yet, is sent before.
func (m *Manager) Inspect(ctx context.Context, agent string) (View, Policy, error) {
	if !ValidName(agent) {
		return View{}, Policy{}, ErrBadName
	}
	if err := m.Flush(ctx, agent); err != nil {
		return View{}, Policy{}, err
	}
	p := m.look(ctx, agent)
	v, err := m.o.Store.Inspect(ctx, agent, p)
	return v, p, err
}

// Force is an operator's hold or reset [B17], [B18]. ErrHoldProtected: a protected hold stands and f.Override is not set.
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

// apply draws what chance there is, asks the store, and tells the observer what happened.
func (m *Manager) apply(ctx context.Context, agent string, p Policy, op machine.Op) (machine.Result, error) {
	op.Draw, op.JitterPPM = hex16(rand.Uint64())[1:], rand.Int64N(machine.Million)
	start := time.Now()
	r, err := m.o.Store.Apply(ctx, agent, p, op)
	m.o.Observer.StoreCall(op.Verb, time.Since(start), err)
	for _, e := range r.Events {
		m.o.Observer.Event(agent, e, r.Degraded)
	}
	switch {
	case err == nil && r.Degraded != m.away.Load() && r.Degraded != m.away.Swap(r.Degraded):
		m.invalidateAll()
	case len(r.Events) > 0:
		m.Invalidate(agent)
	}
	return r, err
}

func drawToken() string { return hex16(rand.Uint64()) }

func hex16(v uint64) string {
	const digits = "0123456789abcdef"
	var b [16]byte
	for i := range b {
		b[15-i] = digits[v&15]
		v >>= 4
	}
	return string(b[:])
}

func isLeaseLost(err error) bool { return errors.Is(err, ErrLeaseLost) }

// Observer is told what happens. Its methods run on the caller's goroutine and must be quick and safe for concurrent use.
// Embed NopObserver to implement only some.
type Observer interface {
	Admitted(agent string, p Permit)
	Refused(agent string, e *OpenError)
	Settled(agent string, o Outcome, r Report)
	// Flushed: outcomes that were settled as Pending have reached the store, or have not; r is of all of them. It runs in the
	// background.
	Flushed(agent string, s machine.Summary, r Report)
	// Probed: a half-open test call was settled with this outcome.
	Probed(agent string, o Outcome)
	// Event: this process's operation brought a transition, a heal or a manual action about; degraded: in its own memory only.
	Event(agent string, e Event, degraded bool)
	StoreCall(verb machine.Verb, took time.Duration, err error)
	// PolicyRejected: Options.PerAgent or Options.Look gave a policy that no breaker can follow; err is a *PolicyError. It is told
	// once for each distinct value, of the agent that was the first to have it.
	PolicyRejected(agent string, err error)
}

// NopObserver does nothing.
type NopObserver struct{}

// Admitted implements Observer, as do the others.
func (NopObserver) Admitted(string, Permit) {}

// Refused implements Observer.
func (NopObserver) Refused(string, *OpenError) {}

// Settled implements Observer.
func (NopObserver) Settled(string, Outcome, Report) {}

// Flushed implements Observer.
func (NopObserver) Flushed(string, machine.Summary, Report) {}

// Probed implements Observer.
func (NopObserver) Probed(string, Outcome) {}

// Event implements Observer.
func (NopObserver) Event(string, Event, bool) {}

// StoreCall implements Observer.
func (NopObserver) StoreCall(machine.Verb, time.Duration, error) {}

// PolicyRejected implements Observer.
func (NopObserver) PolicyRejected(string, error) {}
