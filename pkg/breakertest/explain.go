package breakertest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// shownEvents and shownNames bound what a message lists.
const shownEvents, shownNames = 5, 10

// describe says, in lines, how a breaker came into its state.
func (f *Fleet) describe(agent string, v breaker.View, p breaker.Policy) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, "  "+format+"\n", args...) }
	line("clock:  %s", at(v.NowMs))
	switch {
	case v.Hold.Kind != "":
		line("hold:   %s by %s since %s, %s", v.Hold.Kind, v.Hold.Actor, at(v.Hold.StartMs), until(v))
	case v.State == breaker.Open:
		line("opened: %s, cause %s, %s", at(v.OpenedMs), v.Cause, until(v))
	case v.State == breaker.HalfOpen:
		line("round:  %d probes succeeded, %d failed, %d in flight, of %d; %d successes close it",
			v.Round.OK, v.Round.Failed, len(v.Leases), v.Round.Max, v.Round.Need)
	}
	if v.State == breaker.Closed {
		w := v.Window(v.NowMs, p.WindowSize.Milliseconds())
		line("run:    %d failures in a row; failure_threshold %s", v.Run, off(float64(p.FailureThreshold)))
		line("window: %d calls within %v, of which %d failed and %d were slow; failure_rate_threshold %s,"+
			" slow_call_rate_threshold %s, minimum_calls %d", w.Successes+w.Failures, p.WindowSize, w.Failures, w.Slow,
			off(p.FailureRateThreshold), off(p.SlowCallRateThreshold), p.MinimumCalls)
	}
	if p.Disabled {
		line("policy: disabled: each call is admitted, and none is counted")
	}
	for _, e := range v.Log[:min(len(v.Log), shownEvents)] {
		line("event:  %s %s %s>%s, actor %s, %s", at(e.AtMs), e.Kind, e.From, e.To, e.Actor, e.Text)
	}
	if !v.Present {
		line("calls:  none of agent %q has counted; agents asked about: %s", agent, f.known(agent))
	}
	return b.String()
}

// known lists the agents that the code under test has asked about.
func (f *Fleet) known(but string) string {
	all := slices.DeleteFunc(f.shared.agents(), func(a string) bool { return a == but })
	more := ""
	if len(all) > shownNames {
		all, more = all[:shownNames], ", …"
	}
	return cmp.Or(strings.Join(all, ", "), "no other") + more
}

// advise says what would bring a breaker into the state that was wanted.
func advise(agent string, v breaker.View, p breaker.Policy, want breaker.State) string {
	left := time.Duration(v.DeadlineMs()-v.NowMs) * time.Millisecond
	var advice string
	switch {
	case v.Hold.Kind != "":
		advice = "An operator holds it: Release ends a hold."
	case p.Disabled:
		advice = "Set no Policy.Disabled."
	case want == breaker.Open && v.State == breaker.Closed:
		advice = fmt.Sprintf("Trip(%q) opens it. Calls that Classify calls ignored do not count.", agent)
	case want == breaker.Open:
		advice = "Its wait is over: the clock is past it. A failed probe opens it again."
	case want == breaker.HalfOpen && v.State == breaker.Closed:
		advice = fmt.Sprintf("HalfOpen(%q) opens it and moves the clock to the end of its wait.", agent)
	case want == breaker.HalfOpen:
		advice = fmt.Sprintf("Advance(%v), or HalfOpen(%q), moves the clock to the end of its wait.", left, agent)
	case v.State == breaker.HalfOpen:
		advice = "Calls that succeed close it."
	default:
		advice = fmt.Sprintf("Advance(%v) makes it half-open, and then calls that succeed close it.", left)
	}
	return "  advice: " + advice
}

// until says how long an open or held breaker stays so.
func until(v breaker.View) string {
	deadline := v.DeadlineMs()
	if deadline == 0 {
		return "without end"
	}
	return fmt.Sprintf("for %v more", time.Duration(deadline-v.NowMs)*time.Millisecond)
}

// off shows a threshold.
func off(threshold float64) string {
	if threshold <= 0 {
		return "off"
	}
	return fmt.Sprint(threshold)
}

func at(ms int64) string { return time.UnixMilli(ms).UTC().Format(timeFormat) }
