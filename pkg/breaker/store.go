package breaker

import (
	"context"
	"errors"
	"fmt"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// Store keeps breakers. Implementations are safe for concurrent use. Redis, memory and the fallback are all Stores.
//
// Apply carries out one operation and answers from the state after it. Inspect shows the advanced state and saves nothing [B11].
// Both return within the context's deadline and the store's own, whichever is earlier; a store that cannot answer returns an
// error that is ErrStoreUnavailable, a *StoreError.
type Store interface {
	Apply(ctx context.Context, agent string, p Policy, op machine.Op) (machine.Result, error)
	Inspect(ctx context.Context, agent string, p Policy) (View, error)
}

// View is what Inspect shows: the advanced snapshot, the moment on the store's clock, and the agent's log, newest first.
type View struct {
	machine.Snapshot
	NowMs    int64
	Log      []Event
	Degraded bool // shown from this process's memory, because the store is away
}

// ErrStoreUnavailable is what every *StoreError is.
var ErrStoreUnavailable = errors.New("store unavailable")

// StoreError says which operation on which agent the store did not answer.
type StoreError struct {
	Verb    machine.Verb
	Agent   string
	Unknown bool // the operation may have been carried out: a time-out, a cut connection
	Err     error
}

func (e *StoreError) Error() string {
	what := "not done"
	if e.Unknown {
		what = "may have been done"
	}
	return fmt.Sprintf("%s of agent %q: store unavailable, %s: %v", e.Verb, e.Agent, what, e.Err)
}

// Unwrap gives the driver's error, and ErrStoreUnavailable.
func (e *StoreError) Unwrap() []error { return []error{ErrStoreUnavailable, e.Err} }
