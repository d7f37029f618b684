package breaker_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// TestMemory_FollowHearsEachEventOnce of two Managers, and tells each Follower, of which one is slow and one uses the
// store that it hears of.
func TestMemory_FollowHearsEachEventOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := breaker.NewMemory(nil, 0)
		one, err := breaker.NewManager(breaker.Options{Store: store})
		if err != nil {
			t.Fatal(err)
		}
		two, err := breaker.NewManager(breaker.Options{Store: store})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		heard, ready, began := make([][]string, 2), make(chan struct{}), make(chan struct{}, 2)
		for i := range heard {
			go store.Follow(ctx, breaker.Follower{
				Began: func() { began <- struct{}{} },
				Event: func(agent string, e breaker.Event) {
					if i == 0 {
						<-ready
					} else if _, _, err := two.Inspect(ctx, agent); err != nil {
						t.Error(err)
					}
					heard[i] = append(heard[i], agent+" "+e.Kind)
				},
				Missed: func(why string) { t.Error(why) },
			})
			<-began
		}
		var want []string
		for i, m := range []*breaker.Manager{one, two, one, one} {
			agent := fmt.Sprintf("a%d", i)
			if _, err := m.Force(t.Context(), agent, breaker.Force{Target: breaker.HoldOpen, Actor: "t"}); err != nil {
				t.Fatal(err)
			}
			want = append(want, agent+" manual_open")
		}
		synctest.Wait()
		close(ready)
		synctest.Wait()
		for i := range heard {
			if !slices.Equal(heard[i], want) {
				t.Errorf("%d heard %q, want %q", i, heard[i], want)
			}
		}
		cancel()
		synctest.Wait()
		if _, err := one.Force(t.Context(), "b", breaker.Force{Target: breaker.HoldOpen, Actor: "t"}); err != nil {
			t.Fatal(err)
		}
	})
}

// TestMemory_FollowDropsTheOldestOfTooMany, and says so.
func TestMemory_FollowDropsTheOldestOfTooMany(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := breaker.NewMemory(nil, 0)
		m, err := breaker.NewManager(breaker.Options{Store: store})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var heard []string
		ready := make(chan struct{})
		go store.Follow(ctx, breaker.Follower{
			Event: func(_ string, e breaker.Event) {
				<-ready
				heard = append(heard, e.Text)
			},
			Missed: func(why string) { heard = append(heard, why) },
		})
		synctest.Wait()
		for i := range 10_003 {
			f := breaker.Force{Target: breaker.HoldOpen, Actor: "t", Reason: strconv.Itoa(i)}
			if _, err := m.Force(t.Context(), "a", f); err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				synctest.Wait() // it is being handled
			}
		}
		close(ready)
		synctest.Wait()
		if len(heard) != 10_002 || heard[0] != "0" || !strings.HasPrefix(heard[1], "2 events were dropped") || heard[2] != "3" ||
			heard[10_001] != "10002" {
			t.Errorf("heard %d: %q", len(heard), heard[:min(4, len(heard))])
		}
	})
}
