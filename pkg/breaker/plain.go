package breaker

import (
	"fmt"
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
	return epoch, isHex16(epoch)
}

// PlainlyCounted records outcomes on a plainly closed breaker that stays closed, and has no upstream wait and no expiry to
// renew, if their bucket has begun and the sums of the others are cached: the bucket counts them, the run goes on or ends, and
// nothing else changes [B6]–[B9], [B25].
func PlainlyCounted(raw Raw, p Params, op Op, nowMs int64) (after Raw, res Result, ok bool) {
	sum := op.Summary
	epoch, plain := PlainlyClosed(raw)
	_, upstream := raw.Control["upstream_length_ms"]
	run, runOK := wholeOrNone(raw.Control, "run", MaxRun)
	expires, expiresOK := wholeOrNone(raw.Control, "expires_ms", maxTimeMs)
	past, known := parsePast(raw.Control["past"])
	start := nowMs - nowMs%p.width()
	switch {
	case !p.Enabled, op.Verb != VerbRecord, op.Token != "", op.ReportID != "", sum.WaitMs > 0, sum.Calls() == 0,
		p.TrackReporters && sum.Failures+sum.Slow > 0,
		!plain, op.Epoch != "" && op.Epoch != epoch, upstream, !runOK, !expiresOK, expires < nowMs+p.TTLMs,
		!known, past.windowMs != p.WindowMs, past.startMs != start, nowMs >= past.tillMs:
		return raw, res, false
	}
	bucket, begun := plainBucket(raw.Calls, start)
	m := machine{Snapshot: Snapshot{Run: run}, p: p, op: op}
	peak := m.tally(sum)
	bucket = bucket.plus(Counts{sum.Successes, sum.Failures, sum.Slow})
	if !begun || m.over(peak, past.sums.plus(bucket)) != "" {
		return raw, res, false
	}
	raw.Calls, raw.Control = maps.Clone(raw.Calls), maps.Clone(raw.Control)
	bucket.put(raw.Calls, start)
	delete(raw.Control, "run")
	if m.Run > 0 {
		raw.Control["run"] = strconv.FormatInt(m.Run, 10)
	}
	return raw, Result{Code: CodeOK, State: Closed, Epoch: epoch, NowMs: nowMs, Run: m.Run}, true
}

// PlainlyRefused says whether keys hold an open breaker whose wait goes on, without hold and expiry to renew: an Acquire is then
// refused, and nothing changes [B3], [B21], [B25].
func PlainlyRefused(raw Raw, p Params, nowMs int64) (res Result, ok bool) {
	c := raw.Control
	_, held := c["hold"]
	opened, a := wholeNumber(c["opened_ms"], nowMs)
	wait, b := wholeNumber(c["wait_ms"], maxLengths)
	expires, d := wholeNumber(c["expires_ms"], maxTimeMs)
	run, e := wholeOrNone(c, "run", MaxRun)
	left := opened + wait - nowMs
	switch {
	case !p.Enabled, raw.State == nil || *raw.State != string(Open), raw.Timestamp == nil || *raw.Timestamp != FormatTimestamp(opened),
		c["state"] != string(Open), !isHex16(c["epoch"]), held, !a || !b || !d || !e, left <= 0,
		expires < max(nowMs+p.TTLMs, opened+wait+dayMs):
		return res, false
	}
	res = Result{Code: CodeRefused, State: Open, Epoch: c["epoch"], NowMs: nowMs, Reason: ReasonOpen, RetryAfterMs: left, Run: run, LeftMs: left}
	if p.Observe {
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
func plainBucket(h map[string]string, startMs int64) (c Counts, ok bool) {
	begun := false
	ok = true
	for k, n := range map[string]*int64{"s": &c.Successes, "f": &c.Failures, "w": &c.Slow} {
		var good bool
		name := k + strconv.FormatInt(startMs, 10)
		_, some := h[name]
		*n, good = wholeOrNone(h, name, maxCount)
		begun, ok = begun || some, ok && good
	}
	return c, begun && ok
}

// pastSums are the sums of the buckets other than the one at startMs that count under a window of windowMs, before tillMs.
type pastSums struct {
	windowMs, startMs, tillMs int64
	sums                      Counts
}

func (p pastSums) text() string {
	return fmt.Sprintf("%d %d %d %d %d %d", p.windowMs, p.startMs, p.tillMs, p.sums.Successes, p.sums.Failures, p.sums.Slow)
}

func parsePast(text string) (p pastSums, ok bool) {
	words := strings.Split(text, " ")
	to := []*int64{&p.windowMs, &p.startMs, &p.tillMs, &p.sums.Successes, &p.sums.Failures, &p.sums.Slow}
	if len(words) != len(to) {
		return p, false
	}
	for i, w := range words {
		if w == "" || len(w) > 15 || strings.Trim(w, "0123456789") != "" {
			return p, false
		}
		*to[i], _ = strconv.ParseInt(w, 10, 64)
	}
	return p, true
}

// width is the length of a bucket in ms [B9].
func (p Params) width() int64 { return (p.WindowMs + buckets - 1) / buckets }
