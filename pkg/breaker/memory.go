package breaker

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// Memory is a Store in this process alone: a map around Step. It is what a replica falls back on while Redis is away, and
// serves tests and single processes. To minimum_reporters it is one replica [B23]. It is safe for concurrent use.
type Memory struct {
	nowMs  func() int64
	ttl    time.Duration
	most   int
	mu     sync.Mutex
	agents map[string]*remembered
	judged verdicts
}

// remembered is one agent's breaker and its newest events.
type remembered struct {
	s       machine.Snapshot
	log     []Event
	reports map[string]int64 // idempotency keys
	order   []string         // the same, oldest first
}

// NewMemory makes a Memory. nowMs is its clock, milliseconds since 1970 (nil: this machine's); it holds at most maxAgents
// breakers (0: 100,000) and drops any one of them when there are more.
func NewMemory(nowMs func() int64, maxAgents int) *Memory {
	if nowMs == nil {
		began := time.Now() // what time.Since adds to it is monotonic
		nowMs = func() int64 { return began.UnixMilli() + time.Since(began).Milliseconds() }
	}
	if maxAgents <= 0 {
		maxAgents = 100_000
	}
	return &Memory{nowMs: nowMs, ttl: time.Hour, most: maxAgents, agents: map[string]*remembered{}}
}

// reportKeptMs is how long an Idempotency-Key counts [B14].
const reportKeptMs = 10 * 60 * 1000

// maxReports bounds the keys remembered of one agent.
const maxReports = 10_000

// params is p in integers. The error is a *PolicyError.
func (m *Memory) params(agent string, p Policy) (machine.Params, error) {
	v, _ := m.judged.on(p)
	if v.err != nil {
		return machine.Params{}, fmt.Errorf("policy of agent %q: %w", agent, v.err)
	}
	return v.filled.Params(m.ttl, 1), nil
}

// Apply implements Store. A zero field of p is its default. A bad policy is an error that wraps a *PolicyError; there is no other.
func (m *Memory) Apply(_ context.Context, agent string, p Policy, op machine.Op) (machine.Result, error) {
	params, err := m.params(agent, p)
	if err != nil {
		return machine.Result{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.nowMs()
	a := m.at(agent, now)
	duplicate := op.Verb == machine.VerbRecord && op.ReportID != "" && a.seen(op.ReportID, now)
	if duplicate {
		op = machine.Op{Verb: machine.VerbInspect, Draw: op.Draw, JitterPPM: op.JitterPPM}
	}
	var r machine.Result
	op.ShiftMs = params.Shift(agent)
	a.s, r = machine.Step(params, machine.Loaded{Snapshot: a.s}, op, now)
	if duplicate {
		r.Code = machine.CodeDuplicate
	}
	r.Plain = op.Verb == machine.VerbAcquire && r.Code == machine.CodeOK && a.s.State == Closed && a.s.Hold.Kind == "" && a.s.Ramp.LengthMs == 0
	for _, e := range r.Events {
		a.log = append([]Event{e}, a.log...)
	}
	a.log = a.log[:min(len(a.log), machine.MaxLog)]
	return r, nil
}

// Inspect implements Store. It judges p as Apply does.
func (m *Memory) Inspect(_ context.Context, agent string, p Policy) (View, error) {
	params, err := m.params(agent, p)
	if err != nil {
		return View{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.nowMs()
	a, ok := m.agents[agent]
	if !ok {
		a = &remembered{s: machine.Snapshot{State: Closed, Epoch: machine.ZeroEpoch}}
	}
	s, _ := machine.Step(params, machine.Loaded{Snapshot: a.s}, machine.Op{Verb: machine.VerbInspect, Draw: machine.ZeroEpoch[1:]}, now)
	return View{Snapshot: s, NowMs: now, Log: append([]Event(nil), a.log...)}, nil
}

// at finds the agent's breaker; one whose keys would have expired begins anew [B25].
func (m *Memory) at(agent string, now int64) *remembered {
	a, ok := m.agents[agent]
	if ok && (a.s.ExpiresMs == 0 || a.s.ExpiresMs > now) {
		return a
	}
	if !ok && len(m.agents) >= m.most {
		for other := range m.agents {
			delete(m.agents, other)
			break
		}
	}
	a = &remembered{s: machine.Snapshot{State: Closed, Epoch: machine.ZeroEpoch}}
	m.agents[agent] = a
	return a
}

// seed puts a breaker in place if there is none.
func (m *Memory) seed(agent string, s machine.Snapshot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.agents[agent]; !ok {
		m.at(agent, m.nowMs()).s = s
	}
}

// clear forgets everything.
func (m *Memory) clear() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.agents = map[string]*remembered{}
}

func (a *remembered) seen(id string, now int64) bool {
	for len(a.order) > 0 && (a.reports[a.order[0]]+reportKeptMs <= now || len(a.order) >= maxReports) {
		delete(a.reports, a.order[0])
		a.order = a.order[1:]
	}
	if _, ok := a.reports[id]; ok {
		return true
	}
	if a.reports == nil {
		a.reports = map[string]int64{}
	}
	a.reports[id] = now
	a.order = append(a.order, id)
	return false
}
