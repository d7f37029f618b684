package machine

import (
	"maps"
	"strings"
)

// State is the state of one agent's breaker, as Redis holds it.
type State string

// The three states [B2]. A stored state is one of these; the zero value "" means that no state is known.
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

// Causes of an opening that the machine itself finds [B10]. An operator's opening carries the operator's text.
const (
	causeConsecutive  = "consecutive_failures"
	causeFailureRate  = "failure_rate"
	causeSlowRate     = "slow_rate"
	causeProbeFailed  = "probe_failed"
	causeUpstream     = "upstream_retry_after"
	causeExternalEdit = "hand_edit"
)

// Snapshot is one agent's breaker at one moment. It is a value: [Step] takes one and returns another.
//
// All times are milliseconds of the store's clock. A field …Ms beside a field …LengthMs is a start and its length [B1].
type Snapshot struct {
	Present bool // false: the agent has no keys, which means closed [B2]
	State   State
	Epoch   string // 16 hex digits, new with every transition

	Run     int64 // consecutive failures, at most MaxRun [B6]
	Reopens int64 // openings since it was last closed, less the first [B10]

	OpenedMs   int64 // when it opened; 0 while closed, or after somebody deleted the timestamp [B19]
	WaitMs     int64 // how long it stays open; 0 under a hold without end
	Wait       Wait  // the parts of WaitMs
	Cause      string
	FirstCause string // the cause that began this episode, where it is not Cause; "" once closed
	Evidence   Evidence

	UpstreamMs       int64 // when an upstream last sent Retry-After [B22]
	UpstreamLengthMs int64

	Round Round
	Ramp  Ramp
	Hold  Hold

	Successes   int64 // lifetime totals of counted outcomes, those in Buckets included
	Failures    int64
	Transitions int64

	ExpiresMs int64 // when all keys expire; 0: never [B25]

	Buckets   map[int64]Counts // by start [B9]
	Reporters map[string]int64 // reporter → its last failure [B23]
	Leases    map[string]Lease // by token, half-open only [B12]

	cache cache

	// The rest is what a Step leaves for Save. Load never fills it.
	cleared struct{ calls, probes bool } // keys that a transition empties, unknown fields included
	pruned  map[int64]Counts             // minute since 1970 → the buckets that left the window, for :history
}

// cache is what :control keeps of the window for the next record: the sums of all buckets but the newest, as
// [cachedSums] writes them, and the rule ([Params.Rule]) under which they reach no threshold.
type cache struct{ rule, past string }

// Wait is what the length of an opening is made of [B10]. BaseMs is the timeout after its multiplications, JitterMs is
// added to it, UpstreamMs is what was left of an upstream's Retry-After. The wait is max(BaseMs + JitterMs,
// UpstreamMs).
type Wait struct{ BaseMs, JitterMs, UpstreamMs int64 }

// Evidence is what the window, or the round, held when the breaker opened.
type Evidence struct{ Failures, Calls, Slow, Run int64 }

// Counts is what one bucket counts.
type Counts struct{ Successes, Failures, Slow int64 }

func (c Counts) plus(o Counts) Counts {
	return Counts{c.Successes + o.Successes, c.Failures + o.Failures, c.Slow + o.Slow}
}

// Round is one half-open round. Max and Need are fixed when it begins, so that a change of policy cannot make it
// endless [B12].
type Round struct {
	StartMs               int64
	Max, Need, OK, Failed int64
	Slow                  int64 // how many of OK and Failed were slow [B13]
}

// Ramp is a gradual return after closing [B16]. LengthMs 0: none.
type Ramp struct{ StartMs, LengthMs, FloorPPM int64 }

// Hold is an operator's decision that outranks the machine [B17].
type Hold struct {
	Kind      State // Open, Closed, or "" for no hold
	StartMs   int64
	LengthMs  int64 // 0: without end
	Actor     string
	Protected int64 // 1: lifted only with Force.Override
}

func (h Hold) deadlineMs() int64 { return h.StartMs + h.LengthMs }

// Lease is one probe's place in a round [B12]. IssuedMs is when it was given, StartMs when it was last renewed.
type Lease struct{ IssuedMs, StartMs, LengthMs int64 }

func (l Lease) deadlineMs() int64 { return l.StartMs + l.LengthMs }

// renewed says that the holder has renewed the lease, and so may do it again: its deadline promises no free place [B3].
func (l Lease) renewed() bool { return l.StartMs > l.IssuedMs }

// DeadlineMs is when the state of an open or held breaker next changes by itself; 0: at no known time.
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

// clone copies s so that the copy shares no map.
func (s Snapshot) clone() Snapshot {
	s.Buckets, s.Reporters, s.Leases = maps.Clone(s.Buckets), maps.Clone(s.Reporters), maps.Clone(s.Leases)
	return s
}
