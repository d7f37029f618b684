package machine

import "strconv"

// Bounds of what the keys may hold. What lies outside is treated as absent, and healed [B20].
const (
	MaxProbes        = 1000 // of a round [B12]
	MaxReporters     = 8    // remembered reporters [B23]
	MaxControlFields = 128  // a :control with more fields was planted
	MaxCallsFields   = 512  // likewise :calls; 13 buckets of three fields and 8 reporters are usual
	MaxProbesFields  = 1024
	MaxLog           = 64 // newest entries of :log

	maxText    = 64                 // keeps :control a listpack in Redis
	maxTimeMs  = 99_999_999_999_999 // 14 digits, exact in Lua's doubles
	maxLengths = 30 * 24 * 60 * 60 * 1000 * 100
	maxCount   = 1_000_000_000_000
	maxTotal   = 9_000_000_000_000_000 // below 2^53
	maxReopens = 1_000_000
	maxExact   = 9_000_000_000 // times a Million still exact below 2^53
	buckets    = 12
)

// kind is the type of a field of :control.
type kind string

const (
	kindInt   kind = "int"   // decimal, no sign, no leading zero
	kindState kind = "state" // closed, open, half_open
	kindHold  kind = "hold"  // open, closed
	kindHex   kind = "hex"   // 16 lower-case hex digits
	kindText  kind = "text"  // at most 64 bytes, no control characters
	kindWord  kind = "word"  // at most 64 of A-Z a-z 0-9 . _ : @ -
)

// field is one row of the table that says what :control may hold. Its default is always absent, which means 0 or "".
type field struct {
	name string
	kind kind
	max  int64                    // ints: 0 to max
	num  func(s *Snapshot) *int64 // ints
	text func(s *Snapshot) *string
}

// plainField holds the epoch while the breaker is closed without hold and ramp, and is absent else: all that most Acquires read.
// Load believes it over what it contradicts.
const plainField = "plain"

// plain is what plainField should hold.
func (s *Snapshot) plain() string {
	if s.State != Closed || s.Hold.Kind != "" || s.Ramp.LengthMs > 0 {
		return ""
	}
	return s.Epoch
}

// controlFields is the table [B20]; lua/load.lua has the same rows, and a test compares the two.
func controlFields() []field {
	return []field{
		{name: "state", kind: kindState, text: func(s *Snapshot) *string { return (*string)(&s.State) }},
		{name: "epoch", kind: kindHex, text: func(s *Snapshot) *string { return &s.Epoch }},
		{name: "run", kind: kindInt, max: MaxRun, num: func(s *Snapshot) *int64 { return &s.Run }},
		{name: "reopens", kind: kindInt, max: maxReopens, num: func(s *Snapshot) *int64 { return &s.Reopens }},
		{name: "opened_ms", kind: kindInt, max: maxTimeMs, num: func(s *Snapshot) *int64 { return &s.OpenedMs }},
		{name: "wait_ms", kind: kindInt, max: maxLengths, num: func(s *Snapshot) *int64 { return &s.WaitMs }},
		{name: "wait_base_ms", kind: kindInt, max: maxLengths, num: func(s *Snapshot) *int64 { return &s.Wait.BaseMs }},
		{name: "wait_jitter_ms", kind: kindInt, max: maxLengths, num: func(s *Snapshot) *int64 { return &s.Wait.JitterMs }},
		{name: "wait_upstream_ms", kind: kindInt, max: maxLengths, num: func(s *Snapshot) *int64 { return &s.Wait.UpstreamMs }},
		{name: "cause", kind: kindText, text: func(s *Snapshot) *string { return &s.Cause }},
		{name: "first_cause", kind: kindText, text: func(s *Snapshot) *string { return &s.FirstCause }},
		{name: "ev_failures", kind: kindInt, max: maxTotal, num: func(s *Snapshot) *int64 { return &s.Evidence.Failures }},
		{name: "ev_calls", kind: kindInt, max: maxTotal, num: func(s *Snapshot) *int64 { return &s.Evidence.Calls }},
		{name: "ev_slow", kind: kindInt, max: maxTotal, num: func(s *Snapshot) *int64 { return &s.Evidence.Slow }},
		{name: "ev_run", kind: kindInt, max: MaxRun, num: func(s *Snapshot) *int64 { return &s.Evidence.Run }},
		{name: "upstream_ms", kind: kindInt, max: maxTimeMs, num: func(s *Snapshot) *int64 { return &s.UpstreamMs }},
		{name: "upstream_length_ms", kind: kindInt, max: maxLengths, num: func(s *Snapshot) *int64 { return &s.UpstreamLengthMs }},
		{name: "round_ms", kind: kindInt, max: maxTimeMs, num: func(s *Snapshot) *int64 { return &s.Round.StartMs }},
		{name: "round_max", kind: kindInt, max: MaxProbes, num: func(s *Snapshot) *int64 { return &s.Round.Max }},
		{name: "round_need", kind: kindInt, max: MaxProbes, num: func(s *Snapshot) *int64 { return &s.Round.Need }},
		{name: "round_ok", kind: kindInt, max: MaxProbes, num: func(s *Snapshot) *int64 { return &s.Round.OK }},
		{name: "round_failed", kind: kindInt, max: MaxProbes, num: func(s *Snapshot) *int64 { return &s.Round.Failed }},
		{name: "round_slow", kind: kindInt, max: MaxProbes, num: func(s *Snapshot) *int64 { return &s.Round.Slow }},
		{name: "ramp_ms", kind: kindInt, max: maxTimeMs, num: func(s *Snapshot) *int64 { return &s.Ramp.StartMs }},
		{name: "ramp_length_ms", kind: kindInt, max: maxLengths, num: func(s *Snapshot) *int64 { return &s.Ramp.LengthMs }},
		{name: "ramp_floor_ppm", kind: kindInt, max: Million, num: func(s *Snapshot) *int64 { return &s.Ramp.FloorPPM }},
		{name: "hold", kind: kindHold, text: func(s *Snapshot) *string { return (*string)(&s.Hold.Kind) }},
		{name: "hold_ms", kind: kindInt, max: maxTimeMs, num: func(s *Snapshot) *int64 { return &s.Hold.StartMs }},
		{name: "hold_length_ms", kind: kindInt, max: maxLengths, num: func(s *Snapshot) *int64 { return &s.Hold.LengthMs }},
		{name: "hold_actor", kind: kindWord, text: func(s *Snapshot) *string { return &s.Hold.Actor }},
		{name: "hold_protected", kind: kindInt, max: 1, num: func(s *Snapshot) *int64 { return &s.Hold.Protected }},
		{name: plainField, kind: kindHex, text: func(s *Snapshot) *string { return new(s.plain()) }},
		{name: "rule", kind: kindText, text: func(s *Snapshot) *string { return &s.Cache.Rule }},
		{name: "past", kind: kindText, text: func(s *Snapshot) *string { return &s.Cache.Past }},
		{name: "successes", kind: kindInt, max: maxTotal, num: func(s *Snapshot) *int64 { return &s.Successes }},
		{name: "failures", kind: kindInt, max: maxTotal, num: func(s *Snapshot) *int64 { return &s.Failures }},
		{name: "transitions", kind: kindInt, max: maxTotal, num: func(s *Snapshot) *int64 { return &s.Transitions }},
		{name: "expires_ms", kind: kindInt, max: maxTimeMs, num: func(s *Snapshot) *int64 { return &s.ExpiresMs }},
	}
}

// read takes a field's text into s; false if it is bad.
func (f field) read(s *Snapshot, text string) bool {
	if f.kind == kindInt {
		v, ok := wholeNumber(text, f.max)
		if ok {
			*f.num(s) = v
		}
		return ok
	}
	ok := f.kind.accepts(text)
	if ok {
		*f.text(s) = text
	}
	return ok
}

// write is the field's text, "" for absent.
func (f field) write(s *Snapshot) string {
	if f.kind == kindInt {
		if v := *f.num(s); v != 0 {
			return strconv.FormatInt(v, 10)
		}
		return ""
	}
	return *f.text(s)
}

func (k kind) accepts(text string) bool {
	switch k {
	case kindState:
		return State(text).valid()
	case kindHold:
		return State(text) == Open || State(text) == Closed
	case kindHex:
		return IsHex16(text)
	case kindWord:
		return isWord(text)
	default:
		return isText(text)
	}
}

// wholeNumber reads digits without sign or leading zero, at most 16 of them, from 0 to most.
func wholeNumber(text string, most int64) (int64, bool) {
	if text == "" || len(text) > 16 || len(text) > 1 && text[0] == '0' {
		return 0, false
	}
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return 0, false
		}
	}
	v, err := strconv.ParseInt(text, 10, 64)
	return v, err == nil && v <= most
}

// IsHex16 says whether s is an epoch or a token: 16 lower-case hex digits.
func IsHex16(s string) bool {
	if len(s) != 16 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func isWord(s string) bool {
	if s == "" || len(s) > maxText {
		return false
	}
	for i := range len(s) {
		if !wordByte(s[i]) {
			return false
		}
	}
	return true
}

func isText(s string) bool {
	if len(s) > maxText {
		return false
	}
	for i := range len(s) {
		if s[i] < 0x20 || s[i] == 0x7f {
			return false
		}
	}
	return true
}

func alnum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func wordByte(c byte) bool {
	return alnum(c) || c == '.' || c == '_' || c == ':' || c == '@' || c == '-'
}

// ValidName says whether s may name an agent: 1 to 128 of A-Z a-z 0-9 . _ : @ -, first a letter or digit.
func ValidName(s string) bool {
	if s == "" || len(s) > 128 || !alnum(s[0]) {
		return false
	}
	for i := range len(s) {
		if !wordByte(s[i]) {
			return false
		}
	}
	return true
}

// ValidWord says whether s may name a reporter or an actor: 1 to 64 of A-Z a-z 0-9 . _ : @ -.
func ValidWord(s string) bool { return isWord(s) }
