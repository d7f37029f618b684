package storetest

import (
	"fmt"
	"maps"
	"slices"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// Engine is a store as the suite drives it: the time is an argument, and the keys can be edited and read back.
// There are [machine.MaxReporters] replicas. One goroutine uses an Engine.
type Engine interface {
	// Apply carries out op at nowMs.
	Apply(nowMs int64, agent string, p breaker.Policy, op machine.Op) (machine.Result, error)
	// Edit edits the agent's keys as a program other than the store would.
	Edit(agent string, e Edit) error
	// Dump reads all keys of the agent, byte for byte.
	Dump(nowMs int64, agent string) (machine.Raw, error)
	// KeepHistory sets for how many minutes :history goes back from now on; 0 keeps none.
	KeepHistory(minutes int)
	// ExpiryMs gives the expiry of each key that exists, in the order of Key, -1 for a key without one. It gives nil if
	// the store has no expiry.
	ExpiryMs(agent string) ([]int64, error)
}

// Key is one of an agent's keys, in the order of the scripts' KEYS.
type Key int

// The keys, by the end of their names in Redis.
const (
	State     Key = iota // :state
	Timestamp            // :open_timestamp
	Calls                // :calls
	Control              // :control
	Probes               // :probes
	Log                  // :log
	History              // :history
)

// Edit is an external edit of one key.
type Edit struct {
	Do    Action
	Key   Key
	Field string
	Value string
	N     int // Flood: how many fields
}

// Action is the kind of an Edit.
type Action string

// The actions.
const (
	Del    Action = "del"     // deletes Key
	DelAll Action = "del_all" // deletes every key, as FLUSHALL and expiry do
	Set    Action = "set"     // sets Key to Value
	HSet   Action = "hset"    // sets Field of the hash Key to Value
	HDel   Action = "hdel"    // deletes Field of the hash Key
	Plant  Action = "plant"   // puts a key of the wrong type
	Flood  Action = "flood"   // puts N fields into a hash: Field0, Field1, …
)

// content is one key of a Raw: a text, or a hash of at most most fields. The log is neither.
type content struct {
	name    string
	text    **string
	hash    *map[string]string
	most    int
	planted *bool
}

// contents are the keys of r, in the order of Key.
func contents(r *machine.Raw) []content {
	p := &r.Planted
	return []content{
		State:     {name: "state", text: &r.State, planted: &p.State},
		Timestamp: {name: "open_timestamp", text: &r.Timestamp, planted: &p.Timestamp},
		Calls:     {name: "calls", hash: &r.Calls, most: machine.MaxCallsFields, planted: &p.Calls},
		Control:   {name: "control", hash: &r.Control, most: machine.MaxControlFields, planted: &p.Control},
		Probes:    {name: "probes", hash: &r.Probes, most: machine.MaxProbesFields, planted: &p.Probes},
		Log:       {name: "log", planted: new(bool)},
		History:   {name: "history", hash: &r.History, most: machine.MaxHistoryFields, planted: &p.History},
	}
}

func (c content) exists() bool {
	return *c.planted || c.text != nil && *c.text != nil || c.hash != nil && *c.hash != nil
}

// lines are one line a field, sorted. What a planted key holds is not shown.
func (c content) lines() (out []string) {
	switch {
	case *c.planted:
		out = append(out, c.name+" PLANTED")
	case c.text != nil && *c.text != nil:
		out = append(out, c.name+" = "+**c.text)
	case c.hash != nil:
		for _, k := range slices.Sorted(maps.Keys(*c.hash)) {
			out = append(out, fmt.Sprintf("%s %q = %q", c.name, k, (*c.hash)[k]))
		}
	}
	return out
}

// Lines shows keys for a failing test: one line a field.
func Lines(r machine.Raw) (out []string) {
	for _, c := range contents(&r) {
		out = append(out, c.lines()...)
	}
	for _, l := range r.Log {
		out = append(out, "log "+l)
	}
	return out
}
