package redisdocs

import (
	"context"

	"github.com/breakerd/breakerd/internal/events"
)

var _ events.Reader = (*Docs)(nil)

// Entries implements [events.Reader].
func (d *Docs) Entries(ctx context.Context, stream events.Stream, from, to events.ID, n int) ([]events.Entry, error) {
	key := d.keys.Stream()
	if stream == events.Audit {
		key = d.keys.Audit()
	}
	reverse := from.Compare(to) > 0
	if reverse {
		from, to = to, from
	}
	read, err := d.store.ReadStream(ctx, key, from.String(), to.String(), int64(n), reverse)
	if err != nil {
		return nil, err
	}
	entries := make([]events.Entry, len(read))
	for i, e := range read {
		id, _ := events.ParseID(e.ID) // Redis wrote it
		entries[i] = events.Entry{ID: id, Agent: e.Agent, Event: e.Event}
	}
	return entries, nil
}
