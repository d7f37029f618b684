package doctor

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/breakerd/breakerd/pkg/client"
)

// Scope says when a check is made.
type Scope string

// The scopes.
const (
	OfFleet  Scope = "fleet"  // always
	OfAgent  Scope = "agent"  // of one agent
	OfReview Scope = "review" // without an agent
)

// Check is one question of a diagnosis.
type Check struct {
	Name  string
	Of    Scope
	Fault string // when it finds a fault
	judge func(j *judge) (Finding, bool)
}

// Checks are all checks, in the order in which they are made.
func Checks() []Check {
	return []Check{
		{"server", OfFleet, "none: a server that does not answer is not known", (*judge).servers},
		{"global_switch", OfFleet, "`CIRCUIT_BREAKER_ENABLED` is false on a replica", (*judge).globalSwitch},
		{"store_away", OfFleet, "Redis does not answer a server", (*judge).storeAway},
		{"store_answers", OfFleet, "Redis loads its data, refuses, or is no Redis", (*judge).storeAnswers},
		{"store_data", OfFleet, "Redis lost its data within ten minutes", (*judge).storeData},
		{"store_eviction", OfFleet, "Redis may evict breakers", (*judge).storeEviction},
		{"store_memory", OfFleet, "Redis uses 70 % of `maxmemory` or more", (*judge).storeMemory},
		{"replicas_degraded", OfFleet, "a replica answers from its own memory", (*judge).replicasDegraded},
		{"replicas_missing", OfFleet, "a replica went without a word within ten minutes", (*judge).replicasMissing},
		{"replicas_policy", OfFleet, "a replica has other defaults, or another `AGENTS_FILE`", (*judge).replicasPolicy},
		{"gate", OfFleet, "the fleet's gate stands", (*judge).gate},
		{"hold", OfAgent, "an operator holds it open or closed, or a hand opened it", (*judge).hold},
		{"override", OfAgent, "its override is not valid, has ended, or has had no end for a day", (*judge).override},
		{"mode", OfAgent, "`enabled` is false, or `mode` is observe", (*judge).mode},
		{"upstream_wait", OfAgent, "the agent asked to be left alone, by `Retry-After`", (*judge).upstreamWait},
		{"one_reporter", OfAgent, "one replica alone reported the failures", (*judge).oneReporter},
		{"flapping", OfAgent, "it opens again and again", (*judge).flapping},
		{"waiting", OfAgent, "it is open, half-open, or returns gradually", (*judge).waiting},
		{"not_refused", OfAgent, "its calls fail, and it does not open", (*judge).notRefused},
		{"name", OfAgent, "no such agent is known", (*judge).name},
		{"holds_endless", OfReview, "holds have no end", (*judge).holdsEndless},
		{"holds_unused", OfReview, "nobody has called a held agent since", (*judge).holdsUnused},
		{"overrides_invalid", OfReview, "overrides are not in force", (*judge).overridesInvalid},
		{"overrides_ended", OfReview, "overrides have ended", (*judge).overridesEnded},
		{"overrides_endless", OfReview, "overrides have had no end for a day", (*judge).overridesEndless},
		{"open_long", OfReview, "breakers have been open for an hour", (*judge).openLong},
		{"flappers", OfReview, "breakers opened three times within ten minutes", (*judge).flappers},
		{"unregistered", OfReview, "agents are in no registry, where others are", (*judge).unregistered},
		{"health", OfFleet, "another check of a server's health is not healthy", (*judge).health},
	}
}

const (
	// forgottenAfter is the age at which what has no end may have been forgotten, as health has it.
	forgottenAfter = 24 * time.Hour
	// longWait is what the runbook calls too long for a wait, and for which its alert lets a breaker be open.
	longWait = time.Hour
	// missingFor is for how long a replica that went without a word is a fault.
	missingFor = 10 * time.Minute
	// mostShown is how many names evidence lists.
	mostShown = 5
)

// judge is a diagnosis under way.
type judge struct {
	*Facts
	commands
}

func finef(format string, args ...any) (Finding, bool) {
	return Finding{Status: Fine, Evidence: fmt.Sprintf(format, args...)}, true
}

func faultf(next, format string, args ...any) (Finding, bool) {
	return Finding{Status: Fault, Evidence: fmt.Sprintf(format, args...), Next: next}, true
}

func causef(cause Cause, next, format string, args ...any) (Finding, bool) {
	return Finding{Status: Fault, Evidence: fmt.Sprintf(format, args...), Next: next, Cause: cause}, true
}

func unknown(err error) (Finding, bool) {
	return Finding{Status: Unknown, Evidence: "not known: " + err.Error()}, true
}

// none is what a check gives that has nothing to judge.
func none() (Finding, bool) { return Finding{}, false }

// named lists names, the first of them, with how many there are.
func named(names []string, count int) string {
	text := strings.Join(names[:min(len(names), mostShown)], ", ")
	if count > mostShown {
		text += fmt.Sprintf(", … (%d)", count)
	}
	return text
}

// now is Redis' clock, as far as an answer tells it.
func (j *judge) now() time.Time {
	for _, ms := range []int64{j.Explanation.Value.NowMs, j.Gate.Value.NowMs, j.Summary.Value.NowMs} {
		if ms > 0 {
			return time.UnixMilli(ms)
		}
	}
	return j.Now
}

// since says when something began, and how long ago that is.
func (j *judge) since(at time.Time) string {
	if at.IsZero() {
		return "since nobody knows when"
	}
	return fmt.Sprintf("since %s (%s)", stamp(at), length(j.now().Sub(at)))
}

// until says when something ends.
func (j *judge) until(at time.Time) string {
	if at.IsZero() {
		return "without an end"
	}
	return fmt.Sprintf("until %s (in %s)", stamp(at), length(at.Sub(j.now())))
}

// at says when something happens.
func (j *judge) at(when time.Time) string {
	return fmt.Sprintf("at %s (in %s)", stamp(when), length(when.Sub(j.now())))
}

func stamp(at time.Time) string { return at.UTC().Format(time.RFC3339) }

// length is a duration in its greatest two units.
func length(d time.Duration) string {
	const day = 24 * time.Hour
	switch d = max(d, 0); {
	case d >= day:
		return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%ds", (d+time.Second-1)/time.Second)
}

// whom says who did something.
func whom(actor string) string {
	if actor == "" {
		return "somebody without a name"
	}
	return actor
}

// because is the reason of an explanation that has one of these codes.
func because(reasons []client.ReasonClause, codes ...string) *client.ReasonClause {
	for i := range reasons {
		if slices.Contains(codes, reasons[i].Code) {
			return &reasons[i]
		}
	}
	return nil
}

// number is a number of a reason; 0: it has none of that name.
func number(r *client.ReasonClause, name string) float64 {
	if r == nil {
		return 0
	}
	n, _ := r.Values[name].(float64)
	return n
}

// texts are the sentences of reasons.
func texts(reasons []client.ReasonClause) string {
	all := make([]string, len(reasons))
	for i, r := range reasons {
		all[i] = r.Text
	}
	return strings.Join(all, " ")
}
