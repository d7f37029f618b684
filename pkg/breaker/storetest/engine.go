// Package storetest is the suite that every store runs [B1]–[B25]: transcripts for each clause, computed by hand, and random
// histories in which reply and whole key contents are compared with the model after every operation.
package storetest

import (
	"fmt"
	"maps"
	"slices"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// Engine is a store as the suite drives it: the time is an argument, the keys can be edited and read back.
// An Engine is used by one goroutine.
type Engine interface {
	// Apply carries out op at nowMs.
	Apply(nowMs int64, agent string, p breaker.Policy, op machine.Op) (machine.Result, error)
	// Edit is a hand on one key.
	Edit(agent string, e Edit) error
	// Dump reads all keys of the agent, byte for byte.
	Dump(nowMs int64, agent string) (machine.Raw, error)
	// KeepHistory says from now on for how many minutes :history goes back; 0 keeps none.
	KeepHistory(minutes int)
	// ExpiryMs gives PEXPIRETIME of the agent's existing keys; -1: never. nil: the engine has no TTLs.
	ExpiryMs(agent string) ([]int64, error)
}

// Key is one of the agent's keys, in the order of the scripts' KEYS.
type Key int

// The keys.
const (
	State Key = iota
	Timestamp
	Calls
	Control
	Probes
	Log
	History
)

// Edit is what a hand does to a key.
type Edit struct {
	Do    Action
	Key   Key
	Field string
	Value string
	N     int // Flood: how many fields
}

// Action is the kind of an Edit.
type Action string

// The actions. Plant puts a key of the wrong type; Flood puts N fields into a hash; DelAll deletes every key, as FLUSHALL and
// expiry do.
const (
	Del    Action = "del"
	DelAll Action = "del_all"
	Set    Action = "set"
	HSet   Action = "hset"
	HDel   Action = "hdel"
	Plant  Action = "plant"
	Flood  Action = "flood"
)

// Model is the oracle: Load, Step, Save around a map. It is the deliberately plain twin of the scripts.
type Model struct {
	TTLMs          int64
	HistoryMinutes int64
	agents         map[string]machine.Raw
	reports        map[string]int64
	batches        map[string]machine.Result
}

// NewModel makes an empty oracle whose keys live an hour, and whose :history goes back as far.
func NewModel() *Model {
	return &Model{
		TTLMs: 3600_000, HistoryMinutes: 60, agents: map[string]machine.Raw{}, reports: map[string]int64{}, batches: map[string]machine.Result{},
	}
}

// Params is a policy as the model follows it.
func (m *Model) Params(p breaker.Policy) machine.Params {
	out := p.Params(0, 0)
	out.TTLMs, out.HistoryMinutes = m.TTLMs, m.HistoryMinutes
	return out
}

// Apply implements Engine. It never takes the fast path: it has none.
func (m *Model) Apply(nowMs int64, agent string, p breaker.Policy, op machine.Op) (machine.Result, error) {
	params, raw := m.Params(p), m.agents[agent]
	first, again := m.again(agent, op, nowMs)
	asked := op
	if again {
		op = machine.Op{Verb: machine.VerbInspect, Draw: op.Draw, JitterPPM: op.JitterPPM}
	}
	after, res := machine.Step(params, machine.Load(raw), op, nowMs)
	if again {
		res.Code, res.Reason, res.Counted = machine.CodeDuplicate, first.Reason, first.Counted
	} else if op.Verb == machine.VerbReplay {
		m.batches[agent+" "+asked.Token] = res
	}
	m.keep(agent, machine.Save(raw, params, after, res.Events, nowMs))
	return res, nil
}

// keep takes what the keys hold now: somebody's unknown fields may have left no room for ours.
func (m *Model) keep(agent string, raw machine.Raw) {
	raw.Planted.Calls = len(raw.Calls) > machine.MaxCallsFields
	raw.Planted.Control = len(raw.Control) > machine.MaxControlFields
	raw.Planted.Probes = raw.Planted.Probes || len(raw.Probes) > machine.MaxProbesFields
	raw.Planted.History = raw.Planted.History || len(raw.History) > machine.MaxHistoryFields
	m.agents[agent] = raw
}

// Expect is Apply beside an engine whose answer was fast, or not. An error says that the fast path should not have been taken.
func (m *Model) Expect(nowMs int64, agent string, p breaker.Policy, op machine.Op, fast bool) (machine.Result, error) {
	if fast {
		return m.applyFast(nowMs, agent, p, op)
	}
	return m.Apply(nowMs, agent, p, op)
}

// applyFast is Apply for an engine that has taken the fast path: nothing was repaired, advanced or renewed, and of the keys only what
// the operation changes is written.
func (m *Model) applyFast(nowMs int64, agent string, p breaker.Policy, op machine.Op) (machine.Result, error) {
	params, raw := m.Params(p), m.agents[agent]
	raw.Planted.Calls = raw.Planted.Calls && raw.Calls == nil // a hash with too many fields is read field by field
	raw.Planted.Control = raw.Planted.Control && raw.Control == nil
	loaded := machine.Load(raw)
	if loaded.Edit != (machine.Edit{}) {
		return machine.Result{}, fmt.Errorf("the fast path has overlooked an edit: %+v", loaded.Edit)
	}
	before := loaded.Snapshot
	before.Buckets, before.Reporters = maps.Clone(before.Buckets), maps.Clone(before.Reporters)
	for name, at := range before.Reporters {
		before.Reporters[name] = min(at, nowMs)
	}
	maps.DeleteFunc(before.Buckets, func(start int64, _ machine.Counts) bool { return start > nowMs }) // not looked at
	before.UpstreamMs, before.UpstreamLengthMs = 0, 0                                                  // planted: no sums are cached beside a wait
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
	out.Control = overlay(raw.Control, was.Control, is.Control)
	out.Calls = overlay(raw.Calls, was.Calls, is.Calls)
	out.History, out.Planted.History = history.History, history.Planted.History
	return out
}

// overlay writes onto h what is in is, and takes out what is in was alone, where the two differ.
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

// again says whether a report or a batch was taken before, and what became of a batch.
func (m *Model) again(agent string, op machine.Op, nowMs int64) (first machine.Result, again bool) {
	switch {
	case op.Verb == machine.VerbRecord && op.ReportID != "":
		return first, m.seen(agent+" "+op.ReportID, nowMs)
	case op.Verb == machine.VerbReplay:
		first, again = m.batches[agent+" "+op.Token]
	}
	return first, again
}

func (m *Model) seen(id string, nowMs int64) bool {
	_, ok := m.reports[id]
	m.reports[id] = nowMs
	return ok
}

// Dump implements Engine.
func (m *Model) Dump(_ int64, agent string) (machine.Raw, error) { return m.agents[agent], nil }

// KeepHistory implements Engine.
func (m *Model) KeepHistory(minutes int) { m.HistoryMinutes = int64(minutes) }

// ExpiryMs implements Engine.
func (m *Model) ExpiryMs(string) ([]int64, error) { return nil, nil }

// Edit implements Engine.
func (m *Model) Edit(agent string, e Edit) error {
	raw := m.agents[agent]
	switch {
	case e.Do == DelAll:
		raw = machine.Raw{}
	case e.Key == State:
		raw.State, raw.Planted.State = editString(raw.State, raw.Planted.State, e)
	case e.Key == Timestamp:
		raw.Timestamp, raw.Planted.Timestamp = editString(raw.Timestamp, raw.Planted.Timestamp, e)
	case e.Key == Calls:
		raw.Calls, raw.Planted.Calls = editHash(raw.Calls, raw.Planted.Calls, e, machine.MaxCallsFields)
	case e.Key == Control:
		raw.Control, raw.Planted.Control = editHash(raw.Control, raw.Planted.Control, e, machine.MaxControlFields)
	case e.Key == Probes:
		raw.Probes, raw.Planted.Probes = editHash(raw.Probes, raw.Planted.Probes, e, machine.MaxProbesFields)
	case e.Key == History:
		raw.History, raw.Planted.History = editHash(raw.History, raw.Planted.History, e, machine.MaxHistoryFields)
	default: // the log: any edit that the suite makes loses its lines
		raw.Log = nil
	}
	m.agents[agent] = raw
	return nil
}

func editString(v *string, planted bool, e Edit) (*string, bool) {
	switch e.Do {
	case Del:
		return nil, false
	case Set:
		return &e.Value, false
	case Plant:
		return nil, true
	}
	return v, planted
}

func editHash(h map[string]string, planted bool, e Edit, most int) (map[string]string, bool) {
	switch e.Do {
	case Del:
		return nil, false
	case Set, Plant:
		return nil, true
	}
	if planted && h == nil { // HSET and HDEL on a key of another type do nothing
		return h, planted
	}
	h = maps.Clone(h)
	if h == nil {
		h = map[string]string{}
	}
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
	if len(h) == 0 {
		return nil, false
	}
	return h, len(h) > most
}

// Lines shows a Raw for a failing test: one sorted line a field.
func Lines(r machine.Raw) []string {
	var out []string
	add := func(name string, v *string, planted bool) {
		if planted {
			out = append(out, name+" PLANTED")
		} else if v != nil {
			out = append(out, name+" = "+*v)
		}
	}
	add("state", r.State, r.Planted.State)
	add("open_timestamp", r.Timestamp, r.Planted.Timestamp)
	for _, h := range []struct {
		name    string
		m       map[string]string
		planted bool
	}{{"calls", r.Calls, r.Planted.Calls}, {"control", r.Control, r.Planted.Control}, {"probes", r.Probes, r.Planted.Probes}, {"history", r.History, r.Planted.History}} {
		add(h.name, nil, h.planted)
		if h.planted {
			continue
		}
		for _, k := range slices.Sorted(maps.Keys(h.m)) {
			out = append(out, fmt.Sprintf("%s %q = %q", h.name, k, h.m[k]))
		}
	}
	for _, l := range r.Log {
		out = append(out, "log "+l)
	}
	return out
}
