package machine

// Verb names what a breaker is asked.
type Verb string

// The verbs of Step; each is one script. VerbInspect only advances.
const (
	VerbAcquire Verb = "acquire" // asks for a permit [B3]
	VerbRecord  Verb = "record"  // counts a Summary of outcomes [B5]
	VerbRenew   Verb = "renew"   // extends a lease [B12]
	VerbReplay  Verb = "replay"  // adds a Batch that was counted while the store was down [B26]
	VerbForce   Verb = "force"   // does what an operator asks [B17], [B18]
	VerbInspect Verb = "inspect" // shows the breaker [B11]
)

// Op is one operation on one agent's breaker. Every random draw is part of it, so that a history can be replayed [B1].
type Op struct {
	Verb  Verb
	Draw  string // 15 hex digits: the epoch of the n-th transition of this operation is Draw and the hex digit n
	Token string // 16 hex digits: the lease to take (acquire), settle (record) or renew; the batch (replay)

	// JitterPPM and RampPPM are draws from [0, Million): the jitter of an opening [B10], the call's place in a ramp
	// [B16].
	JitterPPM, RampPPM int64

	// ShiftMs is by how much the agent's buckets are shifted [B9]: [Params.Shift] of its name. The store sets it.
	ShiftMs int64

	// UselessAfterMs is the moment on the store's clock after which the caller of an acquire no longer waits, so that no
	// lease may be given [B12]. 0: not known.
	UselessAfterMs int64

	// Epoch is that of the permit (record, renew) or of the batch (replay). A record without an epoch settles the lease
	// of Token or nothing; one with neither has no permit [B15].
	Epoch    string
	Summary  Summary  // record; the zero Summary is an ignored outcome [B4]
	Batch    []Bucket // replay: at most twelve [B26]
	Reporter string   // record, replay: who saw the calls [B23]
	ReportID string   // record: an idempotency key; a second record with the same key changes nothing [B14]
	Force    Force

	// Local says that the permit's epoch was drawn without the store. Only breaker.Fallback sets and reads it.
	Local bool
}

// Bucket is what a replica counted in the bucket that starts at StartMs while the store was unavailable [B26].
type Bucket struct {
	StartMs int64
	Counts
}

// Force is an operator's action.
type Force struct {
	Target    Target
	LengthMs  int64 // of a hold; 0: without end
	RampMs    int64 // ResetClosed: the length of a gradual return [B16]
	Reason    string
	Actor     string // see [ValidWord]
	Address   string // the IP address that the actor asked from; "": unknown
	Protected bool   // the hold is lifted only with Override
	Override  bool   // lifts a protected hold, and does not yield
	Yield     Yield
	ID        string // 16 hex digits: a later Force of the agent with the same ID changes nothing, for a day; "": none
}

// Yield says which hold that stands a [Force] leaves as it is; its code is then [CodeHoldExists].
type Yield string

// The holds that a Force may yield to.
const (
	YieldNone   Yield = ""       // to none: it replaces or lifts whichever stands
	YieldOthers Yield = "others" // to that of another actor
	YieldAny    Yield = "any"    // to any
)

// Target is what a Force asks for.
type Target string

// The targets: two holds [B17], two resets [B18], and the end of a hold.
const (
	HoldOpen      Target = "hold_open"       // refuse all calls
	HoldClosed    Target = "hold_closed"     // admit all calls
	ResetClosed   Target = "reset_closed"    // lift a hold, begin anew as closed
	ResetHalfOpen Target = "reset_half_open" // lift a hold, begin a round of probes
	Release       Target = "release"         // as the hold's own end: from open to half-open, from closed to fresh closed
)

// Result answers an Op.
type Result struct {
	Code         Code
	State        State  // after the operation
	Epoch        string // after the operation; acquire: that of the permit
	NowMs        int64  // the store's clock; 0 in a fast answer that did not read it
	RetryAfterMs int64  // refused: what is left of the wait [B3]
	LeaseMs      int64  // acquire, renew: what is left of the probe's lease; 0: no lease
	Reason       Reason // why a call was refused, or would have been [B21]; why a batch is lost [B26]
	Probe        bool   // record: a lease was settled
	Counted      int64  // replay: the calls that count; of a duplicate, those of the first time
	Events       []Event

	// Fast says that the store read only what the answer needed. Nothing was repaired, advanced or renewed.
	Fast bool
	// Plain says that the next acquire is admitted too unless something changes: the breaker is closed without hold and
	// ramp. False says nothing.
	Plain bool

	// Run, Hold and LeftMs (what is left of the wait or hold) are what breaker.Fallback needs to go on from here.
	Run    int64
	Hold   State
	LeftMs int64

	Degraded bool // answered without the store
	Unknown  bool // the store may have carried the operation out all the same
	Repeated bool // the answer is to the second copy of the operation, and the first may have been carried out
	Local    bool // Epoch was drawn without the store, which will never know it

	// Unsent is the epoch in which the store may still count the outcome of a record that was answered without it [B26];
	// "": in none.
	Unsent string
}

// Code is how an operation ended.
type Code string

// The codes.
const (
	CodeOK            Code = "ok"             // admitted, counted, renewed or forced
	CodeRefused       Code = "refused"        // acquire: Reason and RetryAfterMs say why and for how long
	CodeObserved      Code = "observed"       // acquire: admitted, because mode observe refuses nothing [B21]
	CodeDisabled      Code = "disabled"       // the policy switches the machine off [B21]
	CodeIgnored       Code = "ignored"        // record: nothing to count [B4], [B15]
	CodeLate          Code = "late"           // record: the permit's epoch or lease has ended [B14]
	CodeForeign       Code = "foreign"        // record: the permit is not one of this breaker [B14]
	CodeDuplicate     Code = "duplicate"      // a ReportID, batch or Force.ID that was taken before [B14], [B26]
	CodeLost          Code = "lost"           // replay: see Reason; record: answered without the store
	CodeExpired       Code = "expired"        // acquire: a lease was free, but UselessAfterMs is past [B12]
	CodeLeaseLost     Code = "lease_lost"     // renew: the lease has ended
	CodeHoldProtected Code = "hold_protected" // force, without Override
	CodeHoldExists    Code = "hold_exists"    // force: it yields to the hold that stands
	CodeNotHeld       Code = "not_held"       // force: there is no hold to release
)

// Reason says why a call was refused [B3], or why a batch is lost [B26].
type Reason string

// The reasons of a refusal [B3].
const (
	ReasonOpen             Reason = "open"              // the wait is not over [B10]
	ReasonForcedOpen       Reason = "forced_open"       // an operator holds it open [B17]
	ReasonProbesBusy       Reason = "probes_busy"       // all places of the round are taken [B12]
	ReasonRamping          Reason = "ramping"           // the draw is beyond the share that the ramp admits [B16]
	ReasonShedding         Reason = "shedding"          // breaker.Gate admits a share; no store does
	ReasonEmergencyStop    Reason = "emergency_stop"    // breaker.Gate admits nothing; no store does
	ReasonStoreUnavailable Reason = "store_unavailable" // breaker.Fallback refuses; no store does
)

// Why a whole batch is lost [B26].
const (
	lostEpoch    Reason = "epoch"    // its epoch has ended
	lostOpen     Reason = "open"     // the breaker is not closed
	lostExpired  Reason = "expired"  // all its buckets have left the window
	lostDisabled Reason = "disabled" // the policy switches the machine off
)
