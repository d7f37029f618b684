package breaker

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/breakerd/breakerd/internal/bounded"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// Memory is a [Store] in the memory of this process: a map around [machine.Step]. It is for tests and single processes,
// and a [Fallback] uses it while the store is down. For Policy.MinimumReporters it is one replica [B23]. It is safe for
// concurrent use.
type Memory struct {
	nowMs       func() int64
	validations validations

	mu     sync.Mutex
	agents *bounded.Map[*memoryAgent]
	// followers wait for events; see feed.go.
	followers map[*EventQueue]struct{}
}

// memoryAgent is one agent's breaker.
type memoryAgent struct {
	s        machine.Snapshot
	windowMs int64           // of the policy of its last operation
	log      []Event         // newest first
	once     map[string]once // by ReportID, or token of a batch
	order    []string        // the keys of once, oldest first
}

// once is what was done, and must not be done again.
type once struct {
	atMs   int64
	result machine.Result
}

const (
	memoryTTL   = time.Hour      // of an unused breaker [B25]
	reportTTLMs = 10 * 60 * 1000 // of a ReportID [B14], or a batch
	maxReports  = 10_000         // of one agent
)

// NewMemory returns an empty Memory. nowMs is its clock, in milliseconds since 1970; nil: the clock of this machine. It
// keeps at most maxAgents breakers (0: 100,000), and beyond that those that an operator holds. For a further agent a
// harmless one makes room, then one that has failures, then one that is not closed; of each the least recently used.
func NewMemory(nowMs func() int64, maxAgents int) *Memory {
	if nowMs == nil {
		started := time.Now()
		nowMs = func() int64 { return started.Add(time.Since(started)).UnixMilli() } // time.Since is monotonic
	}
	return &Memory{
		nowMs: nowMs, followers: map[*EventQueue]struct{}{},
		agents: bounded.New(bounded.Options[*memoryAgent]{
			Max:   cmp.Or(max(maxAgents, 0), defaultMaxAgents),
			Class: func(_ string, a *memoryAgent) bounded.Class { return a.class(nowMs()) },
		}),
	}
}

// params returns a policy in integers. The error wraps a *PolicyError.
func (m *Memory) params(agent string, p Policy) (machine.Params, error) {
	if err := m.made(); err != nil {
		return machine.Params{}, err
	}
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
	a, kept := m.agent(agent, now)
	a.windowMs = params.WindowMs
	key := onceKey(op)
	first, duplicate := a.done(key, now)
	if duplicate {
		op = machine.Op{Verb: machine.VerbInspect, Draw: op.Draw, JitterPPM: op.JitterPPM}
	}
	var r machine.Result
	op.ShiftMs = params.Shift(agent)
	a.s, r = machine.Step(params, machine.Loaded{Snapshot: a.s}, op, now)
	switch {
	case duplicate:
		r.Code, r.Reason, r.Counted = machine.CodeDuplicate, first.Reason, first.Counted
	case key != "" && (op.Verb != machine.VerbForce || r.Code == machine.CodeOK):
		a.do(key, now, r)
	}
	r.Plain = op.Verb == machine.VerbAcquire && r.Code == machine.CodeOK &&
		a.s.State == Closed && a.s.Hold.Kind == "" && a.s.Ramp.LengthMs == 0
	for _, e := range r.Events {
		a.log = append([]Event{e}, a.log...)
		for q := range m.followers {
			q.Put(agent, e)
		}
	}
	a.log = a.log[:min(len(a.log), machine.MaxLog)]
	m.keep(agent, a, kept)
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
	a, ok := m.agents.Load(agent)
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

// agent returns an agent's breaker. It is a new one, not kept yet, if there is none, or if it has expired [B25].
func (m *Memory) agent(name string, now int64) (a *memoryAgent, kept bool) {
	if a, ok := m.agents.Load(name); ok && !a.expired(now) {
		return a, true
	}
	return newMemoryAgent(), false
}

// keep keeps a breaker after a change, if there is room for one of its class.
func (m *Memory) keep(name string, a *memoryAgent, kept bool) {
	if kept {
		m.agents.Reclassify(name)
	} else {
		m.agents.Store(name, a)
	}
}

func (a *memoryAgent) expired(now int64) bool { return a.s.ExpiresMs != 0 && a.s.ExpiresMs <= now }

// class ranks a breaker among those that may have to make room.
func (a *memoryAgent) class(now int64) bounded.Class {
	deadline := a.s.DeadlineMs()
	switch {
	case a.expired(now):
		return bounded.Harmless
	case a.s.Hold.Kind != "" && (deadline == 0 || deadline > now):
		return bounded.Kept
	case a.s.State != Closed:
		return bounded.NotClosed
	case a.s.Run > 0 || a.s.Window(now, a.windowMs).Failures > 0:
		return bounded.Failing
	}
	return bounded.Harmless
}

// seed stores a breaker unless the agent has one.
func (m *Memory) seed(agent string, s machine.Snapshot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.agents.Load(agent); !ok {
		a := newMemoryAgent()
		a.s = s
		m.agents.Store(agent, a)
	}
}

// epoch returns the epoch of an agent's breaker.
func (m *Memory) epoch(agent string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if a, ok := m.agents.Load(agent); ok {
		return a.s.Epoch
	}
	return machine.ZeroEpoch
}

// drop drops an agent's breaker.
func (m *Memory) drop(agent string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.agents.Delete(agent)
}

// clear drops all breakers.
func (m *Memory) clear() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.agents.Clear()
}

// onceKey names what must not be done twice; "": nothing.
func onceKey(op machine.Op) string {
	switch {
	case op.Verb == machine.VerbRecord && op.ReportID != "":
		return "report " + op.ReportID
	case op.Verb == machine.VerbForce && op.Force.ID != "":
		return "action " + op.Force.ID
	case op.Verb == machine.VerbReplay:
		return "replay " + op.Token
	}
	return ""
}

// done returns the answer of the first time, if that is not long ago.
func (a *memoryAgent) done(key string, now int64) (first machine.Result, ok bool) {
	for len(a.order) > 0 && (a.once[a.order[0]].atMs+reportTTLMs <= now || len(a.order) >= maxReports) {
		delete(a.once, a.order[0])
		a.order = a.order[1:]
	}
	o, ok := a.once[key]
	return o.result, ok
}

// do notes what was done.
func (a *memoryAgent) do(key string, now int64, r machine.Result) {
	if a.once == nil {
		a.once = map[string]once{}
	}
	a.once[key] = once{now, machine.Result{Reason: r.Reason, Counted: r.Counted}}
	a.order = append(a.order, key)
}
