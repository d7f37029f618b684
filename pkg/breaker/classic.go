package breaker

import (
	"context"
	"sync"
	"time"
)

// Classic is the breaker of one agent in the form of older libraries: ask, call, record. It takes permits like
// [Manager.Acquire], so probes are counted over the fleet. It is safe for concurrent use, but it matches the outcomes
// of overlapping calls to permits in the order in which they come: use [Manager.Do] or [Manager.Acquire] where that
// matters.
type Classic struct {
	m     *Manager
	agent string
	mu    sync.Mutex
	owed  []Permit // oldest first
}

// maxOwed bounds the permits that await their outcome. The oldest are dropped, and their leases lapse.
const maxOwed = 10_000

// Classic returns the classic form of an agent's breaker. The error is ErrBadName.
func (m *Manager) Classic(agent string) (*Classic, error) {
	if err := m.made(); err != nil {
		return nil, err
	}
	if !ValidName(agent) {
		return nil, ErrBadName
	}
	return &Classic{m: m, agent: agent}, nil
}

// CanExecute asks for a permit. If it returns true, the caller owes RecordSuccess or RecordFailure.
func (c *Classic) CanExecute(ctx context.Context) bool {
	if c == nil {
		return false
	}
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

// RecordSuccess settles the oldest permit with a success. Without one, it reports an outcome without a permit [B15].
// The error is as for [Permit.Settle].
func (c *Classic) RecordSuccess(ctx context.Context) error {
	return c.record(ctx, Outcome{Kind: Success})
}

// RecordFailure is RecordSuccess with a failure.
func (c *Classic) RecordFailure(ctx context.Context) error {
	return c.record(ctx, Outcome{Kind: Failure})
}

func (c *Classic) record(ctx context.Context, o Outcome) error {
	if err := c.made(); err != nil {
		return err
	}
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

// Execute is [Manager.Do].
func (c *Classic) Execute(ctx context.Context, fn func(context.Context) error) error {
	if err := c.made(); err != nil {
		return err
	}
	return c.m.Do(ctx, c.agent, fn)
}

// Reset closes the breaker for the whole fleet. The error is as for [Manager.Force].
func (c *Classic) Reset(ctx context.Context) error {
	if err := c.made(); err != nil {
		return err
	}
	return c.m.Reset(ctx, c.agent, Reset{Reason: "reset", Actor: libraryActor})
}

// Stats describes a breaker in the nine fields that get_stats of an older, in-process breaker has.
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

// Stats returns the breaker's statistics. The error is as for [Manager.Inspect].
func (c *Classic) Stats(ctx context.Context) (Stats, error) {
	if err := c.made(); err != nil {
		return Stats{}, err
	}
	v, p, err := c.m.Inspect(ctx, c.agent)
	if err != nil {
		return Stats{}, err
	}
	return StatsOf(c.agent, v, p), nil
}

// StatsOf returns the statistics of a breaker that [Manager.Inspect] returned.
func StatsOf(agent string, v View, p Policy) Stats {
	s := Stats{
		Name: agent, State: v.State, FailureCount: v.Run, FailureThreshold: max(p.FailureThreshold, 0),
		CooldownSeconds: p.Timeout.Seconds(),
		TotalFailures:   v.Failures, TotalSuccesses: v.Successes, StateTransitions: v.Transitions,
	}
	if d := v.DeadlineMs(); d > v.NowMs && v.State == Open {
		s.TimeUntilRetry = (time.Duration(d-v.NowMs) * time.Millisecond).Seconds()
	}
	return s
}
