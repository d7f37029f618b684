package breaker_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// panickingObserver panics in each of its methods, and notes which ones were called.
type panickingObserver struct {
	mu     sync.Mutex
	called map[string]int
}

func (o *panickingObserver) panics(method string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.called == nil {
		o.called = map[string]int{}
	}
	o.called[method]++
	panic("observer: " + method)
}

func (o *panickingObserver) Admitted(string, breaker.Permit)                 { o.panics("Admitted") }
func (o *panickingObserver) Refused(string, *breaker.OpenError)              { o.panics("Refused") }
func (o *panickingObserver) Settled(string, breaker.Outcome, breaker.Report) { o.panics("Settled") }
func (o *panickingObserver) Flushed(string, machine.Summary, breaker.Report) { o.panics("Flushed") }
func (o *panickingObserver) Probed(string, breaker.Outcome)                  { o.panics("Probed") }
func (o *panickingObserver) Event(string, breaker.Event, bool)               { o.panics("Event") }
func (o *panickingObserver) StoreCall(machine.Verb, time.Duration, error)    { o.panics("StoreCall") }

func (o *panickingObserver) PolicyRejected(string, error) { o.panics("PolicyRejected") }

// Kevlar 24: the probe's place was lost for a minute, and a panic in Flushed ended the process.
func TestObserver_PanicCostsNoLeaseAndNoOutcome(t *testing.T) {
	t.Parallel()
	for _, consistency := range []breaker.Consistency{breaker.Strict, breaker.Cached} {
		t.Run(string(consistency), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				observer := &panickingObserver{}
				m, err := breaker.NewManager(breaker.Options{
					Store: breaker.NewMemory(nil, 0), Observer: observer,
					Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
					PerAgent: func(_ context.Context, agent string) breaker.Policy {
						if agent == "bad" {
							return breaker.Policy{Timeout: -1}
						}
						return breaker.Policy{Consistency: consistency, HalfOpenMaxCalls: 1, FailureThreshold: 3}
					},
				})
				if err != nil {
					t.Fatal(err)
				}
				_ = m.Do(t.Context(), "bad", succeed)
				for range 3 {
					_ = m.Do(t.Context(), "a", fail)
				}
				if _, err := m.Acquire(t.Context(), "a"); !errors.As(err, new(*breaker.OpenError)) {
					t.Fatalf("three failures do not open: %v", err)
				}
				<-time.After(time.Minute)
				probe := acquire(t, m, "a")
				if probe.Lease() == 0 {
					t.Fatal("not a probe")
				}
				if _, err := probe.Success(t.Context()); err != nil {
					t.Error(err)
				}
				if _, _, state := totals(t, m); state != breaker.Closed {
					t.Errorf("%s after the probe's success", state)
				}
				for range 7 {
					if err := m.Do(t.Context(), "a", succeed); err != nil {
						t.Error(err)
					}
				}
				if err := m.Close(t.Context()); err != nil {
					t.Error(err)
				}
				if successes, _, _ := totals(t, m); successes != 8 {
					t.Errorf("%d of 8 successes", successes)
				}
				methods := []string{"Admitted", "Refused", "Settled", "Probed", "Event", "StoreCall", "PolicyRejected"}
				if consistency == breaker.Cached {
					methods = append(methods, "Flushed")
				}
				for _, method := range methods {
					if n := strings.Count(log.String(), `level=ERROR msg="panic recovered: later ones of this function are not logged" function=Observer.`+method+` panic="observer: `+method+`"`); n != 1 || observer.called[method] == 0 {
						t.Errorf("%s: called %d times, logged %d times", method, observer.called[method], n)
					}
				}
				if !strings.Contains(log.String(), "level=DEBUG") || !strings.Contains(log.String(), "panickingObserver") {
					t.Error("no stack at level debug")
				}
			})
		})
	}
}

// What the user's functions return in a panic's place: Classify's default, the agent's last valid policy, the static
// policy.
func TestUserFunctions_PanicIsReplaced(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]any{
		"text": "boom", "error": errAgent, "nil map": nil, "typed nil": (*breaker.OpenError)(nil), "number": 7,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			panicking := false
			policy := func(context.Context, string) breaker.Policy {
				if panicking {
					panic(value)
				}
				return breaker.Policy{FailureThreshold: 2}
			}
			m, err := breaker.NewManager(breaker.Options{
				Store: breaker.NewMemory(nil, 0), Policy: breaker.Policy{FailureThreshold: 4}, Reporter: "test",
				PerAgent: policy, Look: policy, Logger: slog.New(slog.NewTextHandler(&log, nil)),
				Classify: func(context.Context, breaker.CallInfo) breaker.Outcome { panic(value) },
			})
			if err != nil {
				t.Fatal(err)
			}
			_ = m.Do(t.Context(), "known", succeed)
			panicking = true
			for agent, threshold := range map[string]int{"known": 2, "new": 4} {
				if _, p, err := m.Inspect(t.Context(), agent); err != nil || p.FailureThreshold != threshold {
					t.Errorf("%s: %v, threshold %d, want %d", agent, err, p.FailureThreshold, threshold)
				}
				for i := range threshold {
					if err := m.Do(t.Context(), agent, fail); !errors.Is(err, errAgent) {
						t.Errorf("%s, call %d: %v", agent, i, err)
					}
				}
				if err := m.Do(t.Context(), agent, succeed); !errors.As(err, new(*breaker.OpenError)) {
					t.Errorf("%s is not open: %v", agent, err)
				}
			}
			for _, function := range []string{"PerAgent", "Look", "Classify"} {
				if n := strings.Count(log.String(), "function=Options."+function+" "); n != 1 {
					t.Errorf("%s: logged %d times in %s", function, n, &log)
				}
			}
		})
	}
}

// nilError is an error whose methods cannot bear a nil pointer, as is common.
type nilError struct{ wait time.Duration }

func (e *nilError) Error() string             { return e.wait.String() }
func (e *nilError) RetryAfter() time.Duration { return e.wait }

func TestClassify_BadOutcomeOfTheUsersIsReplaced(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string]breaker.Outcome{
		"zero": {}, "kind": {Kind: "failed"}, "case": {Kind: "Success"}, "reporter": {Kind: breaker.Success, Reporter: "host 1"},
		"long reporter": {Kind: breaker.Failure, Reporter: strings.Repeat("r", 65)},
	} {
		for _, consistency := range []breaker.Consistency{breaker.Strict, breaker.Cached} {
			var log bytes.Buffer
			m, err := breaker.NewManager(breaker.Options{
				Store: breaker.NewMemory(nil, 0), Policy: breaker.Policy{Consistency: consistency},
				Classify: func(context.Context, breaker.CallInfo) breaker.Outcome { return bad },
				Logger:   slog.New(slog.NewTextHandler(&log, nil)),
			})
			if err != nil {
				t.Fatal(err)
			}
			_ = m.Do(t.Context(), "a", succeed)
			_ = m.Do(t.Context(), "a", succeed)
			_ = m.Do(t.Context(), "a", fail)
			_ = m.Do(t.Context(), "a", func(context.Context) error { return (*nilError)(nil) })
			if err := m.Close(t.Context()); err != nil {
				t.Error(err)
			}
			if successes, failures, _ := totals(t, m); successes != 2 || failures != 2 {
				t.Errorf("%s, %s: %d successes, %d failures", name, consistency, successes, failures)
			}
			if n := strings.Count(log.String(), "outcome not taken"); n != 1 {
				t.Errorf("%s, %s: logged %d times", name, consistency, n)
			}
		}
	}
}
