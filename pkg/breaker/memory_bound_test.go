package breaker_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// crowd is a Memory of 20 agents, its manager and its clock.
type crowd struct {
	testing.TB

	m   *breaker.Manager
	now int64
}

func newCrowd(t *testing.T, most int, p breaker.Policy) *crowd {
	t.Helper()
	c := &crowd{TB: t, now: 1_770_800_400_000}
	m, err := breaker.NewManager(breaker.Options{Store: breaker.NewMemory(func() int64 { return c.now }, most), Policy: p})
	if err != nil {
		t.Fatal(err)
	}
	c.m = m
	return c
}

// call makes calls of an agent that end so, and waits for no answer but the first refusal.
func (c *crowd) call(agent string, kinds ...breaker.OutcomeKind) error {
	c.Helper()
	for _, k := range kinds {
		p, err := c.m.Acquire(c.Context(), agent)
		if err != nil {
			return err
		}
		if _, err := p.Settle(c.Context(), breaker.Outcome{Kind: k}); err != nil {
			c.Fatal(err)
		}
	}
	return nil
}

func (c *crowd) force(agent string, f breaker.Force) {
	c.Helper()
	f.Actor, f.Reason = "op", "test"
	if _, err := c.m.Force(c.Context(), agent, f); err != nil {
		c.Fatal(err)
	}
}

// harmless has so many names, which nobody knows, called once each.
func (c *crowd) harmless(n int) {
	c.Helper()
	for i := range n {
		_ = c.call(fmt.Sprint("made-up-", i), breaker.Success)
	}
}

func (c *crowd) want(agent string, want breaker.State, hold breaker.State) {
	c.Helper()
	v, _, err := c.m.Inspect(c.Context(), agent)
	if err != nil || v.State != want || v.Hold.Kind != hold {
		c.Errorf("%s is %s, held %q, %v; want %s, held %q", agent, v.State, v.Hold.Kind, err, want, hold)
	}
}

const failed = breaker.Failure

// OmniRoute PR 4114, anticapture PR 2148, Hystrix 1737.
func TestMemory_HarmlessNamesPushOutNoOpenBreaker(t *testing.T) {
	t.Parallel()
	c := newCrowd(t, 1000, breaker.Policy{FailureThreshold: 3})
	c.force("banned", breaker.Force{Target: breaker.HoldOpen, Protected: true})
	for i := range 100 {
		_ = c.call(fmt.Sprint("open-", i), failed, failed, failed)
	}
	c.harmless(2000)
	c.want("banned", breaker.Open, breaker.Open)
	for i := range 100 {
		c.want(fmt.Sprint("open-", i), breaker.Open, "")
	}
}

func TestMemory_KeepsWhatMatters(t *testing.T) {
	t.Parallel()
	policy := breaker.Policy{FailureThreshold: 3, FailureRateThreshold: breaker.Off, Timeout: time.Minute, WindowSize: time.Minute}
	for name, test := range map[string]struct {
		before func(c *crowd)
		after  func(c *crowd)
	}{
		"60 names for 20 places, one of them open": {
			func(c *crowd) { _ = c.call("a", failed, failed, failed) },
			func(c *crowd) { c.want("a", breaker.Open, "") },
		},
		"holds beyond the bound": {
			func(c *crowd) {
				for i := range 30 {
					c.force(fmt.Sprint("held-", i), breaker.Force{Target: breaker.HoldOpen})
				}
			},
			func(c *crowd) {
				for i := range 30 {
					c.want(fmt.Sprint("held-", i), breaker.Open, breaker.Open)
				}
			},
		},
		"held closed": {
			func(c *crowd) { c.force("a", breaker.Force{Target: breaker.HoldClosed}) },
			func(c *crowd) { c.want("a", breaker.Closed, breaker.Closed) },
		},
		"half-open": {
			func(c *crowd) {
				_ = c.call("a", failed, failed, failed)
				c.now += 61_000
				_ = c.call("a", breaker.Success)
			},
			func(c *crowd) { c.want("a", breaker.HalfOpen, "") },
		},
		"open, and its wait is over meanwhile": {
			func(c *crowd) { _ = c.call("a", failed, failed, failed); c.now += 3_600_000 },
			func(c *crowd) { c.want("a", breaker.HalfOpen, "") },
		},
		"reopened": {
			func(c *crowd) {
				_ = c.call("a", failed, failed, failed)
				c.now += 61_000
				_ = c.call("a", failed)
			},
			func(c *crowd) { _ = c.call("a", failed); c.want("a", breaker.Open, "") },
		},
		"failures, but not yet enough": {
			func(c *crowd) { _ = c.call("a", failed, failed) },
			func(c *crowd) { _ = c.call("a", failed); c.want("a", breaker.Open, "") },
		},
		"failures in the window, but no run": {
			func(c *crowd) { _ = c.call("a", failed, breaker.Success) },
			func(c *crowd) {
				if v, _, _ := c.m.Inspect(c.Context(), "a"); v.Failures != 1 {
					c.Errorf("%d failures", v.Failures)
				}
			},
		},
		"an agent that fails while the table is full of open ones waits for a place": {
			func(c *crowd) {
				for i := range 20 {
					_ = c.call(fmt.Sprint("open-", i), failed, failed, failed)
				}
				_ = c.call("b", failed, failed, failed)
			},
			func(c *crowd) {
				for i := range 20 {
					c.want(fmt.Sprint("open-", i), breaker.Open, "")
				}
			},
		},
		"an operator finds room in a table of open ones": {
			func(c *crowd) {
				for i := range 20 {
					_ = c.call(fmt.Sprint("open-", i), failed, failed, failed)
				}
				c.force("a", breaker.Force{Target: breaker.HoldOpen, LengthMs: 3_600_000})
			},
			func(c *crowd) { c.want("a", breaker.Open, breaker.Open) },
		},
		"a lifted hold makes room again": {
			func(c *crowd) {
				for i := range 40 {
					c.force(fmt.Sprint("held-", i), breaker.Force{Target: breaker.HoldOpen})
					c.force(fmt.Sprint("held-", i), breaker.Force{Target: breaker.ResetClosed})
				}
				_ = c.call("a", failed, failed)
			},
			func(c *crowd) { _ = c.call("a", failed); c.want("a", breaker.Open, "") },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCrowd(t, 20, policy)
			test.before(c)
			c.harmless(60)
			test.after(c)
		})
	}
}

// Failures that have left the window do not hold their places against new ones for ever.
func TestMemory_OldFailuresMakeRoom(t *testing.T) {
	t.Parallel()
	c := newCrowd(t, 20, breaker.Policy{FailureThreshold: breaker.Off, FailureRateThreshold: 0.5, MinimumCalls: 3, WindowSize: time.Minute})
	for i := range 20 {
		_ = c.call(fmt.Sprint("failed-", i), failed, breaker.Success)
	}
	c.now += 3 * 60_000
	_ = c.call("a", breaker.Success, failed, failed)
	c.want("a", breaker.Open, "")
}

func TestMemory_OfOpenOnesTheLeastRecentlyUsedGoes(t *testing.T) {
	t.Parallel()
	c := newCrowd(t, 20, breaker.Policy{FailureThreshold: 3})
	for i := range 20 {
		_ = c.call(fmt.Sprint("open-", i), failed, failed, failed)
	}
	if err := c.call("open-0", failed); err == nil {
		t.Error("open-0 is not open")
	}
	c.force("held", breaker.Force{Target: breaker.HoldOpen})
	c.want("open-0", breaker.Open, "")
	c.want("open-1", breaker.Closed, "")
	c.want("open-2", breaker.Open, "")
}
