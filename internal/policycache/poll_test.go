package policycache_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// crowded is a running cache with so many agents in use, and a function that returns how many of them follow an
// override.
func crowded(t *testing.T, s *source, agents int) (overridden func() int) {
	t.Helper()
	b := newCache(s)
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	for i := range agents {
		_ = b.Policy(ctx, fmt.Sprint("agent-", i))
	}
	go b.Run(ctx)
	<-time.After(3100 * time.Millisecond) // the first version is new; and between two polls
	return func() (n int) {
		for i := range agents {
			if b.Look(ctx, fmt.Sprint("agent-", i)).FailureThreshold == 9 {
				n++
			}
		}
		return n
	}
}

// override gives agents an override; with the version as it was: by hand.
func (s *source) override(agents int, version string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range agents {
		s.of[fmt.Sprint("agent-", i)] = `{"failure_threshold": 9}`
	}
	s.version, s.names, s.reads = version, 0, 0
}

// 60,000 made-up names: 42,010 GET a second of polls, for 15 minutes.
func TestPoll_ReadsFewAgentsWithoutANewVersion(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &source{of: map[string]string{}, version: "1"}
		_ = crowded(t, s, 6000)
		s.override(0, "1")
		<-time.After(4 * time.Second)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.names < 6000 || s.names > 8000 {
			t.Errorf("%d overrides were read in four seconds, want at most 1000 with each of 8 polls", s.names)
		}
	})
}

func TestPoll_ReadsAllAgentsAfterANewVersion(t *testing.T) {
	t.Parallel()
	for from, to := range map[string]string{"1": "2", "": "7", "2": "", "x": "y"} {
		synctest.Test(t, func(t *testing.T) {
			s := &source{of: map[string]string{}, version: from}
			overridden := crowded(t, s, 2500)
			s.override(2500, to)
			<-time.After(time.Second)
			if n := overridden(); n != 2500 {
				t.Errorf("%q to %q: %d of 2500 agents follow a second later", from, to, n)
			}
		})
	}
}

func TestPoll_NoticesEditsByHandInTurn(t *testing.T) {
	t.Parallel()
	for agents, within := range map[int]time.Duration{1: time.Second, 1000: time.Second, 1999: 2 * time.Second, 3000: 3 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			s := &source{of: map[string]string{}}
			overridden := crowded(t, s, agents)
			s.override(agents, "")
			<-time.After(within)
			if n := overridden(); n != agents {
				t.Errorf("%d of %d agents follow after %v", n, agents, within)
			}
		})
	}
}

func TestPoll_GoesOnWhereTheSourceFailed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &source{of: map[string]string{}}
		overridden := crowded(t, s, 2500)
		s.override(2500, "2")
		reads := 0
		s.mu.Lock()
		s.before = func() { // the second read fails, and all after it
			s.mu.Lock()
			defer s.mu.Unlock()
			if reads++; reads == 1 {
				s.err = errors.New("down")
			}
		}
		s.mu.Unlock()
		<-time.After(2 * time.Second)
		if n := overridden(); n != 1000 {
			t.Errorf("%d agents follow while the source is down, want 1000", n)
		}
		s.mu.Lock()
		s.err, s.before = nil, nil
		s.mu.Unlock()
		<-time.After(time.Second)
		if n := overridden(); n != 2500 {
			t.Errorf("%d of 2500 agents follow when the source is up again", n)
		}
	})
}
