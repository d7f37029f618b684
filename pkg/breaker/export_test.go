package breaker

// KnownAgents is how many agents a Manager keeps anything of.
func (m *Manager) KnownAgents() int { return m.agents.Size() }
