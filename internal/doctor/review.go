package doctor

import (
	"fmt"
	"slices"
	"time"

	"github.com/breakerd/breakerd/pkg/client"
)

// review finds entries, and says what each is.
func (j *judge) review(
	list *Fact[client.BreakerList], about func(*client.ListEntry) bool, what string, say func(*client.ListEntry) string,
) (Finding, bool) {
	switch {
	case !list.Asked:
		return none()
	case list.Err != nil:
		return unknown(list.Err)
	}
	found := slices.Clone(list.Value.CircuitBreakers)
	found = slices.DeleteFunc(found, func(e client.ListEntry) bool { return !about(&e) })
	switch {
	case len(found) == 0 && list.Value.NextCursor != "":
		return Finding{Status: Unknown, Evidence: fmt.Sprintf("not known: of %d only %d were looked at",
			list.Value.Total, len(list.Value.CircuitBreakers))}, true
	case len(found) == 0:
		return finef("none of %d", list.Value.Total)
	}
	told := make([]string, len(found))
	for i := range found {
		told[i] = found[i].AgentID + " (" + say(&found[i]) + ")"
	}
	return faultf(j.ctl("doctor "+found[0].AgentID), "%d %s: %s", len(found), what, named(told, len(told)))
}

func (j *judge) holdsEndless() (Finding, bool) {
	return j.review(&j.Held, func(e *client.ListEntry) bool { return e.Hold != nil && e.Hold.Until.IsZero() },
		"have no end", j.heldBy)
}

// heldBy says who holds a breaker.
func (j *judge) heldBy(e *client.ListEntry) string {
	return fmt.Sprintf("held %s by %s %s: %q", e.Hold.Kind, whom(e.Hold.Actor), j.since(e.Hold.Since), e.Reason)
}

// holdsUnused finds holds that refuse nobody. When an agent was last called is known to a minute.
func (j *judge) holdsUnused() (Finding, bool) {
	return j.review(&j.Held, func(e *client.ListEntry) bool {
		return e.Hold != nil && e.Hold.Kind == open && !e.LastSeen.IsZero() && j.now().Sub(e.Hold.Since) > longWait &&
			e.LastSeen.Before(e.Hold.Since.Add(2*time.Minute))
	}, "were not called since", func(e *client.ListEntry) string {
		return fmt.Sprintf("%s, last called %s", j.heldBy(e), stamp(e.LastSeen))
	})
}

// overriddenBy says who set an override.
func (j *judge) overriddenBy(e *client.ListEntry) string {
	text := whom(e.Override.By) + " " + j.since(e.Override.At)
	if e.Override.Reason != "" {
		text += fmt.Sprintf(": %q", e.Override.Reason)
	}
	return text
}

func (j *judge) overridesInvalid() (Finding, bool) {
	return j.review(&j.Overridden, func(e *client.ListEntry) bool {
		return e.Override != nil && e.Override.Problem != ""
	}, "are not in force, the last good policies are", func(e *client.ListEntry) string { return e.Override.Problem })
}

func (j *judge) overridesEnded() (Finding, bool) {
	return j.review(&j.Overridden, func(e *client.ListEntry) bool { return e.Override != nil && e.Override.Ended },
		"have ended, and can be deleted", func(e *client.ListEntry) string {
			return fmt.Sprintf("%s, ended %s", j.overriddenBy(e), stamp(e.Override.Until))
		})
}

func (j *judge) overridesEndless() (Finding, bool) {
	return j.review(&j.Overridden, func(e *client.ListEntry) bool {
		o := e.Override
		return o != nil && o.Until.IsZero() && o.Problem == "" && j.now().Sub(o.At) > forgottenAfter
	}, "have had no end for a day, or for nobody knows how long", j.overriddenBy)
}

func (j *judge) openLong() (Finding, bool) {
	return j.review(&j.Open, func(e *client.ListEntry) bool {
		return e.State == open && !e.OpenedAt.IsZero() && j.now().Sub(e.OpenedAt) > longWait
	}, "are open for more than an hour", func(e *client.ListEntry) string {
		return fmt.Sprintf("%s %s, %s", e.Reason, j.since(e.OpenedAt), j.until(e.TimeoutUntil))
	})
}

// summary is what there is to say where there is no summary.
func (j *judge) noSummary() (Finding, bool) {
	if !j.Summary.Asked {
		return none()
	}
	return unknown(j.Summary.Err)
}

func (j *judge) flappers() (Finding, bool) {
	if !j.Summary.known() {
		return j.noSummary()
	}
	all := j.Summary.Value.Flappers
	if len(all) == 0 {
		return finef("none")
	}
	told := make([]string, len(all))
	for i, f := range all {
		told[i] = fmt.Sprintf("%s (%d openings)", f.AgentID, f.Openings)
	}
	return faultf(j.ctl("doctor "+all[0].AgentID), "%d opened three times or more within ten minutes: %s",
		len(all), named(told, len(told)))
}

// unregistered finds names that nobody has registered. A fleet without any registration has no registry.
func (j *judge) unregistered() (Finding, bool) {
	if !j.Summary.known() {
		return j.noSummary()
	}
	s := j.Summary.Value
	switch n := s.Unregistered.Count; {
	case n == s.Agents:
		return finef("no registry is in use")
	case n > 0:
		return faultf(j.ctl("describe "+s.Unregistered.Names[0]), "%d of %d agents are in no registry: %s",
			n, s.Agents, named(s.Unregistered.Names, int(n)))
	}
	return finef("all %d are registered", s.Agents)
}
