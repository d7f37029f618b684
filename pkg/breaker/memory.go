package breaker

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// Memory is a [Store] in the memory of this process: a map around [machine.Step]. It is for tests and single processes,
// and a [Fallback] uses it while the store is down. For Policy.MinimumReporters it is one replica [B23]. It is safe for
// concurrent use.
type Memory struct {
	nowMs       func() int64
	maxAgents   int
	validations validations

	mu     sync.Mutex
	agents map[string]*memoryAgent
}

// memoryAgent is one agent's breaker.
type memoryAgent struct {
	s       machine.Snapshot
	log     []Event          // newest first
	reports map[string]int64 // when each ReportID was recorded
	order   []string         // the keys of reports, oldest first
}

const (
	memoryTTL   = time.Hour      // of an unused breaker [B25]
	reportTTLMs = 10 * 60 * 1000 // of a ReportID [B14]
	maxReports  = 10_000         // of one agent
)

// NewMemory returns an empty Memory. nowMs is its clock, in milliseconds since 1970; nil: the clock of this machine. It
// keeps at most maxAgents breakers (0: 100,000), and drops an arbitrary one for each further agent.
func NewMemory(nowMs func() int64, maxAgents int) *Memory {
	if nowMs == nil {
		started := time.Now()
		nowMs = func() int64 { return started.Add(time.Since(started)).UnixMilli() } // time.Since is monotonic
	}
	maxAgents = cmp.Or(max(maxAgents, 0), defaultMaxAgents)
	return &Memory{nowMs: nowMs, maxAgents: maxAgents, agents: map[string]*memoryAgent{}}
}

// params returns a policy in integers. The error wraps a *PolicyError.
func (m *Memory) params(agent string, p Policy) (machine.Params, error) {
	v, _ := m.validations.of(p)
	if v.err != nil {
		return machine.Params{}, fmt.Errorf("policy of agent %q: %w", agent, v.err)
	}
	return v.filled.Params(memoryTTL, 1), nil
}

// Apply implements [Store]. A zero field of p means its default. The error wraps a [*PolicyError]; there are no others.
func (m *Memory) Apply(_ context.Context, agent string, p Policy, op machine.Op) (machine.Result, error) {
	params, err := m.params(agent, p)
	if err != nil {
		return machine.Result{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.nowMs()
	a := m.agent(agent, now)
	duplicate := op.Verb == machine.VerbRecord && op.ReportID != "" && a.isDuplicate(op.ReportID, now)
	if duplicate {
		op = machine.Op{Verb: machine.VerbInspect, Draw: op.Draw, JitterPPM: op.JitterPPM}
	}
	var r machine.Result
	op.ShiftMs = params.Shift(agent)
	a.s, r = machine.Step(params, machine.Loaded{Snapshot: a.s}, op, now)
	if duplicate {
		r.Code = machine.CodeDuplicate
	}
	r.Plain = op.Verb == machine.VerbAcquire && r.Code == machine.CodeOK &&
		a.s.State == Closed && a.s.Hold.Kind == "" && a.s.Ramp.LengthMs == 0
	for _, e := range r.Events {
		a.log = append([]Event{e}, a.log...)
	}
	a.log = a.log[:min(len(a.log), machine.MaxLog)]
	return r, nil
}

// Inspect implements [Store]. p and the error are as for Apply.
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
		a = newMemoryAgent()
	}
	inspect := machine.Op{Verb: machine.VerbInspect, Draw: machine.ZeroEpoch[1:]}
	s, _ := machine.Step(params, machine.Loaded{Snapshot: a.s}, inspect, now)
	return View{Snapshot: s, NowMs: now, Log: slices.Clone(a.log)}, nil
}

func newMemoryAgent() *memoryAgent {
	return &memoryAgent{s: machine.Snapshot{State: Closed, Epoch: machine.ZeroEpoch}}
}

// agent returns an agent's breaker. It is a new one if there is none, or if it has expired [B25].
func (m *Memory) agent(name string, now int64) *memoryAgent {
	a, ok := m.agents[name]
	if ok && (a.s.ExpiresMs == 0 || a.s.ExpiresMs > now) {
		return a
	}
	if !ok && len(m.agents) >= m.maxAgents {
		for other := range m.agents {
			delete(m.agents, other)
			break
		}
	}
	a = newMemoryAgent()
	m.agents[name] = a
	return a
}

// seed stores a breaker unless the agent has one.
func (m *Memory) seed(agent string, s machine.Snapshot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.agents[agent]; !ok {
		m.agent(agent, m.nowMs()).s = s
	}
}

// clear drops all breakers.
func (m *Memory) clear() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.agents)
}

// isDuplicate reports whether id was recorded in the last reportTTLMs, and otherwise notes it.
func (a *memoryAgent) isDuplicate(id string, now int64) bool {
	for len(a.order) > 0 && (a.reports[a.order[0]]+reportTTLMs <= now || len(a.order) >= maxReports) {
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
