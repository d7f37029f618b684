package breakerlog_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breakerlog"
)

// nowhere is a log that is written, and not kept.
type nowhere struct{}

func (nowhere) Write(p []byte) (int, error) { return len(p), nil }

// benchLogger is at level info, or below.
func benchLogger(level slog.Level) *slog.Logger {
	return slog.New(slog.NewJSONHandler(nowhere{}, &slog.HandlerOptions{Level: level}))
}

func newCached(tb testing.TB, o breaker.Observer) *breaker.Manager {
	tb.Helper()
	m, err := breaker.NewManager(breaker.Options{
		Store: breaker.NewMemory(nil, 0), Observer: o,
		Policy: breaker.Policy{Consistency: breaker.Cached, FailureThreshold: breaker.Off, FailureRateThreshold: breaker.Off},
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = m.Close(context.Background()) })
	return m
}

// At level info a call pays for no line that is not written.
func TestObserver_AtLevelInfoAllocatesNothing(t *testing.T) {
	m := newCached(t, breakerlog.New(benchLogger(slog.LevelInfo), breakerlog.Options{}))
	ctx := t.Context()
	for name, fn := range map[string]func(context.Context) error{"success": succeed, "failure": fail} {
		before := testkit.FewestAllocs(func() { _ = breaker.Classify(ctx, fn(ctx)) })
		if n := testkit.FewestAllocs(func() { _ = m.Do(ctx, "a", fn) }) - before; n != 0 {
			t.Errorf("a %s allocates %v times", name, n)
		}
	}
	o := breakerlog.New(benchLogger(slog.LevelInfo), breakerlog.Options{})
	o.Refused("a", refusal)
	if n := testkit.FewestAllocs(func() { o.Refused("a", refusal) }); n > 0 {
		t.Errorf("a refusal that is not logged allocates %v times", n)
	}
}

// BenchmarkCachedDo is Manager.Do by name in cached mode. "loud" is what an Observer that hears each success costs; at
// level info this one does not ask for them.
func BenchmarkCachedDo(b *testing.B) {
	for _, c := range []struct {
		name     string
		observer breaker.Observer
	}{
		{"none", nil},
		{"loud", breaker.NopObserver{}},
		{"info", breakerlog.New(benchLogger(slog.LevelInfo), breakerlog.Options{})},
		{"debug", breakerlog.New(benchLogger(slog.LevelDebug), breakerlog.Options{})},
	} {
		b.Run(c.name, func(b *testing.B) {
			m := newCached(b, c.observer)
			ctx := b.Context()
			b.ReportAllocs()
			for b.Loop() {
				_ = m.Do(ctx, "bench", succeed)
			}
		})
	}
}

// BenchmarkSettled is the part of the Observer itself.
func BenchmarkSettled(b *testing.B) {
	o := breakerlog.New(benchLogger(slog.LevelInfo), breakerlog.Options{})
	out, r := breaker.Outcome{Kind: breaker.Success}, breaker.Report{State: breaker.Closed, Counted: true, Pending: true}
	b.ReportAllocs()
	for b.Loop() {
		o.Settled("bench", out, r)
	}
}
