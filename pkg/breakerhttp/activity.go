package breakerhttp

import (
	"sync"
	"sync/atomic"
)

// Activity counts when bytes of an agent come, while calls of it are under way: an agent that answers other calls
// is not to blame for the one that its caller gave up [B4]. Transports that call the same agents share one. The zero
// value is ready for use. It is safe for concurrent use, and must not be copied.
type Activity struct {
	mu     sync.Mutex
	agents map[string]*heard // all that have calls under way, and at most maxIdle others
}

// maxIdle bounds the agents without a call under way that are kept, which spares the next call the making.
const maxIdle = 1000

// heard counts what comes of an agent.
type heard struct {
	calls int           // under way; guarded by Activity.mu
	times atomic.Uint64 // that bytes of it have come
}

// begin notes that a call of agent is under way. The caller must call end.
func (a *Activity) begin(agent string) *heard {
	a.mu.Lock()
	defer a.mu.Unlock()
	h := a.agents[agent]
	if h == nil {
		if a.agents == nil {
			a.agents = map[string]*heard{}
		}
		h = &heard{}
		a.agents[agent] = h
	}
	h.calls++
	return h
}

func (a *Activity) end(agent string, h *heard) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if h.calls--; h.calls == 0 && len(a.agents) > maxIdle {
		delete(a.agents, agent)
	}
}

func (h *heard) note() { h.times.Add(1) }
