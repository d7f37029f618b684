package breaker

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// countingStore counts acquires.
type countingStore struct {
	*Memory

	asked int
}

func (s *countingStore) Apply(ctx context.Context, agent string, p Policy, op machine.Op) (machine.Result, error) {
	if op.Verb == machine.VerbAcquire {
		s.asked++
	}
	return s.Memory.Apply(ctx, agent, p, op)
}

// All of them are admitted from memory, whichever has the slot, and also after that one was removed.
func TestLookup_AgentsOfOneSlotAreDistinct(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &countingStore{Memory: NewMemory(nil, 0)}
		p := DefaultPolicy()
		p.Consistency = Cached
		m, err := NewManager(Options{Store: s, PerAgent: func(context.Context, string) Policy { return p }})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = m.Close(t.Context()) }()
		agents := []string{"agent"}
		for i := 0; len(agents) < 3; i++ {
			if other := fmt.Sprint("agent-", i); m.lookup.slot(other) == m.lookup.slot(agents[0]) {
				agents = append(agents, other)
			}
		}
		nothing := func(context.Context) error { return nil }
		for round := range 3 {
			for range 10 {
				for _, agent := range agents {
					if err := m.Do(t.Context(), agent, nothing); err != nil {
						t.Fatal(err)
					}
				}
			}
			if want := len(agents) * (round + 1); s.asked != want {
				t.Errorf("round %d: %d requests, want %d", round, s.asked, want)
			}
			<-time.After(3 * time.Second)
			synctest.Wait()
			if n := m.KnownAgents(); n != 0 {
				t.Errorf("round %d: %d agents in memory after a pause", round, n)
			}
		}
		for _, agent := range agents {
			if v, _, err := m.Inspect(t.Context(), agent); err != nil || v.Successes != 30 {
				t.Errorf("%s: %d counted of 30; %v", agent, v.Successes, err)
			}
		}
	})
}

func TestLookup_NamesSpreadOverTheSlots(t *testing.T) {
	t.Parallel()
	for _, form := range []string{"agent-%d", "%d", "team.payments.eu-west-1.agent-%d", "%d.payments"} {
		var c lookupCache
		slots := map[any]bool{}
		for i := range len(c) / 2 {
			slots[c.slot(fmt.Sprintf(form, i))] = true
		}
		if len(slots) < len(c)/4 {
			t.Errorf("%d names like %q have %d slots", len(c)/2, form, len(slots))
		}
	}
}
