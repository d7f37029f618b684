package policycache_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/internal/policycache"
	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// change changes what the source answers.
func (s *source) change(f func(s *source)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

// The version of the overrides is the same before and after an outage, so it alone does not tell that agents which came
// into use meanwhile have never been read.
func TestPoll_ReadsOnReturnWhatTheSourceDidNotAnswer(t *testing.T) {
	t.Parallel()
	down := errors.New("down")
	for name, c := range map[string]struct {
		agents int
		known  bool  // StoreDown
		err    error // of reads
		rebase bool  // the registry changes meanwhile
	}{
		"20,000 agents, known to be down": {20_000, true, down, false},
		"20,000 agents, reads that fail":  {20_000, false, down, false},
		"one agent":                       {1, true, down, false},
		"1,000 agents":                    {1000, true, down, false},
		"1,001 agents, in time again":     {1001, true, nil, false},
		"a new registry meanwhile":        {3000, true, down, true},
	} {
		if testing.Short() {
			c.agents = min(c.agents, 2000)
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s, isDown, l := &source{of: map[string]string{"a": ""}, version: "7"}, atomic.Bool{}, &layer{}
				s.override(c.agents, "7")
				b := policycache.New(policycache.Options{
					Default: breaker.DefaultPolicy(), Source: s, Logger: discard(), StoreDown: isDown.Load, Registry: func(string) *policy.Override { return l.now.Load() },
				})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				go b.Run(ctx)
				for i := range 10_000 {
					_ = b.Policy(ctx, fmt.Sprint("read-before-", i))
				}
				<-time.After(6100 * time.Millisecond)
				isDown.Store(c.known)
				s.change(func(s *source) { s.err = c.err })
				for i := range c.agents {
					if got := b.Policy(ctx, fmt.Sprint("agent-", i)).FailureThreshold; got != 5 {
						t.Fatalf("threshold %d while the source is down", got)
					}
				}
				if c.err != nil {
					<-time.After(3 * time.Second)
				}
				if c.rebase {
					l.now.Store(over(`{"timeout_seconds": 9}`))
					<-time.After(time.Second)
				}
				s.change(func(s *source) { s.err, s.names = nil, 0 }) // before anybody says that it is up
				<-time.After(time.Second)
				isDown.Store(false)
				for i := range c.agents {
					if p := b.Policy(ctx, fmt.Sprint("agent-", i)); p.FailureThreshold != 9 || c.rebase && p.Timeout != 9*time.Second {
						t.Fatalf("agent %d follows %+v a second after the return", i, p)
					}
				}
				s.change(func(s *source) {
					if most := c.agents + 2000; s.names > most {
						t.Errorf("%d overrides were read, want at most those not read before and two turns, %d", s.names, most)
					}
				})
			})
		})
	}
}

// An ACL that denies one agent's key stopped the polls of all agents.
func TestPoll_RefusedOverrideIsItsAgentsAlone(t *testing.T) {
	t.Parallel()
	for agents, refused := range map[int][]int{1: {0}, 5: {0, 1, 2, 3, 4}, 999: {998}, 1001: {0, 1000}, 2500: {17, 999, 1000, 2499}} {
		if testing.Short() && agents > 2000 {
			continue
		}
		synctest.Test(t, func(t *testing.T) {
			var log testkit.Buffer
			s := &source{of: map[string]string{}, refused: map[string]bool{}}
			s.override(agents, "1")
			b := policycache.New(policycache.Options{
				Default: breaker.DefaultPolicy(), Source: s, Logger: slog.New(slog.NewTextHandler(&log, nil)),
				OnError: func(err error) { t.Errorf("one agent's refusal is told as an outage: %v", err) },
			})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go b.Run(ctx)
			use := func() {
				for i := range agents {
					_ = b.Policy(ctx, fmt.Sprint("agent-", i))
				}
			}
			follow := func(what string, threshold int, of map[int]int) {
				t.Helper()
				for i := range agents {
					want, other := of[i]
					if !other {
						want = threshold
					}
					if got := b.Look(ctx, fmt.Sprint("agent-", i)).FailureThreshold; got != want {
						t.Errorf("%s: agent %d of %d has threshold %d, want %d", what, i, agents, got, want)
					}
				}
			}
			all := func(s *source, text string) {
				for i := range agents {
					s.of[fmt.Sprint("agent-", i)] = text
				}
			}
			use()
			<-time.After(700 * time.Millisecond)
			last := map[int]int{}
			s.change(func(s *source) {
				for _, i := range refused {
					s.refused[fmt.Sprint("agent-", i)], last[i] = true, 9
				}
				all(s, `{"failure_threshold": 8}`)
				s.version = "2"
			})
			<-time.After(time.Second)
			follow("with a new version", 8, last)
			if _, _, err := b.Describe(ctx, fmt.Sprint("agent-", refused[0])); !errors.Is(err, breaker.ErrStoreUnavailable) {
				t.Errorf("described with %v", err)
			}
			s.change(func(s *source) { all(s, `{"failure_threshold": 7}`) })
			<-time.After(10 * time.Second)
			follow("in turn", 7, last)
			if n := strings.Count(log.String(), "circuit_breaker.override_refused"); n != 1 || !strings.Contains(log.String(), fmt.Sprint("count=", len(refused))) {
				t.Errorf("%d lines, want one: %s", n, log.String())
			}
			s.change(func(s *source) { s.refused, s.version = nil, "3"; all(s, `{"failure_threshold": 9}`) }) // also the text that was cached
			<-time.After(time.Second)
			follow("readable again", 9, nil)
			if _, _, err := b.Describe(ctx, fmt.Sprint("agent-", refused[0])); err != nil {
				t.Errorf("described with %v", err)
			}
		})
	}
}

func TestPolicy_RefusedFirstReadIsLoggedOnce(t *testing.T) {
	t.Parallel()
	for _, agents := range []int{1, 2, 10, 11, 3000} {
		synctest.Test(t, func(t *testing.T) {
			var log testkit.Buffer
			s := &source{of: map[string]string{"good": `{"failure_threshold": 9}`}, refused: map[string]bool{}}
			for i := range agents {
				s.refused[fmt.Sprint("agent-", i)] = true
			}
			b := policycache.New(policycache.Options{
				Default: breaker.DefaultPolicy(), Source: s, Logger: slog.New(slog.NewTextHandler(&log, nil)),
				OnError: func(err error) { t.Errorf("told as an outage: %v", err) },
			})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go b.Run(ctx)
			for i := range agents {
				if b.Policy(ctx, fmt.Sprint("agent-", i)) != breaker.DefaultPolicy() {
					t.Errorf("agent %d does not follow the default", i)
				}
			}
			<-time.After(10 * time.Second)
			if got := b.Policy(ctx, "good").FailureThreshold; got != 9 {
				t.Errorf("threshold %d of another agent", got)
			}
			if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), fmt.Sprint("count=", agents)) || len(log.String()) > 1000 {
				t.Errorf("%d lines, want one: %s", n, log.String())
			}
		})
	}
}

func TestPoll_RefusedVersionLeavesTurns(t *testing.T) {
	t.Parallel()
	for _, agents := range []int{1, 10, 999, 1000, 1500} {
		synctest.Test(t, func(t *testing.T) {
			var log testkit.Buffer
			s := &source{of: map[string]string{}, versionRefused: true}
			b := policycache.New(policycache.Options{Default: breaker.DefaultPolicy(), Source: s, Logger: slog.New(slog.NewTextHandler(&log, nil))})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go b.Run(ctx)
			for i := range agents {
				_ = b.Policy(ctx, fmt.Sprint("agent-", i))
			}
			<-time.After(time.Second)
			s.override(agents, "5")
			<-time.After(2 * time.Second)
			for i := range agents {
				if got := b.Policy(ctx, fmt.Sprint("agent-", i)).FailureThreshold; got != 9 {
					t.Fatalf("agent %d has threshold %d", i, got)
				}
			}
			if n := strings.Count(log.String(), "circuit_breaker.override_refused"); n != 1 {
				t.Errorf("%d lines, want one: %s", n, log.String())
			}
		})
	}
}

// What the source has answered, be it that there is no override or that it refuses it, is read in turn from then on.
func TestPoll_ReadsOnceOnReturn(t *testing.T) {
	t.Parallel()
	for _, refused := range []int{0, 1, 10, 1500, 3000} {
		synctest.Test(t, func(t *testing.T) {
			var log testkit.Buffer
			s := &source{of: map[string]string{}, version: "7", refused: map[string]bool{}, err: errors.New("down")}
			b := policycache.New(policycache.Options{Default: breaker.DefaultPolicy(), Source: s, Logger: slog.New(slog.NewTextHandler(&log, nil))})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			for i := range 3000 {
				_ = b.Policy(ctx, fmt.Sprint("agent-", i))
			}
			s.change(func(s *source) {
				for i := range refused {
					s.refused[fmt.Sprint("agent-", i)] = true
				}
				s.err = nil
			})
			go b.Run(ctx)
			<-time.After(1100 * time.Millisecond)
			s.change(func(s *source) { s.names = 0 })
			<-time.After(4 * time.Second)
			s.change(func(s *source) {
				if s.names < 6000 || s.names > 8000 {
					t.Errorf("%d overrides were read in four seconds, want at most 1000 with each of 8 polls", s.names)
				}
			})
			if n := strings.Count(log.String(), "\n"); n != min(refused, 1) || refused > 0 && !strings.Contains(log.String(), fmt.Sprint("count=", refused)) {
				t.Errorf("%d lines: %s", n, log.String())
			}
		})
	}
}
