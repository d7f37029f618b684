package breakertest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/fleet"
)

// Fleet is one replica of a fleet in memory. What may end the test is for the test's own goroutine: New, Replica, and
// the methods without a result. The others are safe for concurrent use.
type Fleet struct {
	*fleet.Fleet

	t       testing.TB
	options fleet.Options
	shared  *shared
}

// New makes a fleet of one replica, and closes it when the test ends. o is one [fleet.Options], or none for defaults,
// of which Prefix, RequireStore and Embedded have no meaning here. Without a Logger it logs to the test's output. Wrong
// options end the test.
func New(tb testing.TB, o ...fleet.Options) *Fleet {
	tb.Helper()
	s := newShared(inBubble())
	return s.join(tb, one(tb, fleet.Options{}, o))
}

// Replica adds a replica to the fleet. It has a name of its own, and is closed when the test ends. o is as for New.
// Without o the replica has the Options of New, the same Observer and OnStateChange included.
//
// Replicas share breakers, clock, and overrides if they are set by [Fleet.Configure]. A transition that one replica
// causes counts in all at once. In cached mode failures that a replica has not sent yet are known to itself alone, as
// in production: MustBeOpen and its like send them first.
func (f *Fleet) Replica(o ...fleet.Options) *Fleet {
	f.t.Helper()
	return f.shared.join(f.t, one(f.t, f.options, o))
}

// one returns the options of a call.
func one(tb testing.TB, none fleet.Options, o []fleet.Options) fleet.Options {
	tb.Helper()
	switch len(o) {
	case 0:
		return none
	case 1:
		return o[0]
	}
	tb.Fatalf("breakertest: %d fleet.Options, want one or none", len(o))
	return none
}

// join adds a replica.
func (s *shared) join(tb testing.TB, o fleet.Options) *Fleet {
	tb.Helper()
	f := &Fleet{t: tb, options: o, shared: s}
	if n := s.number(); n == 1 {
		o.ReplicaID = cmp.Or(o.ReplicaID, "replica-1")
	} else {
		o.ReplicaID = fmt.Sprintf("%s-%d", strings.TrimSuffix(cmp.Or(o.ReplicaID, "replica"), "-1"), n)
	}
	out := &output{w: tb.Output(), replica: o.ReplicaID}
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{ReplaceAttr: s.stamp}))
	}
	var err error
	if f.Fleet, err = fleet.New(s, o); err != nil {
		tb.Fatalf("breakertest: %v", err)
	}
	s.add(f.Fleet)
	tb.Cleanup(func() {
		if err := f.Close(context.Background()); err != nil {
			tb.Errorf("breakertest: Close: %v", err)
		}
		out.end()
	})
	return f
}

// Now returns the time on the breakers' clock, in UTC.
func (f *Fleet) Now() time.Time { return f.shared.now() }

// Advance moves the breakers' clock forwards by whole milliseconds; anything else ends the test. First the replicas
// send what they hold in cached mode, so that it counts at its time; afterwards the calls of Wait look again. In a
// bubble of testing/synctest, Advance sleeps, and returns when the other goroutines of the bubble are blocked.
func (f *Fleet) Advance(d time.Duration) {
	f.t.Helper()
	switch {
	case d < 0 || d%time.Millisecond != 0:
		f.t.Fatalf("breakertest: Advance(%v): want whole milliseconds, forwards", d)
	case f.shared.bubble:
		time.Sleep(d)
		synctest.Wait()
	default:
		agents := f.shared.agents()
		if err := f.shared.flush(agents...); err != nil {
			f.t.Fatalf("breakertest: Advance(%v): %v", d, err)
		}
		f.shared.move(d)
		f.shared.wake(agents...)
	}
}

// Configure is [fleet.Fleet.Configure], and counts in all replicas at once. That of the embedded [*fleet.Fleet] counts
// in its own replica alone, for want of Redis.
func (f *Fleet) Configure(ctx context.Context, agent string, p breaker.Policy) error {
	var errs []error
	for _, r := range f.shared.replicas() {
		errs = append(errs, r.Configure(ctx, agent, p))
	}
	return errors.Join(errs...)
}

// inBubble reports whether this goroutine is in a bubble of testing/synctest.
func inBubble() (in bool) {
	defer func() {
		if v := recover(); v != nil {
			in = !strings.Contains(fmt.Sprint(v), "not in a bubble")
		}
	}()
	synctest.Wait()
	return true
}
