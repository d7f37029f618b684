package breaker

import "github.com/breakerd/breakerd/pkg/breaker/machine"

// Callers of agents need these parts of package machine.
type (
	// State is [machine.State].
	State = machine.State
	// Reason is [machine.Reason].
	Reason = machine.Reason
	// Force is [machine.Force].
	Force = machine.Force
	// Target is [machine.Target].
	Target = machine.Target
	// Event is [machine.Event].
	Event = machine.Event
)

// The states of a breaker [B2].
const (
	Closed   = machine.Closed
	Open     = machine.Open
	HalfOpen = machine.HalfOpen
)

// The reasons of a refusal [B3].
const (
	ReasonOpen             = machine.ReasonOpen
	ReasonForcedOpen       = machine.ReasonForcedOpen
	ReasonProbesBusy       = machine.ReasonProbesBusy
	ReasonRamping          = machine.ReasonRamping
	ReasonShedding         = machine.ReasonShedding
	ReasonEmergencyStop    = machine.ReasonEmergencyStop
	ReasonStoreUnavailable = machine.ReasonStoreUnavailable
)

// The targets of a [Force]: two holds [B17] and two resets [B18].
const (
	HoldOpen      = machine.HoldOpen
	HoldClosed    = machine.HoldClosed
	ResetClosed   = machine.ResetClosed
	ResetHalfOpen = machine.ResetHalfOpen
)

// ValidName reports whether s may be the name of an agent. A name has 1 to 128 characters of A-Z a-z 0-9 . _ : @ - and
// begins with a letter or a digit.
func ValidName(s string) bool { return machine.ValidName(s) }

// ValidWord reports whether s may name a reporter or an actor: 1 to 64 of A-Z a-z 0-9 . _ : @ -.
func ValidWord(s string) bool { return machine.ValidWord(s) }
