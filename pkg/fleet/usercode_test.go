package fleet_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/fleet"
)

// inMemory runs a test with a fleet of one process, in virtual time.
func inMemory(t *testing.T, o fleet.Options, test func(t *testing.T, f *fleet.Fleet, log *testkit.Buffer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		t.Helper()
		log := new(testkit.Buffer)
		o.Logger = slog.New(slog.NewJSONHandler(log, nil))
		f, err := fleet.Join(t.Context(), "", o)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close(context.Background()) }()
		test(t, f, log)
	})
}

func TestClose_LeavesBehindAFunctionThatDoesNotReturn(t *testing.T) {
	t.Parallel()
	var release chan struct{}
	o := fleet.Options{
		Policy: breaker.Policy{FailureThreshold: 1}, OnStateChange: func(breaker.Change) { <-release },
	}
	inMemory(t, o, func(t *testing.T, f *fleet.Fleet, log *testkit.Buffer) {
		t.Helper()
		release = make(chan struct{})
		_ = f.Do(t.Context(), "a", fail)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		closed := make(chan error, 1)
		go func() { closed <- f.Close(ctx) }()
		select {
		case err := <-closed:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(10 * time.Second):
			t.Error("Close waits for OnStateChange")
		}
		if !strings.Contains(log.String(), "a function has not returned") {
			t.Errorf("it is not logged: %s", log)
		}
		close(release)
	})
}

// Without Redis no index remembers agents that are not in use.
func TestFleet_ListsAnAgentForADayWithoutRedis(t *testing.T) {
	t.Parallel()
	inMemory(t, fleet.Options{}, func(t *testing.T, f *fleet.Fleet, _ *testkit.Buffer) {
		t.Helper()
		ctx := t.Context()
		_ = f.Do(ctx, "called", succeed)
		if err := f.Open(ctx, "held", breaker.Hold{Reason: "leaks", Actor: "alice"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(23 * time.Hour)
		states, err := f.List(ctx)
		if err != nil || states["called"] != breaker.Closed || states["held"] != breaker.Open {
			t.Errorf("%v, %v", states, err)
		}
		time.Sleep(2 * time.Hour)
		if states, err = f.List(ctx); err != nil || len(states) != 0 {
			t.Errorf("after more than a day: %v, %v", states, err)
		}
	})
}

func TestOptions_PerAgentIsCalledTwiceASecond(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	o := fleet.Options{PerAgent: func(string) breaker.Policy { calls.Add(1); panic("broken") }}
	inMemory(t, o, func(t *testing.T, f *fleet.Fleet, log *testkit.Buffer) {
		t.Helper()
		_ = f.Do(t.Context(), "a", succeed)
		before := calls.Load()
		time.Sleep(10*time.Second + time.Millisecond)
		if n := calls.Load() - before; n != 20 {
			t.Errorf("%d calls in 10 seconds", n)
		}
		if n := strings.Count(log.String(), "panic recovered"); n != 1 {
			t.Errorf("%d lines say that it panics", n)
		}
	})
}

func TestJoin_AgentsAreBoundedWithoutRedis(t *testing.T) { //nolint:paralleltest // Setenv
	t.Setenv("MAX_AGENTS", "1")
	t.Setenv("UNKNOWN_AGENTS", "refuse")
	inMemory(t, fleet.Options{FromEnv: true}, func(t *testing.T, f *fleet.Fleet, _ *testkit.Buffer) {
		t.Helper()
		_ = f.Do(t.Context(), "a", fail)
		if err := f.Do(t.Context(), "b", succeed); !errors.Is(err, breaker.ErrTooManyAgents) {
			t.Errorf("%v", err)
		}
	})
}
