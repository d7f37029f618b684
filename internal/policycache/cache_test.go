package policycache_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/internal/policycache"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// source is a Source. before runs in each read, when the answer is made.
type source struct {
	mu     sync.Mutex
	of     map[string]string
	err    error
	reads  int
	before func()
}

func (s *source) set(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.of["a"] = text
}

func (s *source) Overrides(_ context.Context, agents []string) ([]string, error) {
	s.mu.Lock()
	s.reads++
	out := make([]string, len(agents))
	for i, a := range agents {
		out[i] = s.of[a]
	}
	err, before := s.err, s.before
	s.mu.Unlock()
	if before != nil {
		before()
	}
	return out, err
}

func newCache(s *source) *policycache.Cache {
	return policycache.New(policycache.Options{Default: breaker.DefaultPolicy(), Source: s, Logger: discard()})
}

func TestPolicy_OverrideCountsWithinAPoll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &source{of: map[string]string{"a": `{"failure_threshold": 2}`}}
		b := newCache(s)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go b.Run(ctx)
		if got := b.Policy(ctx, "a").FailureThreshold; got != 2 {
			t.Fatalf("first call: threshold %d, want 2", got)
		}
		s.set(`{"failure_threshold": 3}`)
		<-time.After(time.Second)
		if got := b.Policy(ctx, "a").FailureThreshold; got != 3 {
			t.Errorf("a second later: %d, want 3", got)
		}
		s.set(`{"failure_threshold": "three"}`)
		<-time.After(time.Second)
		p, origins, err := b.Describe(ctx, "a")
		if p.FailureThreshold != 3 || err == nil || origins["failure_threshold"] != policycache.OverrideOrigin {
			t.Errorf("a bad override: %d %q %v, want the last good one and the reason", p.FailureThreshold, origins["failure_threshold"], err)
		}
		s.set("")
		<-time.After(time.Second)
		if got := b.Policy(ctx, "a").FailureThreshold; got != 5 {
			t.Errorf("deleted: %d, want the default", got)
		}
	})
}

func TestPolicy_CallersWaitForTheFirstRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &source{of: map[string]string{"a": `{"mode": "observe"}`}, before: func() { <-time.After(100 * time.Millisecond) }}
		b := newCache(s)
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if b.Policy(t.Context(), "a").Mode != breaker.Observe {
					t.Error("a caller got the default policy")
				}
			})
		}
		wg.Wait()
		if s.reads != 1 {
			t.Errorf("%d reads for ten callers at once", s.reads)
		}
	})
}

func TestPoll_DoesNotUndoANewerRefresh(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &source{of: map[string]string{}}
		b := newCache(s)
		_ = b.Policy(t.Context(), "a")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		once := sync.OnceFunc(func() { // a PUT, after the poll has read
			s.mu.Lock()
			s.before = nil
			s.mu.Unlock()
			s.set(`{"failure_threshold": 9}`)
			b.Refresh(ctx, "a")
		})
		s.before = once
		go b.Run(ctx)
		<-time.After(600 * time.Millisecond)
		if got := b.Policy(ctx, "a").FailureThreshold; got != 9 {
			t.Errorf("threshold %d, want the newer 9", got)
		}
	})
}

func TestRefresh_OlderDoesNotUndoNewer(t *testing.T) {
	t.Parallel()
	s := &source{of: map[string]string{}}
	b := newCache(s)
	_ = b.Policy(t.Context(), "a")
	s.set(`{"failure_threshold": 8}`)
	s.before = sync.OnceFunc(func() { // after the first Refresh has read
		s.mu.Lock()
		s.before = nil
		s.mu.Unlock()
		s.set(`{"failure_threshold": 9}`)
		b.Refresh(t.Context(), "a")
	})
	b.Refresh(t.Context(), "a")
	if got := b.Policy(t.Context(), "a").FailureThreshold; got != 9 {
		t.Errorf("threshold %d, want the newer 9", got)
	}
}

func TestRefresh_NewerIsNotLostToOlder(t *testing.T) {
	t.Parallel()
	s := &source{of: map[string]string{}}
	b := newCache(s)
	_ = b.Policy(t.Context(), "a")
	s.set(`{"failure_threshold": 9}`)
	s.before = sync.OnceFunc(func() { // an older Refresh ends
		s.mu.Lock()
		s.before = nil
		s.mu.Unlock()
		s.set(`{"failure_threshold": 8}`)
		b.Refresh(t.Context(), "a")
		s.set(`{"failure_threshold": 9}`)
	})
	b.Refresh(t.Context(), "a")
	if got := b.Policy(t.Context(), "a").FailureThreshold; got != 9 {
		t.Errorf("threshold %d, want the newer 9", got)
	}
}

func TestRefresh_IsRepeatedAlsoIfItReadWhatWasCached(t *testing.T) {
	t.Parallel()
	s := &source{of: map[string]string{}}
	b := newCache(s)
	_ = b.Policy(t.Context(), "a")
	s.before = sync.OnceFunc(func() {
		s.mu.Lock()
		s.before = nil
		s.mu.Unlock()
		s.set(`{"failure_threshold": 8}`)
		b.Refresh(t.Context(), "a")
		s.set("")
	})
	b.Refresh(t.Context(), "a")
	if got := b.Policy(t.Context(), "a").FailureThreshold; got != 5 {
		t.Errorf("threshold %d, want the default", got)
	}
}

// slowSource answers after 100 ms, or when ctx ends.
type slowSource struct{ text string }

func (s slowSource) Overrides(ctx context.Context, agents []string) ([]string, error) {
	select {
	case <-time.After(100 * time.Millisecond):
		return slices.Repeat([]string{s.text}, len(agents)), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func TestPolicy_FirstReadOutlivesItsCaller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := policycache.New(policycache.Options{Default: breaker.DefaultPolicy(), Source: slowSource{`{"mode": "observe"}`}, Logger: discard()})
		leaving, leave := context.WithCancel(t.Context())
		time.AfterFunc(10*time.Millisecond, leave)
		var wg sync.WaitGroup
		wg.Go(func() { _ = b.Policy(leaving, "a") })
		synctest.Wait()
		wg.Go(func() {
			if b.Policy(t.Context(), "a").Mode != breaker.Observe {
				t.Error("a caller got the default policy, because another one left")
			}
		})
		wg.Wait()
		if b.Policy(t.Context(), "a").Mode != breaker.Observe {
			t.Error("and the default stays")
		}
	})
}

func TestLook_DoesNotCountAsUse(t *testing.T) {
	t.Parallel()
	s := &source{of: map[string]string{"a": `{"failure_threshold": 2}`}}
	b := newCache(s)
	if got := b.Look(t.Context(), "a").FailureThreshold; got != 2 {
		t.Errorf("threshold %d", got)
	}
	if used := b.InUse(time.Hour); len(used) != 0 {
		t.Errorf("in use: %v", used)
	}
	_ = b.Policy(t.Context(), "a")
	b.Evict("a")
	if used := b.InUse(time.Hour); len(used) != 0 {
		t.Errorf("in use after Evict: %v", used)
	}
}

func TestPolicy_SourceThatIsDownIsReadOnce(t *testing.T) {
	t.Parallel()
	s := &source{of: map[string]string{}, err: errors.New("down")}
	down := false
	b := policycache.New(policycache.Options{
		Default: breaker.DefaultPolicy(), Source: s, Logger: discard(),
		StoreDown: func() bool { return down }, OnError: func(error) { down = true },
	})
	for _, a := range []string{"a", "b", "c"} {
		if b.Policy(t.Context(), a) != breaker.DefaultPolicy() {
			t.Errorf("%s does not follow the default", a)
		}
	}
	if s.reads != 1 {
		t.Errorf("%d reads, want one: then it is known to be down", s.reads)
	}
}

func TestRefresh_CountsDuringTheFirstRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &source{of: map[string]string{}, before: func() { <-time.After(100 * time.Millisecond) }}
		b := newCache(s)
		var wg sync.WaitGroup
		wg.Go(func() {
			if got := b.Policy(t.Context(), "a").FailureThreshold; got != 9 {
				t.Errorf("threshold %d, want the newer 9", got)
			}
		})
		synctest.Wait() // the read got nothing
		s.set(`{"failure_threshold": 9}`)
		b.Refresh(t.Context(), "a")
		wg.Wait()
	})
}
