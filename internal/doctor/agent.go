package doctor

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/breakerd/breakerd/pkg/client"
)

// The states, as the API has them.
const (
	closed   = "CLOSED"
	open     = "OPEN"
	halfOpen = "HALF_OPEN"
)

// breaker is the agent's breaker. ok is false where f is what there is to say instead; an agent that is not known is
// for the check name alone.
func (j *judge) breaker() (b *client.BreakerDetail, f Finding, say, ok bool) {
	switch {
	case j.unknownName():
		return nil, f, false, false
	case !j.Breaker.known():
		f, say = unknown(j.Breaker.Err)
		return nil, f, say, false
	}
	return &j.Breaker.Value, f, false, true
}

// unknownName reports whether a server knows no such agent, or the name is none.
func (j *judge) unknownName() bool {
	e, is := errors.AsType[*client.Error](j.Breaker.Err)
	return j.Breaker.absent() || is && e.Code == client.CodeInvalidAgentName
}

// explained is breaker for what takes the explanation.
func (j *judge) explained() (b *client.BreakerDetail, f Finding, say, ok bool) {
	b, f, say, ok = j.breaker()
	if ok && !j.Explanation.known() {
		f, say = unknown(j.Explanation.Err)
		return nil, f, say, false
	}
	return b, f, say, ok
}

func (j *judge) hold() (Finding, bool) {
	b, f, say, ok := j.breaker()
	if !ok {
		return f, say
	}
	h := b.Hold
	if h == nil {
		return j.byHand(b)
	}
	protected, force, forgotten := "", "", ""
	if h.Protected {
		protected, force = ", protected", " --force"
	}
	if h.Until.IsZero() && j.now().Sub(h.Since) > forgottenAfter {
		forgotten = ", most likely forgotten"
	}
	evidence := fmt.Sprintf("%s holds it %s %s, %s%s%s: %q", whom(h.Actor), h.Kind, j.since(h.Since), j.until(h.Until),
		protected, forgotten, b.Reason)
	if h.Kind == closed {
		return faultf(j.ctl("release "+j.Agent+force+" --reason 'the hold is not needed'"),
			"%s; every call is admitted, whatever fails", evidence)
	}
	return causef(ManualBan, j.ctl("half-open "+j.Agent+force+" --reason issue_resolved"), "%s", evidence)
}

// byHand finds a breaker that a person opened without a hold.
func (j *judge) byHand(b *client.BreakerDetail) (Finding, bool) {
	if r := because(j.Explanation.Value.Because, "hand_edit", "operator"); r != nil && b.State == open {
		return causef(ManualBan, j.ctl("half-open "+j.Agent+" --reason issue_resolved"), "%s It waits %s", r.Text,
			j.until(b.TimeoutUntil))
	}
	return finef("none")
}

func (j *judge) override() (Finding, bool) {
	b, f, say, ok := j.breaker()
	if !ok {
		return f, say
	}
	unset := j.ctl("config unset " + j.Agent + " --all --reason 'doctor: ")
	if b.PolicyProblem != "" {
		return faultf(unset+"not valid'", "it is not valid, and the last good policy is in force: %s", b.PolicyProblem)
	}
	if e, is := errors.AsType[*client.Error](j.Override.Err); is && e.Code == client.CodeConfigInvalid {
		return faultf(unset+"not valid'", "%s", e.Detail)
	}
	switch o := j.Override.Value; {
	case j.Override.absent():
		return finef("none")
	case !j.Override.known():
		return unknown(j.Override.Err)
	case o.Ended != nil && *o.Ended:
		if b.State == closed {
			return faultf(unset+"it has ended'", "that of %s ended %s: %s", whom(o.By), stamp(o.Until), j.values(b, ""))
		}
		return finef("that of %s ended %s", whom(o.By), stamp(o.Until))
	case o.Until.IsZero() && b.State == closed && !o.At.IsZero() && j.now().Sub(o.At) > forgottenAfter:
		return faultf(j.ctl("config get "+j.Agent), "%s %s, without an end: %s", whom(o.By), j.since(o.At),
			j.values(b, "redis"))
	default:
		return finef("%s %s, %s: %s", whom(o.By), j.since(o.At), j.until(o.Until), j.values(b, "redis"))
	}
}

// values are those of a policy that come from a layer.
func (j *judge) values(b *client.BreakerDetail, origin string) string {
	var told []string
	for _, name := range slices.Sorted(maps.Keys(b.Policy)) {
		if v := b.Policy[name]; v.Origin == origin {
			told = append(told, name+"="+strings.Trim(string(v.Value), `"`))
		}
	}
	if len(told) == 0 {
		return "the values below it are in force"
	}
	return strings.Join(told, " ")
}

func (j *judge) mode() (Finding, bool) {
	b, f, say, ok := j.explained()
	if !ok {
		return f, say
	}
	for code, mends := range map[string]string{"disabled": "enabled=true", "observe": "mode=enforce"} {
		r := because(j.Explanation.Value.NotTripping, code)
		if r == nil {
			continue
		}
		field, _, _ := strings.Cut(mends, "=")
		switch origin := b.Policy[field].Origin; {
		case origin == "redis":
			return faultf(j.ctl("config unset "+j.Agent+" "+field+" --reason 'doctor: refuse again'"), "%s", r.Text)
		case code == "disabled": // no layer above can undo that
			return faultf(j.ctl("config get "+j.Agent), "%s enabled=true has to stand there: every layer has to allow it",
				r.Text)
		default:
			return faultf(j.ctl("config set "+j.Agent+" "+mends+" --reason 'doctor: refuse again'"), "%s (from: %s)",
				r.Text, origin)
		}
	}
	return finef("enforce")
}

func (j *judge) upstreamWait() (Finding, bool) {
	b, f, say, ok := j.explained()
	if !ok {
		return f, say
	}
	wait := because(j.Explanation.Value.Because, "wait")
	if b.State != open || b.Hold != nil || wait == nil || wait.Clause != "B22" && number(wait, "upstream_seconds") == 0 {
		return finef("none")
	}
	left := b.TimeoutUntil.Sub(j.now())
	if number(wait, "upstream_seconds") < number(wait, "base_seconds")+number(wait, "jitter_seconds") {
		return finef("%.0f s, less than its own wait", number(wait, "upstream_seconds"))
	}
	return causef(AutomaticBan, j.waitFor(halfOpen, left),
		"it asked to be left alone for %.0f s, %s: the next probe comes %s",
		number(wait, "upstream_seconds"), j.openedFor(b), j.at(b.TimeoutUntil))
}

// openedFor says why it opened, and since when it is.
func (j *judge) openedFor(b *client.BreakerDetail) string {
	return fmt.Sprintf("open for %s %s", b.Reason, j.since(b.OpenedAt))
}

func (j *judge) oneReporter() (Finding, bool) {
	b, f, say, ok := j.explained()
	if !ok {
		return f, say
	}
	r := because(j.Explanation.Value.Because, "fails_alone")
	if r == nil || b.State != open {
		return finef("not so")
	}
	set := "config set " + j.Agent + " minimum_reporters=2 --reason 'doctor: one replica fails alone'"
	return causef(AutomaticBan, j.ctl(set),
		"%s Look at that replica and its network first; %s, %s", r.Text, j.openedFor(b), j.until(b.TimeoutUntil))
}

func (j *judge) name() (Finding, bool) {
	if !j.unknownName() {
		if !j.Breaker.known() {
			return unknown(j.Breaker.Err)
		}
		return finef("known")
	}
	e, _ := errors.AsType[*client.Error](j.Breaker.Err)
	if e.Code == client.CodeInvalidAgentName {
		return faultf(j.ctl("get"), "%q is no name of an agent: %s", j.Agent, e.Detail)
	}
	if len(e.Nearest) == 0 {
		return faultf(j.ctl("get"), "no agent %s is known, and no name is near to it", j.Agent)
	}
	return faultf(j.ctl("doctor "+e.Nearest[0]), "no agent %s is known; the nearest names are %s",
		j.Agent, strings.Join(e.Nearest, ", "))
}
