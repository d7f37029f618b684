package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/breakerd/breakerd/internal/access"
	"github.com/breakerd/breakerd/internal/events"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/route"
	"github.com/breakerd/breakerd/internal/view"
)

const (
	// keepAlive is how often a listener hears something, so that no proxy takes the connection for dead.
	keepAlive = 15 * time.Second
	// sendWithin is how long a listener may take to make room for what is sent. Then its connection is cut; it comes
	// back and says the last id that it saw.
	sendWithin = 10 * time.Second
)

// eventStream is GET /v1/events, which browsers read by EventSource.
func (a *api) eventStream() {
	text := &huma.Schema{Type: huma.TypeString}
	o := route.Operation{
		Route: "GET /v1/events", ID: "streamEvents", Role: access.Read,
		Tag: "fleet", ContentType: "text/event-stream", Out: text,
		Summary: "What happens in the whole fleet, as server-sent events; the data of each is one of listFleetEvents. " +
			"The event reset says that some may be missing: read again what you show",
		Params: []*huma.Param{
			{
				Name: "Last-Event-ID", In: "header", Schema: text,
				Description: "The id that was read last, at whichever replica; without it, from now on.",
			},
			route.QueryParam("agent", "Only this agent's; - for those of no agent.", text),
			route.QueryParam("kind", "Only of these kinds, separated by commas.", text),
		},
		Codes: []problem.Code{problem.StoreUnavailable, problem.TooManyStreams, problem.NotReady},
	}
	route.ServeStream(a.API, o, a.serveEvents)
}

func (a *api) serveEvents(w http.ResponseWriter, r *route.Request) error {
	var q streamQuery
	values, err := r.Params()
	if err == nil {
		err = q.readFilter(values)
	}
	if err != nil {
		return err
	}
	var after *events.ID
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		id, ok := events.ParseID(last)
		if !ok {
			return problem.BadValue("header.Last-Event-ID", last, "the id of an event")
		}
		after = &id
	}
	listener, at, reset, err := a.Listen(r.Context(), after)
	switch {
	case errors.Is(err, events.ErrTooMany):
		return problem.New(problem.TooManyStreams, "as many listen at this replica as may").With("Retry-After", "5")
	case errors.Is(err, events.ErrClosed):
		return problem.New(problem.NotReady, "the replica is stopping")
	case err != nil:
		return err
	}
	defer listener.Close()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would hold events back
	s := sender{w: w, c: http.NewResponseController(w), at: at}
	_ = s.c.SetReadDeadline(time.Time{}) // when it passes, net/http cancels the request as if the listener had left
	if s.send(reset, nil, &q) != nil || r.Method == http.MethodHead {
		return nil
	}
	for {
		ctx, cancel := context.WithTimeout(r.Context(), keepAlive)
		read, reset, err := listener.Next(ctx)
		cancel()
		if errors.Is(err, events.ErrClosed) || r.Context().Err() != nil || s.send(reset, read, &q) != nil {
			return nil
		}
	}
}

// sender writes events to a listener.
type sender struct {
	w  http.ResponseWriter
	c  *http.ResponseController
	at events.ID
}

// send sends what a listener has read, and then its place, also past events that it does not want. The error means
// that it is gone, or too slow.
func (s *sender) send(reset *events.Reset, read []events.Entry, q *streamQuery) error {
	if err := s.c.SetWriteDeadline(time.Now().Add(sendWithin)); err != nil {
		return err
	}
	var out []byte
	if reset != nil {
		s.at = reset.At
		data, err := json.Marshal(map[string]string{"why": reset.Why})
		if err != nil {
			return err
		}
		out = fmt.Appendf(out, "event: reset\nid: %s\ndata: %s\n\n", s.at, data)
	}
	for _, e := range read {
		s.at = e.ID
		if !q.wants(e) {
			continue
		}
		data, err := json.Marshal(view.StreamEntryOf(e.ID.String(), e.Agent, e.Event))
		if err != nil {
			return err
		}
		out = fmt.Appendf(out, "id: %s\ndata: %s\n\n", s.at, data)
	}
	// An id without data moves the listener's place, and dispatches nothing.
	if _, err := s.w.Write(fmt.Appendf(out, ":\nid: %s\n\n", s.at)); err != nil {
		return err
	}
	return s.c.Flush()
}
