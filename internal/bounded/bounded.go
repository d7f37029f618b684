// Package bounded is a map of a bounded number of agents. Callers name the agents, so every table that has an entry for
// each of them is one of these: made-up names must not push out what matters.
package bounded

import (
	"container/list"
	"sync"
	"sync/atomic"

	"github.com/puzpuzpuz/xsync/v4"
)

// Class ranks the entries of a full Map: those of a lower class make room for those of a higher one.
type Class uint8

// The classes, lowest first.
const (
	Idle      Class = iota // nobody needs the entry any more
	Harmless               // nothing is lost with the entry but time
	Failing                // a run of failures, or failures in its window
	NotClosed              // open, or half-open
	Kept                   // in the registry, overridden, with a profile or held: never makes room

	classes = iota
)

// Options configures a Map. Max is required.
type Options[V any] struct {
	Max int // entries
	// Class returns an entry's class. It is called under the Map's lock, when an entry is added, when room is needed, and
	// by Reclassify. It must be quick, and must not use the Map. nil: all are Harmless.
	Class func(name string, v V) Class
	// OnEvict receives an entry that made room, under the Map's lock. nil: nobody.
	OnEvict func(name string, v V)
	// Stable: only an entry of a lower class makes room. It is for tables in which an entry that comes and goes is worse
	// than none.
	Stable bool
	// Hard: no entry is added beyond Max, not even one of class Kept.
	Hard bool
}

// Map has at most Options.Max entries, and those of class Kept beyond that. When it is full, an entry of the lowest
// class makes room, and within a class one that was not used for long; a new entry of a class below all others is not
// taken. "Not used for long" is second chance: an entry that was used after a later one came is passed over once.
//
// It is safe for concurrent use. Load of a name that is there takes no lock and does not allocate.
type Map[V any] struct {
	o       Options[V]
	entries *xsync.Map[string, *entry[V]]
	clock   atomic.Uint64 // how many entries ever came, taken or not

	mu     sync.Mutex
	queues [classes]*list.List // of *entry, the next to go first
	n      int
}

type entry[V any] struct {
	name  string
	value V
	used  atomic.Uint64 // Map.clock when it was last used
	class atomic.Uint32

	// Guarded by Map.mu.
	place  *list.Element // in the queue of its class; nil: removed
	placed uint64        // Map.clock when it was put there
}

// New makes a Map.
func New[V any](o Options[V]) *Map[V] {
	if o.Class == nil {
		o.Class = func(string, V) Class { return Harmless }
	}
	if o.OnEvict == nil {
		o.OnEvict = func(string, V) {}
	}
	m := &Map[V]{o: o, entries: xsync.NewMap[string, *entry[V]]()}
	for c := range m.queues {
		m.queues[c] = list.New()
	}
	return m
}

// Load returns the value of a name, and counts as its use.
func (m *Map[V]) Load(name string) (v V, ok bool) {
	e, ok := m.entries.Load(name)
	if !ok {
		return v, false
	}
	if now := m.clock.Load(); e.used.Load() != now { // most calls find it set, and write nothing
		e.used.Store(now)
	}
	return e.value, true
}

// LoadOrStore returns the value of a name, after adding v if it had none. taken is false if there was no room: then v
// is returned and not kept.
func (m *Map[V]) LoadOrStore(name string, v V) (value V, taken bool) {
	if value, ok := m.Load(name); ok {
		return value, true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if e, ok := m.entries.Load(name); ok {
		return e.value, true
	}
	return v, m.add(name, v)
}

// Store puts v in the place of what a name had, and reports whether there was room.
func (m *Map[V]) Store(name string, v V) (taken bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e, ok := m.entries.Load(name); ok {
		m.remove(e)
	}
	return m.add(name, v)
}

// Reclassify is called after a value has changed in itself, so that the entry's class may be another.
func (m *Map[V]) Reclassify(name string) {
	e, ok := m.entries.Load(name)
	if !ok || e.class.Load() == uint32(m.o.Class(name, e.value)) {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if e.place != nil {
		m.move(e, m.o.Class(name, e.value))
		m.evict(m.o.Max, NotClosed) // one that is no longer Kept may have been beyond the bound
	}
}

// Delete removes a name.
func (m *Map[V]) Delete(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e, ok := m.entries.Load(name); ok {
		m.remove(e)
	}
}

// Clear removes all names.
func (m *Map[V]) Clear() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.entries.Range(func(_ string, e *entry[V]) bool {
		m.remove(e)
		return true
	})
}

// All calls yield with every entry until it returns false. It does not count as use.
func (m *Map[V]) All(yield func(name string, v V) bool) {
	m.entries.Range(func(name string, e *entry[V]) bool { return yield(name, e.value) })
}

// Len returns the number of entries.
func (m *Map[V]) Len() int { return m.entries.Size() }

// add adds an entry if there is room. The lock is held.
func (m *Map[V]) add(name string, v V) (taken bool) {
	class := m.o.Class(name, v)
	taken = m.makeRoom(class)
	m.clock.Add(1)
	if !taken {
		return false
	}
	e := &entry[V]{name: name, value: v}
	m.n++
	m.put(e, class)
	m.entries.Store(name, e)
	return true
}

func (m *Map[V]) put(e *entry[V], c Class) {
	e.class.Store(uint32(c))
	e.place, e.placed = m.queues[c].PushBack(e), m.clock.Load()
}

func (m *Map[V]) move(e *entry[V], c Class) {
	m.queues[e.class.Load()].Remove(e.place)
	m.put(e, c)
}

func (m *Map[V]) remove(e *entry[V]) {
	m.queues[e.class.Load()].Remove(e.place)
	e.place = nil
	m.n--
	m.entries.Delete(e.name)
}

// makeRoom reports whether an entry of a class may be added.
func (m *Map[V]) makeRoom(c Class) bool {
	if m.o.Stable && c > Idle {
		return m.evict(m.o.Max-1, c-1) || c == Kept && !m.o.Hard
	}
	return m.evict(m.o.Max-1, c) || c == Kept && !m.o.Hard
}

// evict removes entries of a class of at most most until so many are left, and reports whether it could.
func (m *Map[V]) evict(left int, most Class) bool {
	for m.n > left {
		e := m.next(most)
		if e == nil {
			return false
		}
		m.remove(e)
		m.o.OnEvict(e.name, e.value)
	}
	return true
}

// looks bounds the entries that are passed over at once.
const looks = 64

// next returns the entry that goes first; nil if it is of a class above most, or Kept. An entry at the head of its
// queue whose class has changed goes to the right queue before.
func (m *Map[V]) next(most Class) *entry[V] {
	for c, passedOver := Idle, 0; c < classes; {
		head := m.queues[c].Front()
		if head == nil {
			c++
			continue
		}
		e, _ := head.Value.(*entry[V])
		switch now := m.o.Class(e.name, e.value); {
		case now != c:
			m.move(e, now)
			c = min(c, now)
		case passedOver < looks && e.used.Load() > e.placed:
			m.move(e, c)
			passedOver++
		case c > most || c == Kept:
			c++
		default:
			return e
		}
	}
	return nil
}
