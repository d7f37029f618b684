package breakerhttp

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"runtime"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// A probe goes on without its caller until the header, or until abandoned_seconds have passed, so that its round gets a
// verdict [B4]: callers of an agent that hangs all leave.

// errGoesOn says that the caller has left a probe that goes on.
var errGoesOn = errors.New("breakerhttp: the probe goes on without its caller")

// reply is what Base returned.
type reply struct {
	resp     *http.Response
	err      error
	panicked bool // it has panicked, or ended its goroutine
	value    any  // of the panic
}

// detach makes the probe's context independent of a cancellation by its caller. Its deadline stays.
func (c *call) detach(ctx context.Context) context.Context {
	out := context.WithoutCancel(ctx)
	if deadline, ok := ctx.Deadline(); ok {
		out, c.cancel = context.WithDeadline(out, deadline)
	} else {
		out, c.cancel = context.WithCancel(out)
	}
	return out
}

// send calls Base. The error is errGoesOn if goOn takes the answer.
func (c *call) send(out *http.Request) (*http.Response, error) {
	if !c.isProbe() {
		return c.t.base().RoundTrip(out)
	}
	replies := make(chan reply, 1)
	go func() {
		a := reply{panicked: true}
		defer func() {
			if a.panicked {
				a.value = recover()
			}
			replies <- a
		}()
		a.resp, a.err = c.t.base().RoundTrip(out) //nolint:bodyclose // whoever takes the reply closes it
		a.panicked = false
	}()
	a, ok := c.await(replies)
	switch {
	case !ok:
		return nil, errGoesOn
	case a.panicked && a.value == nil:
		runtime.Goexit()
	case a.panicked:
		panic(a.value) // in the caller's goroutine, as without a probe
	}
	c.unlink = context.AfterFunc(c.ctx, c.cancel)
	if cancel := c.req.Cancel; cancel != nil { //nolint:staticcheck // as in cancelled
		go func() {
			select {
			case <-cancel:
				c.cancel()
			case <-out.Context().Done():
			}
		}()
	}
	return a.resp, a.err
}

// await waits for Base, or for the caller to leave; ok: there is an answer.
func (c *call) await(replies <-chan reply) (a reply, ok bool) {
	select {
	case a = <-replies:
		return a, true
	case <-c.ctx.Done():
	case <-c.req.Cancel: //nolint:staticcheck // as in cancelled
	}
	since, owes := c.upload.agentOwes()
	left := c.policy().Abandoned - (time.Since(c.start) - since)
	if c.cancelled() && owes && left > 0 {
		go c.goOn(replies, left)
		return a, false
	}
	c.cancel()
	return <-replies, true
}

// goOn ends a probe without its caller, within the time that is left.
func (c *call) goOn(replies <-chan reply, left time.Duration) {
	end := time.Now().Add(left)
	timer := time.NewTimer(left)
	defer timer.Stop()
	var a reply
	select {
	case a = <-replies:
	case <-timer.C:
		c.header = time.Since(c.start)
		c.end(c.leftOutcome())
		c.cancel()
		if a = <-replies; a.resp != nil && a.resp.Body != nil {
			_ = a.resp.Body.Close()
		}
		c.release()
		return
	}
	c.goesOn = true
	defer recovered(c.t.Logger, c.agent, "Transport.Base")
	finished := false
	defer func() {
		if !finished {
			c.header = cmp.Or(c.header, time.Since(c.start))
			c.end(breaker.Outcome{Kind: breaker.Failure, Class: "panic"})
			c.release()
		}
	}()
	if a.panicked {
		panic(a.value) // where nobody else would recover it
	}
	defer time.AfterFunc(time.Until(end), c.cancel).Stop()
	resp, err := c.answered(a.resp, a.err)
	if err == nil {
		if c.body != nil && c.t.Body.readsBodies() {
			c.body.readUntilSettled()
		}
		_ = resp.Body.Close()
	}
	finished = true
}

// readUntilSettled reads a body that nobody else reads, until it has settled its call.
func (b *body) readUntilSettled() {
	part := make([]byte, 4<<10)
	for {
		if _, err := b.Read(part); err != nil {
			return
		}
		if b.flows() {
			return
		}
	}
}

var _ io.ReadCloser = (*body)(nil)
