package breaker_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// probing is a Manager whose breakers let one probe through a second after they opened, and what it settles.
type probing struct {
	*breaker.Manager

	settled *settledOutcomes
}

func newProbing(t *testing.T, consistency breaker.Consistency) *probing {
	t.Helper()
	p := &probing{settled: &settledOutcomes{}}
	m, err := breaker.NewManager(breaker.Options{
		Store: breaker.NewMemory(nil, 0), Observer: p.settled,
		Policy: breaker.Policy{Consistency: consistency, FailureThreshold: 1, Timeout: time.Second, HalfOpenMaxCalls: 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	p.Manager = m
	t.Cleanup(func() { _ = m.Close(context.Background()) })
	return p
}

// halfOpen opens the breakers of the agents, and waits until each admits a probe.
func (p *probing) halfOpen(t *testing.T, agents ...string) {
	t.Helper()
	for _, agent := range agents {
		_ = p.Do(t.Context(), agent, fail)
		if err := p.Do(t.Context(), agent, succeed); !errors.As(err, new(*breaker.OpenError)) {
			t.Fatalf("%s is not open: %v", agent, err)
		}
	}
	<-time.After(time.Second)
	p.settled.take()
}

func (p *probing) state(t *testing.T, agent string) breaker.State {
	t.Helper()
	v, _, err := p.Inspect(t.Context(), agent)
	if err != nil {
		t.Fatal(err)
	}
	return v.State
}

// inVirtualTime runs a test in both modes.
func inVirtualTime(t *testing.T, test func(t *testing.T, p *probing)) {
	t.Helper()
	for _, consistency := range []breaker.Consistency{breaker.Strict, breaker.Cached} {
		t.Run(string(consistency), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { test(t, newProbing(t, consistency)) })
		})
	}
}

// Polly 933, kratos 2777: a call inside a probe, through the same breaker, was refused, so no round ended: 88 reopenings
// in two seconds.
func TestRide_NestedCallsOfOneProbeClose(t *testing.T) {
	t.Parallel()
	for name, nested := range map[string]func(p *probing, ctx context.Context) error{
		"Do":       func(p *probing, ctx context.Context) error { return p.Do(ctx, "a", succeed) },
		"Agent.Do": func(p *probing, ctx context.Context) error { a, _ := p.Agent("a"); return a.Do(ctx, succeed) },
		"Execute":  func(p *probing, ctx context.Context) error { c, _ := p.Classic("a"); return c.Execute(ctx, succeed) },
		"three deep": func(p *probing, ctx context.Context) error {
			return p.Do(ctx, "a", func(ctx context.Context) error {
				return p.Do(ctx, "a", func(ctx context.Context) error { return p.Do(ctx, "a", succeed) })
			})
		},
		"ten in a row": func(p *probing, ctx context.Context) error {
			var errs []error
			for range 10 {
				errs = append(errs, p.Do(ctx, "a", succeed))
			}
			return errors.Join(errs...)
		},
		"another agent between": func(p *probing, ctx context.Context) error {
			return p.Do(ctx, "b", func(ctx context.Context) error { return p.Do(ctx, "a", succeed) })
		},
		"derived context": func(p *probing, ctx context.Context) error {
			ctx, cancel := context.WithTimeout(context.WithValue(ctx, contextKey{}, 1), time.Minute)
			defer cancel()
			return p.Do(ctx, "a", succeed)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inVirtualTime(t, func(t *testing.T, p *probing) {
				p.halfOpen(t, "a")
				if err := p.Do(t.Context(), "a", func(ctx context.Context) error { return nested(p, ctx) }); err != nil {
					t.Error(err)
				}
				if state := p.state(t, "a"); state != breaker.Closed {
					t.Errorf("%s", state)
				}
			})
		})
	}
}

// resilience4j 1065: front calls back, whose breaker is open. That says nothing about front.
func TestOpenError_OfAnotherBreakerIsIgnored(t *testing.T) {
	t.Parallel()
	refusal := &breaker.OpenError{Agent: "back", Reason: breaker.ReasonOpen}
	for name, wrap := range map[string]func(error) error{
		"plain": func(err error) error { return err }, "wrapped": func(err error) error { return fmt.Errorf("call back: %w", err) },
		"joined": func(err error) error { return errors.Join(errAgent, err) }, "deep": func(err error) error { return fmt.Errorf("a: %w", fmt.Errorf("b: %w", err)) },
		"with a method": func(err error) error { return errors.Join(waitError{}, err) },
	} {
		if got := breaker.Classify(t.Context(), wrap(refusal)); got != (breaker.Outcome{Kind: breaker.Ignored, Class: "refused"}) {
			t.Errorf("%s: %+v", name, got)
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inVirtualTime(t, func(t *testing.T, p *probing) {
				_ = p.Do(t.Context(), "back", fail)
				for range 10 {
					err := p.Do(t.Context(), "front", func(ctx context.Context) error { return wrap(p.Do(ctx, "back", succeed)) })
					if open, ok := errors.AsType[*breaker.OpenError](err); !ok || open.Agent != "back" {
						t.Fatalf("%v", err)
					}
				}
				if front, back := p.state(t, "front"), p.state(t, "back"); front != breaker.Closed || back != breaker.Open {
					t.Errorf("front %s, back %s", front, back)
				}
			})
		})
	}
}

// The outer's error settles the probe; without one, the last ride's outcome does.
func TestRide_LastOneCountsUnlessTheOuterFails(t *testing.T) {
	t.Parallel()
	panics := func(context.Context) error { panic("rider") }
	swallow := func(p *probing, ctx context.Context, fns ...func(context.Context) error) {
		for _, fn := range fns {
			func() {
				defer func() { _ = recover() }()
				_ = p.Do(ctx, "a", fn)
			}()
		}
	}
	for name, c := range map[string]struct {
		outer func(p *probing, ctx context.Context) error
		want  breaker.State
		class string
	}{
		"swallowed failure":     {func(p *probing, ctx context.Context) error { swallow(p, ctx, fail); return nil }, breaker.Open, "*errors.errorString"},
		"swallowed panic":       {func(p *probing, ctx context.Context) error { swallow(p, ctx, panics); return nil }, breaker.Open, "panic"},
		"failure, then success": {func(p *probing, ctx context.Context) error { swallow(p, ctx, fail, succeed); return nil }, breaker.Closed, ""},
		"success, then failure": {func(p *probing, ctx context.Context) error { swallow(p, ctx, succeed, fail); return nil }, breaker.Open, "*errors.errorString"},
		"the outer fails":       {func(p *probing, ctx context.Context) error { swallow(p, ctx, succeed); return waitError{} }, breaker.Open, "breaker_test.waitError"},
		"both fail":             {func(p *probing, ctx context.Context) error { swallow(p, ctx, fail); return waitError{} }, breaker.Open, "breaker_test.waitError"},
		"no ride":               {func(*probing, context.Context) error { return nil }, breaker.Closed, ""},
		"a ride's refusal": {func(p *probing, ctx context.Context) error {
			swallow(p, ctx, func(context.Context) error { return &breaker.OpenError{} })
			return nil
		}, breaker.HalfOpen, "refused"},
		"failure two deep": {func(p *probing, ctx context.Context) error {
			swallow(p, ctx, func(ctx context.Context) error { swallow(p, ctx, fail); return nil })
			return nil
		}, breaker.Open, "*errors.errorString"},
		"the ride's own verdict": {func(p *probing, ctx context.Context) error {
			swallow(p, ctx, func(ctx context.Context) error { swallow(p, ctx, succeed); return errAgent })
			return nil
		}, breaker.Open, "*errors.errorString"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inVirtualTime(t, func(t *testing.T, p *probing) {
				p.halfOpen(t, "a")
				_ = p.Do(t.Context(), "a", func(ctx context.Context) error { return c.outer(p, ctx) })
				got := p.settled.take()
				if len(got) != 1 || got[0].Class != c.class {
					t.Errorf("settled %+v, want one of class %q", got, c.class)
				}
				if state := p.state(t, "a"); state != c.want {
					t.Errorf("%s, want %s", state, c.want)
				}
			})
		})
	}
}

// Two of a kind do not ride on each other's probes.
func TestRide_IsOfOneManagerAndAgent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		first, second := newProbing(t, breaker.Strict), newProbing(t, breaker.Strict)
		first.halfOpen(t, "a", "b")
		second.halfOpen(t, "a")
		err := first.Do(t.Context(), "a", func(ctx context.Context) error {
			return second.Do(ctx, "a", func(ctx context.Context) error {
				return first.Do(ctx, "b", func(ctx context.Context) error {
					return errors.Join(first.Do(ctx, "a", succeed), second.Do(ctx, "a", succeed), first.Do(ctx, "b", succeed))
				})
			})
		})
		if err != nil {
			t.Error(err)
		}
		if n := len(first.settled.take()) + len(second.settled.take()); n != 3 {
			t.Errorf("%d outcomes, want that of each probe", n)
		}
		for _, s := range []breaker.State{first.state(t, "a"), first.state(t, "b"), second.state(t, "a")} {
			if s != breaker.Closed {
				t.Errorf("%s", s)
			}
		}
	})
}

// Parallel calls inside a probe: one rides, the others ask for permits of their own.
func TestInProbe_OfItsManagerAndAgentWhileHalfOpen(t *testing.T) {
	t.Parallel()
	inVirtualTime(t, func(t *testing.T, p *probing) {
		other := newProbing(t, breaker.Strict)
		asked := func(want bool) func(context.Context) error {
			return func(ctx context.Context) error {
				if got := p.InProbe(ctx, "a"); got != want || p.InProbe(ctx, "b") || other.InProbe(ctx, "a") {
					t.Errorf("InProbe %t, want %t, and false for others", got, want)
				}
				return nil
			}
		}
		_ = p.Do(t.Context(), "a", asked(false))
		p.halfOpen(t, "a")
		_ = p.Do(t.Context(), "a", func(ctx context.Context) error {
			_ = asked(true)(ctx)
			return p.Do(ctx, "a", asked(true)) // a ride
		})
		_ = p.Do(t.Context(), "a", asked(false)) // it is closed again
	})
}

func TestRide_OneAtATime(t *testing.T) {
	t.Parallel()
	inVirtualTime(t, func(t *testing.T, p *probing) {
		p.halfOpen(t, "a")
		const n = 5
		errs := make(chan error, n)
		err := p.Do(t.Context(), "a", func(ctx context.Context) error {
			var all sync.WaitGroup
			for range n {
				all.Go(func() {
					errs <- p.Do(ctx, "a", func(context.Context) error { <-time.After(time.Second); return nil })
				})
			}
			all.Wait()
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		close(errs)
		rode := 0
		for err := range errs {
			open, refused := errors.AsType[*breaker.OpenError](err)
			switch {
			case err == nil:
				rode++
			case !refused || open.Reason != breaker.ReasonProbesBusy:
				t.Error(err)
			}
		}
		if state := p.state(t, "a"); rode != 1 || state != breaker.Closed {
			t.Errorf("%d rode, %s", rode, state)
		}
	})
}

// What outlives the probe neither rides nor counts.
func TestRide_EndsWithTheProbe(t *testing.T) {
	t.Parallel()
	inVirtualTime(t, func(t *testing.T, p *probing) {
		p.halfOpen(t, "a")
		var inside context.Context
		var rider breaker.Permit
		err := p.Do(t.Context(), "a", func(ctx context.Context) (err error) {
			inside, rider, err = p.Enter(ctx, "a") //nolint:fatcontext // it is kept for longer than it should be
			return err
		})
		if state := p.state(t, "a"); err != nil || state != breaker.Closed {
			t.Fatalf("%v, %s", err, state)
		}
		if rider.State() != breaker.HalfOpen || rider.Lease() != 0 || rider.Agent() != "a" {
			t.Errorf("rider %v", rider)
		}
		if counted, err := rider.Failure(t.Context(), "late"); counted || err != nil {
			t.Errorf("a late ride: %v, %v", counted, err)
		}
		if _, err := rider.Success(t.Context()); !errors.Is(err, breaker.ErrSettled) {
			t.Errorf("a second outcome: %v", err)
		}
		if state := p.state(t, "a"); state != breaker.Closed {
			t.Errorf("%s after a late ride", state)
		}
		_ = p.Do(inside, "a", fail) // in the closed breaker, for itself
		if err := p.Do(inside, "a", succeed); !errors.As(err, new(*breaker.OpenError)) {
			t.Errorf("open: %v", err)
		}
		<-time.After(time.Second)
		if err := p.Do(context.WithoutCancel(inside), "a", succeed); err != nil || p.state(t, "a") != breaker.Closed {
			t.Errorf("a probe of its own: %v", err)
		}
	})
}

// A bare Acquire never rides: it may be settled anywhere.
func TestRide_BareAcquireDoesNot(t *testing.T) {
	t.Parallel()
	inVirtualTime(t, func(t *testing.T, p *probing) {
		p.halfOpen(t, "a")
		_ = p.Do(t.Context(), "a", func(ctx context.Context) error {
			a, _ := p.Agent("a")
			c, _ := p.Classic("a")
			for name, acquire := range map[string]func() error{
				"Acquire":       func() error { _, err := p.Acquire(ctx, "a"); return err },
				"Agent.Acquire": func() error { _, err := a.Acquire(ctx); return err },
				"CanExecute": func() error {
					if c.CanExecute(ctx) {
						return nil
					}
					_, err := p.Acquire(ctx, "a")
					return err
				},
			} {
				if open, ok := errors.AsType[*breaker.OpenError](acquire()); !ok || open.Reason != breaker.ReasonProbesBusy {
					t.Errorf("%s: not refused", name)
				}
			}
			return nil
		})
	})
}

// In a closed breaker nothing is put into the context, and nothing is allocated for it.
func TestRide_ClosedBreakerCostsNothing(t *testing.T) {
	m := newManager(t, nil)
	ctx := context.WithValue(t.Context(), contextKey{}, 1)
	got, p, err := m.Enter(ctx, "a")
	if err != nil || got != ctx {
		t.Errorf("%v, another context", err)
	}
	_, _ = p.Success(ctx)
	enter := testkit.FewestAllocs(func() { _, _, _ = m.Enter(ctx, "a") })
	bare := testkit.FewestAllocs(func() { _, _ = m.Acquire(ctx, "a") })
	if enter > bare {
		t.Errorf("Enter allocates %v times, Acquire %v", enter, bare)
	}
}
