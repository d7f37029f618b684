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
	History   map[string]string
	Planted   Planted
}

// Planted marks keys of a wrong type, or hashes with more fields than the machine ever writes; their content is not read [B20].
type Planted struct{ State, Timestamp, Calls, Control, Probes, History bool }

// Load reads the keys as they were found: it notices edits [B19] and drops what is bad [B20]. What it noticed goes to Step, which has
// the policy to act on it.
func Load(raw Raw) Loaded {
	l := Loaded{Snapshot: Snapshot{Epoch: ZeroEpoch, State: Closed}}
	known := l.loadControl(raw)
	mirror := State(raw.Control["state"])
	plain := raw.Control[plainField]
	isPlain := IsHex16(plain) && !raw.Planted.Control
	if isPlain {
		mirror, l.State, l.Epoch = Closed, Closed, plain
	}
	mirrored := !raw.Planted.Control && mirror.valid()
	state, stateBad := loadState(raw)
	if stateBad {
		l.Repairs.State++
	}
	switch {
	case mirrored && (state == mirror || stateBad): // a bad :state is put back from its mirror
		l.Present = true
	case mirrored && state == "":
		l.Present, l.Edit = true, Edit{To: Closed, Text: "state deleted", Manual: true}
	case mirrored:
		l.Present, l.Edit = true, Edit{To: state, Text: "state set", Manual: true}
	case state != "":
		l.State, l.Edit = state, Edit{To: state, Text: "control missing"}
	case known > 0:
		l.Edit = Edit{To: Closed, Text: "control damaged"}
	}
	l.loadTimestamp(raw)
	l.consistent(isPlain)
	l.loadCalls(raw)
	if l.State == HalfOpen {
		l.loadLeases(raw)
	}
	return l
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
func (s *Loaded) loadControl(raw Raw) (known int) {
	if raw.Planted.Control {
		s.Repairs.Control++
		return 0
	}
	for _, f := range controlFields() {
		text, ok := raw.Control[f.name]
		if !ok {
			continue
		}
		known++
		if !f.read(&s.Snapshot, text) {
			s.Repairs.Control++
		}
	}
	return known
}

// loadTimestamp believes the key over its mirror, but under a hold, which timestamp edits never touch [B19].
func (s *Loaded) loadTimestamp(raw Raw) {
	at, bad := int64(0), raw.Planted.Timestamp
	if !bad && raw.Timestamp != nil {
		var ok bool
		at, ok = ParseTimestamp(*raw.Timestamp)
		bad = !ok
	}
	if bad {
		s.Repairs.Timestamp++
	}
	if s.Hold.Kind != "" || s.State == Closed && s.Edit.To != Open && s.Edit.To != HalfOpen {
		return
	}
	s.Edit.Timestamp = at != s.OpenedMs
	s.OpenedMs = at
}

// consistent drops what contradicts itself: a hold against the state, a round that is over or not under way, a ramp while not closed,
// and a hold or a ramp beside the field that says that there is none.
func (s *Loaded) consistent(isPlain bool) {
	if s.Hold != (Hold{}) && (isPlain || s.Hold.Kind != s.State) {
		s.Hold = Hold{}
		s.Repairs.Control++
	}
	r := s.Round
	if r != (Round{}) && (s.State != HalfOpen || r.Need < 1 || r.Need > r.Max || r.OK >= r.Need || r.Failed > r.Max-r.Need) {
		s.Round = Round{}
		s.Repairs.Control++
	}
	if s.Round.Slow > s.Round.OK+s.Round.Failed {
		s.Round.Slow = 0
		s.Repairs.Control++
	}
	if s.Ramp != (Ramp{}) && (isPlain || s.State != Closed || s.Ramp.LengthMs == 0) {
		s.Ramp = Ramp{}
		s.Repairs.Control++
	}
}

// loadCalls reads buckets and reporters; without a breaker they belong to none, and go.
func (s *Loaded) loadCalls(raw Raw) {
	if raw.Planted.Calls {
		s.Repairs.Calls++
		return
	}
	if !s.Present && s.Edit.To == "" {
		return
	}
	for name, text := range raw.Calls {
		switch k := callsField(name); k {
		case 0:
		case 'r':
			if at, ok := wholeNumber(text, maxTimeMs); !ok {
				s.Repairs.Calls++
			} else {
				s.setReporter(name[2:], at)
			}
		default:
			start, _ := wholeNumber(name[1:], maxTimeMs)
			n, ok := wholeNumber(text, maxCount)
			switch {
			case !ok:
				s.Repairs.Calls++
			case n > 0:
				s.addBucket(k, start, n)
			}
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

func (s *Loaded) loadLeases(raw Raw) {
	if raw.Planted.Probes {
		s.Repairs.Probes++
		return
	}
	for token, text := range raw.Probes {
		if !IsHex16(token) {
			continue
		}
		l, ok := parseLease(text)
		if !ok {
			s.Repairs.Probes++
			continue
		}
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
