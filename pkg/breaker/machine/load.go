package machine

import "strings"

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

// Planted marks keys of a wrong type, and hashes with more fields than the machine ever writes. Their content is not
// read [B20].
type Planted struct{ State, Timestamp, Calls, Control, Probes, History bool }

// Loaded is a breaker as Load found it. Step, which has the policy and the draw, acts on Edit and logs the repairs.
// A store that keeps a Snapshot passes Loaded{Snapshot: s}.
type Loaded struct {
	Snapshot
	Edit    Edit
	repairs repairs
}

// Edit is an edit of the keys that Load noticed [B19].
type Edit struct {
	To        State  // the state that the edit asks for; "": the state was not edited
	Text      string // what Load saw, for the log
	Manual    bool   // false: keys without a usable :control, which are believed as they are
	Timestamp bool   // the timestamp was edited
}

// repairs counts the bad fields of each key. Save removes them [B20].
type repairs struct{ state, timestamp, control, calls, probes int }

// Load understands the keys of one agent. It notices edits [B19] and drops what is bad [B20].
//
// :control mirrors the state that the machine wrote last. A :state that differs from its mirror was edited; a bad one
// is put back from it. Without a mirror, :state and :open_timestamp are believed.
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
	state, bad := loadState(raw)
	if bad {
		l.repairs.state++
	}
	switch {
	case mirrored && (state == mirror || bad):
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
	l.dropContradictions(isPlain)
	l.loadCalls(raw)
	if l.State == HalfOpen {
		l.loadLeases(raw)
	}
	return l
}

// loadControl reads the fields of the table, and counts those that are there, good or bad.
func (l *Loaded) loadControl(raw Raw) (known int) {
	if raw.Planted.Control {
		l.repairs.control++
		return 0
	}
	for _, f := range controlFields() {
		text, ok := raw.Control[f.name]
		if !ok {
			continue
		}
		known++
		if !f.read(&l.Snapshot, text) {
			l.repairs.control++
		}
	}
	return known
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

// loadTimestamp believes :open_timestamp over opened_ms in :control, but not under a hold: edits of the timestamp never
// touch holds [B19].
func (l *Loaded) loadTimestamp(raw Raw) {
	at, bad := int64(0), raw.Planted.Timestamp
	if !bad && raw.Timestamp != nil {
		var ok bool
		at, ok = parseTimestamp(*raw.Timestamp)
		bad = !ok
	}
	if bad {
		l.repairs.timestamp++
	}
	if l.Hold.Kind != "" || l.State == Closed && l.Edit.To != Open && l.Edit.To != HalfOpen {
		return
	}
	l.Edit.Timestamp = at != l.OpenedMs
	l.OpenedMs = at
}

// dropContradictions drops fields that contradict each other: a hold of another state, a round that is decided or
// outside half-open, a ramp outside closed, and a hold or ramp beside the plain field, which denies both.
func (l *Loaded) dropContradictions(isPlain bool) {
	if l.Hold != (Hold{}) && (isPlain || l.Hold.Kind != l.State) {
		l.Hold = Hold{}
		l.repairs.control++
	}
	r := l.Round
	decided := r.Need < 1 || r.Need > r.Max || r.OK >= r.Need || r.Failed > r.Max-r.Need
	if r != (Round{}) && (l.State != HalfOpen || decided) {
		l.Round = Round{}
		l.repairs.control++
	}
	if l.Round.Slow > l.Round.OK+l.Round.Failed {
		l.Round.Slow = 0
		l.repairs.control++
	}
	if l.Ramp != (Ramp{}) && (isPlain || l.State != Closed || l.Ramp.LengthMs == 0) {
		l.Ramp = Ramp{}
		l.repairs.control++
	}
}

// loadCalls reads buckets and reporters. Without a breaker they belong to nobody, and Step removes them.
func (l *Loaded) loadCalls(raw Raw) {
	if raw.Planted.Calls {
		l.repairs.calls++
		return
	}
	if !l.Present && l.Edit.To == "" {
		return
	}
	for name, text := range raw.Calls {
		switch kind := callsField(name); kind {
		case 0:
		case 'r':
			if at, ok := parseWhole(text, maxTimeMs); !ok {
				l.repairs.calls++
			} else {
				l.setReporter(name[2:], at)
			}
		default:
			start, _ := parseWhole(name[1:], maxTimeMs)
			n, ok := parseWhole(text, maxCount)
			switch {
			case !ok:
				l.repairs.calls++
			case n > 0:
				l.setCount(kind, start, n)
			}
		}
	}
}

// callsField says what a field of :calls is: a bucket's successes 's', failures 'f' or slow calls 'w', a reporter 'r',
// or 0 for a field of another version.
func callsField(name string) byte {
	if strings.HasPrefix(name, "r:") && ValidWord(name[2:]) {
		return 'r'
	}
	if name == "" || !strings.ContainsRune("sfw", rune(name[0])) {
		return 0
	}
	if _, ok := parseWhole(name[1:], maxTimeMs); !ok {
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

// setCount sets one count of a bucket, and adds it to the totals: :control keeps them without the buckets.
func (s *Snapshot) setCount(kind byte, start, n int64) {
	if s.Buckets == nil {
		s.Buckets = map[int64]Counts{}
	}
	c := s.Buckets[start]
	switch kind {
	case 's':
		c.Successes = n
		s.Successes += n
	case 'f':
		c.Failures = n
		s.Failures += n
	default:
		c.Slow = n
	}
	s.Buckets[start] = c
}

func (l *Loaded) loadLeases(raw Raw) {
	if raw.Planted.Probes {
		l.repairs.probes++
		return
	}
	for token, text := range raw.Probes {
		if !IsHex16(token) {
			continue
		}
		lease, ok := parseLease(text)
		if !ok {
			l.repairs.probes++
			continue
		}
		if l.Leases == nil {
			l.Leases = map[string]Lease{}
		}
		l.Leases[token] = lease
	}
}
