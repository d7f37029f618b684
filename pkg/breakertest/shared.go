package breakertest

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
	"github.com/breakerd/breakerd/pkg/fleet"
)

// shared is what the replicas of a fleet have in common: the store, which is a [breaker.Memory], and its clock.
type shared struct {
	*breaker.Memory

	bubble bool // the clock is time.Now

	mu    sync.Mutex
	clock time.Time
	all   []*fleet.Fleet
	names map[string]struct{} // of agents that the store was asked about
	count int
}

var _ breaker.Feed = (*shared)(nil)

func newShared(bubble bool) *shared {
	s := &shared{
		bubble: bubble, clock: time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), names: map[string]struct{}{},
	}
	s.Memory = breaker.NewMemory(func() int64 { return s.now().UnixMilli() }, 0)
	return s
}

func (s *shared) now() time.Time {
	if s.bubble {
		return time.Now().UTC()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clock
}

func (s *shared) move(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock = s.clock.Add(d)
}

// Apply implements [breaker.Store]. It draws no jitter, and tells all replicas of a transition, as Redis does.
func (s *shared) Apply(
	ctx context.Context, agent string, p breaker.Policy, op machine.Op,
) (machine.Result, error) {
	s.meet(agent)
	op.JitterPPM = 0
	r, err := s.Memory.Apply(ctx, agent, p, op)
	if len(r.Events) > 0 {
		s.wake(agent)
	}
	return r, err
}

// Inspect implements [breaker.Store].
func (s *shared) Inspect(ctx context.Context, agent string, p breaker.Policy) (breaker.View, error) {
	s.meet(agent)
	return s.Memory.Inspect(ctx, agent, p)
}

func (s *shared) meet(agent string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names[agent] = struct{}{}
}

func (s *shared) agents() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.names))
}

// number returns the number of the next replica, from 1.
func (s *shared) number() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count++
	return s.count
}

func (s *shared) add(f *fleet.Fleet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, f)
}

func (s *shared) replicas() []*fleet.Fleet {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.all)
}

// flush sends what the replicas have counted and not sent.
func (s *shared) flush(agents ...string) error {
	var errs []error
	for _, r := range s.replicas() {
		for _, agent := range agents {
			errs = append(errs, r.Manager().Flush(context.Background(), agent))
		}
	}
	return errors.Join(errs...)
}

// wake makes the next call of an agent, and those who wait for one, ask the store.
func (s *shared) wake(agents ...string) {
	for _, r := range s.replicas() {
		for _, agent := range agents {
			r.Manager().Invalidate(agent)
		}
	}
}

// stamp puts the breakers' clock into a line of the log.
func (s *shared) stamp(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.String(slog.TimeKey, s.now().Format(timeFormat))
	}
	return a
}

// timeFormat shows the breakers' clock.
const timeFormat = "15:04:05.000"

// output is a test's output, until the test ends: a write after that would panic.
type output struct {
	replica string

	mu sync.Mutex
	w  io.Writer // nil: the test has ended
}

func (o *output) Write(line []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.w != nil {
		_, _ = o.w.Write(append([]byte(o.replica+": "), line...))
	}
	return len(line), nil
}

func (o *output) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.w = nil
}
