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

// maxAgents bounds how many agents are remembered. When it is reached, the one that was called longest ago and that nobody
// switched is forgotten; it goes on as its name says, and counts anew.
const maxAgents = 1000

var errFull = errors.New("all places are taken by agents that were switched: DELETE one first")

// agents remembers how each agent behaves and how often it was called. It may be used by any number of goroutines.
type agents struct {
	mu    sync.Mutex
	told  map[string]behaviour // DEMO_AGENTS; not changed
	known map[string]*agent
	clock int64 // counts calls: orders agents by their last one
}

// agent is what is remembered of one.
type agent struct {
	does     behaviour
	switched bool  // by a PUT
	calls    int64 // since it is remembered
	turn     int64 // calls since the last switch
	inFlight int64
	last     int64 // the clock at its last call
}

// view is one agent as the control API shows it.
type view struct {
	name string
	agent
}

// newAgents takes the agents as DEMO_AGENTS has them: Name=mode or Name=mode:number, with commas between.
func newAgents(list string) (*agents, error) {
	a := &agents{told: map[string]behaviour{}, known: map[string]*agent{}}
	if strings.TrimSpace(list) == "" {
		return a, nil
	}
	var errs []error
	for item := range strings.SplitSeq(list, ",") {
		item = strings.TrimSpace(item)
		if err := a.tell(item); err != nil {
			errs = append(errs, fmt.Errorf("DEMO_AGENTS: %q is not allowed: %w", text.Short(item), err))
		}
	}
	if len(a.told) > maxAgents {
		errs = append(errs, fmt.Errorf("DEMO_AGENTS: want at most %d agents", maxAgents))
	}
	return a, errors.Join(errs...)
}

// tell takes one item of DEMO_AGENTS.
func (a *agents) tell(item string) error {
	name, what, ok := strings.Cut(item, "=")
	if !ok {
		return errors.New("want Name=mode or Name=mode:number, as FailingAgent=failing or Other=slow:250")
	}
	if err := checkName(name); err != nil {
		return err
	}
	if _, ok := a.told[name]; ok {
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
	a.told[name] = does
	a.known[name] = &agent{does: does}
	return nil
}

// checkName refuses what cannot be an agent: bad names, and the first segments of the control API.
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
	if b, ok := a.told[name]; ok {
		return b
	}
	return byName(name)
}

// begin counts a call, and gives how it is to be answered and which call since the last switch it is. The caller calls end once.
func (a *agents) begin(name string) (does behaviour, turn int64, end func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	one := a.remember(name)
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

// remember gives an agent its place. nil: all places belong to agents that must not be forgotten. mu is held.
func (a *agents) remember(name string) *agent {
	if one, ok := a.known[name]; ok {
		return one
	}
	if len(a.known) >= maxAgents && !a.forgetOldest() {
		return nil
	}
	one := &agent{does: a.first(name)}
	a.known[name] = one
	return one
}

// forgetOldest makes a place free, and says whether it could. mu is held.
func (a *agents) forgetOldest() bool {
	oldest := ""
	for name, one := range a.known {
		if _, told := a.told[name]; told || one.switched {
			continue
		}
		if oldest == "" || one.last < a.known[oldest].last {
			oldest = name
		}
	}
	delete(a.known, oldest)
	return oldest != ""
}

// put switches an agent; what it did before comes back. errFull: no place for one more.
func (a *agents) put(name string, b behaviour) (was behaviour, now view, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	one := a.remember(name)
	if one == nil {
		return behaviour{}, view{}, errFull
	}
	was = one.does
	one.does, one.switched, one.turn = b, true, 0
	return was, view{name, *one}, nil
}

// forget puts an agent back to its default, and its count to 0.
func (a *agents) forget(name string) (was behaviour, now view) {
	a.mu.Lock()
	defer a.mu.Unlock()
	was = a.first(name)
	if one, ok := a.known[name]; ok {
		was = one.does
	}
	delete(a.known, name)
	fresh := &agent{does: a.first(name)}
	if _, ok := a.told[name]; ok {
		a.known[name] = fresh
	}
	return was, view{name, *fresh}
}

// look shows one agent, remembered or not.
func (a *agents) look(name string) view {
	a.mu.Lock()
	defer a.mu.Unlock()
	if one, ok := a.known[name]; ok {
		return view{name, *one}
	}
	return view{name, agent{does: a.first(name)}}
}

// list shows all that are remembered, by name.
func (a *agents) list() []view {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]view, 0, len(a.known))
	for _, name := range slices.Sorted(maps.Keys(a.known)) {
		out = append(out, view{name, *a.known[name]})
	}
	return out
}
