package breaker

import "sync/atomic"

// recent is a small table before the table of agents, with a cheaper look-up. A place belongs to the agent that took it for as long
// as that has a cell, so that nobody writes to the table while the same agents are called.
type recent [1 << recentBits]atomic.Pointer[Agent]

const (
	recentBits = 9
	mix        = 0x9e3779b97f4a7c15 // 2^64 divided by the golden ratio: multiplying by it spreads neighbours
)

// place hashes the length of a name and eight bytes at both ends and in the middle: all of 24. Of agents that share a place, all but
// the first are looked up in the large table.
func (r *recent) place(name string) *atomic.Pointer[Agent] {
	h := uint64(len(name))
	if n := len(name); n >= 8 {
		h = (h ^ eight(name)) * mix
		h = (h ^ h>>32 ^ eight(name[n/2-4:])) * mix
		h ^= h>>32 ^ eight(name[n-8:])
	} else {
		for i := range n {
			h = h<<8 | uint64(name[i])
		}
	}
	return &r[h*mix>>(64-recentBits)]
}

// eight is the first eight bytes of s, in one load.
func eight(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

// bufferOf is the cell in which a call of agent is admitted from memory; nil: the store is asked. An Agent that is out of the table
// has no cell.
func (m *Manager) bufferOf(agent string) *epochBuffer {
	place := m.recent.place(agent)
	had := place.Load()
	if had != nil && had.name == agent {
		if c := had.buffer.Load(); c != nil {
			return c
		}
	}
	a, ok := m.agents.Load(agent)
	if !ok {
		return nil
	}
	c := a.buffer.Load()
	if c != nil && a != had && (had == nil || had.buffer.Load() == nil) {
		place.CompareAndSwap(had, a)
	}
	return c
}
