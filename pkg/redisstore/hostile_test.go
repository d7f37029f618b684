package redisstore_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// What is refused before Redis is asked is refused the same on every store, and changes no key.
func TestHostileUses_ChangeNothingInRedis(t *testing.T) {
	for name, engine := range map[string]*engine{"miniredis": miniEngine(t), "redis": realEngine(t)} {
		for _, consistency := range []breaker.Consistency{breaker.Strict, breaker.Cached} {
			t.Run(name+"/"+string(consistency), func(t *testing.T) {
				hostileUses(t, engine, consistency)
			})
		}
	}
}

func hostileUses(t *testing.T, engine *engine, consistency breaker.Consistency) {
	t.Helper()
	engine.client.FlushAll(t.Context())
	store, err := redisstore.New(engine.client, false, redisstore.Config{Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	m, err := breaker.NewManager(breaker.Options{
		Store: store, Policy: breaker.Policy{Consistency: consistency, FailureThreshold: 2}, Reporter: "test",
		Classify: func(_ context.Context, c breaker.CallInfo) breaker.Outcome {
			if c.Err != nil {
				panic(c.Err)
			}
			return breaker.Outcome{Kind: "fine"}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = m.Close(context.Background()) }()
	for _, agent := range []string{"a", "other"} {
		if _, err := m.Force(t.Context(), agent, breaker.Force{Target: breaker.ResetClosed, Actor: "test"}); err != nil {
			t.Fatal(err)
		}
		if err := m.Do(t.Context(), agent, func(context.Context) error { return nil }); err != nil {
			t.Fatal(err)
		}
		if err := m.Flush(t.Context(), agent); err != nil {
			t.Fatal(err)
		}
	}
	dump := func() string {
		var all strings.Builder
		for _, agent := range []string{"a", "other"} {
			for _, key := range []string{":state", ":control", ":window", ":log", ":open_timestamp"} {
				text, err := engine.client.Dump(t.Context(), "circuit_breaker:"+agent+key).Result()
				all.WriteString(key + text)
				_ = err // absent
			}
		}
		return all.String()
	}
	before := dump()
	ended, end := context.WithCancel(t.Context())
	end()
	called := func(context.Context) error { t.Error("fn was called"); return errors.New("called") }
	force := func(f breaker.Force) func(context.Context) error {
		return func(ctx context.Context) error { _, err := m.Force(ctx, "a", f); return err }
	}
	isForce := func(err error) bool { return errors.As(err, new(*breaker.ForceError)) }
	is := func(target error) func(error) bool { return func(err error) bool { return errors.Is(err, target) } }
	for name, u := range map[string]struct {
		call func(ctx context.Context) error
		want func(error) bool
	}{
		"ended, Do":      {func(context.Context) error { return m.Do(ended, "a", called) }, is(context.Canceled)},
		"ended, Acquire": {func(context.Context) error { _, err := m.Acquire(ended, "a"); return err }, is(context.Canceled)},
		"ended, Force":   {func(context.Context) error { return force(breaker.Force{Target: breaker.HoldOpen, Actor: "x"})(ended) }, is(context.Canceled)},
		"nil fn":         {func(ctx context.Context) error { return m.Do(ctx, "a", nil) }, is(breaker.ErrUnset)},
		"nil ctx": {func(context.Context) error {
			var none context.Context
			_, err := m.Record(none, "a", breaker.Outcome{Kind: breaker.Failure})
			return err
		}, is(breaker.ErrUnset)},
		"zero outcome": {func(ctx context.Context) error { _, err := m.Record(ctx, "a", breaker.Outcome{}); return err }, is(breaker.ErrBadOutcome)},
		"reporter": {func(ctx context.Context) error {
			_, err := m.Record(ctx, "a", breaker.Outcome{Kind: breaker.Failure, Reporter: "a b"})
			return err
		}, is(breaker.ErrBadOutcome)},
		"name":         {func(ctx context.Context) error { return m.Do(ctx, "a:{x}", called) }, is(breaker.ErrBadName)},
		"no target":    {force(breaker.Force{Actor: "x"}), isForce},
		"wrong target": {force(breaker.Force{Target: "open", Actor: "x"}), isForce},
		"negative":     {force(breaker.Force{Target: breaker.HoldOpen, Actor: "x", LengthMs: -1}), isForce},
		"huge":         {force(breaker.Force{Target: breaker.HoldOpen, Actor: "x", LengthMs: math.MaxInt64}), isForce},
		"huge ramp":    {force(breaker.Force{Target: breaker.ResetClosed, Actor: "x", RampMs: 1 << 53}), isForce},
		"newline":      {force(breaker.Force{Target: breaker.HoldOpen, Actor: "x", Reason: "a\nb"}), isForce},
		"NUL":          {force(breaker.Force{Target: breaker.HoldOpen, Actor: "x", Reason: "a\x00"}), isForce},
		"actor":        {force(breaker.Force{Target: breaker.HoldOpen, Actor: "x y"}), isForce},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if err := u.call(ctx); !u.want(err) || ctx.Err() != nil {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
	}
	if after := dump(); after != before {
		t.Error("keys have changed")
	}
	rideOnRedis(t, m)
}

// rideOnRedis opens a breaker by a Classify that panics, and closes it by probes in which calls nest.
func rideOnRedis(t *testing.T, m *breaker.Manager) {
	t.Helper()
	failed := errors.New("failed")
	for range 2 {
		if err := m.Do(t.Context(), "a", func(context.Context) error { return failed }); !errors.Is(err, failed) {
			t.Fatal(err)
		}
	}
	err := m.Do(t.Context(), "other", func(ctx context.Context) error { return m.Do(ctx, "a", func(context.Context) error { return nil }) })
	if open, ok := errors.AsType[*breaker.OpenError](err); !ok || open.Agent != "a" {
		t.Fatalf("two failures do not open: %v", err)
	}
	if _, err := m.Force(t.Context(), "a", breaker.Force{Target: breaker.ResetHalfOpen, Actor: "test"}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		err := m.Do(t.Context(), "a", func(ctx context.Context) error {
			return m.Do(ctx, "a", func(ctx context.Context) error { return m.Do(ctx, "a", func(context.Context) error { return nil }) })
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for agent, want := range map[string]machine.State{"a": breaker.Closed, "other": breaker.Closed} {
		if v, _, err := m.Inspect(t.Context(), agent); err != nil || v.State != want {
			t.Errorf("%s: %s, %v", agent, v.State, err)
		}
	}
}
