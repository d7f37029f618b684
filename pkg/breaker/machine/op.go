package machine

import (
	"fmt"
	"strconv"
	"strings"
)

// Verb names what is asked of a breaker; each is one script.
type Verb string

// The verbs of Step. Look only advances, and is what Inspect uses.
const (
	VerbAcquire Verb = "acquire"
	VerbRecord  Verb = "record"
	VerbRenew   Verb = "renew"
	VerbForce   Verb = "force"
	VerbLook    Verb = "look"
)

// Op is one operation on one agent's breaker. Every random draw is part of it, so that a history can be replayed [B1].
type Op struct {
	Verb  Verb
	Draw  string // 15 hex digits; the n-th transition of this operation takes Draw and the digit n as its epoch
	Token string // 16 hex digits: the lease to take (acquire), to settle (record), to renew
	// JitterPPM and RampPPM are draws from [0, 1000000): the jitter of an opening [B10], the place in a ramp [B16].
	JitterPPM, RampPPM int64

	Epoch    string  // record, renew: the permit's epoch; "" is an outcome without a permit [B15]
	Summary  Summary // record; the zero Summary is an ignored outcome [B4]
	Reporter string  // record: who saw it [B23]
	ReportID string  // record: an idempotency key; a second record that carries it changes nothing [B14]

	Force Force

	// Local says that the permit's epoch was drawn while the store was away; it is for the Fallback alone.
	Local bool
}

// Target is what an operator asks of a breaker.
type Target string

// The targets: two holds [B17] and two resets [B18].
const (
	HoldOpen      Target = "hold_open"
	HoldClosed    Target = "hold_closed"
	ResetClosed   Target = "reset_closed"
	ResetHalfOpen Target = "reset_half_open"
)

// Force is an operator's verb.
type Force struct {
	Target    Target
	LengthMs  int64 // of a hold; 0: without end
	RampMs    int64 // ResetClosed: a gradual return of that length
	Reason    string
	Actor     string // a word: letters, digits, . _ : @ -
	Protected bool   // the hold is lifted only with Override
	Override  bool   // lifts a protected hold
}

// Code is how an operation ended.
type Code string

// The codes. OK: admitted, counted, renewed or forced.
const (
	CodeOK            Code = "ok"
	CodeRefused       Code = "refused"        // acquire: Reason and RetryAfterMs say why and how long
	CodeObserved      Code = "observed"       // acquire in mode observe: admitted, would have been refused [B21]
	CodeDisabled      Code = "disabled"       // the machine is off for this agent [B21]
	CodeIgnored       Code = "ignored"        // record: nothing to count [B4], [B15]
	CodeLate          Code = "late"           // record: the epoch is over, or the lease [B14]
	CodeForeign       Code = "foreign"        // record: not a permit of this breaker [B14]
	CodeDuplicate     Code = "duplicate"      // record: this ReportID was counted before [B14]
	CodeLost          Code = "lost"           // record: the store was away, or never saw the permit's epoch
	CodeLeaseLost     Code = "lease_lost"     // renew
	CodeHoldProtected Code = "hold_protected" // force, without Override
)

// Result answers an Op.
type Result struct {
	Code         Code
	State        State
	Epoch        string
	NowMs        int64  // the store's clock when it answered
	RetryAfterMs int64  // refused: what is left of the wait [B3]
	LeaseMs      int64  // acquire, renew: what is left of the probe's lease; 0: no lease
	Reason       Reason // refused, or in mode observe what would have been the reason
	Probe        bool   // record: a lease was settled
	Plain        bool   // acquire: admitted by a closed breaker without hold and ramp, as the next would be; false says nothing
	Events       []Event
	// What the fallback needs to go on from here when the store goes away: the run, and how long the wait or hold still lasts.
	Run      int64
	Hold     State
	LeftMs   int64
	Degraded bool // answered without the store
	Unknown  bool // the store may have carried it out all the same
	Local    bool // Epoch was drawn without the store, which will never know it
}

// Event kinds, as they stand in the log and in the attribute event=circuit_breaker.<kind>.
const (
	EventOpened       = "opened"
	EventHalfOpened   = "half_opened"
	EventClosed       = "closed"
	EventManualOpen   = "manual_open"
	EventManualClose  = "manual_close"
	EventManualReset  = "manual_reset"
	EventHoldExpired  = "hold_expired"
	EventHandEdit     = "hand_edit"
	EventHandRestored = "hand_restored"
	EventHealed       = "healed"
	EventConfigured   = "configured"
	EventForgotten    = "forgotten"
)

// Event is one line of an agent's log.
type Event struct {
	AtMs     int64 // when it fell due, which may be before it was noticed [B11]
	Kind     string
	From, To State
	Epoch    string
	Actor    string // "-": the machine
	Failures int64
	Calls    int64
	Run      int64
	Text     string // cause or reason, whole
}

// String is the event as the log and the channel carry it: "at_ms kind from>to epoch actor failures/calls/run text".
func (e Event) String() string {
	return fmt.Sprintf("%d %s %s>%s %s %s %d/%d/%d %s", e.AtMs, e.Kind, e.From, e.To, e.Epoch, e.Actor, e.Failures, e.Calls, e.Run, e.Text)
}

// ParseEvent reads what String wrote. ok is false for anything else, such as a line that a hand put into the log.
func ParseEvent(line string) (e Event, ok bool) {
	f := strings.SplitN(line, " ", 7)
	if len(f) != 7 {
		return e, false
	}
	at, err := strconv.ParseInt(f[0], 10, 64)
	from, to, ok := strings.Cut(f[2], ">")
	n := strings.Split(f[5], "/")
	if err != nil || !ok || len(n) != 3 {
		return e, false
	}
	var v [3]int64
	for i := range n {
		if v[i], err = strconv.ParseInt(n[i], 10, 64); err != nil {
			return e, false
		}
	}
	return Event{
		AtMs: at, Kind: f[1], From: State(from), To: State(to), Epoch: f[3], Actor: f[4],
		Failures: v[0], Calls: v[1], Run: v[2], Text: f[6],
	}, true
}
