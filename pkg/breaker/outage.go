package breaker

import (
	"context"
	"errors"
	"sync"
	"time"
)

// subscribe makes a Manager hear of changes.
func (f *Fallback) subscribe(s subscriber) { f.subscriber.Store(&s) }

// news tells of changes, in their order and on a goroutine of its own: the caller may hold up others, and what is
// called may wait for them.
type news struct {
	mu      sync.Mutex
	pending []func()
	telling bool
}

func (n *news) tell(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pending = append(n.pending, f)
	if !n.telling {
		n.telling = true
		go n.tellAll()
	}
}

func (n *news) tellAll() {
	for {
		n.mu.Lock()
		if len(n.pending) == 0 {
			n.telling = false
			n.mu.Unlock()
			return
		}
		next := n.pending[0]
		n.pending = n.pending[1:]
		n.mu.Unlock()
		next()
	}
}

func (f *Fallback) changed(degraded bool, cause error) {
	if s := f.subscriber.Load(); s != nil {
		s.changed(degraded)
	}
	f.news.tell(func() {
		defer f.panics.recover("FallbackOptions.OnChange")
		f.o.OnChange(degraded, cause)
	})
}

const (
	// relapse is how soon after an outage the next one counts as a relapse.
	relapse = 10 * time.Second
	// maxRelapses bounds the pings that must be answered in a row before the store is up again: 2 to this power.
	maxRelapses = 4
)

// degrade makes the Fallback degraded, and starts the pings. It does nothing if the Fallback is degraded or closed.
func (f *Fallback) degrade(cause error) {
	f.outage.Lock()
	if f.ctx.Err() != nil || f.degraded.Load() {
		f.outage.Unlock()
		return
	}
	f.local.clear()
	f.refused.Clear()
	f.relapses = min(f.relapses+1, maxRelapses)
	if f.returned.IsZero() || time.Since(f.returned) > relapse {
		f.relapses = 0
	}
	f.degraded.Store(true)
	answers := 1 << f.relapses
	f.wg.Go(func() { f.pingUntilUp(answers) })
	f.outage.Unlock()
	f.changed(true, cause)
}

// verify pings the store in the background, after the store did not answer within a caller's deadline. The Fallback
// becomes degraded if the ping fails.
func (f *Fallback) verify(cause error) {
	if f.ctx.Err() != nil || f.degraded.Load() || !f.verifying.CompareAndSwap(false, true) {
		return
	}
	f.goes(func() {
		defer f.verifying.Store(false)
		if f.pingOnce(pingTimeout) != nil {
			f.degrade(cause)
		}
	})
}

const (
	pingTimeout  = 500 * time.Millisecond
	checkTimeout = 100 * time.Millisecond // of a ping for which callers wait
	minPingPause = 50 * time.Millisecond  // doubles after each ping that fails
	maxPingPause = 500 * time.Millisecond
)

// errPanicked stands for the answer of a function of the user's that panicked.
var errPanicked = errors.New("panicked")

func (f *Fallback) pingOnce(timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(f.ctx, timeout)
	defer cancel()
	answer := errPanicked
	func() {
		defer f.panics.recover("FallbackOptions.Ping")
		answer = f.o.Ping(ctx)
	}()
	return answer
}

// isUp reports whether the store answers a ping, after a connection to it broke. Callers at one time share the ping.
func (f *Fallback) isUp() bool {
	answer := f.pings.DoChan("", func() (any, error) { return nil, f.pingOnce(checkTimeout) })
	select {
	case r := <-answer:
		return r.Err == nil
	case <-time.After(checkTimeout):
		return false
	}
}

// pingUntilUp pings the store until it has answered so many pings in a row, or the Fallback is closed.
func (f *Fallback) pingUntilUp(answers int) {
	answered := 0
	for pause := minPingPause; ; {
		select {
		case <-f.ctx.Done():
			return
		case <-time.After(pause):
		}
		if f.pingOnce(pingTimeout) != nil {
			answered, pause = 0, min(2*pause, maxPingPause)
			continue
		}
		if answered, pause = answered+1, minPingPause; answered >= answers && f.identify() {
			break
		}
	}
	f.outage.Lock()
	f.degraded.Store(false)
	f.returned = time.Now()
	f.local.clear()
	f.outage.Unlock()
	f.changed(false, nil)
}

// identifyOnce asks in the background for the identity of the store's data, which an outage is compared with later.
func (f *Fallback) identifyOnce() {
	if f.identified.Swap(true) || f.o.Born == nil {
		return
	}
	f.goes(func() {
		if !f.identify() {
			f.identified.Store(false) // the next answer tries again
		}
	})
}

// identify asks for the identity of the store's data. It returns false if there is no answer.
func (f *Fallback) identify() bool {
	if f.o.Born == nil {
		return true
	}
	born, err := f.askBorn()
	if err == nil {
		f.Identify(born)
		return true
	}
	storeErr, is := errors.AsType[*StoreError](err)
	refused := is && storeErr.Refused || errors.Is(err, errPanicked)
	if refused { // no waiting changes that
		f.o.Logger.Error("the store refuses to give the identity of its data: a loss of it would not be noticed",
			"event", "circuit_breaker.no_identity", "error", err)
	}
	return refused
}

func (f *Fallback) askBorn() (born string, err error) {
	ctx, cancel := context.WithTimeout(f.ctx, pingTimeout)
	defer cancel()
	err = errPanicked
	func() {
		defer f.panics.recover("FallbackOptions.Born")
		born, err = f.o.Born(ctx)
	}()
	return born, err
}
