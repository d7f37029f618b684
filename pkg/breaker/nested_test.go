package breaker_test

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/breakerd/breakerd/pkg/breaker"
)

func TestNested_CallsAreNotedWithTheirParent(t *testing.T) {
	t.Parallel()
	for _, consistency := range []breaker.Consistency{breaker.Strict, breaker.Cached} {
		var mu sync.Mutex
		var noted []string
		m, err := breaker.NewManager(breaker.Options{
			Store: breaker.NewMemory(func() int64 { return 1 << 40 }, 0), Policy: breaker.Policy{Consistency: consistency},
			OnCall: func(parent, agent string) {
				mu.Lock()
				defer mu.Unlock()
				noted = append(noted, parent+">"+agent)
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		call := func(inner func(context.Context) error, agent string) func(context.Context) error {
			return func(ctx context.Context) error { return m.Do(ctx, agent, inner) }
		}
		leaf := func(ctx context.Context) error {
			p, err := m.Acquire(ctx, "D")
			if err != nil {
				return err
			}
			_, err = p.Settle(ctx, breaker.Outcome{Kind: breaker.Success})
			return err
		}
		if err := call(call(call(leaf, "C"), "B"), "A")(t.Context()); err != nil {
			t.Fatal(err)
		}
		if want := []string{"A>B", "B>C", "C>D"}; !slices.Equal(noted, want) {
			t.Errorf("%v: %q, want %q", consistency, noted, want)
		}
		noted = nil
		m.NoteCall("A", "A")
		m.NoteCall("a b", "B")
		m.NoteCall("", "B")
		m.NoteCall("workflow:w", "B")
		if !slices.Equal(noted, []string{"workflow:w>B"}) {
			t.Errorf("%q", noted)
		}
		if err := m.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	(*breaker.Manager)(nil).NoteCall("A", "B")
}
