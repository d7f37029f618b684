package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"
	"time"

	"github.com/tmaxmax/go-sse"
)

// EventQuery says which events are listed. Its zero value is the newest ones.
type EventQuery struct {
	Since  string   // an id, behind which the list begins, or a time (RFC 3339); then the oldest come first
	Agent  string   // of this agent; "-": of no agent; "": of any
	Kinds  []string // nil: of every kind
	Limit  int      // of a page, 1000 at most; 0: 1000
	Cursor string   // NextCursor of the page before; "": the first page
}

func (q EventQuery) of(path string) call {
	r := get(path)
	r.query.add("since", q.Since)
	r.query.add("agent", q.Agent)
	r.query.add("kind", strings.Join(q.Kinds, ","))
	r.page(q.Limit, q.Cursor)
	return r
}

// ListFleetEvents lists one page of what happened in the fleet. [Client.AllFleetEvents] lists all pages.
func (c *Client) ListFleetEvents(ctx context.Context, q EventQuery) (out FleetEvents, err error) {
	_, err = c.do(ctx, q.of("/v1/admin/events"), &out)
	return out, err
}

// AllFleetEvents lists what happened in the fleet page by page, beginning at q.Cursor. An error ends the list. Whether
// events are missing before the first, ListFleetEvents says.
func (c *Client) AllFleetEvents(ctx context.Context, q EventQuery) iter.Seq2[FleetEvent, error] {
	return pages(q.Cursor, func(cursor string) ([]FleetEvent, string, error) {
		q.Cursor = cursor
		page, err := c.ListFleetEvents(ctx, q)
		return page.Events, page.NextCursor, err
	})
}

// AuditQuery says which entries of the audit are listed. Its zero value is all, newest first.
type AuditQuery struct {
	EventQuery

	Actor string // who did it; "": anybody
}

// ListAudit lists one page of what people did. [Client.AllAudit] lists all pages.
func (c *Client) ListAudit(ctx context.Context, q AuditQuery) (out Audit, err error) {
	r := q.of("/v1/admin/audit")
	r.query.add("actor", q.Actor)
	_, err = c.do(ctx, r, &out)
	return out, err
}

// AllAudit lists what people did page by page, beginning at q.Cursor. An error ends the list.
func (c *Client) AllAudit(ctx context.Context, q AuditQuery) iter.Seq2[FleetEvent, error] {
	return pages(q.Cursor, func(cursor string) ([]FleetEvent, string, error) {
		q.Cursor = cursor
		page, err := c.ListAudit(ctx, q)
		return page.Entries, page.NextCursor, err
	})
}

// StreamQuery says which events are followed.
type StreamQuery struct {
	After string   // the ID of a StreamItem, or of a FleetEvent; "": from now on
	Agent string   // of this agent; "-": of no agent; "": of any
	Kinds []string // nil: of every kind
}

// StreamItem is an event, or says that some may be missing.
type StreamItem struct {
	FleetEvent // but for its ID, zero if Reset is set

	// Reset is why events may be missing before this place; "": this is an event. Read again what you show.
	Reset string
}

const (
	// silence is how long nothing may come from a server, which says something every 15 seconds.
	silence = 45 * time.Second
	// maxEvent bounds one event, in bytes. It may hold two documents of 4 KiB.
	maxEvent = 1 << 20
	// streamPause and maxStreamPause bound the pause before a stream is opened again.
	streamPause, maxStreamPause = 100 * time.Millisecond, 10 * time.Second
)

// StreamEvents follows what happens in the whole fleet until ctx ends. It moves to the next server when one ends, and
// goes on where it was: each event comes once, and where some may be missing, an item with Reset does. It tries for as
// long as ctx lasts, once it has been connected: Options.Logger says when it is not. The last item is an error: ctx's,
// or why no server will ever answer.
func (c *Client) StreamEvents(ctx context.Context, q StreamQuery) iter.Seq2[StreamItem, error] {
	return func(yield func(StreamItem, error) bool) {
		s := stream{Client: c, query: q, yield: yield}
		if err := s.follow(ctx); err != nil {
			yield(StreamItem{}, err)
		}
	}
}

// errLeft ends a stream whose reader has left.
var errLeft = errors.New("the reader has left")

// stream is one that is followed.
type stream struct {
	*Client

	query StreamQuery // After is the place up to which all was yielded
	yield func(StreamItem, error) bool
	moved bool // something was yielded since the stream was opened
}

// follow reads from one server after the other. It returns nil if the reader has left.
func (s *stream) follow(ctx context.Context) error {
	pause := newPause(streamPause, maxStreamPause)
	connected := false
	for {
		began := time.Now()
		s.moved = false
		body, cancel, err := s.open(ctx, s.call())
		if err == nil {
			connected = true
			err = s.read(body)
			cancel()
			s.current.Add(1) // this server ends, or cannot be reached any more
		}
		answered, isAnswer := errors.AsType[*Error](err)
		_, lost := errors.AsType[*lostError](err)
		switch {
		case errors.Is(err, errLeft):
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("%s: %w", s.call(), ctx.Err())
		case !connected, isAnswer && !answered.passing(), !isAnswer && !lost:
			return err
		}
		if s.moved || time.Since(began) > maxStreamPause {
			pause.Reset()
		}
		wait := pause.NextBackOff()
		if isAnswer {
			wait = max(wait, min(answered.RetryAfter, maxStreamPause))
		}
		s.log.WarnContext(ctx, "stream of events broke off", "error", err, "again_in", wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

func (s *stream) call() call {
	c := get("/v1/events").with("Last-Event-ID", s.query.After)
	c.query.add("agent", s.query.Agent)
	c.query.add("kind", strings.Join(s.query.Kinds, ","))
	return c
}

// open opens an answer that is read as it comes. cancel ends it.
func (a api) open(ctx context.Context, c call) (body io.Reader, cancel func(), err error) {
	ctx, end := context.WithCancelCause(ctx)
	body, err = retry(ctx, a.connection, c, func(server string) (io.Reader, error) {
		timed, stop := context.WithCancelCause(ctx)
		quiet := time.AfterFunc(a.timeout, func() { stop(a.late()) })
		res, err := a.send(timed, server, c, nil)
		if err != nil {
			quiet.Stop()
			stop(nil)
			return nil, err
		}
		if !c.success(res) {
			defer stop(nil)
			defer quiet.Stop()
			defer func() { _ = res.Body.Close() }()
			text, _ := io.ReadAll(io.LimitReader(res.Body, maxEvent)) // without it, the status says enough
			return nil, newError(c.String(), res, text)
		}
		return &watched{ctx: timed, body: res, quiet: quiet, stop: stop}, nil
	})
	if err != nil {
		end(nil)
		return nil, nil, err
	}
	return body, func() { end(nil) }, nil
}

// watched is the body of a stream, which ends when nothing comes for long.
type watched struct {
	ctx   context.Context //nolint:containedctx // of the request whose body this is
	body  *http.Response
	quiet *time.Timer
	stop  context.CancelCauseFunc
}

func (w *watched) Read(p []byte) (int, error) {
	w.quiet.Stop()
	w.quiet = time.AfterFunc(silence, func() { w.stop(fmt.Errorf("nothing came for %v", silence)) })
	n, err := w.body.Body.Read(p)
	if err != nil {
		w.quiet.Stop()
		if !errors.Is(err, io.EOF) {
			err = cause(w.ctx, err)
		}
	}
	return n, err
}

// read yields what comes from one server. Its error says why that ended.
func (s *stream) read(body io.Reader) error {
	for e, err := range sse.Read(body, &sse.ReadConfig{MaxEventSize: maxEvent}) {
		if errors.Is(err, bufio.ErrTooLong) {
			return fmt.Errorf("%s: the event after %s is longer than %d bytes", s.call(), s.query.After, maxEvent)
		}
		if err != nil {
			return &lostError{err: fmt.Errorf("%s: %w", s.call(), err), sent: true}
		}
		item, is, err := itemOf(e)
		if err != nil {
			return fmt.Errorf("%s: event %s cannot be read: %w", s.call(), e.LastEventID, err)
		}
		if e.LastEventID != "" {
			s.query.After = e.LastEventID
		}
		if s.moved = s.moved || is; is && !s.yield(item, nil) {
			return errLeft
		}
	}
	return &lostError{err: fmt.Errorf("%s: the server ended it", s.call()), sent: true}
}

// itemOf reads an event of the stream. is says whether it is one, and not a place alone.
func itemOf(e sse.Event) (item StreamItem, is bool, err error) {
	switch {
	case e.Type == "reset":
		var why struct{ Why string }
		if err = decode([]byte(e.Data), &why); err == nil && why.Why == "" {
			why.Why = "nobody says why"
		}
		item.ID, item.Reset = e.LastEventID, why.Why
		return item, true, err
	case e.Type != "" || e.Data == "": // a place, or what a newer server may send
		return item, false, nil
	}
	return item, true, decode([]byte(e.Data), &item.FleetEvent)
}
