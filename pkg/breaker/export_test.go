package breaker

// KnownAgents returns the number of Agents in memory.
func (m *Manager) KnownAgents() int { return m.agents.Size() }
