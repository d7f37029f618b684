package breakertest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breakertest"
	"github.com/breakerd/breakerd/pkg/fleet"
)

// failing is a testing.TB that notes why it was ended.
type failing struct {
	testing.TB

	fatal    string
	out      bytes.Buffer
	cleanups []func()
}

func (f *failing) Helper()           {}
func (f *failing) Output() io.Writer { return &f.out }
func (f *failing) Cleanup(c func())  { f.cleanups = append(f.cleanups, c) }

// end ends the test.
func (f *failing) end() {
	for _, c := range slices.Backward(f.cleanups) {
		c()
	}
}

func (f *failing) Fatalf(format string, args ...any) {
	f.fatal = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// fatal returns why a test ended itself; "": it did not.
func fatal(t *testing.T, test func(t testing.TB)) string {
	t.Helper()
	tb := &failing{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		test(tb)
	}()
	<-done
	tb.end()
	return tb.fatal
}

// mustContain fails unless s contains each of parts.
func mustContain(t *testing.T, s string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(s, part) {
			t.Errorf("want %q in:\n%s", part, s)
		}
	}
}

func inBothModes(t *testing.T, test func(t *testing.T, consistency breaker.Consistency)) {
	t.Helper()
	for _, c := range []breaker.Consistency{breaker.Strict, breaker.Cached} {
		t.Run(string(c), func(t *testing.T) {
			t.Parallel()
			test(t, c)
		})
	}
}

func succeed(context.Context) error { return nil }

func succeedOften(t testing.TB, f *breakertest.Fleet, n int) {
	t.Helper()
	for range n {
		if err := f.Do(context.Background(), "a", succeed); err != nil {
			t.Fatalf("%v", err)
		}
	}
}

func TestTrip_OpensByFailuresWhateverThePolicy(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		policy    breaker.Policy
		successes int
		cause     string
	}{
		"defaults":        {breaker.Policy{}, 0, "consecutive_failures"},
		"successes":       {breaker.Policy{}, 50, "consecutive_failures"},
		"run of 255":      {breaker.Policy{FailureThreshold: 255, FailureRateThreshold: breaker.Off}, 0, "consecutive_failures"},
		"rate":            {breaker.Policy{FailureThreshold: breaker.Off}, 20, "failure_rate"},
		"rate of all":     {breaker.Policy{FailureThreshold: breaker.Off, FailureRateThreshold: 1}, 0, "failure_rate"},
		"rate of many":    {breaker.Policy{FailureThreshold: breaker.Off, MinimumCalls: 300}, 0, "failure_rate"},
		"slow calls only": {breaker.Policy{FailureThreshold: breaker.Off, FailureRateThreshold: breaker.Off, SlowCallRateThreshold: 0.9}, 3, "slow_rate"},
		"observe":         {breaker.Policy{Mode: breaker.Observe}, 0, "consecutive_failures"},
		"reporters":       {breaker.Policy{MinimumReporters: 3}, 0, "consecutive_failures"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBothModes(t, func(t *testing.T, consistency breaker.Consistency) {
				t.Helper()
				p := c.policy
				p.Consistency = consistency
				f := breakertest.New(t, fleet.Options{Policy: p})
				succeedOften(t, f, c.successes)
				f.Trip("a")
				f.MustBeOpen("a")
				v, _, err := f.Inspect(t.Context(), "a")
				if err != nil || v.Cause != c.cause {
					t.Errorf("cause %s, %v", v.Cause, err)
				}
				f.Trip("a")
				if again, _, _ := f.Inspect(t.Context(), "a"); again.Epoch != v.Epoch || again.Failures != v.Failures {
					t.Errorf("an open breaker is no longer as it was: %+v, %+v", again, v)
				}
				if err := f.Do(t.Context(), "a", succeed); errors.Is(err, breaker.ErrOpen) == (c.policy.Mode == breaker.Observe) {
					t.Errorf("a call: %v", err)
				}
			})
		})
	}
}

func TestTrip_ReopensAHalfOpenBreakerByProbes(t *testing.T) {
	t.Parallel()
	f := breakertest.New(t)
	f.HalfOpen("a")
	f.Trip("a")
	if v, _, err := f.Inspect(t.Context(), "a"); err != nil || v.State != breaker.Open || v.Cause != "probe_failed" {
		t.Errorf("%s by %s, %v", v.State, v.Cause, err)
	}
}

func TestTrip_EndsATestWhoseBreakerCannotOpen(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		policy breaker.Policy
		before func(f *breakertest.Fleet)
		want   []string
	}{
		"disabled":    {breaker.Policy{Disabled: true}, nil, []string{"failures cannot open", "policy: disabled"}},
		"held closed": {breaker.Policy{}, func(f *breakertest.Fleet) { force(f, breaker.HoldClosed) }, []string{"failures cannot open", "hold:   closed by alice"}},
		"all off":     {breaker.Policy{FailureThreshold: breaker.Off, FailureRateThreshold: breaker.Off}, nil, []string{"failures cannot open", "failure_threshold off", "failure_rate_threshold off"}},
		"not all fail": {
			breaker.Policy{FailureThreshold: breaker.Off, FailureRateThreshold: 1},
			func(f *breakertest.Fleet) { _ = f.Do(context.Background(), "a", succeed) },
			[]string{"failures cannot open", "window: 1 calls", "failure_rate_threshold 1,"},
		},
		"no place": {
			breaker.Policy{HalfOpenMaxCalls: 1},
			func(f *breakertest.Fleet) { f.HalfOpen("a"); _, _ = f.Acquire(context.Background(), "a") },
			[]string{"no probe can fail", "probes_busy", "1 in flight, of 1"},
		},
		"bad name": {breaker.Policy{}, func(f *breakertest.Fleet) { f.Trip("a b") }, []string{`"a b"`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mustContain(t, fatal(t, func(tb testing.TB) {
				f := breakertest.New(tb, fleet.Options{Policy: c.policy})
				if c.before != nil {
					c.before(f)
				}
				f.Trip("a")
			}), c.want...)
		})
	}
}

func force(f *breakertest.Fleet, target breaker.Target) {
	_, _ = f.Manager().Force(context.Background(), "a", breaker.Force{Target: target, Actor: "alice"})
}

// An operator's hold, set through one replica, counts in the other.
func TestReplica_FollowsAnOperatorsHold(t *testing.T) {
	t.Parallel()
	f := breakertest.New(t)
	other := f.Replica()
	if err := f.Open(t.Context(), "a", breaker.Hold{Actor: "alice", For: time.Hour}); err != nil {
		t.Fatal(err)
	}
	other.MustBeOpen("a")
	f.Advance(time.Hour)
	other.MustBeHalfOpen("a")
	if err := other.Reset(t.Context(), "a", breaker.Reset{Actor: "alice"}); err != nil {
		t.Fatal(err)
	}
	f.MustBeClosed("a")
}

func TestMustBe_SaysWhyNot(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before func(f *breakertest.Fleet)
		must   func(f *breakertest.Fleet)
		want   []string
	}{
		"never called": {
			func(f *breakertest.Fleet) { _ = f.Do(context.Background(), "b", succeed) },
			func(f *breakertest.Fleet) { f.MustBeOpen("a") },
			[]string{`agent "a" is closed, want open`, "none of agent \"a\" has counted; agents asked about: b", `Trip("a") opens it`},
		},
		"two failures": {
			func(f *breakertest.Fleet) {
				for range 2 {
					_, _ = f.Record(context.Background(), "a", breaker.Outcome{Kind: breaker.Failure})
				}
			},
			func(f *breakertest.Fleet) { f.MustBeOpen("a") },
			[]string{"run:    2 failures in a row; failure_threshold 5", "window: 2 calls within 2m0s, of which 2 failed and 0 were slow"},
		},
		"half-open, want open": {
			func(f *breakertest.Fleet) { f.HalfOpen("a") },
			func(f *breakertest.Fleet) { f.MustBeOpen("a") },
			[]string{"is half_open, want open", "round:  0 probes succeeded, 0 failed, 0 in flight, of 3; 3 successes close it", "closed>open, actor -, consecutive_failures", "Its wait is over"},
		},
		"open, want half-open": {
			func(f *breakertest.Fleet) { f.Trip("a"); f.Advance(20 * time.Second) },
			func(f *breakertest.Fleet) { f.MustBeHalfOpen("a") },
			[]string{"opened: 00:00:00.000, cause consecutive_failures, for 40s more", "clock:  00:00:20.000", "Advance(40s)"},
		},
		"closed, want half-open": {
			nil,
			func(f *breakertest.Fleet) { f.MustBeHalfOpen("a") },
			[]string{"is closed, want half_open", `HalfOpen("a") opens it`},
		},
		"open, want closed": {
			func(f *breakertest.Fleet) { f.Trip("a") },
			func(f *breakertest.Fleet) { f.MustBeClosed("a") },
			[]string{"Advance(1m0s) makes it half-open"},
		},
		"half-open, want closed": {
			func(f *breakertest.Fleet) { f.HalfOpen("a") },
			func(f *breakertest.Fleet) { f.MustBeClosed("a") },
			[]string{"Calls that succeed close it"},
		},
		"held": {
			func(f *breakertest.Fleet) { force(f, breaker.HoldOpen) },
			func(f *breakertest.Fleet) { f.MustBeClosed("a") },
			[]string{"hold:   open by alice since 00:00:00.000, without end", "Release"},
		},
		"held, half-open": {
			func(f *breakertest.Fleet) { force(f, breaker.HoldOpen) },
			func(f *breakertest.Fleet) { f.HalfOpen("a") },
			[]string{"no time makes this breaker half-open", "without end"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBothModes(t, func(t *testing.T, consistency breaker.Consistency) {
				t.Helper()
				mustContain(t, fatal(t, func(tb testing.TB) {
					f := breakertest.New(tb, fleet.Options{Policy: breaker.Policy{Consistency: consistency}})
					if c.before != nil {
						c.before(f)
					}
					c.must(f)
				}), c.want...)
			})
		})
	}
}

func TestNew_EndsATestWithWrongOptions(t *testing.T) {
	t.Parallel()
	mustContain(t, fatal(t, func(tb testing.TB) {
		breakertest.New(tb, fleet.Options{Policy: breaker.Policy{FailureThreshold: -7}})
	}), "failure_threshold: -7")
	mustContain(t, fatal(t, func(tb testing.TB) { breakertest.New(tb, fleet.Options{}, fleet.Options{}) }), "2 fleet.Options")
}

// The end of a test closes its fleet. What happens to it later is not logged, for that would panic.
func TestNew_ClosesTheFleetWithTheTest(t *testing.T) {
	t.Parallel()
	tb := &failing{TB: t}
	f := breakertest.New(tb)
	other := f.Replica()
	tb.end()
	said := tb.out.String()
	for _, f := range []*breakertest.Fleet{f, other} {
		if err := f.Wait(t.Context(), "a"); !errors.Is(err, breaker.ErrManagerClosed) {
			t.Errorf("%s: %v", f.ID(), err)
		}
		f.HalfOpen("a")
		f.Trip("a")
	}
	if got := tb.out.String(); got != said {
		t.Errorf("said after the test:\n%s", strings.TrimPrefix(got, said))
	}
}

func TestNew_LogsWithTheFleetsClock(t *testing.T) {
	t.Parallel()
	tb := &failing{TB: t}
	f := breakertest.New(tb)
	defer tb.end()
	f.Advance(90 * time.Second)
	f.Trip("a")
	mustContain(t, tb.out.String(), `replica-1: time=00:01:30.000 level=WARN msg="Circuit breaker OPENED"`)
}

func TestAdvance_CountsBeforeWhatHappenedBefore(t *testing.T) {
	t.Parallel()
	inBothModes(t, func(t *testing.T, consistency breaker.Consistency) {
		t.Helper()
		f := breakertest.New(t, fleet.Options{Policy: breaker.Policy{Consistency: consistency}})
		succeedOften(t, f, 3)
		began := f.Now()
		f.Advance(2 * time.Minute)
		if took := f.Now().Sub(began); took != 2*time.Minute {
			t.Errorf("the clock moved by %v", took)
		}
		v, p, err := f.Inspect(t.Context(), "a")
		if w := v.Window(v.NowMs, p.WindowSize.Milliseconds()); err != nil || v.Successes != 3 || w.Successes != 0 {
			t.Errorf("%d successes, of which %d are in the window, %v", v.Successes, w.Successes, err)
		}
		if v.NowMs != f.Now().UnixMilli() {
			t.Errorf("the breaker's clock is %d, the fleet's %d", v.NowMs, f.Now().UnixMilli())
		}
	})
}

func TestAdvance_GoesForwardsByMilliseconds(t *testing.T) {
	t.Parallel()
	for _, d := range []time.Duration{-time.Second, time.Microsecond} {
		mustContain(t, fatal(t, func(tb testing.TB) { breakertest.New(tb).Advance(d) }), fmt.Sprintf("Advance(%v)", d))
	}
}

// A Wait that nothing wakes asks again after 2.5 seconds at the earliest.
func TestAdvance_WakesThoseWhoWait(t *testing.T) {
	t.Parallel()
	f := breakertest.New(t)
	other := f.Replica()
	f.Trip("a")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	done := make(chan error)
	for _, m := range []*breakertest.Fleet{f, other} {
		go func() { done <- m.Wait(ctx, "a") }()
	}
	for _, m := range []*breakertest.Fleet{f, other} { // by the end of this they have asked
		soon, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		_ = m.Wait(soon, "a")
		cancel()
	}
	f.Advance(time.Minute)
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestPolicy_TimeoutHasNoJitter(t *testing.T) {
	t.Parallel()
	f := breakertest.New(t, fleet.Options{Policy: breaker.Policy{Timeout: time.Minute, TimeoutJitter: 1}})
	for i := range 20 {
		agent := fmt.Sprint("agent-", i)
		f.Trip(agent)
		f.Advance(time.Minute)
		f.MustBeHalfOpen(agent)
	}
}

// A transition that one replica causes counts in the others at once, also where cached mode admits calls from memory.
func TestReplica_HasTheSameBreakers(t *testing.T) {
	t.Parallel()
	inBothModes(t, func(t *testing.T, consistency breaker.Consistency) {
		t.Helper()
		f := breakertest.New(t, fleet.Options{Policy: breaker.Policy{Consistency: consistency}})
		other, third := f.Replica(), f.Replica(fleet.Options{ReplicaID: "mine"})
		if f.ID() != "replica-1" || other.ID() != "replica-2" || third.ID() != "mine-3" {
			t.Errorf("%s, %s, %s", f.ID(), other.ID(), third.ID())
		}
		succeedOften(t, other, 1)
		f.Trip("a")
		if err := other.Do(t.Context(), "a", succeed); !errors.Is(err, breaker.ErrOpen) {
			t.Errorf("%v", err)
		}
		other.MustBeOpen("a")
		other.HalfOpen("a")
		succeedOften(t, f, 3)
		other.MustBeClosed("a")
		if err := other.Configure(t.Context(), "a", breaker.Policy{FailureThreshold: 1}); err != nil {
			t.Fatal(err)
		}
		for _, f := range []*breakertest.Fleet{f, other, third} {
			if _, p, err := f.Inspect(t.Context(), "a"); err != nil || p.FailureThreshold != 1 {
				t.Errorf("%s does not follow the override: %d, %v", f.ID(), p.FailureThreshold, err)
			}
		}
	})
}

// MustBe sends first what other replicas have counted and not sent.
func TestMustBe_CountsWhatAllReplicasHaveCounted(t *testing.T) {
	t.Parallel()
	f := breakertest.New(t, fleet.Options{Policy: breaker.Policy{Consistency: breaker.Cached}})
	other := f.Replica()
	succeedOften(t, other, 1)
	for range 5 {
		_ = other.Do(t.Context(), "a", func(context.Context) error { return errors.New("down") })
	}
	f.MustBeOpen("a")
}

func TestReplica_HearsTheChangesOfOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var heard []string
		f := breakertest.New(t)
		f.Replica(fleet.Options{OnStateChange: func(c breaker.Change) {
			mu.Lock()
			defer mu.Unlock()
			heard = append(heard, fmt.Sprint(c.Agent, " ", c.From, ">", c.To))
		}})
		f.Trip("a")
		f.HalfOpen("a")
		succeedOften(t, f, 3)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if got := strings.Join(heard, ", "); got != "a closed>open, a open>half_open, a half_open>closed" {
			t.Error(got)
		}
	})
}

// Outside a bubble a probe in flight loses its lease; inside it is renewed meanwhile.
func TestAdvance_BeyondAProbesLease(t *testing.T) {
	t.Parallel()
	probe := func(t *testing.T) {
		t.Helper()
		f := breakertest.New(t, fleet.Options{Policy: breaker.Policy{HalfOpenMaxCalls: 1, ProbeTimeout: 10 * time.Second}})
		f.HalfOpen("a")
		if err := f.Do(t.Context(), "a", func(context.Context) error { f.Advance(25 * time.Second); return nil }); err != nil {
			t.Error(err)
		}
		if strings.Contains(t.Name(), "bubble") {
			f.MustBeClosed("a")
		} else {
			f.MustBeHalfOpen("a")
		}
	}
	t.Run("bubble", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, probe)
	})
	t.Run("outside", func(t *testing.T) {
		t.Parallel()
		probe(t)
	})
}

// In a bubble time.Sleep and Advance move one clock.
func TestBubble_HasOneClock(t *testing.T) {
	t.Parallel()
	inBothModes(t, func(t *testing.T, consistency breaker.Consistency) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			f := breakertest.New(t, fleet.Options{Policy: breaker.Policy{Consistency: consistency, SlowCallDuration: time.Second}})
			other := f.Replica()
			began := time.Now()
			succeedOften(t, f, 1)
			f.Trip("a")
			time.Sleep(30 * time.Second)
			f.MustBeOpen("a")
			f.Advance(30 * time.Second)
			other.MustBeHalfOpen("a")
			if took := time.Since(began); took != time.Minute || !f.Now().Equal(time.Now()) {
				t.Errorf("%v, the fleet's clock is %v", took, f.Now())
			}
			_ = f.Do(t.Context(), "a", func(context.Context) error { time.Sleep(2 * time.Second); return nil })
			if v, _, err := f.Inspect(t.Context(), "a"); err != nil || v.Round.Slow != 1 {
				t.Errorf("a call of two seconds is not slow: %+v, %v", v.Round, err)
			}
		})
	})
}
