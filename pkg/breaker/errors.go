package breaker

import (
	"errors"
	"fmt"
	"time"
)

// Errors that callers may test for with errors.Is. See also [OpenError], [StoreError], [PolicyError] and [ForceError].
var (
	// ErrOpen is what every [*OpenError] is: the breaker refuses the call, which was not made.
	ErrOpen = errors.New("circuit breaker refuses the call")
	// ErrUnset means that something required is nil or zero: a context, a function, a Store, or a Manager, Agent, Classic
	// or Permit that does not come from this package. Nothing was asked, called or counted.
	ErrUnset = errors.New("not set: nil, or a zero value")
	// ErrBadOutcome means that an outcome has no valid Kind, or a bad Reporter. Nothing was counted, and the permit still
	// owes its outcome.
	ErrBadOutcome = errors.New("bad outcome: want the kind success, failure or ignored")
	// ErrBadName means that a name does not fit an agent; see ValidName.
	ErrBadName = errors.New("bad agent name: want 1 to 128 of A-Z a-z 0-9 . _ : @ -, first a letter or digit")
	// ErrBadPermit means that a text is not from Permit.String.
	ErrBadPermit = errors.New("bad permit: want the text that acquire gave, v1.<state>.<epoch>.<token>.<agent tag>")
	// ErrLeaseLost means that a probe's lease lapsed or was settled, or that its round is over [B12].
	ErrLeaseLost = errors.New("lease lost: it ran out, was settled, or its round is over")
	// ErrSettled means that a permit has its outcome already [B14].
	ErrSettled = errors.New("permit is settled already")
	// ErrManagerClosed ends [Manager.Wait]: nobody watches the breaker any more.
	ErrManagerClosed = errors.New("the Manager is closed")
	// ErrHoldProtected means that a protected hold is in force, which only Force.Override lifts [B17].
	ErrHoldProtected = errors.New("hold is protected: lift it with force")
	// ErrHoldExists means that a hold stands to which [Force] yields.
	ErrHoldExists = errors.New("a hold stands already: replace it with force")
	// ErrNotHeld means that there is no hold to release [B17]. It may have expired.
	ErrNotHeld = errors.New("breaker is not held")
)

// OpenError is a refusal [B3]. It is [ErrOpen].
type OpenError struct {
	Agent    string
	State    State         // "" if the breaker itself did not refuse, as with ReasonStoreUnavailable
	Reason   Reason        // one of the constants Reason…
	Wait     time.Duration // until it makes sense to ask again, as RetryAfter returns it
	Degraded bool          // this process refused without the store, which is down
}

func (e *OpenError) Error() string {
	return fmt.Sprintf("circuit breaker of agent %q refuses the call (%s): retry in %.1f seconds",
		e.Agent, e.Reason, e.Wait.Seconds())
}

// RetryAfter returns how long to wait before it makes sense to ask again. The breaker may have closed before that, and
// [Manager.Wait] returns then.
func (e *OpenError) RetryAfter() time.Duration { return e.Wait }

// Is reports whether target is [ErrOpen], or [ErrTooManyAgents] and that is the reason, for errors.Is.
func (e *OpenError) Is(target error) bool {
	return target == ErrOpen || target == ErrTooManyAgents && e.Reason == ReasonTooManyAgents
}
