package breakerhttp

import (
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// body is a response's body that settles its call. It does so before the reader sees the end, so that whoever calls
// next finds the outcome counted.
type body struct {
	io.ReadCloser

	c       *call
	unwatch func() bool  // the caller's context
	first   atomic.Int64 // nanoseconds from the start of the call to the first data; 0: none has come

	mu      sync.Mutex       // Close may come while a Read waits
	outcome breaker.Outcome  // by the header, and what has passed of the body
	reading *reading         // nil: the header has decided, or the body has ended
	shadow  *reading         // of Transport.Shadow; nil: none
	shown   *breaker.Outcome // what the shadow makes of the call
	ended   bool
	settle  *time.Timer // settles a probe whose stream flows; nil: it does not
}

func newBody(c *call, resp *http.Response, o breaker.Outcome) *body {
	b := &body{ReadCloser: resp.Body, c: c, outcome: o, unwatch: func() bool { return true }}
	if o.Kind == breaker.Success {
		b.reading = newReading(c.t.Body, c.t.Statuses, resp)
		b.found(b.reading)
	}
	if c.t.Shadow != "" {
		b.shown = &breaker.Outcome{Kind: o.Kind, Class: o.Class}
		if o.Kind == breaker.Success {
			b.shadow = newReading(c.t.Shadow, c.t.Statuses, resp)
		}
	}
	return b
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (n int, err error) {
	b.c.clocks.wait()
	n, err = b.ReadCloser.Read(p)
	data, decided := b.inspect(p[:n])
	b.c.clocks.got(data)
	if decided {
		b.c.settle(b.soFar()) // need not wait for the end
	}
	if err == nil {
		return n, nil
	}
	if err == io.EOF { //nolint:errorlint // wrapped in another error it is not the end
		b.end(b.finish())
		return n, err
	}
	err = b.c.clocks.explain(err)
	b.stop()
	o := b.c.brokenOutcome(err)
	b.showBroken(o)
	b.end(o) // changes nothing if Close has broken the Read
	return n, err
}

// showBroken notes that the body has broken: to the shadow too that is o, unless it has found an error before.
func (b *body) showBroken(o breaker.Outcome) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.shown != nil && b.shown.Kind == breaker.Success {
		b.shown = &breaker.Outcome{Kind: o.Kind, Class: o.Class}
	}
}

// Close implements io.Closer. A reader may stop early; the outcome so far counts.
func (b *body) Close() error {
	o := b.stop()
	if b.c.cancelled() {
		o = b.left()
	}
	b.end(o) // before the body closes, which breaks a Read that waits
	err := b.ReadCloser.Close()
	b.c.release()
	return err
}

func (b *body) end(o breaker.Outcome) {
	b.unwatch()
	b.mu.Lock()
	if b.settle != nil {
		b.settle.Stop()
	}
	b.mu.Unlock()
	b.c.end(o)
}

// inspect shows the readers what passes. data: it feeds the clocks; decided: it decides the call.
func (b *body) inspect(part []byte) (data, decided bool) {
	if len(part) == 0 {
		return false, false
	}
	b.c.heard.note()
	b.mu.Lock()
	defer b.mu.Unlock()
	data = true
	if b.reading != nil {
		data = b.reading.read(part)
		decided = b.found(b.reading)
	}
	if b.shadow != nil {
		b.shadow.read(part)
	}
	if data && b.first.Load() == 0 {
		b.first.Store(int64(max(time.Since(b.c.start), 1)))
	}
	if b.settle == nil && !decided && b.c.isProbe() && b.reading != nil && b.reading.flowing() {
		b.settle = time.AfterFunc(b.c.policy().ProbeSettle, func() { b.c.settle(b.soFar()) })
	}
	return data, decided
}

// found takes over what r has found. Callers hold mu.
func (b *body) found(r *reading) (decided bool) {
	o, ok := r.found()
	if ok {
		b.outcome = o
	}
	return ok
}

func (b *body) soFar() breaker.Outcome {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.outcome
}

// flows reports whether the first data of a stream has come, and was no error.
func (b *body) flows() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.outcome.Kind == breaker.Success && b.reading != nil && b.reading.flowing()
}

// left is the outcome if the caller leaves now: of a stream that flows it is a success.
func (b *body) left() breaker.Outcome {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.outcome.Kind == breaker.Success && (b.reading == nil || !b.reading.flowing()) {
		return ignored("cancelled")
	}
	return b.outcome
}

// finish is the outcome if the body has ended.
func (b *body) finish() breaker.Outcome { return b.conclude((*reading).finish) }

// stop is the outcome if the caller reads no more.
func (b *body) stop() breaker.Outcome { return b.conclude((*reading).release) }

// conclude lets the readers judge what they hold, once.
func (b *body) conclude(end func(*reading)) breaker.Outcome {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return b.outcome
	}
	b.ended = true
	if b.reading != nil {
		end(b.reading)
		b.found(b.reading)
	}
	if b.shadow != nil {
		end(b.shadow)
		if o, ok := b.shadow.found(); ok {
			b.shown = &breaker.Outcome{Kind: o.Kind, Class: o.Class}
		}
	}
	return b.outcome
}

// shadowOutcome is what Transport.Shadow makes of the call; nil: nothing.
func (b *body) shadowOutcome() *breaker.Outcome {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.shown
}

// Verdict returns what the [Transport] that answered has made of the call; ok is false until the call is settled. It is
// at the latest once the body was read to its end or closed, for a response without a body at once. ok stays false for
// 101 Switching Protocols, and for a response whose body was replaced.
func Verdict(resp *http.Response) (o breaker.Outcome, ok bool) {
	if resp == nil {
		return o, false
	}
	b, is := resp.Body.(*body)
	if !is || !b.c.isSettled.Load() {
		return o, false
	}
	return b.c.outcome, true
}
