package breaker_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// Each misuse ends in a typed error or a documented value, before its context ends, without a panic of ours, and
// changes nothing of another agent.
func TestHostileUses_EndInATypedErrorOrADocumentedValue(t *testing.T) {
	t.Parallel()
	mem := breaker.NewMemory(nil, 0)
	success := breaker.Outcome{Kind: breaker.Success}
	isForce := func(field string) func(error) bool {
		return func(err error) bool {
			e, ok := errors.AsType[*breaker.ForceError](err)
			return ok && e.Field == field
		}
	}
	isPolicy := func(err error) bool { return errors.As(err, new(*breaker.PolicyError)) }
	is := func(target error) func(error) bool { return func(err error) bool { return errors.Is(err, target) } }
	unset, none := is(breaker.ErrUnset), func(err error) bool { return err == nil }
	options := func(o breaker.Options) error { _, err := breaker.NewManager(o); return err }
	second := func(_ any, err error) error { return err }
	var ctxNil context.Context
	type use struct {
		call func(ctx context.Context, m *breaker.Manager) error
		want func(error) bool
	}
	uses := map[string]use{
		"nil fn":         {func(ctx context.Context, m *breaker.Manager) error { return m.Do(ctx, "a", nil) }, unset},
		"nil fn, handle": {func(ctx context.Context, m *breaker.Manager) error { a, _ := m.Agent("a"); return a.Do(ctx, nil) }, unset},
		"nil fn, classic": {func(ctx context.Context, m *breaker.Manager) error {
			c, _ := m.Classic("a")
			return c.Execute(ctx, nil)
		}, unset},
		"nil ctx, Do":      {func(_ context.Context, m *breaker.Manager) error { return m.Do(ctxNil, "a", succeed) }, unset},
		"nil ctx, Acquire": {func(_ context.Context, m *breaker.Manager) error { return second(m.Acquire(ctxNil, "a")) }, unset},
		"nil ctx, Enter":   {func(_ context.Context, m *breaker.Manager) error { _, _, err := m.Enter(ctxNil, "a"); return err }, unset},
		"nil ctx, Record":  {func(_ context.Context, m *breaker.Manager) error { return second(m.Record(ctxNil, "a", success)) }, unset},
		"nil ctx, Inspect": {func(_ context.Context, m *breaker.Manager) error { _, _, err := m.Inspect(ctxNil, "a"); return err }, unset},
		"nil ctx, Force": {func(_ context.Context, m *breaker.Manager) error {
			return second(m.Force(ctxNil, "a", breaker.Force{}))
		}, unset},
		"nil ctx, Flush": {func(_ context.Context, m *breaker.Manager) error { return m.Flush(ctxNil, "a") }, unset},
		"nil ctx, Close": {func(_ context.Context, m *breaker.Manager) error { return m.Close(ctxNil) }, unset},
		"nil ctx, Settle": {func(ctx context.Context, m *breaker.Manager) error {
			p, _ := m.Acquire(ctx, "a")
			return second(p.Settle(ctxNil, success))
		}, unset},
		"nil ctx, Keep": {func(ctx context.Context, m *breaker.Manager) error {
			p, _ := m.Acquire(ctx, "a")
			p.Keep(ctxNil)()
			return nil
		}, none},
		"nil ctx, Classify": {func(context.Context, *breaker.Manager) error { _ = breaker.Classify(ctxNil, errAgent); return nil }, none},
		"zero Manager":      {func(ctx context.Context, _ *breaker.Manager) error { return new(breaker.Manager).Do(ctx, "a", succeed) }, unset},
		"nil Manager": {func(ctx context.Context, _ *breaker.Manager) error {
			return (*breaker.Manager)(nil).Do(ctx, "a", succeed)
		}, unset},
		"zero Manager, verbs": {func(ctx context.Context, _ *breaker.Manager) error { return useManager(ctx, new(breaker.Manager)) }, unset},
		"nil Manager, verbs":  {func(ctx context.Context, _ *breaker.Manager) error { return useManager(ctx, nil) }, unset},
		"zero Agent":          {func(ctx context.Context, _ *breaker.Manager) error { return new(breaker.Agent).Do(ctx, succeed) }, unset},
		"nil Agent": {func(ctx context.Context, m *breaker.Manager) error {
			a, _ := m.Agent("bad name")
			return errors.Join(second(a.Acquire(ctx)), errors.New(a.Name()))
		}, unset},
		"zero Classic": {func(ctx context.Context, _ *breaker.Manager) error { return useClassic(ctx, new(breaker.Classic)) }, unset},
		"nil Classic": {func(ctx context.Context, m *breaker.Manager) error {
			c, _ := m.Classic("bad name")
			return useClassic(ctx, c)
		}, unset},
		"zero Permit": {func(ctx context.Context, _ *breaker.Manager) error {
			return second(new(breaker.Permit).Settle(ctx, success))
		}, unset},
		"zero Permit, Success": {func(ctx context.Context, _ *breaker.Manager) error { return second(new(breaker.Permit).Success(ctx)) }, unset},
		"zero Permit, Ignore":  {func(ctx context.Context, _ *breaker.Manager) error { return second(new(breaker.Permit).Ignore(ctx)) }, unset},
		"zero Permit, Renew":   {func(ctx context.Context, _ *breaker.Manager) error { return breaker.Permit{}.Renew(ctx) }, unset},
		"zero Permit, shown": {func(ctx context.Context, _ *breaker.Manager) error {
			var p breaker.Permit
			p.Keep(ctx)()
			if s := fmt.Sprintf("%v%s%+v%q", p, &p, p, p); s != `""` || p.Agent() != "" || p.State() != "" || p.Epoch() != "" || p.Lease() != 0 || p.Degraded() || p.WouldRefuse() != "" {
				return errors.New(s)
			}
			return nil
		}, none},
		"text of a zero Permit": {func(_ context.Context, m *breaker.Manager) error {
			return second(m.Resume("a", breaker.Permit{}.String()))
		}, is(breaker.ErrBadPermit)},
		"settled twice": {func(ctx context.Context, m *breaker.Manager) error {
			p, _ := m.Acquire(ctx, "a")
			_, _ = p.Ignore(ctx)
			return second(p.Failure(ctx, "x"))
		}, is(breaker.ErrSettled)},
		"another agent's permit": {func(ctx context.Context, m *breaker.Manager) error {
			p, _ := m.Acquire(ctx, "a")
			q, err := m.Resume("other", p.String())
			return errors.Join(err, second(q.Failure(ctx, "x")))
		}, none},
		"zero Outcome": {func(ctx context.Context, m *breaker.Manager) error {
			return second(m.Record(ctx, "a", breaker.Outcome{}))
		}, is(breaker.ErrBadOutcome)},
		"bad reporter": {func(ctx context.Context, m *breaker.Manager) error {
			return second(m.Record(ctx, "a", breaker.Outcome{Kind: breaker.Failure, Reporter: "a b"}))
		}, is(breaker.ErrBadOutcome)},
		"huge durations": {func(ctx context.Context, m *breaker.Manager) error {
			return second(m.Record(ctx, "a", breaker.Outcome{Kind: breaker.Success, Duration: math.MinInt64, RetryAfter: math.MaxInt64}))
		}, none},
		"no name":         {func(ctx context.Context, m *breaker.Manager) error { return m.Do(ctx, "", succeed) }, is(breaker.ErrBadName)},
		"glob for a name": {func(ctx context.Context, m *breaker.Manager) error { return m.Do(ctx, "*", succeed) }, is(breaker.ErrBadName)},
		"name with a hash tag": {func(ctx context.Context, m *breaker.Manager) error {
			return second(m.Force(ctx, "{a}", breaker.Force{Target: breaker.HoldOpen, Actor: "x"}))
		}, is(breaker.ErrBadName)},
		"name of a megabyte": {func(ctx context.Context, m *breaker.Manager) error {
			return second(m.Acquire(ctx, strings.Repeat("a", 1<<20)))
		}, is(breaker.ErrBadName)},
		"zero Force": {func(ctx context.Context, m *breaker.Manager) error { return second(m.Force(ctx, "a", breaker.Force{})) }, isForce("target")},
		"endless Force": {func(ctx context.Context, m *breaker.Manager) error {
			return second(m.Force(ctx, "a", breaker.Force{Target: breaker.HoldOpen, Actor: "x", LengthMs: math.MaxInt64}))
		}, isForce("length_ms")},
		"forged log line": {func(ctx context.Context, m *breaker.Manager) error {
			return second(m.Force(ctx, "a", breaker.Force{Target: breaker.HoldOpen, Actor: "x", Reason: "a\n1 closed"}))
		}, isForce("reason")},
		"no Store": {func(context.Context, *breaker.Manager) error { return options(breaker.Options{}) }, unset},
		"nil Memory": {func(context.Context, *breaker.Manager) error {
			return options(breaker.Options{Store: (*breaker.Memory)(nil)})
		}, unset},
		"zero Memory": {func(context.Context, *breaker.Manager) error {
			return options(breaker.Options{Store: new(breaker.Memory)})
		}, unset},
		"zero Fallback": {func(context.Context, *breaker.Manager) error {
			return options(breaker.Options{Store: new(breaker.Fallback)})
		}, unset},
		"Fallback of nothing": {func(context.Context, *breaker.Manager) error {
			return options(breaker.Options{Store: breaker.NewFallback(breaker.FallbackOptions{})})
		}, unset},
		"Fallback without a Ping": {func(context.Context, *breaker.Manager) error {
			return options(breaker.Options{Store: breaker.NewFallback(breaker.FallbackOptions{Store: mem})})
		}, unset},
		"Fallback of nothing, asked": {func(ctx context.Context, _ *breaker.Manager) error {
			f := breaker.NewFallback(breaker.FallbackOptions{})
			defer f.Close()
			return second(f.Inspect(ctx, "a", breaker.DefaultPolicy()))
		}, func(err error) bool { return errors.Is(err, breaker.ErrStoreUnavailable) && unset(err) }},
		"negative timeout": {func(context.Context, *breaker.Manager) error {
			return options(breaker.Options{Store: mem, Policy: breaker.Policy{Timeout: -1}})
		}, isPolicy},
		"rate that is no number": {func(context.Context, *breaker.Manager) error {
			return options(breaker.Options{Store: mem, Policy: breaker.Policy{FailureRateThreshold: math.NaN()}})
		}, isPolicy},
		"reporters without a reporter": {func(context.Context, *breaker.Manager) error {
			return options(breaker.Options{Store: mem, Policy: breaker.Policy{MinimumReporters: 2}})
		}, isPolicy},
		"negative options": {func(context.Context, *breaker.Manager) error {
			return options(breaker.Options{Store: mem, MaxAgents: math.MinInt, FlushInterval: math.MinInt64, MaxStaleness: -1})
		}, none},
		"more stops than one": {func(ctx context.Context, m *breaker.Manager) error {
			p, _ := m.Acquire(ctx, "a")
			stop := p.Keep(ctx)
			stop()
			stop()
			return nil
		}, none},
		"typed nil error": {func(ctx context.Context, m *breaker.Manager) error {
			err := m.Do(ctx, "a", func(context.Context) error { return (*nilError)(nil) })
			if !errors.As(err, new(*nilError)) {
				return err
			}
			return nil
		}, none},
	}
	for _, consistency := range []breaker.Consistency{breaker.Strict, breaker.Cached} {
		m := newManager(t, func(p *breaker.Policy) {
			p.Consistency, p.FailureThreshold, p.FailureRateThreshold = consistency, breaker.Off, breaker.Off
		})
		t.Cleanup(func() { _ = m.Close(context.Background()) })
		if _, err := m.Force(t.Context(), "other", breaker.Force{Target: breaker.HoldOpen, Actor: "test", Protected: true}); err != nil {
			t.Fatal(err)
		}
		before, _, _ := m.Inspect(t.Context(), "other")
		for name, u := range uses {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			func() {
				defer func() {
					if v := recover(); v != nil {
						t.Errorf("%s, %s: panic: %v", name, consistency, v)
					}
				}()
				if err := u.call(ctx, m); !u.want(err) {
					t.Errorf("%s, %s: %v", name, consistency, err)
				}
			}()
			if ctx.Err() != nil {
				t.Errorf("%s, %s: outlived its context", name, consistency)
			}
			cancel()
			if after, _, err := m.Inspect(t.Context(), "other"); err != nil || !reflect.DeepEqual(after.Snapshot, before.Snapshot) {
				t.Fatalf("%s, %s: %v; another agent is %+v, was %+v", name, consistency, err, after.Snapshot, before.Snapshot)
			}
		}
	}
}

// useManager calls what else an unusable Manager has. The error joins those of all.
func useManager(ctx context.Context, m *breaker.Manager) error {
	m.Invalidate("a")
	m.Evict("a")
	_, _ = m.Backlog(), m.Outcomes()
	var errs []error
	for name, call := range map[string]func() error{
		"Acquire": func() error { _, err := m.Acquire(ctx, "a"); return err },
		"Enter":   func() error { _, _, err := m.Enter(ctx, "a"); return err },
		"Agent":   func() error { _, err := m.Agent("a"); return err },
		"Classic": func() error { _, err := m.Classic("a"); return err },
		"Resume":  func() error { _, err := m.Resume("a", "x"); return err },
		"Record":  func() error { _, err := m.Record(ctx, "a", breaker.Outcome{Kind: breaker.Success}); return err },
		"Inspect": func() error { _, _, err := m.Inspect(ctx, "a"); return err },
		"Force":   func() error { _, err := m.Force(ctx, "a", breaker.Force{}); return err },
		"Flush":   func() error { return m.Flush(ctx, "a") },
		"Wait":    func() error { return m.Wait(ctx, "a") },
		"Close":   func() error { return m.Close(ctx) },
	} {
		err := call()
		if !errors.Is(err, breaker.ErrUnset) {
			return fmt.Errorf("%s: %v", name, err) //nolint:errorlint // it must not pass for the error that is expected
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// useClassic calls what an unusable Classic has.
func useClassic(ctx context.Context, c *breaker.Classic) error {
	if c.CanExecute(ctx) {
		return errors.New("may execute")
	}
	_, statsErr := c.Stats(ctx)
	var errs []error
	for _, err := range []error{c.Execute(ctx, succeed), c.RecordSuccess(ctx), c.RecordFailure(ctx), c.Reset(ctx), statsErr} {
		if !errors.Is(err, breaker.ErrUnset) {
			return fmt.Errorf("not typed: %v", err) //nolint:errorlint // as above
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
