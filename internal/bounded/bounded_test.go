package bounded_test

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/breakerd/breakerd/internal/bounded"
)

// ranked is a map whose values are their classes. A strict one is stable and hard.
func ranked(most int, strict bool) *bounded.Map[*atomic.Uint32] {
	return bounded.New(bounded.Options[*atomic.Uint32]{
		Max: most, Stable: strict, Hard: strict,
		Class: func(_ string, v *atomic.Uint32) bounded.Class { return bounded.Class(v.Load()) },
	})
}

func rank(c bounded.Class) *atomic.Uint32 {
	v := new(atomic.Uint32)
	v.Store(uint32(c))
	return v
}

func names(m *bounded.Map[*atomic.Uint32]) []string {
	all := map[string]bool{}
	m.All(func(name string, _ *atomic.Uint32) bool { all[name] = true; return true })
	return slices.Sorted(maps.Keys(all))
}

func want(t *testing.T, m *bounded.Map[*atomic.Uint32], all ...string) {
	t.Helper()
	if got := names(m); !slices.Equal(got, all) || m.Len() != len(all) {
		t.Errorf("got %v (%d), want %v", got, m.Len(), all)
	}
}

func TestMap_LeastRecentlyUsedGoesFirst(t *testing.T) {
	t.Parallel()
	m := ranked(3, false)
	for _, name := range []string{"a", "b", "c"} {
		m.Store(name, rank(bounded.Harmless))
	}
	m.Load("a")
	m.Store("d", rank(bounded.Harmless))
	want(t, m, "a", "c", "d")
	m.Load("c")
	m.Load("a")
	m.Store("e", rank(bounded.Harmless))
	want(t, m, "a", "c", "e")
}

// OmniRoute PR 4114, anticapture PR 2148, Hystrix 1737.
func TestMap_LowerClassesMakeRoomFirst(t *testing.T) {
	t.Parallel()
	for first := bounded.Idle; first <= bounded.Kept; first++ {
		for second := bounded.Idle; second <= bounded.Kept; second++ {
			m := ranked(10, false)
			for i := range 10 {
				m.Store(fmt.Sprint("first-", i), rank(first))
			}
			taken := 0
			for i := range 30 {
				if m.Store(fmt.Sprint("second-", i), rank(second)) {
					taken++
				}
			}
			left := 0
			m.All(func(name string, _ *atomic.Uint32) bool {
				if name[0] == 'f' {
					left++
				}
				return true
			})
			switch {
			case second < first && (taken != 0 || left != 10), second >= first && taken != 30:
				t.Errorf("%d before %d: %d taken, %d of the first left", first, second, taken, left)
			case first == bounded.Kept && left != 10:
				t.Errorf("%d of 10 kept entries left", left)
			case second == bounded.Kept && m.Len() != 30+left:
				t.Errorf("%d before %d: %d entries", first, second, m.Len())
			case second < bounded.Kept && m.Len() != 10:
				t.Errorf("%d before %d: %d entries", first, second, m.Len())
			}
		}
	}
}

func TestMap_ClassMayChange(t *testing.T) {
	t.Parallel()
	m := ranked(2, false)
	a, b := rank(bounded.Harmless), rank(bounded.Harmless)
	m.Store("a", a)
	m.Store("b", b)
	a.Store(uint32(bounded.NotClosed)) // not even told
	m.Store("c", rank(bounded.Harmless))
	want(t, m, "a", "c")
	m.Store("d", rank(bounded.NotClosed))
	want(t, m, "a", "d")
	a.Store(uint32(bounded.Harmless)) // the first in its queue is looked at again
	m.Store("e", rank(bounded.Harmless))
	want(t, m, "d", "e")
	d, _ := m.Load("d")
	m.Store("f", rank(bounded.NotClosed))
	want(t, m, "d", "f")
	f, _ := m.Load("f")
	f.Store(uint32(bounded.Harmless)) // not the first in its queue
	m.Reclassify("f")
	m.Store("g", rank(bounded.Harmless))
	want(t, m, "d", "g")
	d.Store(uint32(bounded.Kept))
	m.Store("h", rank(bounded.NotClosed))
	m.Store("i", rank(bounded.NotClosed))
	want(t, m, "d", "i")
	m.Reclassify("nobody")
}

func TestMap_KeptEntriesComeBeyondTheBound(t *testing.T) {
	t.Parallel()
	m := ranked(2, false)
	m.Store("open", rank(bounded.NotClosed))
	for i := range 3 {
		m.Store(fmt.Sprint("kept-", i), rank(bounded.Kept))
	}
	want(t, m, "kept-0", "kept-1", "kept-2")
	if m.Store("open", rank(bounded.NotClosed)) {
		t.Error("taken beyond the bound")
	}
	m.Delete("kept-0")
	m.Delete("kept-1")
	if !m.Store("open", rank(bounded.NotClosed)) {
		t.Error("not taken, although there is room")
	}
	kept, _ := m.Load("kept-2") // a hold that has ended
	kept.Store(uint32(bounded.Harmless))
	m.Store("other", rank(bounded.Harmless))
	want(t, m, "open", "other")
}

func TestMap_StrictOneReplacesOnlyLowerClasses(t *testing.T) {
	t.Parallel()
	m := ranked(2, true)
	for name, c := range map[string]bounded.Class{"a": bounded.Harmless, "b": bounded.Harmless} {
		m.Store(name, rank(c))
	}
	if m.Store("c", rank(bounded.Harmless)) {
		t.Error("the same class was replaced")
	}
	m.Store("failing", rank(bounded.Failing))
	m.Store("kept", rank(bounded.Kept))
	want(t, m, "failing", "kept")
	m.Store("kept-too", rank(bounded.Kept))
	if m.Store("one-more", rank(bounded.Kept)) || m.Len() != 2 {
		t.Error("taken beyond the bound")
	}
	if none := ranked(0, true); none.Store("kept", rank(bounded.Kept)) {
		t.Error("taken by a table without room")
	}
}

func TestMap_StableOneHasRoomWhenSomethingIsIdle(t *testing.T) {
	t.Parallel()
	m := bounded.New(bounded.Options[*atomic.Uint32]{
		Max: 3, Stable: true,
		Class: func(_ string, v *atomic.Uint32) bounded.Class { return bounded.Class(v.Load()) },
	})
	idle := rank(bounded.Harmless)
	for name, v := range map[string]*atomic.Uint32{"a": rank(bounded.Harmless), "b": rank(bounded.Harmless), "idle": idle} {
		m.Store(name, v)
	}
	for range 3 {
		m.Load("a")
		m.Load("b")
		if m.Store("c", rank(bounded.Harmless)) {
			t.Fatal("taken")
		}
	}
	idle.Store(uint32(bounded.Idle)) // wherever it is in the queue
	for range 3 {
		m.Load("a")
		m.Load("b")
		m.Store("c", rank(bounded.Harmless))
	}
	want(t, m, "a", "b", "c")
	m.Store("kept", rank(bounded.Kept))
	m.Store("kept-too", rank(bounded.Kept))
	m.Store("kept-as-well", rank(bounded.Kept))
	m.Store("kept-beyond", rank(bounded.Kept))
	want(t, m, "kept", "kept-as-well", "kept-beyond", "kept-too")
}

func TestMap_TellsWhoMadeRoom(t *testing.T) {
	t.Parallel()
	var gone []string
	m := bounded.New(bounded.Options[int]{Max: 2, OnEvict: func(name string, v int) { gone = append(gone, fmt.Sprint(name, v)) }})
	for i, name := range []string{"a", "b", "a", "c", "d"} {
		m.Store(name, i)
	}
	m.Delete("d")
	m.Clear()
	if !slices.Equal(gone, []string{"b1", "a2"}) || m.Len() != 0 {
		t.Errorf("gone %v, %d left", gone, m.Len())
	}
	if v, taken := m.LoadOrStore("a", 7); v != 7 || !taken {
		t.Error(v, taken)
	}
	if v, taken := m.LoadOrStore("a", 8); v != 7 || !taken {
		t.Error(v, taken)
	}
}

// A model: after any operations no entry is gone while one of a lower class stays.
func TestMap_NeverDropsAHigherClassForALowerOne(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.IntRange(0, 5).Draw(t, "max")
		m := ranked(most, rapid.Bool().Draw(t, "strict"))
		for range rapid.IntRange(1, 60).Draw(t, "operations") {
			name := strconv.Itoa(rapid.IntRange(0, 9).Draw(t, "name"))
			class := bounded.Class(rapid.IntRange(0, 4).Draw(t, "class"))
			before := map[string]bounded.Class{}
			m.All(func(n string, v *atomic.Uint32) bool { before[n] = bounded.Class(v.Load()); return true })
			taken, reclassified := false, false
			switch rapid.IntRange(0, 4).Draw(t, "what") {
			case 0:
				m.Load(name)
			case 1:
				m.Delete(name)
				delete(before, name)
			case 2:
				if v, ok := m.Load(name); ok {
					v.Store(uint32(class))
					m.Reclassify(name)
					before[name], reclassified = class, true
				}
			default:
				if _, there := before[name]; !there {
					_, taken = m.LoadOrStore(name, rank(class))
				}
			}
			after := map[string]bounded.Class{}
			kept := 0
			m.All(func(n string, v *atomic.Uint32) bool {
				after[n] = bounded.Class(v.Load())
				if after[n] == bounded.Kept {
					kept++
				}
				return true
			})
			if len(after) != m.Len() || len(after) > max(most, kept) {
				t.Fatalf("%d entries, Len %d, bound %d, %d kept", len(after), m.Len(), most, kept)
			}
			for gone, was := range before {
				if _, there := after[gone]; there {
					continue
				}
				if reclassified && len(before) > most && was < bounded.Kept {
					continue
				}
				if !taken || was == bounded.Kept || was > class {
					t.Fatalf("%s of class %d made room for class %d", gone, was, class)
				}
				for n, c := range after {
					if c < was && n != name {
						t.Fatalf("%s of class %d went, %s of class %d stayed", gone, was, n, c)
					}
				}
			}
		}
	})
}

func TestMap_IsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	m := ranked(50, false)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 3000 {
				name := strconv.Itoa(i * (g + 1) % 200)
				v, _ := m.LoadOrStore(name, rank(bounded.Harmless))
				v.Store(uint32(i % 4))
				m.Reclassify(name)
				if i%7 == 0 {
					m.Delete(name)
				}
				if i%1000 == 0 {
					m.Clear()
				}
			}
		})
	}
	wg.Wait()
	if m.Len() > 50 {
		t.Errorf("%d entries", m.Len())
	}
}

// Not parallel: it counts allocations.
func TestMap_LoadDoesNotAllocate(t *testing.T) { //nolint:paralleltest // see above
	m := ranked(10, false)
	m.Store("a", rank(bounded.Failing))
	if n := testing.AllocsPerRun(100, func() { m.Load("a"); m.Reclassify("a") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkMap_Load(b *testing.B) {
	m := ranked(100_000, false)
	for i := range 100_000 {
		m.Store(strconv.Itoa(i), rank(bounded.Harmless))
	}
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			m.Load("4711")
		}
	})
}

func BenchmarkMap_MakeRoom(b *testing.B) {
	m := ranked(100_000, false)
	v := rank(bounded.Harmless)
	for i := 0; b.Loop(); i++ {
		m.Store("name-"+strconv.Itoa(i), v)
	}
}
