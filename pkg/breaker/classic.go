package breaker

import (
	"context"
	"sync"
	"time"
)

// Classic is the breaker of one agent as older libraries show it: ask, call, record. It takes real permits, so probes stay
// counted fleet-wide, and RecordSuccess and RecordFailure settle the oldest permit that this process still owes [B15].
// It is safe for concurrent use; of calls that overlap, outcomes and permits are matched in order, not by identity: use Do or
// Acquire where that matters.
type Classic struct {
	m     *Manager
	agent string
	mu    sync.Mutex
	owed  []Permit
}

// maxOwed bounds the permits that a caller took and never settled; the oldest are forgotten, their leases lapse.
const maxOwed = 10_000

// Classic gives the classic view of one agent. ErrBadName for a bad name.
func (m *Manager) Classic(agent string) (*Classic, error) {
	if !ValidName(agent) {
		return nil, ErrBadName
	}
	return &Classic{m: m, agent: agent}, nil
}

// CanExecute asks for leave to call; true means that one outcome is owed.
func (c *Classic) CanExecute(ctx context.Context) bool {
	p, err := c.m.Acquire(ctx, c.agent)
	if err != nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.owed = append(c.owed, p)
	if len(c.owed) > maxOwed {
		c.owed = c.owed[1:]
	}
	return true
}

// RecordSuccess records a success; without a permit owed it is an outcome without a permit [B15].
func (c *Classic) RecordSuccess(ctx context.Context) error {
	return c.record(ctx, Outcome{Kind: Success})
}

// RecordFailure records a failure, as RecordSuccess does a success.
func (c *Classic) RecordFailure(ctx context.Context) error {
	return c.record(ctx, Outcome{Kind: Failure})
}

func (c *Classic) record(ctx context.Context, o Outcome) error {
	c.mu.Lock()
	var p Permit
	if len(c.owed) > 0 {
		p, c.owed = c.owed[0], c.owed[1:]
	}
	c.mu.Unlock()
	if p.permitBody == nil {
		_, err := c.m.Record(ctx, c.agent, o)
		return err
	}
	_, err := p.Settle(ctx, o)
	return err
}

// Execute is Manager.Do for this agent.
func (c *Classic) Execute(ctx context.Context, fn func(context.Context) error) error {
	return c.m.Do(ctx, c.agent, fn)
}

// Reset closes the breaker for the whole fleet.
func (c *Classic) Reset(ctx context.Context) error {
	_, err := c.m.Force(ctx, c.agent, Force{Target: ResetClosed, Reason: "reset", Actor: "library"})
	return err
}

// Stats is what a breaker tells of itself, in the nine fields of the coordinator's get_stats.
type Stats struct {
	Name             string  `json:"name"`
	State            State   `json:"state"`
	FailureCount     int64   `json:"failure_count"` // consecutive
	FailureThreshold int     `json:"failure_threshold"`
	CooldownSeconds  float64 `json:"cooldown_seconds"`
	TimeUntilRetry   float64 `json:"time_until_retry"` // seconds; 0 if not open
	TotalFailures    int64   `json:"total_failures"`
	TotalSuccesses   int64   `json:"total_successes"`
	StateTransitions int64   `json:"state_transitions"`
}

// Stats reads the breaker's figures.
func (c *Classic) Stats(ctx context.Context) (Stats, error) {
	v, p, err := c.m.Inspect(ctx, c.agent)
	if err != nil {
		return Stats{}, err
	}
	return StatsOf(c.agent, v, p), nil
}

// StatsOf makes Stats of a view.
func StatsOf(agent string, v View, p Policy) Stats {
	s := Stats{
		Name: agent, State: v.State, FailureCount: v.Run, FailureThreshold: max(p.FailureThreshold, 0),
		CooldownSeconds: p.Timeout.Seconds(), TotalFailures: v.Failures, TotalSuccesses: v.Successes, StateTransitions: v.Transitions,
	}
	if d := v.DeadlineMs(); d > v.NowMs && v.State == Open {
		s.TimeUntilRetry = (time.Duration(d-v.NowMs) * time.Millisecond).Seconds()
	}
	return s
}
