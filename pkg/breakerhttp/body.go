package breakerhttp

import (
	"io"
	"sync"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// body is a response's body that settles its call. It does so before the reader sees the end, so that whoever calls
// next finds the outcome counted.
type body struct {
	io.ReadCloser

	c       *call
	unwatch func() bool // the caller's context

	mu        sync.Mutex      // Close may come while a Read waits
	outcome   breaker.Outcome // by the header, and what has passed of the body
	inspector inspector       // nil: none, or it has finished
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (n int, err error) {
	b.c.timeout.start()
	n, err = b.ReadCloser.Read(p)
	b.c.timeout.stop()
	if b.inspect(p[:n]) {
		b.c.settle(b.finish()) // need not wait for the end
	}
	if err == nil {
		return n, nil
	}
	if err == io.EOF { //nolint:errorlint // wrapped in another error it is not the end
		b.end(b.finish())
		return n, err
	}
	err = b.c.timeout.explain(err)
	b.end(b.c.brokenOutcome(err)) // changes nothing if Close has broken the Read
	return n, err
}

// Close implements io.Closer. A reader may stop early; the outcome so far counts.
func (b *body) Close() error {
	o := b.finish()
	if b.c.cancelled() {
		o = ignored("cancelled")
	}
	b.end(o) // before the body closes, which breaks a Read that waits
	err := b.ReadCloser.Close()
	b.c.timeout.release()
	return err
}

func (b *body) end(o breaker.Outcome) {
	b.unwatch()
	b.c.end(o)
}

// inspect shows the inspector what passes, and says whether it has found a failure.
func (b *body) inspect(p []byte) (failed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.inspector != nil && len(p) > 0 && b.found(b.inspector.read(p))
}

// finish is the outcome if the body ends here. The inspector finishes once, and is forgotten.
func (b *body) finish() breaker.Outcome {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.inspector != nil {
		b.found(b.inspector.finish())
		b.inspector = nil
	}
	return b.outcome
}

// found makes the outcome a failure if class names one.
func (b *body) found(class string) bool {
	if class == "" {
		return false
	}
	b.inspector = nil
	b.outcome = breaker.Outcome{Kind: breaker.Failure, Class: class}
	return true
}
