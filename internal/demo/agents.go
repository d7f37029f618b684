package demo

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/breakerd/breakerd/internal/text"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// maxAgents bounds the table of agents. A full table evicts the agent that was called longest ago, among those that
// neither DEMO_AGENTS nor a PUT names. An evicted agent begins again as its name says, and its calls count from 0.
const maxAgents = 1000

var errFull = errors.New("all places are taken by agents that were switched: DELETE one first")

// agents holds how each agent behaves and how often it was called. It is safe for concurrent use.
type agents struct {
	preset map[string]behaviour // DEMO_AGENTS; not changed

	mu    sync.Mutex
	table map[string]*agent
	clock int64 // counts calls: orders agents by their last call
}

// agent is one entry of the table.
type agent struct {
	does     behaviour
	switched bool  // by a PUT
	calls    int64 // since it is in the table
	turn     int64 // calls since the last switch
	inFlight int64
	last     int64 // the clock at its last call
}

// view is one agent for the control API.
type view struct {
	name string
	agent
}

// newAgents reads DEMO_AGENTS: Name=mode or Name=mode:number, with commas between.
func newAgents(list string) (*agents, error) {
	a := &agents{preset: map[string]behaviour{}, table: map[string]*agent{}}
	if strings.TrimSpace(list) == "" {
		return a, nil
	}
	var errs []error
	for item := range strings.SplitSeq(list, ",") {
		item = strings.TrimSpace(item)
		if err := a.add(item); err != nil {
			errs = append(errs, fmt.Errorf("DEMO_AGENTS: %q is not allowed: %w", text.Short(item), err))
		}
	}
	if len(a.preset) > maxAgents {
		errs = append(errs, fmt.Errorf("DEMO_AGENTS: want at most %d agents", maxAgents))
	}
	return a, errors.Join(errs...)
}

// add reads one item of DEMO_AGENTS.
func (a *agents) add(item string) error {
	name, what, ok := strings.Cut(item, "=")
	if !ok {
		return errors.New("want Name=mode or Name=mode:number, as FailingAgent=failing or Other=slow:250")
	}
	if err := checkName(name); err != nil {
		return err
	}
	if _, ok := a.preset[name]; ok {
		return errors.New("the agent is given twice")
	}
	word, param, given := strings.Cut(what, ":")
	var settings map[string]float64
	if k, ok := kindOf(mode(word)); ok && given {
		if k.short == "" {
			return fmt.Errorf("%s takes no number", word)
		}
		v, err := strconv.ParseFloat(param, 64)
		if err != nil {
			return fmt.Errorf("want a number after the colon, as %s:%s", text.Short(word), number(k.settings[k.short]))
		}
		settings = map[string]float64{k.short: v}
	}
	does, err := newBehaviour(mode(word), settings)
	if err != nil {
		return err
	}
	a.preset[name] = does
	a.table[name] = &agent{does: does}
	return nil
}

// checkName refuses bad names and the first segments of the control API.
func checkName(name string) error {
	switch name {
	case "modes", "livez", "readyz", "health":
		return fmt.Errorf("no agent may be named %s: that path is the demo agent's own", name)
	}
	if !breaker.ValidName(name) {
		return breaker.ErrBadName
	}
	return nil
}

// first is how an agent behaves until it is switched.
func (a *agents) first(name string) behaviour {
	if b, ok := a.preset[name]; ok {
		return b
	}
	return byName(name)
}

// begin counts a call. It returns how to answer it, and its number since the last switch. The caller calls end once.
func (a *agents) begin(name string) (does behaviour, turn int64, end func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	one := a.entry(name)
	if one == nil {
		return a.first(name), 1, func() {}
	}
	a.clock++
	one.last = a.clock
	one.calls++
	one.turn++
	one.inFlight++
	return one.does, one.turn, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		one.inFlight--
	}
}

// entry returns the entry of an agent, and makes one if there is none. It returns nil if the table is full and no entry
// may be evicted. mu is held.
func (a *agents) entry(name string) *agent {
	if one, ok := a.table[name]; ok {
		return one
	}
	if len(a.table) >= maxAgents && !a.evict() {
		return nil
	}
	one := &agent{does: a.first(name)}
	a.table[name] = one
	return one
}

// evict removes the entry that was called longest ago, if any may go. mu is held.
func (a *agents) evict() bool {
	oldest := ""
	for name, one := range a.table {
		if _, preset := a.preset[name]; preset || one.switched {
			continue
		}
		if oldest == "" || one.last < a.table[oldest].last {
			oldest = name
		}
	}
	delete(a.table, oldest)
	return oldest != ""
}

// put switches an agent, and returns what it did before. The error is errFull.
func (a *agents) put(name string, b behaviour) (was behaviour, now view, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	one := a.entry(name)
	if one == nil {
		return behaviour{}, view{}, errFull
	}
	was = one.does
	one.does, one.switched, one.turn = b, true, 0
	return was, view{name, *one}, nil
}

// reset returns an agent to its first behaviour, and its count to 0.
func (a *agents) reset(name string) (was behaviour, now view) {
	a.mu.Lock()
	defer a.mu.Unlock()
	was = a.first(name)
	if one, ok := a.table[name]; ok {
		was = one.does
	}
	delete(a.table, name)
	fresh := &agent{does: a.first(name)}
	if _, ok := a.preset[name]; ok {
		a.table[name] = fresh
	}
	return was, view{name, *fresh}
}

// look shows one agent, in the table or not.
func (a *agents) look(name string) view {
	a.mu.Lock()
	defer a.mu.Unlock()
	if one, ok := a.table[name]; ok {
		return view{name, *one}
	}
	return view{name, agent{does: a.first(name)}}
}

// list shows all in the table, by name.
func (a *agents) list() []view {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]view, 0, len(a.table))
	for _, name := range slices.Sorted(maps.Keys(a.table)) {
		out = append(out, view{name, *a.table[name]})
	}
	return out
}
