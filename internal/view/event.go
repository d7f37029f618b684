package view

import (
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// Event is one event, of an agent's log or of a stream. It is exported for huma, which documents embedded fields of
// exported types only.
type Event struct {
	At       string  `json:"at"       doc:"When it fell due, which may be before it was noticed." format:"date-time"`
	AtMs     int64   `json:"at_ms"    doc:"The same, milliseconds since 1970."`
	Event    string  `json:"event"    doc:"Its kind, of those that docs/events.md lists."`
	From     *string `json:"from"     enum:"CLOSED,OPEN,HALF_OPEN"`
	To       *string `json:"to"       enum:"CLOSED,OPEN,HALF_OPEN"`
	Epoch    string  `json:"epoch"`
	Actor    *string `json:"actor"    doc:"null: the breaker itself."`
	Reason   string  `json:"reason"`
	Failures int64   `json:"failures"`
	Calls    int64   `json:"calls"`
	Run      int64   `json:"consecutive_failures"`
	Slow     int64   `json:"slow"`
}

// EventOf shows an event.
func EventOf(e breaker.Event) Event {
	return Event{
		At: time.UnixMilli(e.AtMs).UTC().Format(time.RFC3339), AtMs: e.AtMs, Event: e.Kind, Epoch: e.Epoch,
		From: TextOrNull(e.From.Upper()), To: TextOrNull(e.To.Upper()), Actor: Actor(e.Actor),
		Reason: e.Text, Failures: e.Failures, Calls: e.Calls, Run: e.Run, Slow: e.Slow,
	}
}
