package httpapi

import (
	"context"
	"slices"
	"time"

	"github.com/breakerd/breakerd/internal/events"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

const (
	flapWindow   = 10 * time.Minute // within which an agent that opens often flaps
	flapOpenings = 3                // so often
)

// transitions are what the stream of events said of breakers lately, as it was read last.
type transitions struct {
	next     events.ID           // of the first event that was not read yet
	openings []events.Entry      // within flapWindow
	last     *events.Entry       // the last opening of all; nil: there was none
	closed   map[string]struct{} // agents that closed, and may let calls return still
}

// readTransitions reads what came since the overview before; the first one reads the whole stream.
func (s *overview) readTransitions(ctx context.Context) error {
	t := &s.of.recent
	if t.closed == nil {
		t.closed = map[string]struct{}{}
	}
	for more := true; more; {
		read, err := s.of.api.Events.Entries(ctx, events.All, t.next, events.Last(), scanPage)
		if err != nil {
			return err
		}
		for _, e := range read {
			t.next = e.ID.Next()
			t.take(e)
		}
		more = len(read) == scanPage
	}
	since := events.ID{Ms: uint64(max(0, s.nowMs-flapWindow.Milliseconds()))}
	t.openings = slices.DeleteFunc(t.openings, func(e events.Entry) bool { return e.ID.Compare(since) < 0 })
	return nil
}

func (t *transitions) take(e events.Entry) {
	switch {
	case e.Event.Kind == machine.EventOpened:
		t.openings, t.last = append(t.openings, e), &e
		delete(t.closed, e.Agent)
	case e.Event.Transition() && e.Event.To == breaker.Closed:
		t.closed[e.Agent] = struct{}{}
	case e.Event.Transition():
		delete(t.closed, e.Agent)
	}
}
