package breakerhttp

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// timeoutError says that an agent kept its caller waiting for longer than Transport.Timeout or FirstData.
type timeoutError struct {
	agent string
	class string
	after time.Duration
}

func (e *timeoutError) Error() string {
	what := "nothing"
	if e.class == classFirstToken {
		what = "no data of its answer"
	}
	return fmt.Sprintf("agent %q sent %s for %s", e.agent, what, e.after)
}

// Timeout makes it a net.Error's time-out.
func (*timeoutError) Timeout() bool { return true }

// Is makes it a context.DeadlineExceeded.
func (*timeoutError) Is(target error) bool { return target == context.DeadlineExceeded }

const (
	classTimeout    = "timeout"
	classFirstToken = "first_token_timeout"
)

// timeoutClass is the class of an error that a time-out has caused: ours, the caller's deadline, or one of Base; "":
// none has.
func timeoutClass(err error) string {
	var t interface{ Timeout() bool }
	if own, ok := errors.AsType[*timeoutError](err); ok {
		return own.class
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &t) && t.Timeout() {
		return classTimeout
	}
	return ""
}

// clocks bound the waits of one call. A nil *clocks bounds none.
//
// stall and first run while the caller waits for the agent, unless the agent waits for the caller: as long as a Read of
// the request's body has not returned, the agent may have nothing to answer to. Then upload runs.
type clocks struct {
	agent  string
	stall  countdown // each wait for the header, and for more data of the body
	first  countdown // all waits until the first data of the body
	upload countdown // all waits for the request's body

	mu      sync.Mutex
	waiting bool          // for the header, or for more of the body
	sending bool          // a Read of the request's body waits for the caller
	err     *timeoutError // has ended the call
}

// start begins with the wait for the header.
func (k *clocks) start() {
	for _, d := range []*countdown{&k.stall, &k.first, &k.upload} {
		if d.left = d.limit; d.limit > 0 {
			d.timer = time.AfterFunc(time.Hour, func() { k.fired(d) })
			d.timer.Stop()
		}
	}
	k.update(func() { k.waiting = true })
}

// wait says that the caller waits for the agent.
func (k *clocks) wait() { k.update(func() { k.waiting = true }) }

// header says that the header has come, or an error in its place.
func (k *clocks) header() {
	k.update(func() {
		k.waiting = false
		k.stall.restart()
	})
}

// got says that a Read of the body has returned. Without data it feeds no clock: an agent that sends only comments
// stalls.
func (k *clocks) got(data bool) {
	k.update(func() {
		k.waiting = false
		if data {
			k.stall.restart()
			k.first.disarm()
		}
	})
}

// uploading says whether a Read of the request's body waits for the caller.
func (k *clocks) uploading(waits bool) {
	k.update(func() {
		if k.sending = waits; !waits {
			k.stall.restart()
			k.first.restart()
		}
	})
}

// update makes a change, after which each clock runs or stands.
func (k *clocks) update(change func()) {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	change()
	agent := k.waiting && !k.sending
	k.stall.runIf(agent)
	k.first.runIf(agent)
	k.upload.runIf(k.sending)
}

// stop stops all clocks for good.
func (k *clocks) stop() {
	k.update(func() {
		k.stall.disarm()
		k.first.disarm()
		k.upload.disarm()
	})
}

// fired is called when a countdown's timer fires, which may be too late to be stopped.
func (k *clocks) fired(d *countdown) {
	k.mu.Lock()
	over := d.over()
	if over {
		if d.class != "" && k.err == nil {
			k.err = &timeoutError{k.agent, d.class, d.limit}
		}
		d.disarm()
	}
	k.mu.Unlock()
	if over {
		d.expire()
	}
}

// explain replaces the error that an expired clock has caused.
func (k *clocks) explain(err error) error {
	if k == nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err != nil {
		return k.err
	}
	return err
}

// countdown calls expire once it has run for limit; 0: it never does. The clocks' lock guards it.
type countdown struct {
	limit  time.Duration
	class  string // of the error that its end causes; "": none
	expire func() // called without the lock

	left  time.Duration
	since time.Time // when it began to run; zero: it stands
	timer *time.Timer
}

func (d *countdown) runIf(run bool) {
	switch standing := d.since.IsZero(); {
	case d.limit <= 0 || run != standing:
	case run:
		d.since = time.Now()
		d.timer.Reset(d.left)
	default:
		d.left -= time.Since(d.since)
		d.since = time.Time{}
		d.timer.Stop()
	}
}

// restart begins anew.
func (d *countdown) restart() {
	if d.left = d.limit; d.limit > 0 && !d.since.IsZero() {
		d.since = time.Now()
		d.timer.Reset(d.left)
	}
}

func (d *countdown) over() bool {
	return d.limit > 0 && !d.since.IsZero() && time.Since(d.since) >= d.left
}

// disarm stops it for good.
func (d *countdown) disarm() {
	d.runIf(false)
	d.limit = 0
}
