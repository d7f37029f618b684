package breaker

import "context"

// parentKey is the key of the permit of the call that a context is of. It has no size, so that a look-up does not
// allocate.
type parentKey struct{}

// within returns the context of a call that has a permit: calls inside it are noted as its own. A call that is admitted
// from memory [Policy.Consistency] does not come here, and allocates nothing.
func (m *Manager) within(ctx context.Context, p *Permit) context.Context {
	if m.o.OnCall == nil {
		return ctx
	}
	return context.WithValue(ctx, parentKey{}, p.permitBody)
}

// noteNested notes a call inside a call of another agent.
func (m *Manager) noteNested(ctx context.Context, agent string) {
	if m.o.OnCall == nil {
		return
	}
	if parent, ok := ctx.Value(parentKey{}).(*permitBody); ok && parent.m == m {
		m.NoteCall(parent.agent, agent)
	}
}

// NoteCall notes that parent calls agent, so that a trip of parent's that follows one of agent's can be told from an
// accident. Calls inside a call that [Manager.Do], [Call] or [Manager.Enter] has asked the store for are noted by
// themselves. NoteCall is for calls whose parent is known in another way: from a request's header, or in cached mode,
// where a call that is admitted from memory leaves no trace in its context. A name that is not valid, or the agent's
// own, is not noted.
func (m *Manager) NoteCall(parent, agent string) {
	if m != nil && m.o.OnCall != nil && parent != agent && ValidName(parent) && ValidName(agent) {
		m.o.OnCall(parent, agent)
	}
}
