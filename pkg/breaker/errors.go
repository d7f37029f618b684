package breaker

import (
	"errors"
	"fmt"
	"time"
)

// Errors of a Manager; test with errors.Is. A refusal is an *OpenError; a store that does not answer a *StoreError.
var (
	// ErrBadName: an agent's name is 1 to 128 of A-Z a-z 0-9 . _ : @ -, and begins with a letter or digit.
	ErrBadName = errors.New("bad agent name: want 1 to 128 of A-Z a-z 0-9 . _ : @ -, first a letter or digit")
	// ErrBadPermit: a text that Permit.String did not make.
	ErrBadPermit = errors.New("bad permit: want the text that acquire gave, v1.<state>.<epoch>.<token>.<agent tag>")
	// ErrLeaseLost: the probe's lease ran out, was settled, or its round is over [B12].
	ErrLeaseLost = errors.New("lease lost: it ran out, was settled, or its round is over")
	// ErrSettled: this permit has had its outcome [B14].
	ErrSettled = errors.New("permit is settled already")
	// ErrHoldProtected: a protected hold stands; it is lifted only with Override [B17].
	ErrHoldProtected = errors.New("hold is protected: lift it with force")
)

// OpenError is a refusal [B3]. State is "" where the breaker itself did not refuse (store_unavailable).
type OpenError struct {
	Agent      string
	State      State
	Reason     Reason
	RetryAfter time.Duration // when it makes sense to ask again
	Degraded   bool          // refused by this process alone, for the store is away
}

func (e *OpenError) Error() string {
	return fmt.Sprintf("circuit breaker of agent %q refuses the call (%s): retry in %.1f seconds", e.Agent, e.Reason, e.RetryAfter.Seconds())
}
