package machine

import (
	"fmt"
	"strconv"
	"strings"
)

// Bounds of what the keys may hold. A value beyond them reads as absent, and is repaired [B20]. The machine itself
// writes fewer fields: a newer version may write more.
const (
	MaxProbes        = 1000 // of a round [B12]
	MaxReporters     = 8    // remembered reporters [B23]
	MaxControlFields = 128  // of :control
	MaxCallsFields   = 512  // of :calls
	MaxProbesFields  = 1024 // of :probes
	MaxHistoryFields = 2880 // of :history
	MaxLog           = 64   // events that :log keeps

	maxText     = 64                    // bytes; longer values would cost :control its compact encoding in Redis
	maxTimeMs   = 99_999_999_999_999    // 14 digits, which the doubles of Lua hold exactly
	maxLengthMs = 3000 * dayMs          // of a wait, hold, ramp or lease
	maxCount    = 1_000_000_000_000     // of a bucket
	maxTotal    = 9_000_000_000_000_000 // below 2^53
	maxExact    = maxTotal / Million    // times a Million still exact
	maxReopens  = 1_000_000
	dayMs       = 24 * 60 * 60 * 1000
)

// kind is the type of a text field of :control.
type kind string

const (
	kindState kind = "state" // closed, open, half_open
	kindHold  kind = "hold"  // open, closed
	kindHex   kind = "hex"   // see IsHex16
	kindText  kind = "text"  // at most 64 bytes, no control characters
	kindWord  kind = "word"  // see ValidWord
)

// field describes one field of :control. It is a number from 0 to max, or a text of a kind. An absent field reads as 0
// or "".
type field struct {
	name string
	max  int64
	num  func(s *Snapshot) *int64
	kind kind
	text func(s *Snapshot) *string
}

// plainField holds the epoch while the breaker is closed without hold and ramp, else nothing. It is all that most
// acquires read, so Load believes it over any field that contradicts it.
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
		{name: "run", max: MaxRun, num: func(s *Snapshot) *int64 { return &s.Run }},
		{name: "reopens", max: maxReopens, num: func(s *Snapshot) *int64 { return &s.Reopens }},
		{name: "opened_ms", max: maxTimeMs, num: func(s *Snapshot) *int64 { return &s.OpenedMs }},
		{name: "wait_ms", max: maxLengthMs, num: func(s *Snapshot) *int64 { return &s.WaitMs }},
		{name: "wait_base_ms", max: maxLengthMs, num: func(s *Snapshot) *int64 { return &s.Wait.BaseMs }},
		{name: "wait_jitter_ms", max: maxLengthMs, num: func(s *Snapshot) *int64 { return &s.Wait.JitterMs }},
		{name: "wait_upstream_ms", max: maxLengthMs, num: func(s *Snapshot) *int64 { return &s.Wait.UpstreamMs }},
		{name: "cause", kind: kindText, text: func(s *Snapshot) *string { return &s.Cause }},
		{name: "first_cause", kind: kindText, text: func(s *Snapshot) *string { return &s.FirstCause }},
		{name: "ev_failures", max: maxTotal, num: func(s *Snapshot) *int64 { return &s.Evidence.Failures }},
		{name: "ev_calls", max: maxTotal, num: func(s *Snapshot) *int64 { return &s.Evidence.Calls }},
		{name: "ev_slow", max: maxTotal, num: func(s *Snapshot) *int64 { return &s.Evidence.Slow }},
		{name: "ev_run", max: MaxRun, num: func(s *Snapshot) *int64 { return &s.Evidence.Run }},
		{name: "upstream_ms", max: maxTimeMs, num: func(s *Snapshot) *int64 { return &s.UpstreamMs }},
		{name: "upstream_length_ms", max: maxLengthMs, num: func(s *Snapshot) *int64 { return &s.UpstreamLengthMs }},
		{name: "round_ms", max: maxTimeMs, num: func(s *Snapshot) *int64 { return &s.Round.StartMs }},
		{name: "round_max", max: MaxProbes, num: func(s *Snapshot) *int64 { return &s.Round.Max }},
		{name: "round_need", max: MaxProbes, num: func(s *Snapshot) *int64 { return &s.Round.Need }},
		{name: "round_ok", max: MaxProbes, num: func(s *Snapshot) *int64 { return &s.Round.OK }},
		{name: "round_failed", max: MaxProbes, num: func(s *Snapshot) *int64 { return &s.Round.Failed }},
		{name: "round_slow", max: MaxProbes, num: func(s *Snapshot) *int64 { return &s.Round.Slow }},
		{name: "ramp_ms", max: maxTimeMs, num: func(s *Snapshot) *int64 { return &s.Ramp.StartMs }},
		{name: "ramp_length_ms", max: maxLengthMs, num: func(s *Snapshot) *int64 { return &s.Ramp.LengthMs }},
		{name: "ramp_floor_ppm", max: Million, num: func(s *Snapshot) *int64 { return &s.Ramp.FloorPPM }},
		{name: "hold", kind: kindHold, text: func(s *Snapshot) *string { return (*string)(&s.Hold.Kind) }},
		{name: "hold_ms", max: maxTimeMs, num: func(s *Snapshot) *int64 { return &s.Hold.StartMs }},
		{name: "hold_length_ms", max: maxLengthMs, num: func(s *Snapshot) *int64 { return &s.Hold.LengthMs }},
		{name: "hold_actor", kind: kindWord, text: func(s *Snapshot) *string { return &s.Hold.Actor }},
		{name: "hold_protected", max: 1, num: func(s *Snapshot) *int64 { return &s.Hold.Protected }},
		{name: plainField, kind: kindHex, text: func(s *Snapshot) *string { return new(s.plain()) }},
		{name: "rule", kind: kindText, text: func(s *Snapshot) *string { return &s.cache.rule }},
		{name: "past", kind: kindText, text: func(s *Snapshot) *string { return &s.cache.past }},
		{name: "successes", max: maxTotal, num: func(s *Snapshot) *int64 { return &s.Successes }},
		{name: "failures", max: maxTotal, num: func(s *Snapshot) *int64 { return &s.Failures }},
		{name: "transitions", max: maxTotal, num: func(s *Snapshot) *int64 { return &s.Transitions }},
		{name: "expires_ms", max: maxTimeMs, num: func(s *Snapshot) *int64 { return &s.ExpiresMs }},
	}
}

// read sets the field of s from its text. It refuses a bad text.
func (f field) read(s *Snapshot, text string) (ok bool) {
	if f.num != nil {
		v, ok := parseWhole(text, f.max)
		if ok {
			*f.num(s) = v
		}
		return ok
	}
	ok = f.kind.accepts(text)
	if ok {
		*f.text(s) = text
	}
	return ok
}

// write is the field's text, "" for absent.
func (f field) write(s *Snapshot) string {
	if f.num != nil {
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
		return ValidWord(text)
	default:
		return isText(text)
	}
}

// parseWhole reads digits without sign or leading zero, at most 16 of them, from 0 to most.
func parseWhole(text string, most int64) (int64, bool) {
	if text == "" || len(text) > 16 || len(text) > 1 && text[0] == '0' || !allBytes(text, isDigit) {
		return 0, false
	}
	v, err := strconv.ParseInt(text, 10, 64)
	return v, err == nil && v <= most
}

// parseNumbers reads a list of numbers of at most 15 digits, divided by blanks.
func parseNumbers(text string) (out []int64, ok bool) {
	for word := range strings.SplitSeq(text, " ") {
		if word == "" || len(word) > 15 || !allBytes(word, isDigit) {
			return nil, false
		}
		n, _ := strconv.ParseInt(word, 10, 64)
		out = append(out, n)
	}
	return out, true
}

// parseTimestamp reads Unix seconds with at most nine decimals, of which three count, into milliseconds.
func parseTimestamp(text string) (ms int64, ok bool) {
	whole, frac, dot := strings.Cut(text, ".")
	sec, ok := parseWhole(whole, maxTimeMs/1000)
	if !ok || dot && (frac == "" || len(frac) > 9 || !allBytes(frac, isDigit)) {
		return 0, false
	}
	for _, c := range (frac + "000")[:3] {
		ms = ms*10 + int64(c-'0')
	}
	return sec*1000 + ms, true
}

// FormatTimestamp writes milliseconds as Unix seconds with three decimals.
func FormatTimestamp(ms int64) string { return fmt.Sprintf("%d.%03d", ms/1000, ms%1000) }

// parseLease reads what Lease.text wrote.
func parseLease(text string) (l Lease, ok bool) {
	p := strings.Split(text, " ")
	if len(p) != 3 {
		return l, false
	}
	var a, b, c bool
	l.IssuedMs, a = parseWhole(p[0], maxTimeMs)
	l.StartMs, b = parseWhole(p[1], maxTimeMs)
	l.LengthMs, c = parseWhole(p[2], maxLengthMs)
	return l, a && b && c
}

func (l Lease) text() string { return fmt.Sprintf("%d %d %d", l.IssuedMs, l.StartMs, l.LengthMs) }

// IsHex16 reports whether s may be an epoch or a token: 16 lower-case hex digits.
func IsHex16(s string) bool {
	return len(s) == 16 && allBytes(s, func(c byte) bool { return isDigit(c) || c >= 'a' && c <= 'f' })
}

// ValidName reports whether s may name an agent: 1 to 128 of A-Z a-z 0-9 . _ : @ -, first a letter or digit.
func ValidName(s string) bool {
	return s != "" && len(s) <= 128 && isAlphanumeric(s[0]) && allBytes(s, isWordByte)
}

// ValidWord reports whether s may name a reporter or an actor: 1 to 64 of A-Z a-z 0-9 . _ : @ -.
func ValidWord(s string) bool { return s != "" && len(s) <= maxText && allBytes(s, isWordByte) }

func isText(s string) bool {
	return len(s) <= maxText && allBytes(s, func(c byte) bool { return c >= 0x20 && c != 0x7f })
}

func isWordByte(c byte) bool {
	return isAlphanumeric(c) || c == '.' || c == '_' || c == ':' || c == '@' || c == '-'
}

func isAlphanumeric(c byte) bool { return isDigit(c) || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func allBytes(s string, ok func(byte) bool) bool {
	for i := range len(s) {
		if !ok(s[i]) {
			return false
		}
	}
	return true
}

// Clip cuts a text to what :control may hold, between two characters. The log keeps the whole text.
func Clip(s string) string {
	if len(s) <= maxText {
		return s
	}
	n := maxText
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n]
}
