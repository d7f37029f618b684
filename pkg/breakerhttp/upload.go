package breakerhttp

import (
	"io"
	"sync/atomic"
	"time"
)

// upload watches the sending of a request's body: a caller that fails to send it, or takes its time, is not the agent's
// fault. A nil upload sends nothing.
type upload struct {
	clocks  *clocks
	failed  atomic.Bool
	endedAt atomic.Int64 // when its end was read, in Unix nanoseconds; 0: it was not
}

func (u *upload) broke() bool { return u != nil && u.failed.Load() }

// whole returns when the agent had the whole request, start if there is no body; ok: it has it.
func (u *upload) whole(start time.Time) (at time.Time, ok bool) {
	if u == nil {
		return start, true
	}
	if ended := u.endedAt.Load(); ended != 0 {
		return time.Unix(0, ended), true
	}
	return start, false
}

func (u *upload) watch(r io.ReadCloser) io.ReadCloser { return &watchedBody{ReadCloser: r, u: u} }

// watchedBody is the request's body as Base sends it, for the first time or again.
type watchedBody struct {
	io.ReadCloser

	u      *upload
	closed atomic.Bool
}

// Read implements io.Reader.
func (b *watchedBody) Read(p []byte) (int, error) {
	b.u.clocks.beginRead(b)
	n, err := b.ReadCloser.Read(p)
	b.u.clocks.endRead(b)
	switch {
	case err == io.EOF: // wrapped in another error it is not the end
		b.u.endedAt.Store(time.Now().UnixNano())
	case err != nil && !b.closed.Load(): // after Close, the caller is not to blame
		b.u.failed.Store(true)
	}
	return n, err
}

// Close implements io.Closer.
func (b *watchedBody) Close() error {
	b.closed.Store(true)
	b.u.clocks.endRead(b) // first, because the Close of some bodies waits for their Read
	return b.ReadCloser.Close()
}
