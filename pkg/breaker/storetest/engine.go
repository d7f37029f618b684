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
	// ExpiryMs gives PEXPIRETIME of the agent's existing keys; -1: never. nil: the engine has no TTLs.
	ExpiryMs(agent string) ([]int64, error)
}

// Key is one of the agent's six keys, in the order of the scripts' KEYS.
type Key int

// The keys.
const (
	State Key = iota
	Timestamp
	Calls
	Control
	Probes
	Log
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
	TTLMs   int64
	agents  map[string]machine.Raw
	reports map[string]int64
}

// NewModel makes an empty oracle whose keys live an hour.
func NewModel() *Model {
	return &Model{TTLMs: 3600_000, agents: map[string]machine.Raw{}, reports: map[string]int64{}}
}

// Apply implements Engine.
func (m *Model) Apply(nowMs int64, agent string, p breaker.Policy, op machine.Op) (machine.Result, error) {
	raw := m.agents[agent]
	if epoch, ok := machine.PlainlyClosed(raw); ok && op.Verb == machine.VerbAcquire && !p.Disabled {
		return machine.Result{Code: machine.CodeOK, State: breaker.Closed, Epoch: epoch}, nil
	}
	params := p.Params(0, 0)
	params.TTLMs = m.TTLMs
	if after, res, ok := machine.PlainlyCounted(raw, params, op, nowMs); ok {
		m.agents[agent] = after
		return res, nil
	}
	if res, ok := machine.PlainlyRefused(raw, params, nowMs); ok && op.Verb == machine.VerbAcquire {
		return res, nil
	}
	duplicate := false
	if op.Verb == machine.VerbRecord && op.ReportID != "" {
		duplicate = m.seen(agent+" "+op.ReportID, nowMs)
	}
	if duplicate {
		op = machine.Op{Verb: machine.VerbLook, Draw: op.Draw, JitterPPM: op.JitterPPM}
	}
	after, res := machine.Step(params, machine.Load(raw, nowMs), op, nowMs)
	if duplicate {
		res.Code = machine.CodeDuplicate
	}
	raw = machine.Save(raw, after, res.Events)
	// a hand's unknown fields may have left no room for ours
	raw.Planted.Calls = len(raw.Calls) > machine.MaxCallsFields
	raw.Planted.Control = len(raw.Control) > machine.MaxControlFields
	raw.Planted.Probes = raw.Planted.Probes || len(raw.Probes) > machine.MaxProbesFields
	m.agents[agent] = raw
	return res, nil
}

func (m *Model) seen(id string, nowMs int64) bool {
	_, ok := m.reports[id]
	m.reports[id] = nowMs
	return ok
}

// Dump implements Engine.
func (m *Model) Dump(_ int64, agent string) (machine.Raw, error) { return m.agents[agent], nil }

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
	}{{"calls", r.Calls, r.Planted.Calls}, {"control", r.Control, r.Planted.Control}, {"probes", r.Probes, r.Planted.Probes}} {
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
