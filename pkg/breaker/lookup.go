package breaker

import "sync/atomic"

// lookupCache is a direct-mapped cache in front of Manager.agents, with a cheaper lookup. An Agent keeps its slot while
// it has an active buffer, so the slots are not written while the same agents are called.
type lookupCache [1 << lookupBits]atomic.Pointer[Agent]

const (
	lookupBits = 9
	hashFactor = 0x9e3779b97f4a7c15 // 2^64 divided by the golden ratio: a multiplication by it spreads neighbours
)

// slot returns the slot of a name. It hashes the length of the name and eight bytes each of its beginning, middle and
// end. Of names with the same slot, all but the first are looked up in Manager.agents.
func (c *lookupCache) slot(name string) *atomic.Pointer[Agent] {
	h := uint64(len(name))
	if n := len(name); n >= 8 {
		h = (h ^ eightBytes(name)) * hashFactor
		h = (h ^ h>>32 ^ eightBytes(name[n/2-4:])) * hashFactor
		h ^= h>>32 ^ eightBytes(name[n-8:])
	} else {
		for i := range n {
			h = h<<8 | uint64(name[i])
		}
	}
	return &c[h*hashFactor>>(64-lookupBits)]
}

// eightBytes returns the first eight bytes of s; the compiler makes one load of it.
func eightBytes(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

// activeBuffer returns the buffer that admits the calls of an agent from memory; nil: the store is asked. An Agent that
// is no longer in Manager.agents may still have a slot, but it has no active buffer.
func (m *Manager) activeBuffer(agent string) *epochBuffer {
	slot := m.lookup.slot(agent)
	cached := slot.Load()
	if cached != nil && cached.name == agent {
		if b := cached.active.Load(); b != nil {
			return b
		}
	}
	a, ok := m.agents.Load(agent)
	if !ok {
		return nil
	}
	b := a.active.Load()
	if b != nil && a != cached && (cached == nil || cached.active.Load() == nil) {
		slot.CompareAndSwap(cached, a)
	}
	return b
}
