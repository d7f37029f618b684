package machine

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"maps"
	"strconv"
	"strings"
)

// The two most common operations on a healthy breaker have a short way through the scripts, which looks at few fields and heals
// none. Its conditions and effect stand here once more, and the suite compares: where they hold on keys without rubbish, the
// effect is what Step would do. What only a long way does, dropping buckets of the future [B1] among it, the next one does.

// PlainlyClosed says whether keys hold a closed breaker of which nothing more need be read: an Acquire is then admitted in that
// epoch [B3]. It looks at :state and the field plain of :control only, so it does not see what is planted beside them.
func PlainlyClosed(raw Raw) (epoch string, ok bool) {
	if raw.Planted.State || raw.State == nil || *raw.State != string(Closed) {
		return "", false
	}
	epoch = raw.Control["plain"]
	return epoch, IsHex16(epoch)
}

// Rule stands for what a record's short way needs of a policy: a number below 2^63 in decimal digits, which Redis keeps in nine
// bytes. The sums that are cached hold for one rule only.
func (p Params) Rule() string {
	track := int64(0)
	if p.TrackReporters {
		track = 1
	}
	h := fnv.New64a()
	for _, n := range []int64{p.WindowMs, p.TTLMs, p.FailureThreshold, p.FailureRatePPM, p.MinimumCalls, p.SlowRatePPM, track} {
		_ = binary.Write(h, binary.LittleEndian, n) // a hash takes everything
	}
	return strconv.FormatUint(h.Sum64()>>1, 10)
}

// PlainlyCounted records outcomes on a plainly closed breaker that stays closed, if their bucket has begun and the sums of the
// others are cached, which they are not while an upstream wait is kept or the expiry falls due: the bucket counts them, the run
// goes on or ends, and nothing else changes [B6]–[B9], [B25].
func PlainlyCounted(raw Raw, p Params, op Op, nowMs int64) (after Raw, res Result, ok bool) {
	sum := op.Summary
	epoch, plain := PlainlyClosed(raw)
	past, known := parsePast(raw.Control["past"])
	switch {
	case !p.Enabled, op.Verb != VerbRecord, op.Token != "", op.ReportID != "", sum.WaitMs > 0, sum.Calls() == 0,
		!plain, op.Epoch != "" && op.Epoch != epoch, raw.Control["rule"] != p.Rule(), !known, nowMs < past.startMs, nowMs >= past.tillMs:
		return raw, res, false
	}
	_, some := raw.Control["run"]
	oneKind := past.enough && sum.Slow == 0 && (sum.Failures == 0 || sum.Successes == 0)
	calm := oneKind && sum.Failures == 0 && !some
	run, runOK := wholeOrNone(raw.Control, "run", MaxRun)
	sums, sumsOK := parseSums(past.sums)
	after = raw
	after.Calls, after.Control = maps.Clone(raw.Calls), maps.Clone(raw.Control)
	m := machine{Snapshot: Snapshot{Run: run}, p: p, op: op}
	peak := m.tally(sum)
	switch {
	case calm && m.alone(after.Calls, past.start, 0, Counts{}):
	case !sumsOK, !runOK, !past.enough && p.TrackReporters && sum.Failures+sum.Slow > 0:
		return raw, res, false
	case oneKind && m.alone(after.Calls, past.start, peak, sums):
	case m.together(after.Calls, past.start, peak, sums):
	default:
		return raw, res, false
	}
	delete(after.Control, "run")
	if m.Run > 0 {
		after.Control["run"] = strconv.FormatInt(m.Run, 10)
	}
	return after, Result{Code: CodeOK, State: Closed, Epoch: epoch, NowMs: nowMs, Run: m.Run}, true
}

// alone counts outcomes of one kind, none slow, in a bucket that has some of that kind. The sums of the others hold minimum_calls:
// so the shares of what does not grow have shrunk, and the bucket's own successes are not asked for. A field of 0 goes.
func (m *machine) alone(calls map[string]string, start string, peak int64, sums Counts) bool {
	n, name := m.op.Summary.Successes, "s"+start
	if m.op.Summary.Failures > 0 {
		n, name = m.op.Summary.Failures, "f"+start
	}
	before, ok := wholeOrNone(calls, name, maxCount)
	if ok && before == 0 {
		delete(calls, name)
	}
	if !ok || before == 0 {
		return false
	}
	grown := Counts{}
	if m.op.Summary.Failures > 0 {
		grown = Counts{sums.Successes, sums.Failures + before + n, 0}
	}
	if m.over(peak, grown) != "" {
		return false
	}
	calls[name] = strconv.FormatInt(before+n, 10)
	return true
}

// together counts outcomes of whatever kinds in a bucket that has begun.
func (m *machine) together(calls map[string]string, start string, peak int64, sums Counts) bool {
	s := m.op.Summary
	bucket, begun := plainBucket(calls, start)
	bucket = bucket.plus(Counts{s.Successes, s.Failures, s.Slow})
	if !begun || m.over(peak, sums.plus(bucket)) != "" {
		return false
	}
	bucket.put(calls, start)
	return true
}

// PlainlyRefused says whether keys hold an open breaker whose wait or hold goes on, without an expiry to renew: an Acquire is then
// refused, and nothing changes [B3], [B17], [B21], [B25].
func PlainlyRefused(raw Raw, p Params, nowMs int64) (res Result, ok bool) {
	c := raw.Control
	hold, held := c["hold"]
	opened, a := wholeNumber(c["opened_ms"], nowMs)
	run, b := wholeOrNone(c, "run", MaxRun)
	start, d := opened, true
	var length int64
	if held {
		start, d = wholeOrNone(c, "hold_ms", nowMs)
		length, ok = wholeOrNone(c, "hold_length_ms", maxLengths)
	} else {
		length, ok = wholeNumber(c["wait_ms"], maxLengths)
	}
	left := start + length - nowMs
	if !p.Enabled || !ok || !a || !b || !d || raw.State == nil || *raw.State != string(Open) || c["state"] != string(Open) ||
		held && hold != string(Open) || !IsHex16(c["epoch"]) || raw.Timestamp == nil || *raw.Timestamp != FormatTimestamp(opened) {
		return res, false
	}
	text, expiring := c["expires_ms"]
	expires, ok := wholeNumber(text, maxTimeMs)
	endless := held && length == 0
	if endless && expiring || !endless && (left <= 0 || !ok || expires < max(nowMs+p.TTLMs, start+length+dayMs)) {
		return res, false
	}
	res = Result{Code: CodeRefused, State: Open, Epoch: c["epoch"], NowMs: nowMs, Reason: ReasonOpen, RetryAfterMs: left, Run: run, LeftMs: left}
	switch {
	case endless:
		res.Reason, res.Hold, res.RetryAfterMs, res.LeftMs = ReasonForcedOpen, Open, p.TimeoutMaxMs, 0
	case held:
		res.Reason, res.Hold = ReasonForcedOpen, Open
	case p.Observe:
		res.Code, res.RetryAfterMs = CodeObserved, 0
	}
	return res, true
}

// wholeOrNone reads a field that may be absent, which is 0.
func wholeOrNone(h map[string]string, name string, most int64) (n int64, ok bool) {
	text, some := h[name]
	if !some {
		return 0, true
	}
	return wholeNumber(text, most)
}

// plainBucket reads a bucket that has begun and holds nothing but what it should.
func plainBucket(h map[string]string, start string) (c Counts, ok bool) {
	begun := false
	ok = true
	for k, n := range map[string]*int64{"s": &c.Successes, "f": &c.Failures, "w": &c.Slow} {
		var good bool
		_, some := h[k+start]
		*n, good = wholeOrNone(h, k+start, maxCount)
		begun, ok = begun || some, ok && good
	}
	return c, begun && ok
}

// past says for how long the sums of the buckets other than the one at start hold, and whether they hold minimum_calls.
type past struct {
	enough          bool
	start           string
	startMs, tillMs int64
	sums            string
}

func pastText(enough bool, startMs, tillMs int64, sums Counts) string {
	mark := "-"
	if enough {
		mark = "+"
	}
	return fmt.Sprintf("%s%d %d %d %d %d", mark, startMs, tillMs-startMs, sums.Successes, sums.Failures, sums.Slow)
}

func parsePast(text string) (p past, ok bool) {
	words := strings.SplitN(text, " ", 3)
	if len(words) != 3 || words[0] == "" {
		return p, false
	}
	mark := words[0][0]
	p.enough, p.start, p.sums = mark == '+', words[0][1:], words[2]
	n, ok := numbers([]string{p.start, words[1]})
	if !ok || mark != '+' && mark != '-' {
		return p, false
	}
	p.startMs, p.tillMs = n[0], n[0]+n[1]
	return p, true
}

// parseSums reads the successes, failures and slow calls that a past holds.
func parseSums(text string) (Counts, bool) {
	n, ok := numbers(strings.Split(text, " "))
	if !ok || len(n) != 3 {
		return Counts{}, false
	}
	return Counts{n[0], n[1], n[2]}, true
}

// numbers reads words of at most 15 digits.
func numbers(words []string) (out []int64, ok bool) {
	for _, w := range words {
		if w == "" || len(w) > 15 || strings.Trim(w, "0123456789") != "" {
			return nil, false
		}
		n, _ := strconv.ParseInt(w, 10, 64)
		out = append(out, n)
	}
	return out, true
}

// width is the length of a bucket in ms [B9].
func (p Params) width() int64 { return (p.WindowMs + buckets - 1) / buckets }
