// Package doctor finds out why an agent's calls are refused, why those of a sick one are not, and what is wrong in the
// fleet. [Gather] asks the servers, each question with a deadline of its own. [Judge] goes through the [Checks] in
// order, and is a pure function of what was gathered.
package doctor

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/breakerd/breakerd/pkg/client"
)

// Status is what a check found.
type Status string

// The statuses.
const (
	Fine    Status = "ok"
	Fault   Status = "fault"
	Unknown Status = "unknown" // a fact that it takes could not be had
)

// Mark is the status as a sign.
func (s Status) Mark() string {
	return map[Status]string{Fine: "✓", Fault: "✗", Unknown: "?"}[s]
}

// Cause is one of the four causes of a breaker that is stuck, of the StemeDB runbook.
type Cause string

// The causes.
const (
	ManualBan    Cause = "manual_ban_not_reset"
	AutomaticBan Cause = "automatic_ban"
	LongTimeout  Cause = "timeout_too_long"
	HalfOpenLoop Cause = "half_open_loop"
)

// Title is the cause in words.
func (c Cause) Title() string {
	return map[Cause]string{
		ManualBan: "manual ban not reset", AutomaticBan: "automatic ban for failures", LongTimeout: "timeout too long",
		HalfOpenLoop: "half-open loop",
	}[c]
}

// Finding is what one check found.
type Finding struct {
	Check    string `json:"check"`
	Status   Status `json:"status"`
	Evidence string `json:"evidence"`
	Cause    Cause  `json:"cause,omitempty"`
	Next     string `json:"next,omitempty"` // the one command to run
}

// Report is a diagnosis. Its first fault decides; where there is none, what is not known does.
type Report struct {
	Agent    string    `json:"agent,omitempty"` // "": of the fleet
	Found    bool      `json:"found"`           // a fault, or something that is not known
	Verdict  string    `json:"verdict"`
	Cause    Cause     `json:"cause,omitempty"`
	Next     string    `json:"next,omitempty"`
	Findings []Finding `json:"findings"`

	mark Status // of the verdict
}

// Mark is the sign of the verdict.
func (r *Report) Mark() string { return r.mark.Mark() }

// Options say how a Report is written.
type Options struct {
	// Program begins each command of breakerctl, with the flags that lead to the same servers. "": breakerctl.
	Program string
	// Token says that curl has to send a token, from BREAKERCTL_TOKEN.
	Token bool
}

// Fact is what one question was answered.
type Fact[T any] struct {
	Value T
	Err   error // why there is no answer
	Asked bool
}

// known reports whether there is an answer.
func (f *Fact[T]) known() bool { return f.Asked && f.Err == nil }

// absent reports whether the server says that there is no such thing.
func (f *Fact[T]) absent() bool { return errors.Is(f.Err, client.ErrNotFound) }

// Facts are what a Report is made of.
type Facts struct {
	Agent   string // "": the fleet is asked about
	Now     time.Time
	Servers []Server

	// Of the fleet.
	Gate     Fact[client.Fleet]
	Replicas Fact[client.ReplicaList]
	Summary  Fact[client.Summary]

	// Of the agent.
	Breaker     Fact[client.BreakerDetail]
	Explanation Fact[client.Explanation]
	Override    Fact[client.Override]
	Profile     Fact[client.Agent]
	Events      Fact[client.AgentEvents]

	// Of the fleet, for its review.
	Held       Fact[client.BreakerList]
	Overridden Fact[client.BreakerList]
	Open       Fact[client.BreakerList]
}

// Server is one server that was asked of itself.
type Server struct {
	Address string
	Health  Fact[client.Checks]
}

// Reached reports whether any server has answered anything.
func (f *Facts) Reached() bool {
	return slices.ContainsFunc(f.Servers, func(s Server) bool { return answered(s.Health.Err) })
}

// answered reports whether an error, or none, came from a server.
func answered(err error) bool {
	_, byServer := errors.AsType[*client.Error](err)
	return err == nil || byServer
}

// Denied is the error of servers that answer nothing but that the caller may not ask; nil: one told something.
func (f *Facts) Denied() (err error) {
	for _, s := range f.Servers {
		e, ok := errors.AsType[*client.Error](s.Health.Err)
		if !ok || e.Status != http.StatusUnauthorized && e.Status != http.StatusForbidden {
			return nil
		}
		err = e
	}
	return err
}

// Judge makes the diagnosis.
func Judge(f *Facts, o Options) Report {
	j := &judge{Facts: f, commands: newCommands(o)}
	r := Report{Agent: f.Agent, Findings: []Finding{}}
	for _, c := range Checks() {
		if c.Of == OfAgent && f.Agent == "" || c.Of == OfReview && f.Agent != "" {
			continue
		}
		if finding, ok := c.judge(j); ok {
			finding.Check = c.Name
			r.Findings = append(r.Findings, finding)
		}
	}
	r.conclude()
	return r
}

// conclude takes the verdict from the findings.
func (r *Report) conclude() {
	var unknown []string
	for _, f := range r.Findings {
		switch f.Status {
		case Fault:
			r.mark = Fault
			r.Found, r.Cause, r.Next, r.Verdict = true, f.Cause, f.Next, f.Check+": "+f.Evidence
			if f.Cause != "" {
				r.Verdict = f.Cause.Title() + ": " + f.Evidence
			}
			return
		case Unknown:
			unknown = append(unknown, f.Check+" ("+f.Evidence+")")
		case Fine:
		}
	}
	r.mark = Fine
	if r.Verdict = "nothing wrong"; len(unknown) > 0 {
		r.mark = Unknown
		r.Found, r.Verdict = true, "nothing wrong is known, but not all is: "+unknown[0]
		if len(unknown) > 1 {
			r.Verdict += fmt.Sprintf(", and %d more", len(unknown)-1)
		}
	}
}
