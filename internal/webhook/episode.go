package webhook

import (
	"cmp"
	"slices"
	"time"

	"github.com/breakerd/breakerd/internal/events"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

const (
	// calmAfter is how long a breaker has to stay closed for its episode to be over.
	calmAfter = 5 * time.Minute
	// episodeLives bounds an episode whose closing was never heard of: the agent is no longer called.
	episodeLives = 7 * 24 * time.Hour
	// maxEpisodes bounds the agents that have one. An agent beyond it has a message for each event.
	maxEpisodes = 10_000
)

// noAgent stands in the place of the agent in an event that is no agent's.
const noAgent = "-"

// episode is the trouble of one agent: from the first opening until its breaker was closed for calmAfter, or somebody
// closed it. Its times are those of the stream's ids, Redis' clock, so that every replica finds the same.
type episode struct {
	BeganMs  int64  `json:"began_ms,omitempty"` // 0: before the hook
	Openings int    `json:"openings"`
	ClosedID string `json:"closed_id,omitempty"` // of the entry that has closed the breaker; "": it is not closed
	Closed   string `json:"closed,omitempty"`    // the event of that entry, as its line
}

// step is one step of a hook: what is sent, and what the hook keeps once that was taken.
type step struct {
	message *message  // nil: nothing is sent
	cursor  events.ID // of the stream
	agent   string    // whose episode changes; "": nobody's
	episode *episode  // what it becomes; nil: it has none any more
}

// idMs is when an entry was written, by Redis' clock.
func idMs(id events.ID) int64 { return int64(id.Ms) } //nolint:gosec // Redis' clock

// closedMs is when the breaker was closed.
func (ep *episode) closedMs() int64 {
	id, _ := events.ParseID(ep.ClosedID) // what else Redis has was planted: it is closed for long [B20]
	return idMs(id)
}

// over is the step that ends an episode by the calm after its last closing.
func (ep *episode) over(h *hook, agent string, cursor events.ID) step {
	s := step{cursor: cursor, agent: agent}
	id, _ := events.ParseID(ep.ClosedID)
	if e, ok := machine.ParseEvent(ep.Closed); ok && h.kinds[machine.EventClosed] {
		s.message = newMessage(events.Entry{ID: id, Agent: agent, Event: e}, ep, true)
	}
	return s
}

// next is the step for an entry, the one behind cursor. If it leaves the cursor where it is, another one has to be
// taken for the same entry.
func (h *hook) next(episodes map[string]*episode, cursor events.ID, e events.Entry) step {
	switch {
	case e.Event.Kind == "" || !h.about(e.Agent):
		return step{cursor: e.ID}
	case e.Agent == noAgent || !h.kinds[machine.EventOpened] && !h.kinds[machine.EventClosed]:
		return h.plain(e)
	case e.Event.Kind == machine.EventForgotten, e.Event.To == breaker.Closed && e.Event.Transition():
		return h.closing(episodes, e)
	case e.Event.Transition():
		return h.opening(episodes, cursor, e)
	default:
		return h.plain(e)
	}
}

// opening is the step for an entry by which a breaker becomes open or half-open.
func (h *hook) opening(episodes map[string]*episode, cursor events.ID, e events.Entry) step {
	ep, now := episodes[e.Agent], episode{BeganMs: idMs(e.ID)}
	if ep != nil && ep.ClosedID != "" && now.BeganMs-ep.closedMs() >= calmAfter.Milliseconds() {
		return ep.over(h, e.Agent, cursor)
	}
	s := step{cursor: e.ID, agent: e.Agent, episode: &now}
	// Otherwise its beginning was not heard of, or its closing: its keys had expired.
	goesOn := ep != nil && ep.BeganMs > 0 && (ep.ClosedID != "" || e.Event.From != breaker.Closed)
	begins := e.Event.To == breaker.Open || e.Event.From == breaker.Closed
	switch {
	case goesOn:
		now.BeganMs, now.Openings = ep.BeganMs, ep.Openings
		if e.Event.Kind != machine.EventOpened {
			s.message = h.plain(e).message
		}
	case !begins, ep == nil && len(episodes) >= maxEpisodes:
		return h.plain(e)
	}
	if e.Event.To == breaker.Open {
		now.Openings++
	}
	if !goesOn && (h.kinds[machine.EventOpened] || h.kinds[e.Event.Kind]) {
		s.message = newMessage(e, &now, false)
	}
	return s
}

// closing is the step for an entry by which a breaker is closed, or gone. If the machine has closed it that is not said
// before it has stayed so.
func (h *hook) closing(episodes map[string]*episode, e events.Entry) step {
	ep, byItself := episodes[e.Agent], e.Event.Kind == machine.EventClosed
	s := step{cursor: e.ID, agent: e.Agent}
	switch {
	case ep == nil && (!byItself || len(episodes) >= maxEpisodes):
		return h.plain(e)
	case byItself:
		s.episode = &episode{ClosedID: e.ID.String(), Closed: e.Event.String()}
		if ep != nil {
			s.episode.BeganMs, s.episode.Openings = ep.BeganMs, ep.Openings
		}
	case h.kinds[e.Event.Kind] || h.kinds[machine.EventClosed]:
		s.message = newMessage(e, ep, true)
	}
	return s
}

// plain is the step for an entry that has nothing to do with an episode.
func (h *hook) plain(e events.Entry) step {
	s := step{cursor: e.ID}
	if h.kinds[e.Event.Kind] {
		s.message = newMessage(e, nil, false)
	}
	return s
}

// due are the steps that are due when all entries up to now were seen to.
func (h *hook) due(episodes map[string]*episode, cursor events.ID, nowMs int64) (steps []step) {
	var agents []string
	for agent, ep := range episodes {
		since, most := ep.BeganMs, episodeLives
		if ep.ClosedID != "" {
			since, most = ep.closedMs(), calmAfter
		}
		if nowMs-since >= most.Milliseconds() {
			agents = append(agents, agent)
		}
	}
	slices.SortFunc(agents, func(a, b string) int {
		return cmp.Or(cmp.Compare(episodes[a].ClosedID, episodes[b].ClosedID), cmp.Compare(a, b))
	})
	for _, agent := range agents {
		steps = append(steps, episodes[agent].over(h, agent, cursor))
	}
	return steps
}
