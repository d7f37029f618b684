package breaker

import "github.com/breakerd/breakerd/pkg/breaker/machine"

// Callers of agents need these parts of package machine.
type (
	// State is the state of a breaker: Closed, Open or HalfOpen. Its zero value means that no state is known.
	State = machine.State
	// Reason says why a call was refused, as in [OpenError].
	Reason = machine.Reason
	// Force is what [Manager.Force] does for an operator; Open, Reset and Release of a Manager are simpler forms of it.
	Force = machine.Force
	// Target is what a [Force] brings about.
	Target = machine.Target
	// Yield says to which hold that stands a [Force] yields.
	Yield = machine.Yield
	// Event is one line of an agent's log: a transition, a manual action, an edit of its keys, a repair.
	Event = machine.Event
)

// The states of a breaker [B2].
const (
	Closed   = machine.Closed   // calls are admitted
	Open     = machine.Open     // calls are refused until the wait is over
	HalfOpen = machine.HalfOpen // a few calls are admitted as probes
)

// The reasons of a refusal [B3]; see also [ReasonTooManyAgents].
const (
	ReasonOpen             = machine.ReasonOpen             // the breaker is open, and its wait is not over
	ReasonForcedOpen       = machine.ReasonForcedOpen       // an operator holds the breaker open
	ReasonProbesBusy       = machine.ReasonProbesBusy       // it is half-open, and all probes of the round are out
	ReasonRamping          = machine.ReasonRamping          // it has just closed, and admits a share of the calls
	ReasonShedding         = machine.ReasonShedding         // see Gate
	ReasonEmergencyStop    = machine.ReasonEmergencyStop    // see Gate
	ReasonStoreUnavailable = machine.ReasonStoreUnavailable // the store is down, and OnStoreErrorDeny
)

// The targets of a [Force]: two holds [B17], two resets [B18], and the end of a hold.
const (
	HoldOpen      = machine.HoldOpen      // refuse all calls
	HoldClosed    = machine.HoldClosed    // admit all calls, whatever their outcomes
	ResetClosed   = machine.ResetClosed   // lift a hold, and begin anew as closed
	ResetHalfOpen = machine.ResetHalfOpen // lift a hold, and let probes decide
	ReleaseHold   = machine.Release       // end a hold as its own end would
)

// The holds that a [Force] yields to: the error is then [ErrHoldExists].
const (
	YieldNone   = machine.YieldNone   // none: it replaces or lifts whichever stands
	YieldOthers = machine.YieldOthers // that of another actor
	YieldAny    = machine.YieldAny    // any
)

// ValidName reports whether s may be the name of an agent. A name has 1 to 128 characters of A-Z a-z 0-9 . _ : @ - and
// begins with a letter or a digit.
func ValidName(s string) bool { return machine.ValidName(s) }

// ValidWord reports whether s may name a reporter or an actor: 1 to 64 of A-Z a-z 0-9 . _ : @ -.
func ValidWord(s string) bool { return machine.ValidWord(s) }
