package machine

import (
	"fmt"
	"maps"
	"strings"
)

// Raw is what the keys of one agent hold, byte for byte. A nil pointer or map is an absent key.
type Raw struct {
	State     *string
	Timestamp *string
	Calls     map[string]string
	Control   map[string]string
	Probes    map[string]string
	Log       []string // newest first
	Planted   Planted
}

// Planted marks keys of a wrong type, or hashes with more fields than the machine ever writes; their content is not read [B20].
type Planted struct{ State, Timestamp, Calls, Control, Probes bool }

// Load reads the keys as they were found at nowMs: it notices hands [B19], drops what is bad [B20], and counts a start that lies
// in the future as now [B1]. What it noticed travels in the Snapshot to Step, which has the policy to act on it.
func Load(raw Raw, nowMs int64) Snapshot {
	s := Snapshot{Epoch: ZeroEpoch, State: Closed}
	known := s.loadControl(raw)
	mirror := State(raw.Control["state"])
	mirrored := !raw.Planted.Control && mirror.valid()
	state, stateBad := loadState(raw)
	if stateBad {
		s.heals.state++
	}
	switch {
	case mirrored && (state == mirror || stateBad): // a bad :state is put back from its mirror
		s.Present = true
	case mirrored && state == "":
		s.Present, s.edit = true, edit{to: Closed, text: "state deleted", manual: true}
	case mirrored:
		s.Present, s.edit = true, edit{to: state, text: "state set", manual: true}
	case state != "":
		s.State, s.edit = state, edit{to: state, text: "control missing"}
	case known > 0:
		s.edit = edit{to: Closed, text: "control damaged"}
	}
	s.loadTimestamp(raw)
	s.consistent()
	s.loadCalls(raw, nowMs)
	if s.State == HalfOpen {
		s.loadLeases(raw, nowMs)
	}
	s.clampStarts(nowMs)
	return s
}

func loadState(raw Raw) (s State, bad bool) {
	if raw.Planted.State {
		return "", true
	}
	if raw.State == nil {
		return "", false
	}
	s = State(*raw.State)
	if !s.valid() {
		return "", true
	}
	return s, false
}

// loadControl reads the known fields, and says how many it found, good or bad.
func (s *Snapshot) loadControl(raw Raw) (known int) {
	if raw.Planted.Control {
		s.heals.control++
		return 0
	}
	for _, f := range controlFields() {
		text, ok := raw.Control[f.name]
		if !ok {
			continue
		}
		known++
		if !f.read(s, text) {
			s.heals.control++
		}
	}
	return known
}

// loadTimestamp believes the key over its mirror, but under a hold, which timestamp edits never touch [B19].
func (s *Snapshot) loadTimestamp(raw Raw) {
	at, bad := int64(0), raw.Planted.Timestamp
	if !bad && raw.Timestamp != nil {
		var ok bool
		at, ok = ParseTimestamp(*raw.Timestamp)
		bad = !ok
	}
	if bad {
		s.heals.timestamp++
	}
	if s.Hold.Kind != "" || s.State == Closed && s.edit.to != Open && s.edit.to != HalfOpen {
		return
	}
	s.edit.ts = at != s.OpenedMs
	s.OpenedMs = at
}

// consistent drops what contradicts itself: a hold against the state, a round that is over or not under way, a ramp while not closed.
func (s *Snapshot) consistent() {
	if s.Hold != (Hold{}) && s.Hold.Kind != s.State {
		s.Hold = Hold{}
		s.heals.control++
	}
	r := s.Round
	if r != (Round{}) && (s.State != HalfOpen || r.Need < 1 || r.Need > r.Max || r.OK >= r.Need || r.Failed > r.Max-r.Need) {
		s.Round = Round{}
		s.heals.control++
	}
	if s.Ramp != (Ramp{}) && (s.State != Closed || s.Ramp.LengthMs == 0) {
		s.Ramp = Ramp{}
		s.heals.control++
	}
}

// loadCalls reads buckets and reporters; without a breaker they belong to none, and go.
func (s *Snapshot) loadCalls(raw Raw, nowMs int64) {
	if raw.Planted.Calls {
		s.heals.calls++
		s.past = ""
		return
	}
	if !s.Present && s.edit.to == "" {
		s.touched.calls = true
		return
	}
	for name, text := range raw.Calls {
		switch k := callsField(name); k {
		case 0:
		case 'r':
			if at, ok := wholeNumber(text, maxTimeMs); !ok {
				s.heals.calls++
			} else {
				s.setReporter(name[2:], min(at, nowMs))
			}
		default:
			start, _ := wholeNumber(name[1:], maxTimeMs)
			n, ok := wholeNumber(text, maxCount)
			if !ok {
				s.heals.calls++
			}
			if !ok || n == 0 || start > nowMs { // a future bucket goes [B1]
				s.past = ""
				continue
			}
			s.addBucket(k, start, n)
		}
	}
}

// callsField says what a field of :calls is: 's', 'f' or 'w' (slow) of a bucket, 'r' a reporter, 0 something of another version.
func callsField(name string) byte {
	if strings.HasPrefix(name, "r:") && isWord(name[2:]) {
		return 'r'
	}
	if name == "" || !strings.ContainsRune("sfw", rune(name[0])) {
		return 0
	}
	if _, ok := wholeNumber(name[1:], maxTimeMs); !ok {
		return 0
	}
	return name[0]
}

func (s *Snapshot) setReporter(name string, at int64) {
	if s.Reporters == nil {
		s.Reporters = map[string]int64{}
	}
	s.Reporters[name] = at
}

func (s *Snapshot) addBucket(k byte, start, n int64) {
	if s.Buckets == nil {
		s.Buckets = map[int64]Counts{}
	}
	c := s.Buckets[start]
	switch k {
	case 's':
		c.Successes = n
		s.Successes += n // the totals in :control are without the buckets
	case 'f':
		c.Failures = n
		s.Failures += n
	default:
		c.Slow = n
	}
	s.Buckets[start] = c
}

func (s *Snapshot) loadLeases(raw Raw, nowMs int64) {
	if raw.Planted.Probes {
		s.heals.probes++
		return
	}
	for token, text := range raw.Probes {
		if !IsHex16(token) {
			continue
		}
		l, ok := parseLease(text)
		if !ok {
			s.heals.probes++
			continue
		}
		l.IssuedMs, l.StartMs = min(l.IssuedMs, nowMs), min(l.StartMs, nowMs)
		if s.Leases == nil {
			s.Leases = map[string]Lease{}
		}
		s.Leases[token] = l
	}
}

// parseLease reads "issued_ms start_ms length_ms".
func parseLease(text string) (l Lease, ok bool) {
	p := strings.Split(text, " ")
	if len(p) != 3 {
		return l, false
	}
	var a, b, c bool
	l.IssuedMs, a = wholeNumber(p[0], maxTimeMs)
	l.StartMs, b = wholeNumber(p[1], maxTimeMs)
	l.LengthMs, c = wholeNumber(p[2], maxLengths)
	return l, a && b && c
}

func (l Lease) text() string { return fmt.Sprintf("%d %d %d", l.IssuedMs, l.StartMs, l.LengthMs) }

func (s *Snapshot) clampStarts(nowMs int64) {
	for _, start := range []*int64{&s.OpenedMs, &s.UpstreamMs, &s.Round.StartMs, &s.Ramp.StartMs, &s.Hold.StartMs} {
		*start = min(*start, nowMs)
	}
}

// ParseTimestamp reads Unix seconds with at most nine decimals, of which three count, into milliseconds.
func ParseTimestamp(text string) (ms int64, ok bool) {
	whole, frac, dot := strings.Cut(text, ".")
	sec, ok := wholeNumber(whole, maxTimeMs/1000)
	if !ok || dot && (frac == "" || len(frac) > 9 || strings.Trim(frac, "0123456789") != "") {
		return 0, false
	}
	for _, c := range (frac + "000")[:3] {
		ms = ms*10 + int64(c-'0')
	}
	return sec*1000 + ms, true
}

// FormatTimestamp writes milliseconds as Unix seconds with three decimals.
func FormatTimestamp(ms int64) string { return fmt.Sprintf("%d.%03d", ms/1000, ms%1000) }

// clone copies s so that the copy shares no map.
func (s Snapshot) clone() Snapshot {
	s.Buckets, s.Reporters, s.Leases = maps.Clone(s.Buckets), maps.Clone(s.Reporters), maps.Clone(s.Leases)
	return s
}
