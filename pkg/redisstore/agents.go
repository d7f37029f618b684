package redisstore

import (
	"hash/maphash"
	"math/rand/v2"
	"sync/atomic"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// entry holds what every command of one agent repeats, boxed as go-redis takes it, so that a call allocates none of it.
type entry struct {
	agent string
	who   any   // ARGV[2] of the scripts: the events channel, a blank, the name
	keys  []any // the machine's, in its order, and the fleet's
	state []any // GET :state
	plain []any // HGET :control plain
	clock *clock

	// hints say whether the agent's last calls could have had their short form.
	hints struct {
		acquire atomic.Bool // the breaker was plainly closed: two reads will do, a fraction of a script's cost
		record  atomic.Bool // the reply was the shortest one: one script will do for several such records
	}
	policy atomic.Pointer[knownPolicy] // of the agent's last call

	// The queued calls that others of this agent may join. Guarded by dispatcher.mu.
	acquire, record *call
}

// Indexes of the keys that commands besides the machine's own scripts name.
const (
	stateKey   = 0
	callsKey   = 2
	controlKey = 3
)

func newEntry(k Keys, agent string, c *clock) *entry {
	e := &entry{agent: agent, who: k.Events() + " " + agent, clock: c}
	if k.Cluster { // each master has its own
		e.clock = newClock()
	}
	for _, key := range k.withFleet(k.Machine(agent)) {
		e.keys = append(e.keys, key)
	}
	e.state = []any{"get", e.keys[stateKey]}
	e.plain = []any{"hget", e.keys[controlKey], "plain"}
	return e
}

const (
	maxEntries = 16_384 // about 1 KB each
	setEntries = 4
)

// agents is a set-associative cache of entries. It is bounded because callers name the agents. A seeded hash chooses a
// name's set; in a full set a new name replaces a random one. An agent whose entry is lost gets another with its next
// call, which costs the time to make it, and the hints.
type agents struct {
	keys  Keys
	clock *clock
	seed  maphash.Seed
	mask  uint64
	sets  [][setEntries]atomic.Pointer[entry]
}

// newAgents caches at most so many entries, rounded up to a power of two.
func newAgents(k Keys, most int) *agents {
	n := uint64(setEntries)
	for n < maxEntries && n < uint64(max(most, setEntries)) {
		n *= 2
	}
	sets := make([][setEntries]atomic.Pointer[entry], n/setEntries)
	return &agents{keys: k, clock: newClock(), seed: maphash.MakeSeed(), mask: n/setEntries - 1, sets: sets}
}

func (t *agents) of(agent string) *entry {
	set := &t.sets[maphash.String(t.seed, agent)&t.mask]
	for i := range set {
		if e := set[i].Load(); e != nil && e.agent == agent {
			return e
		}
	}
	fresh := newEntry(t.keys, agent, t.clock)
	for i := range set {
		if set[i].CompareAndSwap(nil, fresh) {
			return fresh
		}
		if e := set[i].Load(); e != nil && e.agent == agent { // another caller was first
			return e
		}
	}
	set[rand.IntN(setEntries)].Store(fresh)
	return fresh
}

// knownPolicy is a policy, the number of replicas, and what the two are packed as for one agent.
type knownPolicy struct {
	policy   breaker.Policy
	replicas int64
	packed   agentPolicy
}

// packedFor is the policy of one agent's call as it is sent. It is usually that of the agent's call before.
func (s *Store) packedFor(e *entry, p *breaker.Policy) agentPolicy {
	replicas := s.replicas.Load()
	if k := e.policy.Load(); k != nil && k.replicas == replicas && k.policy == *p {
		return k.packed
	}
	k := &knownPolicy{policy: *p, replicas: replicas, packed: s.packed(s.params(p, replicas)).of(e.agent)}
	e.policy.Store(k)
	return k.packed
}
