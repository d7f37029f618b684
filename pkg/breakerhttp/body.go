package breakerhttp

import (
	"io"
	"sync"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// body is a response's body that settles its call: at its end before the reader sees it, so that whoever calls next finds the
// outcome counted.
type body struct {
	io.ReadCloser

	c       *call
	unwatch func() bool

	mu        sync.Mutex      // Close may come while a Read waits
	outcome   breaker.Outcome // what the header says, and what has passed of the body
	inspector inspector       // nil: none, or it has given its verdict
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (n int, err error) {
	b.c.patience.wait()
	n, err = b.ReadCloser.Read(p)
	b.c.patience.rest()
	if b.see(p[:n]) {
		b.c.settle(b.verdict()) // no need to wait for the end
	}
	if err == nil {
		return n, nil
	}
	if err == io.EOF { //nolint:errorlint // inside of another error it is not the end
		b.end(b.verdict())
		return n, err
	}
	err = b.c.patience.explain(err)
	b.end(b.c.broken(err)) // too late if it was Close that broke it
	return n, err
}

// Close implements io.Closer. A reader that has had enough has its reasons: what header and body said so far stands.
func (b *body) Close() error {
	o := b.verdict()
	if b.c.cancelled() {
		o = ignored("cancelled")
	}
	b.end(o) // before a Read that waits notices the rest
	err := b.ReadCloser.Close()
	b.c.patience.release()
	return err
}

func (b *body) end(o breaker.Outcome) {
	b.unwatch()
	b.c.end(o)
}

// see shows the inspector what passes, and says whether it has found a failure there.
func (b *body) see(p []byte) (failed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.inspector != nil && len(p) > 0 && b.found(b.inspector.see(p))
}

// verdict is the outcome if the body ends here.
func (b *body) verdict() breaker.Outcome {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.inspector != nil {
		b.found(b.inspector.end())
		b.inspector = nil // so that nothing is judged twice, nor kept
	}
	return b.outcome
}

// found makes the outcome a failure, if class names one.
func (b *body) found(class string) bool {
	if class == "" {
		return false
	}
	b.inspector = nil
	b.outcome = breaker.Outcome{Kind: breaker.Failure, Class: class}
	return true
}
