package redisstore

import (
	"context"
	"fmt"
	"hash/maphash"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

const (
	followEvery = time.Second // how often the stream is read though nothing was pushed
	followPage  = 256         // entries in one read
	followKeep  = 1024        // handled entries that are remembered, to know them again in an older copy

	// An id has whole milliseconds of a clock that Redis reads before the command, and clocks are corrected meanwhile.
	followMargin = 10 * time.Millisecond
)

var _ breaker.Feed = (*Store)(nil)

// Follow implements [breaker.Feed] for the whole fleet: it hears each event once, whichever replica caused it, and each
// event that is no agent's.
//
// It reads the stream: at once when told by a push, and every second, so that a lost push costs no more. The stream
// holds the newest 10,000 events or so, and is the queue of a slow Follower, and of one that cannot reach Redis for a
// while. Missed is called where the stream lacks the entry that was read last: it was trimmed, Redis lost its data or
// went back to an older copy. Events of an older copy that were heard before are not told again. If Redis is down when
// Follow is called, it begins at that time all the same, by Redis' clock, or up to 10 ms earlier.
//
// On a Cluster the stream has gaps, because a replica writes it after the reply to its script; and a Redis user without
// +xrange and +xrevrange cannot read it. Then Follow takes the events from the channel, each at most once: Missed is
// called when the subscription was lost and is back, and when more than 10,000 events wait.
func (s *Store) Follow(ctx context.Context, f breaker.Follower) {
	f = f.WithDefaults()
	if s.keys.Cluster {
		s.followChannel(ctx, f)
		return
	}
	if err := s.followStream(ctx, &f); err != nil {
		f.Missed(fmt.Sprintf("the stream cannot be read, and events come by the channel, each at most once: %v", err))
		s.followChannel(ctx, f)
	}
}

// followStream returns nil when ctx has ended, or the error with which Redis refuses to let the stream be read. It
// replaces f.Began once that was called.
func (s *Store) followStream(ctx context.Context, f *breaker.Follower) error {
	wake := make(chan struct{}, 1)
	push := func(*redis.Message) {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
	defer s.listen(ctx, push, func() {})()
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	r := &streamReader{store: s, f: f, since: time.Now(), seed: maphash.MakeSeed()}
	for {
		err := r.turn(ctx)
		if refused(err) {
			return err
		}
		f.Began()
		f.Began = func() {}
		select {
		case <-ctx.Done():
			return nil
		case <-wake:
		case <-tick.C:
		}
	}
}

// listen subscribes to the channel, and calls pushed for each message, and subscribed for each time that the
// subscription stands, until ctx ends or the function that it returns is called, which waits until both are done.
func (s *Store) listen(ctx context.Context, pushed func(*redis.Message), subscribed func()) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		sub := s.client.Subscribe(ctx, s.keys.Events())
		defer func() { _ = sub.Close() }()
		in := sub.ChannelWithSubscriptions()
		for {
			select {
			case <-ctx.Done():
				return
			case m, ok := <-in:
				switch m := m.(type) {
				case *redis.Message:
					pushed(m)
				case *redis.Subscription:
					subscribed()
				}
				if !ok {
					return
				}
			}
		}
	}()
	return func() { cancel(); <-done }
}

// parsePush reads a message of the channel: "agent at_ms kind …". ok is false for anything else.
func parsePush(payload string) (agent string, e breaker.Event, ok bool) {
	agent, line, _ := strings.Cut(payload, " ")
	e, ok = parseLine(agent, line)
	return agent, e, ok
}

// parseLine reads an event of an agent, or of none. ok is false for anything else.
func parseLine(agent, line string) (e breaker.Event, ok bool) {
	e, ok = machine.ParseEvent(line)
	return e, ok && (breaker.ValidName(agent) || agent == noAgent && e.From == "" && e.To == "")
}

func (s *Store) followChannel(ctx context.Context, f breaker.Follower) {
	queue := breaker.NewEventQueue()
	first := make(chan struct{})
	stands := 0
	defer s.listen(ctx, func(m *redis.Message) {
		if agent, e, ok := parsePush(m.Payload); ok {
			queue.Put(agent, e)
		}
	}, func() {
		if stands++; stands == 1 {
			close(first)
			return
		}
		queue.PutMissed("the subscription to the channel was lost for a while")
	})()
	late := time.NewTimer(s.timeout)
	defer late.Stop()
	select {
	case <-ctx.Done():
		return
	case <-first:
	case <-late.C:
		f.Missed("the channel is not subscribed yet")
	}
	f.Began()
	queue.Deliver(ctx, f)
}

// entryID is the id of an entry of a stream, "ms-seq".
type entryID struct{ ms, seq uint64 }

func (a entryID) after(b entryID) bool { return a.ms > b.ms || a.ms == b.ms && a.seq > b.seq }

func (a entryID) String() string {
	return strconv.FormatUint(a.ms, 10) + "-" + strconv.FormatUint(a.seq, 10)
}

// mark is an entry: the same id with other content is another one.
type mark struct {
	entryID

	hash uint64
}

// streamReader reads the stream for one Follower. It reads from the entry that it read last, that one included: if that
// is not there, the stream is not what it was, and all of it is read for what was not handled yet.
type streamReader struct {
	store *Store
	f     *breaker.Follower
	since time.Time // Follow was called
	seed  maphash.Seed
	tried bool // Redis was asked where the stream ends
	began bool // and it has answered

	at    mark    // what was read last; zero: nothing, the stream is read from its beginning
	floor entryID // no entry up to here is new
	top   entryID // the highest id of a handled entry
	seen  []mark  // handled entries above the floor, the last ones
}

// turn reads what has come since the last turn.
func (r *streamReader) turn(ctx context.Context) error {
	if !r.began {
		if err := r.begin(ctx); err != nil {
			return err
		}
		r.began = true
	}
	for more := true; more; {
		var err error
		if more, err = r.read(ctx); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// begin finds the last entry of the stream, or, if Redis did not answer at first, the last of the time of Follow.
func (r *streamReader) begin(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.store.timeout)
	defer cancel()
	last := "+"
	if r.tried {
		now, err := r.store.client.Time(ctx).Result()
		if err != nil {
			return err
		}
		// A machine that was suspended meanwhile, or whose clock was set, has two opinions: the longer one loses nothing.
		elapsed := max(time.Since(r.since), time.Now().Round(0).Sub(r.since.Round(0)))
		last = strconv.FormatInt(max(now.Add(-elapsed-followMargin).UnixMilli(), 0), 10)
	}
	r.tried = true
	entries, err := planted(r.store.client.XRevRangeN(ctx, r.store.keys.Stream(), last, "-", 1).Result())
	if err != nil || len(entries) == 0 {
		return err
	}
	r.at = r.mark(entries[0])
	r.floor, r.top = r.at.entryID, r.at.entryID
	return nil
}

// read handles one page of the stream. more says that there may be another one.
func (r *streamReader) read(ctx context.Context) (more bool, err error) {
	entries, err := r.page(ctx)
	switch {
	case err != nil:
		return false, err
	case r.at != mark{} && (len(entries) == 0 || r.mark(entries[0]) != r.at):
		r.f.Missed(fmt.Sprintf("the stream no longer has %s, the entry that was read last", r.at.entryID))
		r.at = mark{}
		return true, nil
	case len(entries) == 0: // whatever comes is new, also if the clock went back
		r.floor = entryID{}
		return false, nil
	case r.at != mark{}:
		entries = entries[1:]
	}
	for _, entry := range entries {
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		m := r.mark(entry)
		r.at = m
		if r.handled(m) {
			continue
		}
		agent, line := fieldsOf(entry)
		if e, ok := parseLine(agent, line); ok {
			r.f.Event(agent, e)
		}
	}
	return len(entries) >= followPage-1, nil
}

func (r *streamReader) page(ctx context.Context) ([]redis.XMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, r.store.timeout)
	defer cancel()
	from := "-"
	if r.at != (mark{}) {
		from = r.at.String()
	}
	return planted(r.store.client.XRangeN(ctx, r.store.keys.Stream(), from, "+", followPage).Result())
}

// planted takes a key of another type for an empty stream: the next event replaces it [B20].
func planted(entries []redis.XMessage, err error) ([]redis.XMessage, error) {
	if redis.HasErrorPrefix(err, "WRONGTYPE") {
		return nil, nil
	}
	return entries, err
}

// handled says that an entry was handled before, and remembers it.
func (r *streamReader) handled(m mark) bool {
	if !m.after(r.top) && (!m.after(r.floor) || slices.Contains(r.seen, m)) {
		return true
	}
	if m.after(r.top) {
		r.top = m.entryID
	}
	if r.seen = append(r.seen, m); len(r.seen) == 2*followKeep {
		for _, old := range r.seen[:followKeep] {
			if old.after(r.floor) {
				r.floor = old.entryID
			}
		}
		r.seen = append(r.seen[:0], r.seen[followKeep:]...)
	}
	return false
}

func (r *streamReader) mark(entry redis.XMessage) mark {
	var m mark
	ms, seq, _ := strings.Cut(entry.ID, "-")
	m.ms, _ = strconv.ParseUint(ms, 10, 64) // Redis wrote it
	m.seq, _ = strconv.ParseUint(seq, 10, 64)
	agent, line := fieldsOf(entry)
	m.hash = maphash.String(r.seed, agent+" "+line)
	return m
}

// fieldsOf gives an entry's agent and event.
func fieldsOf(entry redis.XMessage) (agent, line string) {
	agent, _ = entry.Values["agent"].(string)
	line, _ = entry.Values["event"].(string)
	return agent, line
}
