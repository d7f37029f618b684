package policycache_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
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
	names  int // read in all
	before func()

	version        string
	refused        map[string]bool
	versionRefused bool
}

func (s *source) set(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.of["a"] = text
}

func (s *source) EachOverride(_ context.Context, agents []string) ([]string, map[string]error, error) {
	s.mu.Lock()
	s.reads++
	s.names += len(agents)
	out, refused := make([]string, len(agents)), map[string]error{}
	for i, a := range agents {
		if s.refused[a] {
			refused[a] = refusal(a)
		} else {
			out[i] = s.of[a]
		}
	}
	err, before := s.err, s.before
	s.mu.Unlock()
	if before != nil {
		before()
	}
	return out, refused, err
}

// refusal is the error of a key that an ACL denies.
func refusal(agent string) error {
	return &breaker.StoreError{Verb: "read config", Agent: agent, Refused: true, Err: errors.New("NOPERM")}
}

func (s *source) OverridesVersion(context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.versionRefused {
		return "", refusal("")
	}
	return s.version, s.err
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

func (s slowSource) EachOverride(ctx context.Context, agents []string) ([]string, map[string]error, error) {
	select {
	case <-time.After(100 * time.Millisecond):
		return slices.Repeat([]string{s.text}, len(agents)), nil, nil
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
}

func (slowSource) OverridesVersion(context.Context) (string, error) { return "", nil }

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

// An invalid policy of a user's function is replaced by the agent's last valid one, over which overrides still apply.
func TestBase_InvalidOneIsReplaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		base := breaker.Policy{FailureThreshold: 2}
		var log bytes.Buffer
		s := &source{of: map[string]string{"a": `{"minimum_calls": 7}`}}
		c := policycache.New(policycache.Options{
			Default: breaker.DefaultPolicy(), Source: s, Logger: slog.New(slog.NewTextHandler(&log, nil)),
			Base: func(string) breaker.Policy { return base },
		})
		want := func(when string, threshold, calls int) {
			t.Helper()
			if p := c.Policy(t.Context(), "a"); p.FailureThreshold != threshold || p.MinimumCalls != calls {
				t.Errorf("%s: %d, %d", when, p.FailureThreshold, p.MinimumCalls)
			}
		}
		want("valid", 2, 7)
		base.FailureThreshold = -5
		c.Rebase()
		c.Rebase()
		want("invalid", 2, 7)
		s.set(`{"minimum_calls": 8}`)
		c.Refresh(t.Context(), "a")
		want("overridden", 2, 8)
		base.FailureThreshold = 3
		c.Rebase()
		want("valid again", 3, 8)
		if n := strings.Count(log.String(), "circuit_breaker.bad_policy"); n != 1 {
			t.Errorf("logged %d times: %s", n, log.String())
		}
	})
}

// A global switch is the AND of all layers [B21].
func TestBase_IsOffWhereAllIsOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := policycache.New(policycache.Options{
			Default: breaker.Policy{Disabled: true}, Source: &source{of: map[string]string{}}, Logger: discard(),
			Base: func(string) breaker.Policy { return breaker.Policy{} },
		})
		if p := c.Policy(t.Context(), "a"); !p.Disabled {
			t.Error("enabled")
		}
	})
}

// A user's function may ask for the agent whose policy it is asked for, also by the way of a call.
func TestBase_MayUseTheCache(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var c *policycache.Cache
		depth, deepest := 0, 0
		c = policycache.New(policycache.Options{
			Default: breaker.DefaultPolicy(), Source: &source{of: map[string]string{"a": `{"minimum_calls": 7}`}}, Logger: discard(),
			Base: func(agent string) breaker.Policy {
				if depth++; depth < 3 {
					c.Look(t.Context(), agent)
					c.Policy(t.Context(), agent)
				}
				deepest = max(deepest, depth)
				depth--
				return breaker.Policy{FailureThreshold: 2}
			},
		})
		if p := c.Policy(t.Context(), "a"); p.FailureThreshold != 2 || p.MinimumCalls != 7 || deepest != 3 {
			t.Errorf("%d, %d, %d deep", p.FailureThreshold, p.MinimumCalls, deepest)
		}
	})
}
