package storetest

import (
	"fmt"
	"maps"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// Model is the oracle: Load, Step and Save around a map. It is an Engine itself, whose keys live an hour.
type Model struct {
	historyMinutes int64
	agents         map[string]machine.Raw
	taken          map[string]machine.Result // idempotency keys and batches → what became of the first
}

// NewModel makes an empty oracle, whose :history goes back an hour.
func NewModel() *Model {
	return &Model{historyMinutes: 60, agents: map[string]machine.Raw{}, taken: map[string]machine.Result{}}
}

// Params is a policy as the model follows it.
func (m *Model) Params(p breaker.Policy) machine.Params {
	out := p.Params(time.Hour, machine.MaxReporters)
	out.HistoryMinutes = m.historyMinutes
	return out
}

// Apply implements Engine, without a fast path.
func (m *Model) Apply(nowMs int64, agent string, p breaker.Policy, op machine.Op) (machine.Result, error) {
	params, raw := m.Params(p), m.agents[agent]
	var id string // of what is taken once
	switch {
	case op.Verb == machine.VerbRecord && op.ReportID != "":
		id = "report " + op.ReportID
	case op.Verb == machine.VerbForce && op.Force.ID != "":
		id = "action " + op.Force.ID
	case op.Verb == machine.VerbReplay:
		id = "batch " + op.Token
	}
	first, duplicate := m.taken[agent+" "+id]
	if duplicate {
		op = machine.Op{Verb: machine.VerbInspect, Draw: op.Draw, JitterPPM: op.JitterPPM}
	}
	after, res := machine.Step(params, machine.Load(raw), op, nowMs)
	if duplicate {
		res.Code, res.Reason, res.Counted = machine.CodeDuplicate, first.Reason, first.Counted
	} else if id != "" && (op.Verb != machine.VerbForce || res.Code == machine.CodeOK) {
		m.taken[agent+" "+id] = res
	}
	m.keep(agent, machine.Save(raw, params, after, res.Events, nowMs))
	return res, nil
}

// keep stores what the keys hold from now on. Beside the unknown fields of others, ours may have made too many.
func (m *Model) keep(agent string, raw machine.Raw) {
	for _, c := range contents(&raw) {
		*c.planted = *c.planted || c.hash != nil && len(*c.hash) > c.most
	}
	m.agents[agent] = raw
}

// Expect is Apply beside an engine whose answer was fast, or not. An error says that the engine must not have taken the
// fast path.
func (m *Model) Expect(
	nowMs int64, agent string, p breaker.Policy, op machine.Op, fast bool,
) (machine.Result, error) {
	if fast {
		return m.applyFast(nowMs, agent, p, op)
	}
	return m.Apply(nowMs, agent, p, op)
}

// applyFast is Apply for an engine that took the fast path: it repairs, advances and renews nothing, and writes only
// what the operation itself changes.
func (m *Model) applyFast(nowMs int64, agent string, p breaker.Policy, op machine.Op) (machine.Result, error) {
	params, raw := m.Params(p), m.agents[agent]
	raw.Planted.Calls = raw.Planted.Calls && raw.Calls == nil // single fields can be read from too large a hash
	raw.Planted.Control = raw.Planted.Control && raw.Control == nil
	loaded := machine.Load(raw)
	if loaded.Edit != (machine.Edit{}) {
		return machine.Result{}, fmt.Errorf("the fast path has overlooked an edit: %+v", loaded.Edit)
	}
	before := loaded.Snapshot
	for name, at := range before.Reporters {
		before.Reporters[name] = min(at, nowMs)
	}
	// The fast path looks neither at buckets of the future nor at an upstream's wait, beside which no sums are cached.
	maps.DeleteFunc(before.Buckets, func(start int64, _ machine.Counts) bool { return start > nowMs })
	before.UpstreamMs, before.UpstreamLengthMs = 0, 0
	after, res := machine.Step(params, machine.Loaded{Snapshot: before}, op, nowMs)
	if len(res.Events) > 0 {
		return res, fmt.Errorf("the fast path has overlooked what fell due: %v", res.Events)
	}
	if op.Verb == machine.VerbAcquire && res.Code == machine.CodeOK {
		return machine.Result{Code: res.Code, State: res.State, Epoch: res.Epoch, Fast: true}, nil
	}
	res.Fast = true
	if op.Verb == machine.VerbRecord {
		m.keep(agent, saveFast(raw, params, before, after, nowMs))
	}
	return res, nil
}

// saveFast is raw with the difference between before and after written over it.
func saveFast(raw machine.Raw, p machine.Params, before, after machine.Snapshot, nowMs int64) machine.Raw {
	after.ExpiresMs = before.ExpiresMs
	history := machine.Save(raw, p, after, nil, nowMs)
	was, is := machine.Save(machine.Raw{}, p, before, nil, nowMs), machine.Save(machine.Raw{}, p, after, nil, nowMs)
	out := raw
	out.Planted.Calls, out.Planted.Control = false, false
	out.Control = overlay(raw.Control, was.Control, is.Control)
	out.Calls = overlay(raw.Calls, was.Calls, is.Calls)
	out.History, out.Planted.History = history.History, history.Planted.History
	return out
}

// overlay carries over to h the changes from was to is.
func overlay(h, was, is map[string]string) map[string]string {
	out := map[string]string{}
	maps.Copy(out, h)
	for name := range was {
		if _, kept := is[name]; !kept {
			delete(out, name)
		}
	}
	for name, text := range is {
		if was[name] != text {
			out[name] = text
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// Dump implements Engine.
func (m *Model) Dump(_ int64, agent string) (machine.Raw, error) { return m.agents[agent], nil }

// KeepHistory implements Engine.
func (m *Model) KeepHistory(minutes int) { m.historyMinutes = int64(minutes) }

// ExpiryMs implements Engine.
func (m *Model) ExpiryMs(string) ([]int64, error) { return nil, nil }

// Edit implements Engine. It does nothing where Redis would refuse the command.
func (m *Model) Edit(agent string, e Edit) error {
	raw := m.agents[agent]
	c := contents(&raw)[e.Key]
	switch {
	case e.Do == DelAll:
		raw = machine.Raw{}
	case e.Key == Log: // the suite edits the log only in ways that lose its lines
		raw.Log = nil
	case c.text != nil:
		c.editText(e)
	default:
		c.editHash(e)
	}
	m.agents[agent] = raw
	return nil
}

func (c content) editText(e Edit) {
	switch e.Do {
	case Del:
		*c.text, *c.planted = nil, false
	case Set:
		*c.text, *c.planted = &e.Value, false
	case Plant:
		*c.text, *c.planted = nil, true
	}
}

func (c content) editHash(e Edit) {
	if e.Do == Del || e.Do == Set || e.Do == Plant {
		*c.hash, *c.planted = nil, e.Do != Del
		return
	}
	if *c.planted && *c.hash == nil { // of another type
		return
	}
	h := map[string]string{}
	maps.Copy(h, *c.hash)
	switch e.Do {
	case HSet:
		h[e.Field] = e.Value
	case HDel:
		delete(h, e.Field)
	case Flood:
		for i := range e.N {
			h[fmt.Sprintf("%s%d", e.Field, i)] = e.Value
		}
	}
	if *c.hash, *c.planted = h, len(h) > c.most; len(h) == 0 {
		*c.hash = nil
	}
}
