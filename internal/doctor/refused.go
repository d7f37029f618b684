package doctor

import (
	"fmt"
	"time"

	"github.com/breakerd/breakerd/pkg/client"
)

const (
	loopReopens  = 3 // since it was last closed: a loop
	loopOpenings = 5 // within an hour, as the runbook has it: more is a loop
	sickRate     = 0.5
	sickCalls    = 3 // that are needed for a rate
	eagerProbes  = time.Minute
)

// waitFor waits for a state, for as long as it takes and a little more.
func (j *judge) waitFor(state string, left time.Duration) string {
	timeout := (max(left, 0) + eagerProbes).Round(time.Second)
	word := map[string]string{closed: "closed", halfOpen: "half_open"}[state]
	return j.ctl(fmt.Sprintf("wait %s --for state=%s --timeout %s", j.Agent, word, timeout))
}

// openings counts the openings of an agent within the last hour.
func (j *judge) openings() (n int) {
	for _, e := range j.Events.Value.Events {
		if e.Event == "opened" && j.now().Sub(e.At) < time.Hour {
			n++
		}
	}
	return n
}

// flapping finds a loop: probes fail again and again, or succeed and are followed by failures.
func (j *judge) flapping() (Finding, bool) {
	b, f, say, ok := j.explained()
	if !ok {
		return f, say
	}
	if !j.Events.known() {
		return unknown(j.Events.Err)
	}
	n := j.openings()
	if b.Hold != nil || b.Reopens < loopReopens && n <= loopOpenings {
		return finef("%s within the hour, %d of them after probes", count(n, "opening"), b.Reopens)
	}
	evidence := fmt.Sprintf("%s within the hour, %d of them after probes that failed; now it is %s",
		count(n, "opening"), b.Reopens, b.State)
	if b.Reopens < loopReopens { // it closes, and opens under load
		return causef(HalfOpenLoop, j.ctl("config set "+j.Agent+" recovery_ramp_seconds=600 --reason 'doctor: it flaps'"),
			"%s. Probes succeed, and the calls after them fail: let calls return gradually", evidence)
	}
	probes := because(j.Explanation.Value.Because, "probe_failed")
	passed := number(probes, "calls") - number(probes, "failures")
	if need := j.needed(b); passed > 0 && need > 1 {
		set := fmt.Sprintf("config set %s half_open_success_threshold=%.0f --for 1h --reason 'doctor: half-open loop'",
			j.Agent, min(passed, need-1))
		return causef(HalfOpenLoop, j.ctl(set), "%s. Of the last probes %.0f of %.0f succeeded, and it takes %.0f",
			evidence, passed, number(probes, "calls"), need)
	}
	return causef(HalfOpenLoop, j.ctl("open "+j.Agent+" --for 1h --reason 'doctor: half-open loop, under repair'"),
		"%s. All probes fail: keep it banned until the agent is repaired%s", evidence, j.contact())
}

// needed is how many probes of a round have to succeed.
func (j *judge) needed(b *client.BreakerDetail) (n float64) {
	if _, err := fmt.Sscan(string(b.Policy["half_open_success_threshold"].Value), &n); err != nil {
		return 0
	}
	return n
}

// count is a number of things.
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// contact says whom to ask.
func (j *judge) contact() string {
	if c := j.Profile.Value.Contact; c != "" {
		return ". Whom to ask: " + c
	}
	return ""
}

// waiting finds a breaker that refuses as it should.
func (j *judge) waiting() (Finding, bool) {
	b, f, say, ok := j.explained()
	if !ok {
		return f, say
	}
	switch {
	case b.Hold != nil:
		return finef("it is held")
	case b.State == open:
		return j.open(b)
	case b.State == halfOpen:
		return j.probing(b)
	case b.Ramp != nil:
		r := because(j.Explanation.Value.Because, "ramping")
		return causef(AutomaticBan, j.ctl("reset "+j.Agent+" --reason 'doctor: the agent is well'"),
			"it returns gradually: a share of %g of its calls is admitted, %s", number(r, "share"), j.until(b.Ramp.Until))
	}
	return finef("not open")
}

// open explains an open breaker that nobody holds.
func (j *judge) open(b *client.BreakerDetail) (Finding, bool) {
	evidence := fmt.Sprintf("%s (%d failures, a rate of %.2f): the next probe comes %s%s",
		j.openedFor(b), b.FailureCount, b.FailureRate, j.at(b.TimeoutUntil), j.contact())
	wait := b.TimeoutUntil.Sub(b.OpenedAt)
	if wait >= longWait {
		return causef(LongTimeout, j.ctl("half-open "+j.Agent+" --reason 'doctor: timeout too long'"),
			"it waits %s, %s", length(wait), evidence)
	}
	return causef(AutomaticBan, j.waitFor(halfOpen, b.TimeoutUntil.Sub(j.now())), "it waits as it should: %s", evidence)
}

// probing explains a half-open breaker.
func (j *judge) probing(b *client.BreakerDetail) (Finding, bool) {
	p := b.Probes
	if p == nil {
		p = &client.Probes{}
	}
	evidence := fmt.Sprintf(
		"probes decide: %d of %d that are needed succeeded, %d failed, %d are under way of at most %d",
		p.Succeeded, p.Need, p.Failed, p.Live, p.Max)
	if p.Succeeded+p.Failed+p.Live == 0 {
		evidence += "; no call has come since it turned half-open"
	}
	return causef(AutomaticBan, j.waitFor(closed, 0), "%s. It opened for %s%s", evidence, b.Reason, j.contact())
}

// notRefused says why the calls of an agent whose breaker is closed are not refused.
func (j *judge) notRefused() (Finding, bool) {
	b, f, say, ok := j.explained()
	if !ok {
		return f, say
	}
	e := j.Explanation.Value
	if b.State != closed || b.Hold != nil {
		return none()
	}
	r := because(e.Because, "closed")
	calls, failures, run := number(r, "calls"), number(r, "failures"), number(r, "consecutive_failures")
	switch {
	case because(e.NotTripping, "ignored_outcomes") != nil:
		return j.uncounted(b, because(e.NotTripping, "ignored_outcomes").Text)
	case run >= sickCalls, calls >= sickCalls && failures >= sickRate*calls:
	default:
		return finef("%.0f of %.0f calls failed", failures, calls)
	}
	return faultf(j.ctl("config get "+j.Agent), "%.0f of %.0f calls failed, %.0f in a row, and it does not open. %s",
		failures, calls, run, texts(e.NotTripping))
}

// uncounted judges an agent without an outcome in its window.
func (j *judge) uncounted(b *client.BreakerDetail, text string) (Finding, bool) {
	seen := j.Profile.Value.LastSeen
	var window float64
	_, _ = fmt.Sscan(string(b.Policy["window_size_seconds"].Value), &window) // 0: it cannot be told
	if !j.Profile.known() || seen.IsZero() || j.now().Sub(seen).Seconds() > window || j.changed(seen) {
		return finef("no call within the window")
	}
	return Finding{
		Status: Unknown, Next: j.ctl("events " + j.Agent),
		Evidence: "it was called " + j.since(seen) + ", and nothing counts, unless its calls are still under way. " + text,
	}, true
}

// changed reports whether an event since then, or shortly before, has emptied the window, or marked the agent as seen.
func (j *judge) changed(then time.Time) bool {
	for _, e := range j.Events.Value.Events {
		if e.At.After(then.Add(-eagerProbes)) {
			return true
		}
	}
	return false
}
