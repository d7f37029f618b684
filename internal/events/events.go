// Package events reads the fleet's streams, and hands what comes to many listeners in one process.
//
// There are two streams: what happened, and what people did. An entry's id is its place in its stream, the same on
// every replica: a listener that goes on at another replica says the last id that it saw.
package events

import (
	"cmp"
	"context"
	"strconv"
	"strings"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// Entry is one entry of a stream.
type Entry struct {
	ID    ID
	Agent string // "-": the event is no agent's
	Event breaker.Event
}

// Stream names a stream.
type Stream int

// The streams.
const (
	All   Stream = iota // what happened: about the newest 10,000
	Audit               // what people did: about the newest 100,000
)

// Reader reads the streams. Its errors are [breaker.ErrStoreUnavailable]. It is safe for concurrent use.
type Reader interface {
	// Entries reads at most n entries from the id from to the id to, both included: in order, or, if from is after to,
	// in reverse. What is no event is an Entry whose Event has no Kind.
	Entries(ctx context.Context, stream Stream, from, to ID, n int) ([]Entry, error)
}

// ID is the place of an entry in its stream: the time in ms at which it was written, and a number.
type ID struct{ Ms, Seq uint64 }

// Last is above all ids.
func Last() ID { return ID{Ms: 1<<64 - 1, Seq: 1<<64 - 1} }

// ParseID reads what String wrote.
func ParseID(text string) (id ID, ok bool) {
	ms, seq, found := strings.Cut(text, "-")
	var err, err2 error
	id.Ms, err = strconv.ParseUint(ms, 10, 64)
	id.Seq, err2 = strconv.ParseUint(seq, 10, 64)
	if !found || err != nil || err2 != nil {
		return ID{}, false
	}
	return id, true
}

// String is the id as Redis writes it, "ms-seq".
func (id ID) String() string {
	return strconv.FormatUint(id.Ms, 10) + "-" + strconv.FormatUint(id.Seq, 10)
}

// Compare is below 0 if id is before other, above 0 if it is after it.
func (id ID) Compare(other ID) int {
	return cmp.Or(cmp.Compare(id.Ms, other.Ms), cmp.Compare(id.Seq, other.Seq))
}

// Next is the smallest id above id.
func (id ID) Next() ID {
	switch {
	case id.Seq < 1<<64-1:
		return ID{id.Ms, id.Seq + 1}
	case id.Ms < 1<<64-1:
		return ID{id.Ms + 1, 0}
	}
	return id
}

// Before is the greatest id below id.
func (id ID) Before() ID {
	switch {
	case id.Seq > 0:
		return ID{id.Ms, id.Seq - 1}
	case id.Ms > 0:
		return ID{id.Ms - 1, 1<<64 - 1}
	}
	return id
}
