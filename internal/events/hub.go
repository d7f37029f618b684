package events

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

const (
	// kept is how many entries a Hub holds: more than the stream, which is trimmed at 10,000, give or take a node.
	kept = 12_000
	// page is how many entries are read at once.
	page = 1000
	// pollEvery is how often the stream is read though nothing was heard.
	pollEvery = time.Second
	// idleAfter is how long a Hub without listeners goes on reading.
	idleAfter = 30 * time.Second
)

// ErrTooMany is the error of Listen when as many listen as may.
var ErrTooMany = errors.New("too many listeners")

// ErrClosed is the error of a Hub whose Run has ended.
var ErrClosed = errors.New("the replica is stopping")

// Hub reads the stream once for all listeners of a process: it holds the stream's entries, and each listener has a
// place among them. A slow listener costs nothing: one whose place has left the Hub is told so. While nobody listens
// nothing is read. Make it with [NewHub].
type Hub struct {
	reader Reader
	most   int // listeners at the same time
	wake   chan struct{}

	mu        sync.Mutex
	listeners int
	entries   []Entry       // consecutive ones of the stream, up to its end
	first     int           // the number of entries[0]: entries are numbered as they are read
	broken    int           // an entry may be missing before this number
	why       string        // and why
	begun     int           // turns of reading
	done      int           // the last one that has ended
	err       error         // of that
	changed   chan struct{} // closed by the next change
	closed    bool
}

// NewHub makes a Hub for at most so many listeners.
func NewHub(r Reader, most int) *Hub {
	return &Hub{reader: r, most: most, wake: make(chan struct{}, 1), changed: make(chan struct{})}
}

// Wake makes the Hub read at once, if anybody listens. It does not block.
func (h *Hub) Wake() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// Run reads until ctx ends.
func (h *Hub) Run(ctx context.Context) {
	defer h.update(func() { h.closed = true })
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	last := time.Now() // somebody listened
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.wake:
		case <-poll.C:
		}
		h.mu.Lock()
		wanted := h.listeners > 0
		if idle := time.Since(last) > idleAfter; !wanted && idle {
			h.first, h.entries = h.end(), nil
		}
		h.mu.Unlock()
		if wanted {
			last = time.Now()
			h.turn(ctx)
		}
	}
}

// end is the number of the entry that comes next. mu is held.
func (h *Hub) end() int { return h.first + len(h.entries) }

// update changes the Hub and tells the listeners.
func (h *Hub) update(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
	close(h.changed)
	h.changed = make(chan struct{})
}

// turn reads what has come.
func (h *Hub) turn(ctx context.Context) {
	h.mu.Lock()
	h.begun++
	turn := h.begun
	h.mu.Unlock()
	err := h.read(ctx)
	h.update(func() { h.done, h.err = turn, err })
}

// read reads on from the last entry that the Hub has. If the stream lacks that entry, it was trimmed or lost, and read
// begins anew at the beginning of the stream.
func (h *Hub) read(ctx context.Context) error {
	var at Entry
	h.mu.Lock()
	if n := len(h.entries); n > 0 {
		at = h.entries[n-1]
	}
	h.mu.Unlock()
	for {
		read, err := h.reader.Entries(ctx, All, at.ID, Last(), page)
		switch {
		case err != nil:
			return err
		case at.ID != ID{} && (len(read) == 0 || read[0] != at):
			h.update(func() {
				h.first, h.entries = h.end()+1, nil // no listener's place
				h.broken, h.why = h.first, "the stream no longer has "+at.ID.String()+", the entry that was read last"
			})
			at = Entry{}
			continue
		}
		full := len(read) == page
		if at.ID != (ID{}) {
			read = read[1:]
		}
		if len(read) > 0 {
			at = read[len(read)-1]
			h.update(func() { h.append(read) })
		}
		if !full {
			return nil
		}
	}
}

func (h *Hub) append(read []Entry) {
	h.entries = append(h.entries, read...)
	if over := len(h.entries) - kept; over > page { // not at each turn
		h.first, h.entries = h.first+over, slices.Clone(h.entries[over:])
	}
}

// Listener hears a [Hub]. One goroutine at a time may use it.
type Listener struct {
	hub  *Hub
	next int // the number of the entry to hear next
}

// Reset says that a Listener may have missed entries.
type Reset struct {
	Why string
	At  ID // it goes on behind this entry
}

// Listen begins to listen, behind the entry with the id after, or, if that is nil, behind the last one, whose id is at.
// reset is not nil if a gap cannot be excluded. The error is ErrTooMany, or one of the Reader. Close the Listener.
func (h *Hub) Listen(ctx context.Context, after *ID) (l *Listener, at ID, reset *Reset, err error) {
	h.mu.Lock()
	full := h.listeners == h.most
	if !full {
		h.listeners++
	}
	turn := h.begun + 1 // the entry after may be younger than the last turn: the listener comes from another replica
	h.mu.Unlock()
	if full {
		return nil, at, nil, ErrTooMany
	}
	l = &Listener{hub: h}
	h.Wake()
	if err := h.await(ctx, func() bool { return h.done >= turn }); err != nil {
		l.Close()
		return nil, at, nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		h.listeners--
		return nil, at, nil, h.err
	}
	l.next = h.end()
	if len(h.entries) > 0 {
		at = h.entries[len(h.entries)-1].ID
	}
	if after == nil {
		return l, at, nil, nil
	}
	i, found := slices.BinarySearchFunc(h.entries, *after, func(e Entry, id ID) int { return e.ID.Compare(id) })
	if !found {
		return l, at, &Reset{Why: "the stream does not have " + after.String(), At: at}, nil
	}
	l.next = h.first + i + 1
	return l, *after, nil, nil
}

// await waits until ready, which is called with mu held.
func (h *Hub) await(ctx context.Context, ready func() bool) error {
	for {
		h.mu.Lock()
		is, closed, changed := ready(), h.closed, h.changed
		h.mu.Unlock()
		switch {
		case is:
			return nil
		case closed:
			return ErrClosed
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// Close ends the Listener.
func (l *Listener) Close() {
	l.hub.mu.Lock()
	defer l.hub.mu.Unlock()
	l.hub.listeners--
}

// Next waits for entries, and returns those that have come, at most as many as are read at once; or reset, if entries
// may be missing before those that come next. The error is ctx's, or ErrClosed.
func (l *Listener) Next(ctx context.Context) (read []Entry, reset *Reset, err error) {
	h := l.hub
	if err := h.await(ctx, func() bool { return l.next < h.broken || l.next < h.end() }); err != nil {
		return nil, nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if l.next < h.broken || l.next < h.first {
		reset = &Reset{Why: "this listener was too slow"}
		if l.next < h.broken {
			reset.Why = h.why
		}
		if l.next = h.end(); len(h.entries) > 0 {
			reset.At = h.entries[len(h.entries)-1].ID
		}
		return nil, reset, nil
	}
	read = h.entries[l.next-h.first:]
	read = slices.Clone(read[:min(len(read), page)])
	l.next += len(read)
	return read, nil, nil
}
