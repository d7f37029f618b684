package breaker

import (
	"context"
	"errors"
	"fmt"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// Store keeps breakers and applies operations to them. Implementations are safe for concurrent use; package storetest
// checks them. Redis (package redisstore), [Memory] and [Fallback] are Stores.
//
// Both methods return within the deadline of ctx, and within the store's own if that is earlier. A store that is down
// returns a [*StoreError].
type Store interface {
	// Apply applies op to the agent's breaker in one atomic step, and returns the answer from the state after it.
	Apply(ctx context.Context, agent string, p Policy, op machine.Op) (machine.Result, error)
	// Inspect returns the agent's breaker, advanced to now, and saves nothing [B11].
	Inspect(ctx context.Context, agent string, p Policy) (View, error)
}

// View is what [Store].Inspect returns.
type View struct {
	machine.Snapshot

	NowMs    int64   // the store's clock, in milliseconds since 1970
	Log      []Event // newest first
	Degraded bool    // from this process's memory, for the store is down
}

// ErrStoreUnavailable is wrapped by every [*StoreError].
var ErrStoreUnavailable = errors.New("store unavailable")

// StoreError says that the store did not answer an operation. It wraps ErrStoreUnavailable and Err.
type StoreError struct {
	Verb  machine.Verb
	Agent string
	// Unknown: the operation may have been applied: the store did not answer in time, or the connection broke.
	Unknown bool
	// Cut: the connection broke. That may be this connection's alone: a ping tells whether the store is down.
	Cut bool
	// Refused: the store answered, and refuses this operation: keys of another type, an ACL, an error in a script. It
	// says nothing about other agents, and the operation does not count.
	Refused bool
	Err     error // the driver's error
}

func (e *StoreError) Error() string {
	what := "not done"
	if e.Unknown {
		what = "may have been done"
	}
	return fmt.Sprintf("%s of agent %q: store unavailable, %s: %v", e.Verb, e.Agent, what, e.Err)
}

// Unwrap returns ErrStoreUnavailable and e.Err.
func (e *StoreError) Unwrap() []error { return []error{ErrStoreUnavailable, e.Err} }
