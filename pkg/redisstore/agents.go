package redisstore

import (
	"hash/maphash"
	"math/rand/v2"
	"sync/atomic"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// entry holds what every command of one agent repeats, made once: boxed as go-redis takes it, so that a call allocates none of it.
type entry struct {
	agent string
	who   any   // events channel, a blank, the name
	keys  []any // of the machine, in its order, and the fleet's
	state []any // GET :state
	plain []any // HGET :control plain

	hints hints
	known atomic.Pointer[knownPolicy] // the one that the agent's last call brought

	// The calls in the queue that others of this agent may join. Guarded by dispatcher.mu.
	acquire, record *call
}

// Where the machine's keys stand that commands other than the machine's own scripts name.
const (
	stateKey   = 0
	callsKey   = 2
	controlKey = 3
)

func newEntry(k Keys, agent string) *entry {
	e := &entry{agent: agent, who: k.Events() + " " + agent}
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

// agents keeps entries, a bounded number: whoever may call names the agents. Each name belongs to one small set, chosen by a seeded
// hash; in a full set a new name takes the place of a random one. An agent whose entry is lost gets another with its next call, which
// costs the time to make it and a hint.
type agents struct {
	keys Keys
	seed maphash.Seed
	mask uint64
	sets [][setEntries]atomic.Pointer[entry]
}

// newAgents keeps at most so many entries, but for rounding to a power of two.
func newAgents(k Keys, most int) *agents {
	n := uint64(setEntries)
	for n < maxEntries && n < uint64(max(most, setEntries)) {
		n *= 2
	}
	return &agents{keys: k, seed: maphash.MakeSeed(), mask: n/setEntries - 1, sets: make([][setEntries]atomic.Pointer[entry], n/setEntries)}
}

func (t *agents) of(agent string) *entry {
	set := &t.sets[maphash.String(t.seed, agent)&t.mask]
	for i := range set {
		if e := set[i].Load(); e != nil && e.agent == agent {
			return e
		}
	}
	fresh := newEntry(t.keys, agent)
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

// knownPolicy is a policy beside what it is packed as.
type knownPolicy struct {
	policy   breaker.Policy
	replicas int64
	packed   agentPolicy // its text is one agent's; nil where agents share this
}

// packedFor is the policy of one agent's call as it is sent. It is usually the one of the call before, or of another agent.
func (s *Store) packedFor(e *entry, p *breaker.Policy) agentPolicy {
	replicas := s.replicas.Load()
	if k := e.known.Load(); k != nil && k.replicas == replicas && k.policy == *p {
		return k.packed
	}
	k := s.known.Load()
	if k == nil || k.replicas != replicas || k.policy != *p {
		k = &knownPolicy{policy: *p, replicas: replicas, packed: agentPolicy{packedPolicy: s.packed(s.params(p, replicas))}}
		s.known.Store(k)
	}
	own := *k
	own.packed = k.packed.of(e.agent)
	e.known.Store(&own)
	return own.packed
}
