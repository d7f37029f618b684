package machine

import "strings"

// State is the position of one agent's breaker. Its text is what Redis holds.
type State string

// The three states [B2]. The zero value "" means "not known yet" and is never stored.
const (
	Closed   State = "closed"
	Open     State = "open"
	HalfOpen State = "half_open"
)

// Upper is the state as JSON shows it: CLOSED, OPEN, HALF_OPEN.
func (s State) Upper() string { return strings.ToUpper(string(s)) }

// Number is the state as the metric circuit_breaker_state shows it: 0 closed, 1 open, 2 half-open.
func (s State) Number() int {
	switch s {
	case Open:
		return 1
	case HalfOpen:
		return 2
	default:
		return 0
	}
}

// ParseState reads a state in either case ("OPEN" or "open").
func ParseState(text string) (State, bool) {
	s := State(strings.ToLower(text))
	return s, s.valid()
}

func (s State) valid() bool { return s == Closed || s == Open || s == HalfOpen }

// ZeroEpoch is the epoch of a breaker that has never made a transition [B2].
const ZeroEpoch = "0000000000000000"

// Reason says why a call was refused [B3].
type Reason string

// The reasons of a refusal [B3].
const (
	ReasonOpen             Reason = "open"
	ReasonForcedOpen       Reason = "forced_open"
	ReasonProbesBusy       Reason = "probes_busy"
	ReasonRamping          Reason = "ramping"
	ReasonShedding         Reason = "shedding"
	ReasonEmergencyStop    Reason = "emergency_stop"
	ReasonStoreUnavailable Reason = "store_unavailable"
)

// Causes of an opening that the machine itself finds [B10]; an operator's opening carries the operator's text.
const (
	CauseConsecutive  = "consecutive_failures"
	CauseFailureRate  = "failure_rate"
	CauseSlowRate     = "slow_rate"
	CauseProbeFailed  = "probe_failed"
	CauseUpstream     = "upstream_retry_after"
	CauseExternalEdit = "hand_edit"
)

// Snapshot is everything the machine knows of one agent's breaker. It is a value: Step takes one and returns one.
// All times are milliseconds of the Redis server's clock; a field whose name ends in Ms beside one that ends in
// LengthMs is a start and its length [B1].
type Snapshot struct {
	Present bool // false: no keys at all, which means closed [B2]
	State   State
	Epoch   string // 16 hex digits, new with every transition

	Run     int64 // consecutive failures, at most 255 [B6]
	Reopens int64 // openings since it was last closed, less the first [B10]

	OpenedMs   int64 // when it opened; 0 while closed, or after somebody deleted the timestamp
	WaitMs     int64 // how long it stays open; 0 under a hold without end
	Wait       Wait  // what WaitMs is made of
	Cause      string
	FirstCause string // of the opening that began this episode, where it is not Cause; "" once closed
	Evidence   Evidence

	UpstreamMs       int64 // upstream Retry-After: when it was said, and how long [B22]
	UpstreamLengthMs int64

	Round Round
	Ramp  Ramp
	Hold  Hold

	Successes   int64 // lifetime totals of counted outcomes; :control holds what the buckets do not
	Failures    int64
	Transitions int64

	ExpiresMs int64 // when all keys expire; 0: never [B25]

	Buckets   map[int64]Counts // start of the bucket -> counts [B9]
	Reporters map[string]int64 // reporter -> its last failure [B23]
	Leases    map[string]Lease // token -> lease, half-open only [B12]

	Cache Cache

	// What a Step has done besides, for Save: nothing of it is loaded.
	Wiped  Wiped
	Folded map[int64]Counts // minute since 1970 -> buckets that left the window in it, for :history
}

// Cache is what :control keeps of the window for the next record: the sums of all buckets but the newest, as text, and the rule
// (Params.Rule) under which no threshold was reached. parsePast reads the text.
type Cache struct{ Rule, Past string }

// Wiped says which keys a transition has emptied as a whole, unknown fields included.
type Wiped struct{ Calls, Probes bool }

// Wait is what the length of an opening is made of [B10]: BaseMs is the time-out after its multiplications, JitterMs comes on
// top, UpstreamMs is what was left of an upstream's Retry-After. The wait is the larger of the first two together and the third.
type Wait struct{ BaseMs, JitterMs, UpstreamMs int64 }

// Loaded is a breaker as it was found in the keys: the snapshot, and what Step has yet to do about somebody's edit and about what
// could not be believed. A breaker that Step itself gave is Loaded{Snapshot: s}.
type Loaded struct {
	Snapshot
	Edit    Edit
	Repairs Repairs
}

// Edit is an edit of the keys from outside, noticed by Load and carried out by Step, which has the policy and the draw [B19].
type Edit struct {
	To        State  // the state that the edit asks for; "" none
	Text      string // what was seen, for the log
	Manual    bool   // false: keys without :control, which are believed as they are
	Timestamp bool   // the timestamp was edited
}

// Repairs counts the bad fields of each key, which Save takes out [B20].
type Repairs struct{ State, Timestamp, Control, Calls, Probes int }

// Evidence is what was in the window, or in the round, when the breaker opened.
type Evidence struct{ Failures, Calls, Slow, Run int64 }

// Counts is one bucket of the window.
type Counts struct{ Successes, Failures, Slow int64 }

func (c Counts) plus(o Counts) Counts {
	return Counts{c.Successes + o.Successes, c.Failures + o.Failures, c.Slow + o.Slow}
}

// Round is one half-open round: size and need are fixed on entry, so that a policy change never wedges it [B12].
type Round struct {
	StartMs               int64
	Max, Need, OK, Failed int64
	Slow                  int64 // of OK and Failed, those that were slow [B13]
}

// Ramp is a gradual return after closing [B16]. LengthMs 0: none.
type Ramp struct{ StartMs, LengthMs, FloorPPM int64 }

// Hold is an operator's decision that outranks the machine [B17].
type Hold struct {
	Kind      State // Open, Closed, or "" for none
	StartMs   int64
	LengthMs  int64 // 0: without end
	Actor     string
	Protected int64 // 1: lifted only with Override
}

// Lease is one probe's place in a round [B12].
type Lease struct{ IssuedMs, StartMs, LengthMs int64 }

// renewed says that the lease was renewed: its deadline is not when its place becomes free [B3].
func (l Lease) renewed() bool     { return l.StartMs > l.IssuedMs }
func (l Lease) deadlineMs() int64 { return l.StartMs + l.LengthMs }
func (h Hold) deadlineMs() int64  { return h.StartMs + h.LengthMs }

// DeadlineMs is when an open breaker turns half-open by itself; 0 when it does not (closed, half-open, or a hold without end).
func (s Snapshot) DeadlineMs() int64 {
	switch {
	case s.Hold.Kind != "":
		if s.Hold.LengthMs == 0 {
			return 0
		}
		return s.Hold.deadlineMs()
	case s.State == Open:
		return s.OpenedMs + s.WaitMs
	default:
		return 0
	}
}

// Window sums the buckets that count at nowMs for a window of windowMs [B9].
func (s Snapshot) Window(nowMs, windowMs int64) Counts {
	var sum Counts
	for start, c := range s.Buckets {
		if nowMs-windowMs < start && start <= nowMs {
			sum = sum.plus(c)
		}
	}
	return sum
}
