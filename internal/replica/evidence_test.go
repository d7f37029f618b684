package replica

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/internal/bounded"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// said lists what replicas say of an agent's openings in the stream.
func (m *member) said(agent string) (all []breaker.Event) {
	m.t.Helper()
	entries, err := m.Conn.Client.XRange(m.t.Context(), m.Store.Keys().Stream(), "-", "+").Result()
	if err != nil {
		m.t.Fatal(err)
	}
	for _, entry := range entries {
		if line, _ := entry.Values["event"].(string); entry.Values["agent"] == agent {
			if e, ok := machine.ParseEvent(line); ok && e.Kind == redisstore.EventEvidence {
				all = append(all, e)
			}
		}
	}
	return all
}

func TestEvidence_EachReplicaThatFailedSaysSo(t *testing.T) {
	t.Parallel()
	for _, consistency := range []string{"strict", "cached"} {
		t.Run(consistency, func(t *testing.T) {
			t.Parallel()
			onEachEngine(t, func(t *testing.T, s shop) {
				members := joinAll(t, 3, s.url, "CIRCUIT_BREAKER_CONSISTENCY="+consistency)
				healthy, sick, other := members[0], members[1], members[2]
				for range 3 {
					healthy.awaitCall("a", "")
				}
				other.awaitCall("b", "")
				boom := errors.New("boom")
				sick.eventually("the breaker to open", func() error {
					err := sick.Manager.Do(t.Context(), "a", func(context.Context) error { return boom })
					if errors.Is(err, breaker.ErrOpen) {
						return nil
					}
					return err
				})
				var said []breaker.Event
				sick.eventually("the sick replica to say what it has reported", func() error {
					if said = sick.said("a"); len(said) == 0 {
						return errors.New("it does not")
					}
					return nil
				})
				v := sick.view("a")
				if e := said[0]; len(said) != 1 || e.Actor != sick.ID || e.Failures < 5 || e.Calls != e.Failures || e.Epoch != v.Epoch {
					t.Errorf("%+v, of the opening %s", said, v.Epoch)
				}
				if all := healthy.said("b"); len(all) > 0 {
					t.Errorf("of an agent that is well: %+v", all)
				}
			})
		})
	}
}

func TestEvidence_CountsAboutOneWindow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := &evidence{
			window: func(string) time.Duration { return 10 * time.Second },
			agents: bounded.New(bounded.Options[*reports]{Max: 10}),
		}
		for i := range 100 {
			v.Settled("a", breaker.Outcome{Kind: breaker.Failure}, breaker.Report{Counted: true})
			<-time.After(time.Second)
			if n := v.sum("a").failures; n > 10 || n < min(int64(i), 4) {
				t.Errorf("after %d s: %d", i, n)
			}
		}
		v.Settled("a", breaker.Outcome{Kind: breaker.Success}, breaker.Report{Counted: true, Pending: true})
		v.Settled("a", breaker.Outcome{Kind: breaker.Failure}, breaker.Report{Why: machine.CodeLate})
		v.Flushed("b", machine.Summary{Failures: 7}, breaker.Report{})
		<-time.After(20 * time.Second)
		if a, b := v.sum("a"), v.sum("b"); a != (reported{}) || b != (reported{}) {
			t.Errorf("later: %+v, %+v", a, b)
		}
		v.Forget("a")
		if n := v.agents.Len(); n != 0 {
			t.Errorf("%d agents are left", n)
		}
	})
}

// When many agents open at once, the stream has room for the openings.
func TestEvidence_IsPacedAndBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var said []string
		v := &evidence{
			window: func(string) time.Duration { return time.Hour },
			agents: bounded.New(bounded.Options[*reports]{Max: 10_000}), openings: make(chan opening, evidenceWaiting),
			say: func(_ context.Context, agent, _ string, _ reported) error {
				said = append(said, agent)
				return errors.New("the store is down")
			},
		}
		for i := range 1000 {
			agent := fmt.Sprintf("agent-%03d", i)
			v.Settled(agent, breaker.Outcome{Kind: breaker.Failure}, breaker.Report{Counted: true})
			v.hear(agent, breaker.Event{Kind: machine.EventOpened, From: breaker.Closed, To: breaker.Open})
			v.hear(agent, breaker.Event{Kind: machine.EventOpened, From: breaker.HalfOpen, To: breaker.Open})
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		v.run(ctx)
		if n := len(said); n > 51 || n < 45 || !slices.IsSorted(said) {
			t.Errorf("%d in ten seconds: %v", n, said)
		}
	})
}
