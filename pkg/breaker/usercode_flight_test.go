package breaker_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// askingObserver uses the Manager in each of its methods.
type askingObserver struct {
	breaker.NopObserver

	m     atomic.Pointer[breaker.Manager]
	use   func(ctx context.Context, m *breaker.Manager) error
	calls atomic.Int64
	busy  atomic.Bool // it is called by what it does itself
	errs  chan error
}

func (o *askingObserver) ask() {
	if m := o.m.Load(); m != nil && o.busy.CompareAndSwap(false, true) {
		defer o.busy.Store(false)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := o.use(ctx, m); errors.Is(err, context.DeadlineExceeded) {
			o.errs <- err
		}
		o.calls.Add(1)
	}
}

func (o *askingObserver) Event(string, breaker.Event, bool)               { o.ask() }
func (o *askingObserver) Flushed(string, machine.Summary, breaker.Report) { o.ask() }
func (o *askingObserver) StoreCall(machine.Verb, time.Duration, error)    { o.ask() }
func (o *askingObserver) Refused(string, *breaker.OpenError)              { o.ask() }
func (o *askingObserver) Settled(string, breaker.Outcome, breaker.Report) { o.ask() }
func (o *askingObserver) Admitted(string, breaker.Permit)                 { o.ask() }

// An Observer may use the Manager that calls it, for the agent that it is called for.
func TestObserver_MayUseTheManager(t *testing.T) { // sony/gobreaker issue 37
	t.Parallel()
	for name, use := range map[string]func(ctx context.Context, m *breaker.Manager) error{
		"Inspect": func(ctx context.Context, m *breaker.Manager) error { _, _, err := m.Inspect(ctx, "a"); return err },
		"Acquire": func(ctx context.Context, m *breaker.Manager) error { _, err := m.Acquire(ctx, "a"); return err },
		"Do":      func(ctx context.Context, m *breaker.Manager) error { return m.Do(ctx, "a", succeed) },
		"Record": func(ctx context.Context, m *breaker.Manager) error {
			_, err := m.Record(ctx, "a", breaker.Outcome{Kind: breaker.Success, ReportID: "x"})
			return err
		},
		"Flush": func(ctx context.Context, m *breaker.Manager) error { return m.Flush(ctx, "a") },
		"Force": func(ctx context.Context, m *breaker.Manager) error {
			_, err := m.Force(ctx, "b", breaker.Force{Target: breaker.HoldOpen, Actor: "me"})
			return err
		},
		"Outcomes": func(_ context.Context, m *breaker.Manager) error { _ = m.Outcomes(); return nil },
	} {
		for _, mode := range []breaker.Consistency{breaker.Strict, breaker.Cached} {
			t.Run(name+" "+string(mode), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					o := &askingObserver{use: use, errs: make(chan error, 1000)}
					f := breaker.NewFallback(breaker.FallbackOptions{
						Store: breaker.NewMemory(nil, 0), Ping: func(context.Context) error { return nil },
					})
					defer f.Close()
					m, err := breaker.NewManager(breaker.Options{
						Store: f, Observer: o, Reporter: "me", Policy: breaker.Policy{Consistency: mode},
					})
					if err != nil {
						t.Fatal(err)
					}
					o.m.Store(m)
					for range 12 {
						_ = m.Do(t.Context(), "a", fail)
						<-time.After(20 * time.Millisecond)
					}
					begin := time.Now()
					if err := m.Close(t.Context()); err != nil || time.Since(begin) > time.Second {
						t.Errorf("Close took %v: %v", time.Since(begin), err)
					}
					close(o.errs)
					for err := range o.errs {
						t.Errorf("hung: %v", err)
					}
					if o.calls.Load() == 0 {
						t.Error("never called")
					}
				})
			})
		}
	}
}

// A policy function may ask for the agent whose policy it is asked for.
func TestPerAgent_MayUseTheManager(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var m *breaker.Manager
		var inside, hung atomic.Bool
		m, err := breaker.NewManager(breaker.Options{
			Store: breaker.NewMemory(nil, 0), Reporter: "me",
			PerAgent: func(_ context.Context, agent string) breaker.Policy {
				if m != nil && inside.CompareAndSwap(false, true) {
					defer inside.Store(false)
					ctx, cancel := context.WithTimeout(context.Background(), time.Second)
					defer cancel()
					if err := m.Flush(ctx, agent); err != nil {
						hung.Store(true)
					}
				}
				return breaker.Policy{Consistency: breaker.Cached}
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		for range 12 {
			_ = m.Do(t.Context(), "a", fail)
			<-time.After(20 * time.Millisecond)
		}
		if err := m.Close(t.Context()); err != nil || hung.Load() {
			t.Errorf("%v, hung: %v", err, hung.Load())
		}
	})
}

// A new buffer begins with the run of failures that the store has counted.
func TestCached_ColdAgentTripsAtTheThreshold(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(t *testing.T, m *breaker.Manager, s *recordingStore) int{
		"nobody has called it": func(*testing.T, *breaker.Manager, *recordingStore) int { return 5 },
		"the first failures were reported without a permit": func(t *testing.T, m *breaker.Manager, _ *recordingStore) int {
			for range 2 {
				_, _ = m.Record(t.Context(), "a", breaker.Outcome{Kind: breaker.Failure})
			}
			return 3
		},
		"four reports without a permit": func(t *testing.T, m *breaker.Manager, _ *recordingStore) int {
			for range 4 {
				_, _ = m.Record(t.Context(), "a", breaker.Outcome{Kind: breaker.Failure})
			}
			return 1
		},
		"reports with a key, which are not joined": func(t *testing.T, m *breaker.Manager, _ *recordingStore) int {
			for i := range 3 {
				_, _ = m.Record(t.Context(), "a", breaker.Outcome{Kind: breaker.Failure, ReportID: strconv.Itoa(i)})
			}
			return 2
		},
		"a success ends the run": func(t *testing.T, m *breaker.Manager, _ *recordingStore) int {
			for _, kind := range []breaker.OutcomeKind{breaker.Failure, breaker.Failure, breaker.Success, breaker.Failure} {
				_, _ = m.Record(t.Context(), "a", breaker.Outcome{Kind: kind})
			}
			return 4
		},
		"the first permit came from the store": func(t *testing.T, m *breaker.Manager, s *recordingStore) int {
			s.setLatency(time.Millisecond)
			go func() { <-time.After(time.Millisecond / 2); m.Invalidate("a") }() // its answer is not cached
			_ = m.Do(t.Context(), "a", fail)
			s.setLatency(0)
			return 4
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newRecordingStore()
				m := newCachedManager(t, s, nil, nil)
				want := prepare(t, m, s)
				ran := 0
				for range 12 {
					_ = m.Do(t.Context(), "a", func(context.Context) error { ran++; return errAgent })
				}
				if ran != want {
					t.Errorf("%d calls ran, want %d", ran, want)
				}
				_ = m.Close(t.Context())
			})
		})
	}
}

// A crowd that meets cold agents asks once for each.
func TestCached_ColdCrowdAsksOnceAName(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		prepare func(t *testing.T, m *breaker.Manager, agent string)
		refused bool
		most    int
	}{
		"closed": {func(*testing.T, *breaker.Manager, string) {}, false, 10},
		"open": {func(t *testing.T, m *breaker.Manager, agent string) {
			for range 5 {
				_ = m.Do(t.Context(), agent, fail)
			}
		}, true, 10},
		"banned": {func(t *testing.T, m *breaker.Manager, agent string) {
			_, _ = m.Force(t.Context(), agent, breaker.Force{Target: breaker.HoldOpen, Actor: "me"})
		}, true, 10},
		"held closed": {func(t *testing.T, m *breaker.Manager, agent string) {
			_, _ = m.Force(t.Context(), agent, breaker.Force{Target: breaker.HoldClosed, Actor: "me"})
		}, false, 20_000},
		"reset": {func(t *testing.T, m *breaker.Manager, agent string) {
			_, _ = m.Force(t.Context(), agent, breaker.Force{Target: breaker.ResetClosed, Actor: "me"})
		}, false, 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newRecordingStore()
				m := newCachedManager(t, s, nil, nil)
				for i := range 10 {
					c.prepare(t, m, fmt.Sprint("cold-", i))
				}
				<-time.After(5 * time.Second)
				_, _, before := s.count()
				s.setLatency(50 * time.Millisecond)
				var wg sync.WaitGroup
				var refused atomic.Int64
				for i := range 20_000 {
					wg.Go(func() {
						if _, err := m.Acquire(t.Context(), fmt.Sprint("cold-", i%10)); err != nil {
							refused.Add(1)
						}
					})
				}
				wg.Wait()
				if _, _, n := s.count(); n-before > c.most || (refused.Load() == 20_000) != c.refused {
					t.Errorf("asked %d times; %d refused", n-before, refused.Load())
				}
				_ = m.Close(t.Context())
			})
		})
	}
}
