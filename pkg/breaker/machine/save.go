package machine

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// Save is what the keys hold after a Step by p: raw with s written over it. Unknown fields stay, because a newer
// version may have written them, and a timestamp that did not change keeps its text [B20].
func Save(raw Raw, p Params, s Snapshot, events []Event, nowMs int64) Raw {
	out := Raw{Log: raw.Log}
	if s.Present {
		out.State = new(string(s.State))
	}
	if s.State != Closed && s.OpenedMs > 0 {
		out.Timestamp = new(FormatTimestamp(s.OpenedMs))
		if raw.Timestamp != nil && !raw.Planted.Timestamp {
			if at, ok := parseTimestamp(*raw.Timestamp); ok && at == s.OpenedMs {
				out.Timestamp = raw.Timestamp
			}
		}
	}
	out.Control = s.saveControl(raw)
	out.Calls = s.saveCalls(raw)
	out.Probes = s.saveProbes(raw)
	out.History, out.Planted.History = s.saveHistory(raw, p, nowMs)
	out.Planted.Probes = raw.Planted.Probes && s.State != HalfOpen && !s.cleared.probes
	for _, e := range events {
		out.Log = slices.Insert(slices.Clone(out.Log), 0, e.String())
	}
	out.Log = out.Log[:min(len(out.Log), MaxLog)]
	return out
}

func (s Snapshot) saveControl(raw Raw) map[string]string {
	out := map[string]string{}
	if !raw.Planted.Control {
		maps.Copy(out, raw.Control)
	}
	for _, c := range s.Buckets { // the stored totals leave out what the buckets still count
		s.Successes -= c.Successes
		s.Failures -= c.Failures
	}
	for _, f := range controlFields() {
		delete(out, f.name)
		if text := f.write(&s); text != "" && s.Present {
			out[f.name] = text
		}
	}
	if s.Epoch == ZeroEpoch {
		delete(out, "epoch")
	}
	return orNil(out)
}

func (s Snapshot) saveCalls(raw Raw) map[string]string {
	out := map[string]string{}
	if !raw.Planted.Calls && !s.cleared.calls {
		maps.Copy(out, raw.Calls)
		maps.DeleteFunc(out, func(name, _ string) bool { return callsField(name) != 0 })
	}
	for start, c := range s.Buckets {
		c.put(out, strconv.FormatInt(start, 10))
	}
	for name, at := range s.Reporters {
		out["r:"+name] = strconv.FormatInt(at, 10)
	}
	return orNil(out)
}

// put writes the fields of the bucket at start; a count of 0 has none.
func (c Counts) put(out map[string]string, start string) {
	for k, n := range map[string]int64{"s": c.Successes, "f": c.Failures, "w": c.Slow} {
		if n != 0 {
			out[k+start] = strconv.FormatInt(n, 10)
		}
	}
}

// saveProbes leaves :probes alone outside half-open, unless a transition cleared it.
func (s Snapshot) saveProbes(raw Raw) map[string]string {
	if s.State != HalfOpen && !s.cleared.probes {
		return raw.Probes
	}
	out := map[string]string{}
	if !raw.Planted.Probes && !s.cleared.probes {
		maps.Copy(out, raw.Probes)
		maps.DeleteFunc(out, func(name, _ string) bool { return IsHex16(name) })
	}
	for token, l := range s.Leases {
		out[token] = l.text()
	}
	return orNil(out)
}

// saveHistory adds the buckets that left the window to their minutes, "calls failures slow", and drops minutes that are
// too old. If no bucket has left, it does not look at the key.
func (s Snapshot) saveHistory(raw Raw, p Params, nowMs int64) (history map[string]string, planted bool) {
	if len(s.pruned) == 0 {
		return raw.History, raw.Planted.History
	}
	out := map[string]string{}
	if !raw.Planted.History {
		maps.Copy(out, raw.History)
	}
	for minute, c := range s.pruned {
		name := strconv.FormatInt(minute, 10)
		calls, failures, slow := parseMinute(out[name])
		out[name] = fmt.Sprintf("%d %d %d", calls+c.Successes+c.Failures, failures+c.Failures, slow+c.Slow)
	}
	maps.DeleteFunc(out, func(name, _ string) bool {
		minute, ok := parseWhole(name, maxTimeMs)
		return ok && minute <= nowMs/minuteMs-p.HistoryMinutes
	})
	return orNil(out), false
}

func orNil(m map[string]string) map[string]string {
	if len(m) == 0 {
		return nil
	}
	return m
}
