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

// shelf is a source of overrides; before, when set, runs at the start of each read.
type shelf struct {
	mu     sync.Mutex
	of     map[string]string
	err    error
	reads  int
	before func()
}

func (s *shelf) set(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.of["a"] = text
}

func (s *shelf) Overrides(_ context.Context, agents []string) ([]string, error) {
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

func newBook(s *shelf) *policycache.Cache {
	return policycache.New(policycache.Options{Default: breaker.DefaultPolicy(), Source: s, Logger: discard()})
}

func TestAnOverrideCountsWithinAPoll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{of: map[string]string{"a": `{"failure_threshold": 2}`}}
		b := newBook(s)
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

func TestNobodyGetsTheDefaultWhileTheFirstReads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{of: map[string]string{"a": `{"mode": "observe"}`}, before: func() { <-time.After(100 * time.Millisecond) }}
		b := newBook(s)
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

func TestAPollDoesNotUndoANewerRefresh(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{of: map[string]string{}}
		b := newBook(s)
		_ = b.Policy(t.Context(), "a")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		once := sync.OnceFunc(func() { // between the poll's reading and its taking, a PUT comes
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

func TestAnOlderRefreshDoesNotUndoANewerOne(t *testing.T) {
	t.Parallel()
	s := &shelf{of: map[string]string{}}
	b := newBook(s)
	_ = b.Policy(t.Context(), "a")
	s.set(`{"failure_threshold": 8}`)
	s.before = sync.OnceFunc(func() { // the first has read, and has yet to take what it read
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

func TestANewerRefreshIsNotLostToAnOlderOne(t *testing.T) {
	t.Parallel()
	s := &shelf{of: map[string]string{}}
	b := newBook(s)
	_ = b.Policy(t.Context(), "a")
	s.set(`{"failure_threshold": 9}`)
	s.before = sync.OnceFunc(func() { // an older one comes to its end meanwhile
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
	s := &shelf{of: map[string]string{}}
	b := newBook(s)
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

// slowShelf answers after 100 ms, unless nobody waits for it any more.
type slowShelf struct{ text string }

func (s slowShelf) Overrides(ctx context.Context, agents []string) ([]string, error) {
	select {
	case <-time.After(100 * time.Millisecond):
		return slices.Repeat([]string{s.text}, len(agents)), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func TestACallerThatLeavesDoesNotEndTheFirstReading(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := policycache.New(policycache.Options{Default: breaker.DefaultPolicy(), Source: slowShelf{`{"mode": "observe"}`}, Logger: discard()})
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

func TestLookingIsNotUsing(t *testing.T) {
	t.Parallel()
	s := &shelf{of: map[string]string{"a": `{"failure_threshold": 2}`}}
	b := newBook(s)
	if got := b.Look(t.Context(), "a").FailureThreshold; got != 2 {
		t.Errorf("threshold %d", got)
	}
	if used := b.InUse(time.Hour); len(used) != 0 {
		t.Errorf("in use: %v", used)
	}
	_ = b.Policy(t.Context(), "a")
	b.Evict("a")
	if used := b.InUse(time.Hour); len(used) != 0 {
		t.Errorf("in use after Drop: %v", used)
	}
}

func TestASourceThatIsAwayIsAskedOnce(t *testing.T) {
	t.Parallel()
	s := &shelf{of: map[string]string{}, err: errors.New("away")}
	away := false
	b := policycache.New(policycache.Options{
		Default: breaker.DefaultPolicy(), Source: s, Logger: discard(),
		StoreDown: func() bool { return away }, OnError: func(error) { away = true },
	})
	for _, a := range []string{"a", "b", "c"} {
		if b.Policy(t.Context(), a) != breaker.DefaultPolicy() {
			t.Errorf("%s does not follow the default", a)
		}
	}
	if s.reads != 1 {
		t.Errorf("%d reads, want one: then it is known to be away", s.reads)
	}
}

func TestRefresh_CountsDuringTheFirstRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{of: map[string]string{}, before: func() { <-time.After(100 * time.Millisecond) }}
		b := newBook(s)
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
