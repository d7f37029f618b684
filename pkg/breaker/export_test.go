package breaker

import "context"

// KnownAgents returns the number of Agents in memory.
func (m *Manager) KnownAgents() int { return m.agents.Size() }

// Tracks reports whether an agent is tracked, from now on if need be.
func (m *Manager) Tracks(ctx context.Context, agent string) bool { return m.tracker.tracks(ctx, agent) }

// SetWaitDraw replaces the draws of Wait.
func (m *Manager) SetWaitDraw(draw func() float64) { m.waits.draw = draw }

// Watched returns of how many agents the store is asked for waiters.
func (m *Manager) Watched() int { return int(m.waits.watched.Load()) }
