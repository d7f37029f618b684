package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/breakerd/breakerd/internal/events"
	"github.com/breakerd/breakerd/internal/text"
)

// timing are the times of a sender. Tests have shorter ones.
type timing struct {
	lease  time.Duration // how long a replica is the only one that may send, if it does not renew that
	idle   time.Duration // between two looks, if nothing wakes the sender
	least  time.Duration // between two looks in any case
	try    time.Duration // of one request, at most
	margin time.Duration // between the end of a request and that of the lease, at least
	first  time.Duration // pause after the first try; each is twice as long as the one before
	most   time.Duration // the longest pause
	giveUp time.Duration // after the first try of a message
}

func usualTiming() timing {
	return timing{
		lease: 10 * time.Second, idle: 2 * time.Second, least: 50 * time.Millisecond, try: 5 * time.Second,
		margin: time.Second, first: time.Second, most: 5 * time.Minute, giveUp: time.Hour,
	}
}

// page is how many entries are read at once.
const page = 500

// sender sends the messages of one hook while it has the hook's lease, in order, one at a time.
//
// No two senders of a fleet send at the same time: a request begins and ends within margin of a lease that was asked
// for before it, by this process's own clock. What is kept moves by the script that compares the holder of the lease.
type sender struct {
	*Hooks

	hook    hook
	secrets secrets
	wake    chan struct{}

	// state is what Redis has, and what is not saved yet: no other replica has had the lease since it was read. nil:
	// another one has it, or may have had it.
	state *state

	redisMs int64     // Redis' clock,
	askedAt time.Time // at most; the lease is renewed since then
	seenMs  int64     // when the hook was last seen in Redis; 0: never
}

// run sends until ctx ends, and then gives the lease back.
func (s *sender) run(ctx context.Context) {
	defer s.release(ctx)
	for _, result := range []string{resultSent, resultFailed, resultDead} {
		s.count(s.hook.Name, result, 0)
	}
	for {
		wait := s.turn(ctx)
		wake := s.wake
		if s.state == nil || s.state.trying != nil { // an event changes nothing
			wake = nil
		}
		if !pause(ctx, min(wait, s.least), nil) || !pause(ctx, wait-s.least, wake) {
			return
		}
	}
}

// pause waits for a time, or until wake. It returns false if ctx has ended.
func pause(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	t := time.NewTimer(max(d, 0))
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-wake:
	case <-t.C:
	}
	return ctx.Err() == nil
}

func (s *sender) release(ctx context.Context) {
	if s.state == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_, _ = s.store.SaveHook(ctx, s.hook.Name, s.holder, 0, nil, nil) // otherwise the lease ends by itself
}

// nowMs is Redis' clock, or a little behind it.
func (s *sender) nowMs() int64 { return s.redisMs + time.Since(s.askedAt).Milliseconds() }

// turn sends what is to be sent now, and returns when to look again.
func (s *sender) turn(ctx context.Context) (wait time.Duration) {
	if wait, ok := s.claim(ctx); !ok {
		return wait
	}
	if !s.save(ctx) { // what could not be saved before
		return s.idle
	}
	if try := s.state.trying; try != nil && s.nowMs() < try.NextMs {
		return min(s.idle, time.Duration(try.NextMs-s.nowMs())*time.Millisecond)
	}
	now := s.nowMs() // what came before is read below
	read, err := s.read(ctx)
	if err != nil {
		return s.idle
	}
	for _, e := range read {
		for s.state.cursor.Compare(e.ID) < 0 {
			if wait, ok := s.do(ctx, s.hook.next(s.state.episodes, s.state.cursor, e)); !ok {
				return wait
			}
		}
	}
	if len(read) >= page-1 {
		s.save(ctx)
		return 0
	}
	for _, step := range s.hook.due(s.state.episodes, s.state.cursor, now) {
		if wait, ok := s.do(ctx, step); !ok {
			return wait
		}
	}
	s.save(ctx)
	return s.idle
}

// claim takes or renews the lease. If another replica has it, claim returns when that ends.
func (s *sender) claim(ctx context.Context) (wait time.Duration, ok bool) {
	asked := time.Now()
	held, err := s.store.ClaimHook(ctx, s.hook.Name, s.holder, s.lease, s.state == nil)
	if err != nil {
		s.state = nil // this may have been done, after another replica had the lease
		return s.idle, false
	}
	if held.Holder != s.holder {
		s.state, s.seenMs = nil, held.NowMs
		return max(held.Left, s.idle), false
	}
	s.redisMs, s.askedAt = held.NowMs, asked
	if held.Fields != nil {
		st, begun := readState(held.Fields)
		if !begun {
			if st.cursor, err = s.begin(ctx); err != nil {
				s.state = nil
				return s.idle, false
			}
			st.put(fieldCursor, st.cursor.String())
		}
		s.state = st
	}
	s.seenMs = held.NowMs
	return 0, true
}

// begin is the place of a hook that Redis does not know: a new one begins at the end of the stream, and one that Redis
// has lost with what came after it was last seen.
func (s *sender) begin(ctx context.Context) (events.ID, error) {
	if s.seenMs > 0 {
		from := events.ID{Ms: uint64(s.seenMs)}
		if first, err := s.store.Entries(ctx, events.All, from, events.Last(), 1); err != nil || len(first) > 0 {
			return firstID(first).Before(), err
		}
	}
	last, err := s.store.Entries(ctx, events.All, events.Last(), events.ID{}, 1)
	return firstID(last), err
}

func firstID(read []events.Entry) (id events.ID) {
	if len(read) > 0 {
		id = read[0].ID
	}
	return id
}

// read reads the entries behind the cursor. If the stream has lost some of them, that is a dead letter.
func (s *sender) read(ctx context.Context) ([]events.Entry, error) {
	at := s.state.cursor
	read, err := s.store.Entries(ctx, events.All, at, events.Last(), page)
	switch {
	case err != nil:
		return nil, err
	case firstID(read) == at && len(read) > 0:
		return read[1:], nil
	case at == events.ID{}:
		return read, nil
	case len(read) == 0: // of an older copy
		last, err := s.store.Entries(ctx, events.All, events.Last(), events.ID{}, 1)
		if err == nil && len(last) > 0 {
			s.state.moveTo(firstID(last))
		}
		return nil, err
	}
	first, err := s.store.Entries(ctx, events.All, events.ID{}, events.Last(), 1)
	if err != nil || firstID(first).Compare(at.Next()) <= 0 {
		return read, err
	}
	s.bury(DeadLetter{
		ID: at.String(), Event: "lost", Agent: noAgent, Error: "the stream begins at " + firstID(first).String(),
	})
	s.state.moveTo(firstID(first).Before())
	return read, nil
}

func (s *sender) bury(l DeadLetter) {
	l.AtMs = s.nowMs()
	s.state.bury(l)
	s.count(s.hook.Name, resultDead, 1)
	s.log.Error("webhook: a message is given up", "event", "circuit_breaker.webhook_dead_letter", "webhook", s.hook.Name,
		"id", l.ID, "kind", l.Event, "agent", l.Agent, "tries", l.Tries, "error", l.Error)
}

// do does a step. If its message is not taken, or the lease is lost, it returns false, and when to go on.
func (s *sender) do(ctx context.Context, step step) (wait time.Duration, ok bool) {
	if step.message == nil {
		s.state.take(step)
		return 0, true
	}
	if time.Since(s.askedAt) > s.lease-s.margin-s.try {
		before := s.state
		if wait, ok := s.claim(ctx); !ok || s.state != before {
			return wait, false
		}
	}
	err := s.post(ctx, step.message)
	if ctx.Err() != nil {
		return 0, false
	}
	if err == nil {
		s.state.take(step)
		s.state.counted()
		s.count(s.hook.Name, resultSent, 1)
		return 0, s.save(ctx)
	}
	s.count(s.hook.Name, resultFailed, 1)
	if wait, again := s.failed(step.message, text.Line(err.Error(), maxError)); again {
		s.save(ctx)
		return wait, false
	}
	s.state.take(step)
	return 0, s.save(ctx)
}

// failed notes that a try has failed. again: the message is to be tried again, after wait; otherwise it is dead.
func (s *sender) failed(m *message, why string) (wait time.Duration, again bool) {
	now := s.nowMs()
	try := trying{ID: m.ID, SinceMs: now}
	if last := s.state.trying; last != nil && last.ID == m.ID {
		try = *last
	}
	try.Tries++
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval, pauses.MaxInterval, pauses.Multiplier = s.first, s.most, 2
	for range min(try.Tries, 64) {
		wait = pauses.NextBackOff()
	}
	try.NextMs = now + wait.Milliseconds()
	s.state.failed(try, now, why)
	if try.NextMs-try.SinceMs <= s.giveUp.Milliseconds() {
		s.log.Warn("webhook: a message was not taken", "event", "circuit_breaker.webhook_failed", "webhook", s.hook.Name,
			"id", m.ID, "tries", try.Tries, "again_seconds", wait.Round(time.Millisecond).Seconds(), "error", why)
		return min(wait, s.idle), true
	}
	agent := noAgent
	if m.AgentID != nil {
		agent = *m.AgentID
	}
	s.bury(DeadLetter{ID: m.ID, Event: m.Event.Event, Agent: agent, Tries: try.Tries, Error: why})
	return 0, false
}

// save writes what has changed. It returns false if it may not have: the lease is lost, or Redis did not answer.
func (s *sender) save(ctx context.Context) bool {
	st := s.state
	if len(st.set) == 0 && len(st.del) == 0 {
		return true
	}
	var del []string
	for field := range st.del {
		del = append(del, field)
	}
	asked := time.Now()
	held, err := s.store.SaveHook(ctx, s.hook.Name, s.holder, s.lease, st.set, del)
	if err != nil || !held {
		return false
	}
	s.redisMs, s.askedAt = s.redisMs+asked.Sub(s.askedAt).Milliseconds(), asked
	st.clean()
	return true
}

// maxAnswer bounds what is read of an answer, so that its connection can be used again.
const maxAnswer = 64 << 10

// post sends a message once, within the lease. It returns why the receiver has not taken it; an error shows no url.
func (s *sender) post(ctx context.Context, m *message) error {
	ends := min(s.try, time.Until(s.askedAt.Add(s.lease-s.margin)))
	ctx, cancel := context.WithTimeout(ctx, ends)
	defer cancel()
	secrets, err := s.secrets.read()
	if err != nil {
		return err
	}
	body, err := m.body(s.hook.Format)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.hook.URL, bytes.NewReader(body))
	if err != nil {
		return errors.New("the url is not valid")
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "breakerd/"+s.version)
	r.Header.Set(headerID, m.ID)
	if len(secrets) > 0 {
		r.Header.Set(headerSignature, sign(secrets, time.Now().Unix(), body))
	}
	res, err := s.client.Do(r)
	if err != nil {
		if sent, is := errors.AsType[*url.Error](err); is { // it shows the url, a part of which may be a secret
			err = sent.Err
		}
		if ctx.Err() != nil {
			err = fmt.Errorf("no answer within %v", ends.Round(time.Millisecond))
		}
		return err
	}
	defer func() { _ = res.Body.Close() }()
	_, _ = io.CopyN(io.Discard, res.Body, maxAnswer)
	if res.StatusCode/100 != 2 {
		return errors.New("answered " + strconv.Itoa(res.StatusCode) + " " + http.StatusText(res.StatusCode))
	}
	return nil
}
