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
	VerbReplay  Verb = "replay"
	VerbForce   Verb = "force"
	VerbLook    Verb = "look"
)

// Op is one operation on one agent's breaker. Every random draw is part of it, so that a history can be replayed [B1].
type Op struct {
	Verb  Verb
	Draw  string // 15 hex digits; the n-th transition of this operation takes Draw and the digit n as its epoch
	Token string // 16 hex digits: the lease to take (acquire), to settle (record), to renew; of a batch (replay)
	// JitterPPM and RampPPM are draws from [0, 1000000): the jitter of an opening [B10], the place in a ramp [B16].
	JitterPPM, RampPPM int64
	// ShiftMs moves the starts of the agent's buckets [B9]: Shift of its name. The Store sets it.
	ShiftMs int64

	UselessAfterMs int64 // acquire: from then on, on the store's clock, nobody waits for a lease [B12]; 0: not known

	Epoch    string   // record, renew, replay: the permit's epoch; "" with a Token: that lease or nothing; else no permit [B15]
	Summary  Summary  // record; the zero Summary is an ignored outcome [B4]
	Batch    []Bucket // replay: at most twelve [B26]
	Reporter string   // record, replay: who saw it [B23]
	ReportID string   // record: an idempotency key; a second record that carries it changes nothing [B14]

	Force Force

	// Local says that the permit's epoch was drawn while the store was away; it is for the Fallback alone.
	Local bool
}

// Bucket is what a replica counted while the store was away, in the bucket that began at StartMs [B26].
type Bucket struct {
	StartMs int64
	Counts
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
	CodeDuplicate     Code = "duplicate"      // record, replay: this ReportID or batch was taken before [B14], [B26]
	CodeLost          Code = "lost"           // record: the store was away, or never saw the permit's epoch; replay: see Reason
	CodeExpired       Code = "expired"        // acquire: UselessAfterMs is past, and a lease would have been given [B12]
	CodeLeaseLost     Code = "lease_lost"     // renew
	CodeHoldProtected Code = "hold_protected" // force, without Override
)

// Why a batch is lost as a whole [B26]; Result.Reason.
const (
	LostEpoch    Reason = "epoch"    // its epoch is over
	LostOpen     Reason = "open"     // the breaker is not closed
	LostExpired  Reason = "expired"  // all its buckets have left the window
	LostDisabled Reason = "disabled" // the machine is off for this agent
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
	Counted      int64  // replay: the calls that count; of a duplicate, those of the first time
	Fast         bool   // only what the answer needed was read; nothing was repaired, advanced or renewed
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
	EventExternalEdit = "hand_edit"
	EventEditUndone   = "hand_restored"
	EventRepaired     = "healed"
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
	Slow     int64
	Text     string // cause or reason, whole
}

// String is the event as the log, the channel and the streams carry it: "at_ms kind from>to epoch actor failures/calls/run/slow text".
func (e Event) String() string {
	return fmt.Sprintf("%d %s %s>%s %s %s %d/%d/%d/%d %s",
		e.AtMs, e.Kind, e.From, e.To, e.Epoch, e.Actor, e.Failures, e.Calls, e.Run, e.Slow, e.Text)
}

// Manual says whether a person brought the event about; those stand in the audit stream too.
func (e Event) Manual() bool {
	switch e.Kind {
	case EventManualOpen, EventManualClose, EventManualReset, EventExternalEdit, EventEditUndone, EventConfigured, EventForgotten:
		return true
	}
	return false
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
	if err != nil || !ok || len(n) != 4 && len(n) != 3 { // three: a line of before slow calls were told
		return e, false
	}
	var v [4]int64
	for i := range n {
		if v[i], err = strconv.ParseInt(n[i], 10, 64); err != nil {
			return e, false
		}
	}
	return Event{
		AtMs: at, Kind: f[1], From: State(from), To: State(to), Epoch: f[3], Actor: f[4],
		Failures: v[0], Calls: v[1], Run: v[2], Slow: v[3], Text: f[6],
	}, true
}
