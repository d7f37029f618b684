package breaker

import (
	"maps"
	"strconv"
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

// PlainlyCounted records successes on a plainly closed breaker that has no run, no upstream wait, no trouble in its window, no
// expiry to renew, and whose bucket has begun: the bucket counts them, and nothing else changes [B7], [B9], [B25].
func PlainlyCounted(raw Raw, p Params, op Op, nowMs int64) (after Raw, epoch string, ok bool) {
	epoch, ok = PlainlyClosed(raw)
	sum := op.Summary
	if !ok || !p.Enabled || op.Verb != VerbRecord || op.ReportID != "" || op.Token != "" || sum.Successes == 0 || sum.Failures+sum.Slow > 0 ||
		op.Epoch != "" && op.Epoch != epoch {
		return raw, "", false
	}
	for _, f := range []string{"run", "upstream_length_ms"} {
		if _, some := raw.Control[f]; some {
			return raw, "", false
		}
	}
	expires, ok := wholeNumber(raw.Control["expires_ms"], maxTimeMs)
	if !ok || expires < nowMs+p.TTLMs {
		return raw, "", false
	}
	if text, some := raw.Control["trouble_ms"]; some {
		if trouble, ok := wholeNumber(text, maxTimeMs); !ok || trouble > nowMs-p.WindowMs {
			return raw, "", false
		}
	}
	name := "s" + strconv.FormatInt(nowMs-nowMs%p.width(), 10)
	n, ok := wholeNumber(raw.Calls[name], maxCount)
	if !ok || n == 0 || raw.Planted.Calls && raw.Calls == nil {
		return raw, "", false
	}
	raw.Calls = maps.Clone(raw.Calls)
	raw.Calls[name] = strconv.FormatInt(n+sum.Successes, 10)
	return raw, epoch, true
}

// width is the length of a bucket in ms [B9].
func (p Params) width() int64 { return (p.WindowMs + buckets - 1) / buckets }
