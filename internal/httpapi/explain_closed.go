package httpapi

import (
	"math"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// closed explains a closed breaker: what its window holds, and why that does not open it.
func (e *explanation) closed() {
	w, length := e.Window(e.NowMs, e.p.WindowSize.Milliseconds()), e.p.WindowSize.Seconds()
	calls := w.Successes + w.Failures
	v := values{
		"calls": calls, "failures": w.Failures, "slow": w.Slow, "consecutive_failures": e.Run, "window_seconds": length,
	}
	e.ledf("closed", "B2", v, "It is closed: of %d calls within %s s, %d failed and %d were slow; failures in a row: %d.",
		calls, show(length), w.Failures, w.Slow, e.Run)
	e.ramping()
	if e.globalOff || e.p.Disabled {
		return
	}
	if calls == 0 {
		e.nothingCounts()
	}
	run := e.run()
	failures := e.rate("failure_rate_threshold", "B7", e.p.FailureRateThreshold, w.Failures, calls)
	slow := e.rate("slow_call_rate_threshold", "B8", e.p.SlowCallRateThreshold, w.Slow, calls)
	switch few := e.tooFewReporters(); {
	case few:
	case failures || slow:
		e.thenf("opens_with_next_record", "B7", nil, "A rate has reached its threshold: the next outcome opens it.")
	case run:
		e.thenf("opens_with_next_failure", "B6", nil, "The run has reached its threshold: the next failure opens it.")
	}
}

// ramping explains a gradual return [B16].
func (e *explanation) ramping() {
	r := e.Ramp
	if r.LengthMs <= 0 {
		return
	}
	grown := float64(e.NowMs-r.StartMs) / float64(r.LengthMs)
	floor := float64(r.FloorPPM) / machine.Million
	admitted := math.Round((floor+(1-floor)*grown)*1e6) / 1e6
	e.ledf("ramping", "B16", values{"since": stampOf(r.StartMs), "share": admitted},
		"It returns gradually since %s: a share of %s of the calls is admitted now.", stampOf(r.StartMs), show(admitted))
	end := r.StartMs + r.LengthMs
	e.thenf("ramp_ends", "B16", e.at(end), "The ramp ends at %s; an opening before that is a reopening.", stampOf(end))
}

// nothingCounts says why a breaker may have no calls although its agent is called [B4].
func (e *explanation) nothingCounts() {
	v, seen := values{"last_seen": nil}, ""
	if !e.seen.IsZero() {
		v["last_seen"] = stampOf(e.seen.UnixMilli())
		seen = " The agent was last seen at " + stampOf(e.seen.UnixMilli()) + "."
	}
	e.keepsf("ignored_outcomes", "B4", v, "The window holds no outcome that counts. One that is ignored counts nowhere: "+
		"a caller cancelled, the fault was the caller's own, or we refused the call; nor does a late one.%s", seen)
}

// run says how far the run of failures is from its threshold [B6].
func (e *explanation) run() (reached bool) {
	threshold := int64(e.p.FailureThreshold)
	v := values{"consecutive_failures": e.Run, "failure_threshold": max(threshold, 0)}
	switch left := threshold - e.Run; {
	case threshold <= 0:
		e.keepsf("failure_threshold_off", "B6", v, "failure_threshold is 0: no run of failures opens it.")
	case left <= 0:
		return true
	default:
		e.keepsf("failure_threshold", "B6", v, "Failures in a row, %d, are fewer than failure_threshold, %d.",
			e.Run, threshold)
		e.thenf("opens_by_run", "B6", values{"failures_needed": left}, "Further failures in a row that open it: %d.", left)
	}
	return false
}

// rate says how far a rate, of so many of the calls, is from its threshold [B7], [B8].
func (e *explanation) rate(setting, rule string, threshold float64, of, calls int64) (reached bool) {
	rate, least := share(of, calls), e.p.MinimumCalls
	v := values{
		"threshold": setting, "of": max(threshold, 0), "rate": rate, "calls": calls, "minimum_calls": least,
	}
	switch {
	case threshold <= 0:
		e.keepsf(setting+"_off", rule, v, "%s is 0: no such rate opens it.", setting)
	case calls < int64(least):
		e.keepsf("minimum_calls", rule, v, "The window holds %d calls, fewer than minimum_calls, %d: %s does not count.",
			calls, least, setting)
	case of*machine.Million < int64(math.Round(threshold*machine.Million))*calls:
		e.keepsf(setting, rule, v, "The rate of %s, %d of %d calls, is below %s, %s.",
			show(rate), of, calls, setting, show(threshold))
	default:
		return true
	}
	return false
}

// tooFewReporters says that not enough reporters have seen failures within the window [B23].
func (e *explanation) tooFewReporters() bool {
	wanted := min(e.p.MinimumReporters, max(e.replicas, 1))
	n, by := 0, values{}
	for name, at := range e.Reporters {
		if by[name] = stampOf(at); e.NowMs-e.p.WindowSize.Milliseconds() < at {
			n++
		}
	}
	if wanted <= 1 || n >= wanted {
		return false
	}
	v := values{"reporters": by, "counted": n, "wanted": wanted, "minimum_reporters": e.p.MinimumReporters}
	e.keepsf("minimum_reporters", "B23", v, "Reporters that saw failures within the window: %d. It takes %d: "+
		"minimum_reporters is %d, and %d replicas are up.", n, wanted, e.p.MinimumReporters, e.replicas)
	return true
}
