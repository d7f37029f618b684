package view

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
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
	Address  *string `json:"address"  doc:"From which the actor asked; null: unknown."`
	Reason   string  `json:"reason"`
	Change   *Change `json:"change,omitempty" doc:"Of an agent's document: what it held, and what it holds. Of two at once: by their names."`
	Failures int64   `json:"failures"`
	Calls    int64   `json:"calls"`
	Run      int64   `json:"consecutive_failures"`
	Slow     int64   `json:"slow"`
}

// Change is what became of a document. It is exported as Event is.
type Change struct {
	Before json.RawMessage `json:"before" doc:"null: there was none, or it is not known."`
	After  json.RawMessage `json:"after"  doc:"null: there is none."`
}

// maxDocument bounds a document in a Change, in bytes.
const maxDocument = 4096

// DocumentChange is what became of a document's text, which may be anything.
type DocumentChange struct{ Name, Before, After string }

// ChangeOf is the change of documents as a text of one line that cutChange reads: of one, what it held and holds; of
// several, that by their names.
func ChangeOf(changes ...DocumentChange) string {
	document := func(text string) any {
		switch {
		case text == "":
			return nil
		case len(text) > maxDocument:
			return map[string]int{"bytes": len(text)}
		case !json.Valid([]byte(text)):
			return text
		}
		return json.RawMessage(text)
	}
	before, after := map[string]any{}, map[string]any{}
	for _, c := range changes {
		before[c.Name], after[c.Name] = document(c.Before), document(c.After)
	}
	both := map[string]any{"before": before, "after": after}
	if len(changes) == 1 {
		name := changes[0].Name
		both = map[string]any{"before": before[name], "after": after[name]}
	}
	out, err := json.Marshal(both)
	if err != nil {
		panic(err) // all of it is JSON
	}
	return string(out)
}

// cutChange takes the change out of an event's text.
func cutChange(e breaker.Event) (text string, c *Change) {
	if e.Kind != machine.EventConfigured {
		return e.Text, nil
	}
	text, detail, ok := strings.Cut(e.Text, " {")
	if !ok || json.Unmarshal([]byte("{"+detail), &c) != nil {
		return e.Text, nil
	}
	return text, c
}

// EventOf shows an event.
func EventOf(e breaker.Event) Event {
	text, change := cutChange(e)
	return Event{
		At: time.UnixMilli(e.AtMs).UTC().Format(time.RFC3339), AtMs: e.AtMs, Event: e.Kind, Epoch: e.Epoch,
		From: TextOrNull(e.From.Upper()), To: TextOrNull(e.To.Upper()), Actor: Actor(e.Actor),
		Address: TextOrNull(e.Address), Reason: text, Change: change,
		Failures: e.Failures, Calls: e.Calls, Run: e.Run, Slow: e.Slow,
	}
}

// StreamEntry is one entry of a stream. It is exported as Event is.
type StreamEntry struct {
	ID      string  `json:"id"       doc:"Its place in the stream, the same at every replica." example:"1770800400000-0"`
	AgentID *string `json:"agent_id" doc:"null: it is no agent's."`
	Event
}

// StreamEntryOf shows an entry; agent "-": it is no agent's.
func StreamEntryOf(id, agent string, e breaker.Event) StreamEntry {
	out := StreamEntry{ID: id, Event: EventOf(e)}
	if agent != "-" {
		out.AgentID = &agent
	}
	return out
}
