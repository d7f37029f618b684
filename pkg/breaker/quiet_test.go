package breaker_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// quietObserver notes what it is notified of. It panics in Quiet if it has no answer.
type quietObserver struct {
	breaker.NopObserver

	quiet atomic.Value // bool

	mu    sync.Mutex
	heard []string
}

func newQuietObserver(quiet bool) *quietObserver {
	o := &quietObserver{}
	o.quiet.Store(quiet)
	return o
}

func (o *quietObserver) Quiet() bool { return o.quiet.Load().(bool) }

func (o *quietObserver) hear(what string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.heard = append(o.heard, what)
}

func (o *quietObserver) take() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	defer func() { o.heard = nil }()
	return o.heard
}

func (o *quietObserver) Admitted(string, breaker.Permit) { o.hear("admitted") }

func (o *quietObserver) Settled(_ string, out breaker.Outcome, r breaker.Report) {
	o.hear(fmt.Sprint(out.Kind, " ", r.Pending, out.Duration))
}

func (o *quietObserver) Flushed(_ string, s machine.Summary, _ breaker.Report) {
	o.hear(fmt.Sprint("flushed ", s.Successes, " ", s.Failures))
}

// calls makes a call of each kind in cached mode, and flushes them.
func calls(t *testing.T, m *breaker.Manager) {
	t.Helper()
	slowly := func(context.Context) error { <-time.After(2 * time.Second); return nil }
	quickly := func(context.Context) error { <-time.After(time.Millisecond); return nil }
	_ = m.Do(t.Context(), "a", quickly)
	p := acquire(t, m, "a")
	_, _ = p.Success(t.Context())
	p = acquire(t, m, "a")
	_, _ = p.Settle(t.Context(), breaker.Outcome{Kind: breaker.Success, Duration: time.Millisecond})
	_ = m.Do(t.Context(), "a", fail)
	p = acquire(t, m, "a")
	_, _ = p.Ignore(t.Context())
	if err := m.Flush(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	_ = m.Do(t.Context(), "slow", slowly)
	if err := m.Flush(t.Context(), "slow"); err != nil {
		t.Error(err)
	}
}

func TestQuietObserver_HearsOfAllButSuccesses(t *testing.T) {
	t.Parallel()
	loud := []string{
		"admitted", "success true 1ms", "admitted", "success true 0s", "admitted", "success true 1ms", "admitted", "failure true 0s",
		"admitted", "ignored false 0s", "flushed 3 1", "admitted", "success true 2s", "flushed 1 0",
	}
	quiet := []string{"failure true 0s", "ignored false 0s", "flushed 3 1", "success true 2s", "flushed 1 0"}
	for name, c := range map[string]struct {
		quiet any
		with  []breaker.Observer
		want  []string
	}{
		"quiet":            {true, nil, quiet},
		"loud":             {false, nil, loud},
		"with a quiet one": {true, []breaker.Observer{newQuietObserver(true)}, quiet},
		"with a loud one":  {true, []breaker.Observer{newQuietObserver(false)}, loud},
		"with another's":   {true, []breaker.Observer{breaker.NopObserver{}}, loud},
		"Quiet panics":     {"no bool", nil, loud},
		"with one that panics": {true, []breaker.Observer{func() breaker.Observer {
			o := newQuietObserver(true)
			o.quiet = atomic.Value{}
			return o
		}()}, loud},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				o := &quietObserver{}
				o.quiet.Store(c.quiet)
				m := quietManager(t, breaker.Observers(append(c.with, o)...), nil)
				calls(t, m)
				synctest.Wait() // Flushed runs beside the calls, and after Flush
				got, want := slices.Sorted(slices.Values(o.take())), slices.Sorted(slices.Values(c.want))
				if !slices.Equal(got, want) {
					t.Errorf("heard %q\nwant  %q", got, want)
				}
			})
		})
	}
}

func quietManager(
	t *testing.T, o breaker.Observer, classify func(context.Context, breaker.CallInfo) breaker.Outcome,
) *breaker.Manager {
	t.Helper()
	m, err := breaker.NewManager(breaker.Options{
		Store: breaker.NewMemory(nil, 0), Observer: o, Classify: classify, FlushInterval: time.Hour,
		PerAgent: func(_ context.Context, agent string) breaker.Policy {
			p := breaker.Policy{Consistency: breaker.Cached}
			if agent == "slow" {
				p.SlowCallDuration = time.Second
			}
			return p
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close(context.Background()) })
	return m
}

// A logger's level can change: what it needs is asked for again after each flush.
func TestQuietObserver_IsAskedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newQuietObserver(true)
		m := quietManager(t, o, nil)
		for _, quiet := range []bool{true, false, true} {
			o.quiet.Store(quiet)
			for range 2 { // the first flush asks
				o.take()
				_ = m.Do(t.Context(), "a", succeed)
				_ = m.Flush(t.Context(), "a")
				synctest.Wait()
			}
			if got := o.take(); slices.Contains(got, "admitted") == quiet || !slices.Contains(got, "flushed 1 0") {
				t.Errorf("quiet %v: heard %q", quiet, got)
			}
		}
	})
}

func TestQuietObserver_DoesNotSilenceClassify(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newQuietObserver(true)
		m := quietManager(t, o, func(_ context.Context, c breaker.CallInfo) breaker.Outcome {
			if c.Duration > 0 {
				return breaker.Outcome{Kind: breaker.Failure}
			}
			return breaker.Outcome{Kind: breaker.Success}
		})
		_ = m.Do(t.Context(), "a", succeed)
		_ = m.Do(t.Context(), "a", func(context.Context) error { <-time.After(time.Second); return nil })
		if got := o.take(); !slices.Equal(got, []string{"failure true 1s"}) {
			t.Errorf("heard %q", got)
		}
	})
}

// readingObserver is bound to a Source.
type readingObserver struct {
	breaker.NopObserver

	source breaker.Source
}

func (o *readingObserver) Bind(s breaker.Source) { o.source = s }

func TestSource_OfAManager(t *testing.T) {
	t.Parallel()
	o := &readingObserver{}
	fallback := breaker.NewFallback(breaker.FallbackOptions{
		Store: breaker.NewMemory(nil, 0), Ping: func(context.Context) error { return nil },
	})
	defer fallback.Close()
	for _, store := range []breaker.Store{breaker.NewMemory(nil, 0), fallback} {
		both := breaker.Observers(breaker.NopObserver{}, o)
		m, err := breaker.NewManager(breaker.Options{Store: store, Observer: both})
		if err != nil {
			t.Fatal(err)
		}
		both.(breaker.SourceObserver).Bind(m.Source())
		_ = m.Do(t.Context(), "a", succeed)
		s := o.source
		if s.Outcomes().Taken != 1 || s.Untracked() != 0 || s.States != nil || s.LeasesReturned != nil || s.StoreResets != nil {
			t.Errorf("%+v", s)
		}
		if has := store == fallback; has != (s.Degraded != nil) || has != (s.Refusals != nil) || has && s.Degraded() {
			t.Errorf("%T: %+v", store, s)
		}
	}
	if s := (*breaker.Manager)(nil).Source(); s.Outcomes != nil {
		t.Error("a nil Manager has outcomes")
	}
}

// countingObserver counts outcomes, and may panic at each.
type countingObserver struct {
	breaker.NopObserver

	panics  bool
	settled atomic.Int64
}

func (o *countingObserver) Settled(string, breaker.Outcome, breaker.Report) {
	o.settled.Add(1)
	if o.panics {
		panic("settled")
	}
}

// handingObserver hands out the same Observer for each agent.
type handingObserver struct {
	breaker.NopObserver

	own breaker.Observer
}

func (o handingObserver) ForAgent(string) breaker.Observer { return o.own }

// What ForAgent returns may itself be several.
func TestObservers_OfOneAgentArePanicProof(t *testing.T) {
	t.Parallel()
	first, second := &countingObserver{panics: true}, &countingObserver{}
	m, err := breaker.NewManager(breaker.Options{
		Store: breaker.NewMemory(nil, 0), Policy: breaker.Policy{Consistency: breaker.Cached},
		Observer: handingObserver{own: breaker.Observers(first, second)},
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := m.Do(t.Context(), "a", succeed); err != nil {
			t.Error(err)
		}
	}
	if err := m.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if a, b := first.settled.Load(), second.settled.Load(); a != 3 || b != 3 {
		t.Errorf("%d and %d of 3 outcomes", a, b)
	}
}
