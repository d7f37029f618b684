package breaker

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// Permit is leave to make one call, and owes one outcome [B14]. Its methods may be called from any goroutine. Settle it where it
// is: a copy that is settled too counts a second time where the permit was given from memory (Cached).
type Permit struct {
	*permitBody

	//nolint:modernize // a Permit is returned by value, which an atomic.Uint32 must not be
	spent uint32 // of a permit of a cell, which shares its body with all others
}

type permitBody struct {
	m           *Manager
	agent       string
	kind        permitKind
	epoch       string
	token       string // of a probe's lease
	leaseMs     atomic.Int64
	degraded    bool
	wouldRefuse Reason
	settled     atomic.Bool
	owner       *epochBuffer // whose body this is; nil: the permit is of one call
}

// permitKind is the state in which a permit was given, or why its outcome will not count.
type permitKind string

const (
	permitClosed   permitKind = "closed"
	permitHalfOpen permitKind = "half_open"
	permitLocal    permitKind = "local" // given while the store was down, in an epoch that the store never saw

	// Outcomes of these permits never count; the kind is also Report.Why.
	permitObserved = permitKind(machine.CodeObserved) // mode observe: the call would have been refused [B21]
	permitDisabled = permitKind(machine.CodeDisabled) // the breaker is off
	permitForeign  = permitKind(machine.CodeForeign)  // the text of the permit is another agent's; never written to a text
)

// Agent is whom the permit is for.
func (p Permit) Agent() string { return p.agent }

// State is the breaker's state when it gave the permit; Closed where the breaker is off or only observes.
func (p Permit) State() State {
	if p.token != "" { // of a lease, which only a probe holds
		return HalfOpen
	}
	return Closed
}

// Epoch is the epoch in which the outcome will count.
func (p Permit) Epoch() string { return p.epoch }

// Lease is how long a probe's place is kept without Renew; 0 for a permit that holds no lease.
func (p Permit) Lease() time.Duration { return time.Duration(p.leaseMs.Load()) * time.Millisecond }

// Degraded says that this process gave the permit alone, for the store was away.
func (p Permit) Degraded() bool { return p.degraded }

// WouldRefuse is the reason for which the call would have been refused in mode enforce; "" if it would not [B21].
func (p Permit) WouldRefuse() Reason { return p.wouldRefuse }

// String is the permit as a text that Resume takes, in this process or another: v1.<state>.<epoch>.<token>.<agent tag>.
func (p Permit) String() string {
	token := p.token
	if token == "" {
		token = "-"
	}
	return "v1." + string(p.kind) + "." + p.epoch + "." + token + "." + tag(p.agent)
}

// tag ties a permit's text to its agent, so that a report to another agent is seen to be foreign.
func tag(agent string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(agent))
	return fmt.Sprintf("%08x", h.Sum32())
}

// parsePermit reads a permit's text; foreign says that it is another agent's.
func parsePermit(agent, text string) (p *permitBody, foreign bool, err error) {
	f := strings.Split(text, ".")
	if len(f) != 5 || f[0] != "v1" || !machine.IsHex16(f[2]) || len(f[4]) != 8 {
		return nil, false, ErrBadPermit
	}
	p = &permitBody{agent: agent, kind: permitKind(f[1]), epoch: f[2]}
	if f[3] != "-" {
		if !machine.IsHex16(f[3]) {
			return nil, false, ErrBadPermit
		}
		p.token = f[3]
	}
	switch p.kind {
	case permitHalfOpen:
		if p.token == "" {
			return nil, false, ErrBadPermit
		}
	case permitLocal: // with the token of a lease, or without
	case permitClosed, permitObserved, permitDisabled:
		if p.token != "" {
			return nil, false, ErrBadPermit
		}
	default:
		return nil, false, ErrBadPermit
	}
	return p, f[4] != tag(agent), nil
}

// Report says what became of an outcome.
type Report struct {
	State   State // the breaker's after the outcome; "" if the store was not asked
	Counted bool
	// Why says why the outcome did not count: CodeLate, CodeForeign, CodeIgnored, CodeObserved, CodeDisabled, CodeDuplicate or
	// CodeLost of package machine, or [CodeUnknown]. It is "" if the outcome counted.
	Why      machine.Code
	Degraded bool // counted in this process's memory only
	Pending  bool // counted in this process, and sent to the store soon, joined with others (cached mode)
}

// CodeUnknown says that the store may or may not have counted an outcome: it did not answer in time, or the connection broke.
const CodeUnknown machine.Code = "unknown"

// Settle gives the call's outcome. counted says whether it reached the breaker: late outcomes, and ignored ones, do not.
// The error is ErrSettled for a second outcome, or a *StoreError. It does not wait longer than ctx and the store's time-out; an
// outcome that is joined with others to be sent (cached mode) neither waits nor looks at ctx.
func (p *Permit) Settle(ctx context.Context, o Outcome) (counted bool, err error) {
	r, err := p.report(ctx, &o)
	return r.Counted, err
}

// Report is Settle with the whole answer.
func (p *Permit) Report(ctx context.Context, o Outcome) (Report, error) { return p.report(ctx, &o) }

func (p *Permit) report(ctx context.Context, o *Outcome) (Report, error) {
	c := p.owner
	switch {
	case !p.spend():
		return Report{}, ErrSettled
	case c != nil && c.takes(o):
		return c.settle(o), nil
	}
	return p.m.settle(ctx, p.permitBody, *o)
}

// spend takes the one outcome that the permit owes.
func (p *Permit) spend() bool {
	if p.owner != nil {
		return atomic.CompareAndSwapUint32(&p.spent, 0, 1)
	}
	return p.settled.CompareAndSwap(false, true)
}

// Success settles with a success, and so on; they are Settle for the common cases.
func (p *Permit) Success(ctx context.Context) (bool, error) {
	if c := p.owner; c != nil && c.bare && !c.over.Load() {
		if !atomic.CompareAndSwapUint32(&p.spent, 0, 1) {
			return false, ErrSettled
		}
		if c.buffer.Success() {
			c.enqueue(false)
		}
		return true, nil
	}
	return p.Settle(ctx, Outcome{Kind: Success})
}

// Failure settles with a failure; class names it for the log and the quarantine.
func (p *Permit) Failure(ctx context.Context, class string) (bool, error) {
	return p.Settle(ctx, Outcome{Kind: Failure, Class: class})
}

// Ignore settles without counting: a probe's place is given back [B4].
func (p *Permit) Ignore(ctx context.Context) (bool, error) {
	return p.Settle(ctx, Outcome{Kind: Ignored})
}

// Renew lengthens a probe's lease [B12]; a permit without a lease has nothing to renew. ErrLeaseLost: the outcome will be late.
func (p Permit) Renew(ctx context.Context) error {
	if p.kind == permitForeign {
		return fmt.Errorf("renew the probe of agent %q with another agent's permit: %w", p.agent, ErrLeaseLost)
	}
	if p.token == "" {
		return nil
	}
	r, err := p.m.apply(ctx, p.agent, p.m.policy(ctx, p.agent), machine.Op{Verb: machine.VerbRenew, Token: p.token, Epoch: p.epoch, Local: p.kind == permitLocal})
	if err != nil {
		return err
	}
	switch {
	case r.Code == machine.CodeOK:
		p.leaseMs.Store(r.LeaseMs)
		return nil
	case r.Degraded && p.kind != permitLocal: // this process's memory knows nothing of a lease that the store gave
		return &StoreError{Verb: machine.VerbRenew, Agent: p.agent, Err: errors.New("the lease may stand, and cannot be renewed now")}
	}
	return fmt.Errorf("renew the probe of agent %q: %w", p.agent, ErrLeaseLost)
}

// Keep renews a probe's lease in the background, three times in its life, until stop is called or the lease is lost [B12]; for a
// permit without a lease it does nothing. It outlives ctx, whose values the store sees: whoever calls Keep must call stop, which
// may be called again, waits for a renewal under way, and leaves the outcome still owed.
func (p Permit) Keep(ctx context.Context) (stop func()) {
	if p.Lease() <= 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			t := time.NewTimer(max(p.Lease()/3, time.Millisecond))
			select {
			case <-ctx.Done():
				t.Stop()
				return
			case <-t.C:
			}
			if err := p.Renew(ctx); err != nil && ctx.Err() == nil {
				p.m.o.Logger.WarnContext(ctx, "probe lease not renewed", "agent", p.agent, "error", err)
				if isLeaseLost(err) {
					return
				}
			}
		}
	}()
	return func() { cancel(); <-done }
}
