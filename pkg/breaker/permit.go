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

// Permit allows one call and owes one outcome [B14]. Its methods may be called from any goroutine. Do not copy a Permit
// once it is shared: in cached mode a copy takes an outcome of its own. The zero Permit allows nothing: its methods
// return zero values or [ErrUnset].
type Permit struct {
	*permitBody

	// spent is 1 once a permit that was given from memory has its outcome: such permits share their body.
	//nolint:modernize // a Permit is returned by value, which an atomic.Uint32 must not be
	spent uint32
}

// permitBody is all of a permit from the store, and the part that all permits of one epochBuffer share.
type permitBody struct {
	m           *Manager
	agent       string
	kind        permitKind
	epoch       string
	token       string       // of a probe's lease; "": none
	leaseMs     atomic.Int64 // what is left of the lease when it was given or last renewed
	degraded    bool
	wouldRefuse Reason
	settled     atomic.Bool
	carries     *ride        // of a probe whose context carries it
	rides       *ride        // on which a call inside a probe's rides; nil: it has a permit of its own
	buffer      *epochBuffer // that this is the body of; nil: a permit from the store
}

// body is never nil.
func (p Permit) body() *permitBody {
	if p.permitBody == nil {
		return &permitBody{}
	}
	return p.permitBody
}

// permitKind is the state of the breaker that gave a permit, or the reason why the outcome does not count. It is part
// of the text of a permit.
type permitKind string

const (
	permitClosed   permitKind = "closed"
	permitHalfOpen permitKind = "half_open"
	permitLocal    permitKind = "local" // given while the store was down, in an epoch that the store never saw

	// Outcomes of these permits never count; the kind is also Report.Why.
	permitObserved = permitKind(machine.CodeObserved) // mode observe: the call would have been refused [B21]
	permitDisabled = permitKind(machine.CodeDisabled) // the breaker is off
	permitForeign  = permitKind(machine.CodeForeign)  // resumed from another agent's text; not written to a text

	permitUntracked = permitKind(CodeUntracked) // there are too many agents; see Tracking
)

// Agent returns the name of the agent that may be called.
func (p Permit) Agent() string { return p.body().agent }

// State returns the breaker's state when it gave the permit: HalfOpen for a probe, otherwise Closed.
func (p Permit) State() State {
	switch {
	case p.permitBody == nil:
		return ""
	case p.token != "":
		return HalfOpen
	}
	return Closed
}

// Epoch returns the epoch in which the outcome counts.
func (p Permit) Epoch() string { return p.body().epoch }

// Lease returns how long a probe keeps its place without [Permit.Renew]; 0 for a permit without a lease.
func (p Permit) Lease() time.Duration {
	return time.Duration(p.body().leaseMs.Load()) * time.Millisecond
}

// Degraded reports whether this process gave the permit without the store, which was down.
func (p Permit) Degraded() bool { return p.body().degraded }

// WouldRefuse returns the reason for which mode enforce would have refused the call; "" if it would have admitted it
// [B21].
func (p Permit) WouldRefuse() Reason { return p.body().wouldRefuse }

// String returns the permit as a text for [Manager.Resume], in this process or in another one:
// v1.<state>.<epoch>.<token>.<agent tag>. Of the zero Permit it is "".
func (p Permit) String() string {
	if p.permitBody == nil {
		return ""
	}
	token := p.token
	if token == "" {
		token = "-"
	}
	return "v1." + string(p.kind) + "." + p.epoch + "." + token + "." + agentTag(p.agent)
}

// agentTag is a hash that ties the text of a permit to its agent.
func agentTag(agent string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(agent))
	return fmt.Sprintf("%08x", h.Sum32())
}

// parsePermit reads the text of a permit. That of another agent becomes permitForeign.
func parsePermit(agent, text string) (*permitBody, error) {
	f := strings.Split(text, ".")
	if len(f) != 5 || f[0] != "v1" || !machine.IsHex16(f[2]) || f[3] != "-" && !machine.IsHex16(f[3]) || len(f[4]) != 8 {
		return nil, ErrBadPermit
	}
	p := &permitBody{agent: agent, kind: permitKind(f[1]), epoch: f[2]}
	if f[3] != "-" {
		p.token = f[3]
	}
	switch p.kind {
	case permitHalfOpen:
		if p.token == "" {
			return nil, ErrBadPermit
		}
	case permitLocal: // with a lease, or without
	case permitClosed, permitObserved, permitDisabled, permitUntracked:
		if p.token != "" {
			return nil, ErrBadPermit
		}
	default:
		return nil, ErrBadPermit
	}
	if f[4] != agentTag(agent) {
		p.kind = permitForeign
	}
	return p, nil
}

// Settle reports the outcome of the call. counted says whether the outcome counts; late and ignored ones do not. The
// error is ErrBadOutcome, ErrSettled if the permit has an outcome already, or a [*StoreError]. Settle waits for the
// store no longer than ctx and the store's time-out allow. In cached mode the outcome is joined with others, and Settle
// neither waits nor looks at ctx.
func (p *Permit) Settle(ctx context.Context, o Outcome) (counted bool, err error) {
	r, err := p.report(ctx, &o)
	return r.Counted, err
}

// Report is [Permit.Settle] with the whole answer.
func (p *Permit) Report(ctx context.Context, o Outcome) (Report, error) { return p.report(ctx, &o) }

func (p *Permit) report(ctx context.Context, o *Outcome) (Report, error) {
	if p.permitBody == nil {
		return Report{}, unset("Permit")
	}
	if ctx == nil {
		return Report{}, unset("context")
	}
	if err := o.check(); err != nil {
		return Report{}, err
	}
	b := p.buffer
	switch {
	case !p.spend():
		return Report{}, ErrSettled
	case b != nil && b.joinable(o):
		return b.settle(o), nil
	}
	if p.carries != nil {
		o = p.carries.end(o)
	}
	if p.rides != nil {
		return p.rides.leave(o), nil
	}
	return p.m.settle(ctx, p.permitBody, *o)
}

// spend takes the one outcome that the permit owes, and reports whether it was still owed.
func (p *Permit) spend() bool {
	if p.buffer != nil {
		return atomic.CompareAndSwapUint32(&p.spent, 0, 1)
	}
	return p.settled.CompareAndSwap(false, true)
}

// Success is [Permit.Settle] with a success.
func (p *Permit) Success(ctx context.Context) (bool, error) {
	if p.permitBody != nil && p.buffer != nil && p.buffer.fastPath.Load() && !p.buffer.epochEnded.Load() {
		b := p.buffer
		if !atomic.CompareAndSwapUint32(&p.spent, 0, 1) {
			return false, ErrSettled
		}
		if b.outcomes.Success() {
			b.enqueue(false)
		}
		return true, nil
	}
	return p.Settle(ctx, Outcome{Kind: Success})
}

// Failure is [Permit.Settle] with a failure; class is the class of the error.
func (p *Permit) Failure(ctx context.Context, class string) (bool, error) {
	return p.Settle(ctx, Outcome{Kind: Failure, Class: class})
}

// Ignore is [Permit.Settle] with an outcome that does not count. It frees a probe's place [B4].
func (p *Permit) Ignore(ctx context.Context) (bool, error) {
	return p.Settle(ctx, Outcome{Kind: Ignored})
}

// Renew extends the lease of a probe [B12]; without a lease it does nothing. The error is ErrLeaseLost if the lease is
// lost, and the outcome late, or a [*StoreError].
func (p Permit) Renew(ctx context.Context) error {
	switch {
	case p.permitBody == nil:
		return unset("Permit")
	case ctx == nil:
		return unset("context")
	case p.kind == permitForeign:
		return fmt.Errorf("renew the probe of agent %q with another agent's permit: %w", p.agent, ErrLeaseLost)
	case p.token == "":
		return nil
	case p.m.isUntracked(ctx, p.permitBody):
		return fmt.Errorf("renew the probe of agent %q, which is not tracked: %w", p.agent, ErrLeaseLost)
	}
	r, err := p.m.apply(ctx, p.agent, p.m.policy(ctx, p.agent), machine.Op{
		Verb: machine.VerbRenew, Token: p.token, Epoch: p.epoch, Local: p.kind == permitLocal,
	})
	switch {
	case err != nil:
		return err
	case r.Code == machine.CodeOK:
		p.leaseMs.Store(r.LeaseMs)
		return nil
	case r.Degraded && p.kind != permitLocal: // the memory of this process does not know a lease of the store
		return &StoreError{
			Verb: machine.VerbRenew, Agent: p.agent,
			Err: errors.New("the lease may still be valid, but cannot be renewed now"),
		}
	}
	return fmt.Errorf("renew the probe of agent %q: %w", p.agent, ErrLeaseLost)
}

// Keep renews the lease of a probe in the background, each time a third of it has passed, until stop is called or the
// lease is lost [B12]. For a permit without a lease it does nothing. It uses the values of ctx but does not end with
// it: the caller must call stop. stop waits for a renewal in progress, may be called more than once, and does not
// settle the permit.
func (p Permit) Keep(ctx context.Context) (stop func()) {
	if p.Lease() <= 0 {
		return func() {}
	}
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(max(p.Lease()/3, time.Millisecond)):
			}
			if err := p.Renew(ctx); err != nil && ctx.Err() == nil {
				p.m.o.Logger.WarnContext(ctx, "probe lease not renewed", "agent", p.agent, "error", err)
				if errors.Is(err, ErrLeaseLost) {
					return
				}
			}
		}
	}()
	return func() { cancel(); <-done }
}
