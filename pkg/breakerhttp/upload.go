package breakerhttp

import (
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// upload watches the sending of a request's body: a caller that fails to send it, or takes its time, is not the agent's
// fault. A nil upload sends nothing.
type upload struct {
	start  time.Time // of the call
	clocks *clocks
	failed atomic.Bool

	mu    sync.Mutex
	reads int           // wait for the caller
	last  time.Duration // from start until the last of them returned; 0: none has
}

func (u *upload) broke() bool { return u != nil && u.failed.Load() }

// agentOwes returns since when, from the start of the call, only the agent is waited for: it has the whole request, or
// does not take the rest. ok is false while a part is waited for that the caller owes.
func (u *upload) agentOwes() (since time.Duration, ok bool) {
	if u == nil {
		return 0, true
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.last, u.reads == 0
}

func (u *upload) watch(r io.ReadCloser) io.ReadCloser { return &watchedBody{ReadCloser: r, u: u} }

// watchedBody is the request's body as Base sends it, for the first time or again.
type watchedBody struct {
	io.ReadCloser

	u      *upload
	closed atomic.Bool
	ended  atomic.Bool // its end was read
	waits  int         // the Reads that wait for the caller; guarded by upload.mu
}

// Read implements io.Reader.
func (b *watchedBody) Read(p []byte) (int, error) {
	if b.ended.Load() { // net/http looks for more than Content-Length, when the caller may be gone
		return 0, io.EOF
	}
	b.begin()
	n, err := b.ReadCloser.Read(p)
	switch {
	case err == io.EOF: // wrapped in another error it is not the end
		b.ended.Store(true)
	case err != nil && !b.closed.Load(): // after Close, the caller is not to blame
		b.u.failed.Store(true)
	}
	b.end()
	return n, err
}

// begin notes that a Read waits for the caller. After Close, Base waits for none.
func (b *watchedBody) begin() {
	u := b.u
	u.mu.Lock()
	defer u.mu.Unlock()
	if !b.closed.Load() {
		b.waits++
		u.reads++
		u.clocks.uploading(true)
	}
}

// end notes that the Reads that waited no longer do.
func (b *watchedBody) end() {
	u := b.u
	u.mu.Lock()
	defer u.mu.Unlock()
	if b.waits == 0 {
		return
	}
	u.reads -= b.waits
	b.waits = 0
	u.last = time.Since(u.start)
	u.clocks.uploading(u.reads > 0)
}

// Close implements io.Closer.
func (b *watchedBody) Close() error {
	b.closed.Store(true)
	b.end() // first, because the Close of some bodies waits for their Read
	return b.ReadCloser.Close()
}
