package breaker

import (
	"errors"
	"fmt"
	"time"
)

// Errors that callers may test for with errors.Is. See also [OpenError], [StoreError] and [PolicyError].
var (
	// ErrBadName means that a name does not fit an agent; see ValidName.
	ErrBadName = errors.New("bad agent name: want 1 to 128 of A-Z a-z 0-9 . _ : @ -, first a letter or digit")
	// ErrBadPermit means that a text is not from Permit.String.
	ErrBadPermit = errors.New("bad permit: want the text that acquire gave, v1.<state>.<epoch>.<token>.<agent tag>")
	// ErrLeaseLost means that a probe's lease lapsed or was settled, or that its round is over [B12].
	ErrLeaseLost = errors.New("lease lost: it ran out, was settled, or its round is over")
	// ErrSettled means that a permit has its outcome already [B14].
	ErrSettled = errors.New("permit is settled already")
	// ErrHoldProtected means that a protected hold is in force, which only Force.Override lifts [B17].
	ErrHoldProtected = errors.New("hold is protected: lift it with force")
)

// OpenError is a refusal [B3].
type OpenError struct {
	Agent      string
	State      State // "" if the breaker itself did not refuse, as with ReasonStoreUnavailable
	Reason     Reason
	RetryAfter time.Duration // when it makes sense to ask again
	Degraded   bool          // this process refused without the store, which is down
}

func (e *OpenError) Error() string {
	return fmt.Sprintf("circuit breaker of agent %q refuses the call (%s): retry in %.1f seconds",
		e.Agent, e.Reason, e.RetryAfter.Seconds())
}
