package breaker_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// newManager makes a Manager on a Memory. edit changes its policy.
func newManager(t *testing.T, edit func(*breaker.Policy)) *breaker.Manager {
	t.Helper()
	return newManagerOn(t, breaker.NewMemory(nil, 0), edit)
}

func newManagerOn(t *testing.T, s breaker.Store, edit func(*breaker.Policy)) *breaker.Manager {
	t.Helper()
	p := breaker.DefaultPolicy()
	if edit != nil {
		edit(&p)
	}
	m, err := breaker.NewManager(breaker.Options{Store: s, Reporter: "test", Policy: p})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

var errAgent = errors.New("agent failed")

func fail(context.Context) error    { return errAgent }
func succeed(context.Context) error { return nil }

func totals(t *testing.T, m *breaker.Manager) (successes, failures int64, state breaker.State) {
	t.Helper()
	v, _, err := m.Inspect(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	return v.Successes, v.Failures, v.State
}

func TestDo_RefusesAfterFiveFailures(t *testing.T) {
	t.Parallel()
	m := newManager(t, nil)
	for range 5 {
		if err := m.Do(t.Context(), "a", fail); !errors.Is(err, errAgent) {
			t.Fatalf("Do gave %v, want the agent's own error", err)
		}
	}
	called := false
	err := m.Do(t.Context(), "a", func(context.Context) error { called = true; return nil })
	var open *breaker.OpenError
	if !errors.As(err, &open) || called {
		t.Fatalf("sixth call: %v, called %v", err, called)
	}
	if open.Reason != breaker.ReasonOpen || open.State != breaker.Open || open.RetryAfter() <= 59*time.Second || open.RetryAfter() > time.Minute {
		t.Errorf("refusal %+v", open)
	}
	if !strings.Contains(open.Error(), `"a"`) || !strings.Contains(open.Error(), "retry in") {
		t.Errorf("refusal's text %q", open.Error())
	}
}

func TestDo_PanicIsAFailureAndContinues(t *testing.T) {
	t.Parallel()
	m := newManager(t, nil)
	func() {
		defer func() {
			if r := recover(); r != "boom" {
				t.Errorf("recovered %v", r)
			}
		}()
		_ = m.Do(t.Context(), "a", func(context.Context) error { panic("boom") })
	}()
	if _, failures, _ := totals(t, m); failures != 1 {
		t.Errorf("failures %d, want 1", failures)
	}
}

func TestDo_GoexitIsAFailure(t *testing.T) {
	t.Parallel()
	m := newManager(t, nil)
	var wg sync.WaitGroup
	wg.Go(func() { _ = m.Do(t.Context(), "a", func(context.Context) error { runtime.Goexit(); return nil }) })
	wg.Wait()
	if _, failures, _ := totals(t, m); failures != 1 {
		t.Errorf("failures %d, want 1", failures)
	}
}

func TestDo_CancelledCallIsIgnored(t *testing.T) {
	t.Parallel()
	m := newManager(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	err := m.Do(ctx, "a", func(ctx context.Context) error { cancel(); return ctx.Err() })
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if s, f, _ := totals(t, m); s+f != 0 {
		t.Errorf("counted %d+%d, want nothing", s, f)
	}
}

func TestDo_ExceededDeadlineIsAFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := m.Do(ctx, "a", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		if _, f, _ := totals(t, m); f != 1 { // settled although the context of the caller has ended
			t.Errorf("failures %d, want 1", f)
		}
	})
}

func TestDo_RenewsTheLeaseOfAProbe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, func(p *breaker.Policy) { p.HalfOpenMaxCalls, p.ProbeTimeout = 1, 3*time.Second })
		for range 5 {
			_ = m.Do(t.Context(), "a", fail)
		}
		<-time.After(time.Minute)
		err := m.Do(t.Context(), "a", func(context.Context) error {
			<-time.After(50 * time.Second) // far longer than the lease
			var busy *breaker.OpenError
			if err := m.Do(t.Context(), "a", succeed); !errors.As(err, &busy) || busy.Reason != breaker.ReasonProbesBusy {
				t.Errorf("second probe: %v, want probes_busy", err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, state := totals(t, m); state != breaker.Closed {
			t.Errorf("state %s, want closed", state)
		}
	})
}

type waitError struct{}

func (waitError) Error() string             { return "slow down" }
func (waitError) RetryAfter() time.Duration { return 5 * time.Minute }

func TestDo_UsesTheRetryAfterOfAnError(t *testing.T) {
	t.Parallel()
	m := newManager(t, nil)
	for range 5 {
		_ = m.Do(t.Context(), "a", func(context.Context) error { return waitError{} })
	}
	var open *breaker.OpenError
	if err := m.Do(t.Context(), "a", succeed); !errors.As(err, &open) || open.RetryAfter() < 4*time.Minute {
		t.Errorf("refusal %v, want about five minutes", err)
	}
}

func TestPermit_SettlesOnce(t *testing.T) {
	t.Parallel()
	m := newManager(t, nil)
	p, err := m.Acquire(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if counted, err := p.Failure(t.Context(), "x"); !counted || err != nil {
		t.Fatalf("first: %v %v", counted, err)
	}
	if counted, err := p.Failure(t.Context(), "x"); counted || !errors.Is(err, breaker.ErrSettled) {
		t.Errorf("second: %v %v, want ErrSettled", counted, err)
	}
	if _, f, _ := totals(t, m); f != 1 {
		t.Errorf("failures %d", f)
	}
}

func TestPermit_ResumesFromItsText(t *testing.T) {
	t.Parallel()
	m := newManager(t, nil)
	p, err := m.Acquire(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	q, err := m.Resume("a", p.String())
	if err != nil || q.String() != p.String() {
		t.Fatalf("resumed %v, %v", q, err)
	}
	if r, err := q.Report(t.Context(), breaker.Outcome{Kind: breaker.Success}); err != nil || !r.Counted {
		t.Errorf("report %+v, %v", r, err)
	}
	foreign, err := m.Resume("b", p.String())
	if err != nil {
		t.Fatal(err)
	}
	if r, err := foreign.Report(t.Context(), breaker.Outcome{Kind: breaker.Failure}); err != nil || r.Counted || r.Why != machine.CodeForeign {
		t.Errorf("foreign report %+v, %v", r, err)
	}
	for _, bad := range []string{
		"", "v1", "v2.closed.0000000000000000.-.00000000", "v1.open.0000000000000000.-.00000000",
		"v1.half_open.0000000000000000.-.00000000", "v1.closed.0000000000000000.0000000000000001.00000000",
		"v1.closed.000000000000000G.-.00000000", p.String() + ".x", "v1.foreign.0000000000000000.-.00000000",
	} {
		if _, err := m.Resume("a", bad); !errors.Is(err, breaker.ErrBadPermit) {
			t.Errorf("Resume(%q) gave %v", bad, err)
		}
	}
}

func TestAcquire_RefusesBadNames(t *testing.T) {
	t.Parallel()
	m := newManager(t, nil)
	for _, name := range []string{"", " ", "a b", "a\x00", "a\r\n", "*", "[z-a]", "{}", "a}b", "a/b", "-a", strings.Repeat("a", 129), "\xff", "a\u200b"} {
		if _, err := m.Acquire(t.Context(), name); !errors.Is(err, breaker.ErrBadName) {
			t.Errorf("Acquire(%q) gave %v", name, err)
		}
	}
	if _, err := m.Acquire(t.Context(), strings.Repeat("a", 128)); err != nil {
		t.Errorf("128 bytes: %v", err)
	}
}

func TestManager_DisabledDoesNotAskTheStore(t *testing.T) {
	t.Parallel()
	m, err := breaker.NewManager(breaker.Options{Store: downStore{}, Disabled: true})
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if err := m.Do(t.Context(), "a", fail); !errors.Is(err, errAgent) {
			t.Fatal(err)
		}
	}
}

// The policy has the defaults of the coordinator's breaker.
func TestClassic_BehavesAsTheCoordinatorsBreaker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, func(p *breaker.Policy) {
			p.Timeout, p.HalfOpenMaxCalls, p.FailureRateThreshold = 30*time.Second, 1, breaker.Off
		})
		b, err := m.Classic("loop")
		if err != nil {
			t.Fatal(err)
		}
		ctx := t.Context()
		for i := range 4 {
			if !b.CanExecute(ctx) || b.RecordFailure(ctx) != nil {
				t.Fatalf("call %d refused", i)
			}
		}
		if !b.CanExecute(ctx) || b.RecordSuccess(ctx) != nil { // a success ends the run
			t.Fatal("refused")
		}
		for range 5 {
			if !b.CanExecute(ctx) || b.RecordFailure(ctx) != nil {
				t.Fatal("refused")
			}
		}
		if b.CanExecute(ctx) {
			t.Fatal("open breaker admits")
		}
		<-time.After(10 * time.Second)
		s, err := b.Stats(ctx)
		want := breaker.Stats{
			Name: "loop", State: breaker.Open, FailureCount: 5, FailureThreshold: 5, CooldownSeconds: 30, TimeUntilRetry: 20,
			TotalFailures: 9, TotalSuccesses: 1, StateTransitions: 1,
		}
		if err != nil || s != want {
			t.Errorf("stats %+v, %v\nwant  %+v", s, err, want)
		}
		<-time.After(20 * time.Second)
		if err := b.Execute(ctx, succeed); err != nil {
			t.Fatal(err)
		}
		if s, _ := b.Stats(ctx); s.State != breaker.Closed || s.StateTransitions != 3 || s.FailureCount != 0 || s.TimeUntilRetry != 0 {
			t.Errorf("stats %+v after recovery", s)
		}
		for range 5 {
			_ = b.Execute(ctx, fail)
		}
		if err := b.Reset(ctx); err != nil || !b.CanExecute(ctx) {
			t.Errorf("after reset: %v", err)
		}
	})
}

func TestPermit_KeepRenewsUntilItIsStopped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, func(p *breaker.Policy) { p.HalfOpenMaxCalls, p.ProbeTimeout = 1, 3*time.Second })
		for range 5 {
			p, err := m.Acquire(t.Context(), "a")
			if err != nil {
				t.Fatal(err)
			}
			p.Keep(t.Context())() // does nothing without a lease
			_, _ = p.Failure(t.Context(), "x")
		}
		<-time.After(time.Minute)
		ctx, cancel := context.WithCancel(t.Context())
		probe, err := m.Acquire(ctx, "a")
		if err != nil {
			t.Fatal(err)
		}
		stop := probe.Keep(ctx)
		cancel() // does not end Keep
		<-time.After(time.Minute)
		if err := probe.Renew(t.Context()); err != nil {
			t.Errorf("kept for a minute: %v", err)
		}
		stop()
		stop()
		<-time.After(4 * time.Second)
		if err := probe.Renew(t.Context()); !errors.Is(err, breaker.ErrLeaseLost) {
			t.Errorf("no longer kept: %v, want ErrLeaseLost", err)
		}
	})
}

// Kevlar 24: a panic in what a user handed in must not cost a lease, an outcome or the process.
func TestDo_PanicInClassifyFallsBackToTheDefault(t *testing.T) {
	t.Parallel()
	for _, consistency := range []breaker.Consistency{breaker.Cached, breaker.Strict} {
		t.Run(string(consistency), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newRecordingStore()
				m, err := breaker.NewManager(breaker.Options{
					Store: l,
					PerAgent: func(context.Context, string) breaker.Policy {
						p := breaker.DefaultPolicy()
						p.Consistency = consistency
						return p
					},
					Classify: func(ctx context.Context, c breaker.CallInfo) breaker.Outcome {
						if c.Err != nil {
							panic(c.Err)
						}
						return breaker.Classify(ctx, c.Err)
					},
				})
				if err != nil {
					t.Fatal(err)
				}
				_ = m.Do(t.Context(), "a", succeed)
				if err := m.Do(t.Context(), "a", fail); !errors.Is(err, errAgent) {
					t.Errorf("Do gave %v, want the agent's own error", err)
				}
				_ = m.Close(t.Context())
				if _, sum, _ := l.count(); sum.Successes != 1 || sum.Failures != 1 {
					t.Errorf("sent %+v", sum)
				}
			})
		})
	}
}

type ignoredError bool

func (ignoredError) Error() string            { return "bad request" }
func (e ignoredError) IgnoredByBreaker() bool { return bool(e) }

func TestClassify_UsesContextAndMethodsOfTheError(t *testing.T) {
	t.Parallel()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx  context.Context //nolint:containedctx // an argument of a case
		err  error
		want breaker.Outcome
	}{
		"no error":             {t.Context(), nil, breaker.Outcome{Kind: breaker.Success}},
		"no error, cancelled":  {cancelled, nil, breaker.Outcome{Kind: breaker.Success}},
		"error":                {t.Context(), errAgent, breaker.Outcome{Kind: breaker.Failure, Class: "*errors.errorString"}},
		"error, cancelled":     {cancelled, errAgent, breaker.Outcome{Kind: breaker.Ignored, Class: "cancelled"}},
		"deadline":             {t.Context(), context.DeadlineExceeded, breaker.Outcome{Kind: breaker.Failure, Class: "timeout"}},
		"IgnoredByBreaker":     {t.Context(), fmt.Errorf("call: %w", ignoredError(true)), breaker.Outcome{Kind: breaker.Ignored, Class: "cancelled"}},
		"not IgnoredByBreaker": {t.Context(), ignoredError(false), breaker.Outcome{Kind: breaker.Failure, Class: "breaker_test.ignoredError"}},
		"RetryAfter":           {t.Context(), waitError{}, breaker.Outcome{Kind: breaker.Failure, Class: "breaker_test.waitError", RetryAfter: 5 * time.Minute}},
	} {
		if got := breaker.Classify(c.ctx, c.err); got != c.want {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
	}
}
