package ctl

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/breakerd/breakerd/pkg/client"
)

// description is all that is known of one agent.
type description struct {
	client.BreakerDetail

	Because     []client.ReasonClause `json:"because"`
	NotTripping []client.ReasonClause `json:"not_tripping"`
	Next        []client.ReasonClause `json:"next"`
	Profile     *client.Agent         `json:"profile,omitempty"`
	Events      []client.Event        `json:"events"`
}

func (c *cli) describeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "describe AGENT",
		Short: "all about one agent: state, causes, policy, events",
		Example: `  breakerctl describe payments
  breakerctl describe payments -o json | jq .policy.failure_threshold`,
		Args:              someArgs(1, 1, "one AGENT"),
		ValidArgsFunction: c.completeAgents,
		RunE: func(cmd *cobra.Command, args []string) error {
			to, err := c.client()
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			var d description
			if d.BreakerDetail, err = to.GetCircuitBreaker(ctx, args[0]); err != nil {
				return err
			}
			why, err := to.ExplainCircuitBreaker(ctx, args[0])
			if err != nil {
				return err
			}
			d.Because, d.NotTripping, d.Next = why.Because, why.NotTripping, why.Next
			if profile, err := to.GetAgent(ctx, args[0]); err == nil {
				d.Profile = &profile
			}
			if events, err := to.ListEvents(ctx, args[0]); err == nil {
				d.Events = events.Events
			}
			return c.print(output{value: d, names: []string{d.AgentID}, text: func(w io.Writer) { c.describe(w, &d) }})
		},
	}
}

const newestEvents = 10 // that describe shows

func (c *cli) describe(w io.Writer, d *description) {
	now := time.Now()
	line := func(name, format string, args ...any) {
		_, _ = fmt.Fprintf(w, "%-12s %s\n", name+":", fmt.Sprintf(format, args...))
	}
	line("Agent", "%s", d.AgentID)
	line("State", "%s", c.coloured(d.State))
	if !d.OpenedAt.IsZero() {
		line("Opened", "%s (%s)", d.OpenedAt.Format(time.RFC3339), ago(now, d.OpenedAt))
	}
	if !d.TimeoutUntil.IsZero() {
		line("Probe", "%s (%s)", d.TimeoutUntil.Format(time.RFC3339), until(now, d.TimeoutUntil))
	}
	if d.Hold != nil {
		protected := ""
		if d.Hold.Protected {
			protected = ", protected"
		}
		line("Hold", "%s by %s%s, %s, ends %s", d.Hold.Kind, cmp.Or(d.Hold.Actor, "nobody who said a name"), protected,
			ago(now, d.Hold.Since), cmp.Or(until(now, d.Hold.Until), "-"))
	}
	if d.Reason != "" {
		line("Reason", "%s", d.Reason)
	}
	if d.Degraded {
		line("Degraded", "Redis is away: this is one replica's memory")
	}
	if d.Profile != nil && d.Profile.Contact != "" {
		line("Contact", "%s", d.Profile.Contact)
	}
	if d.Latency != nil {
		line("Latency", "%s", latencyLine(d.Latency))
	}
	printClauses(w, "Because", d.Because)
	printClauses(w, "Not tripping", d.NotTripping)
	printClauses(w, "Next", d.Next)
	_, _ = fmt.Fprintln(w, "\nPolicy:")
	if d.PolicyProblem != "" {
		_, _ = fmt.Fprintf(w, "  ! %s\n", d.PolicyProblem)
	}
	for _, name := range slices.Sorted(maps.Keys(d.Policy)) {
		value := strings.Trim(string(d.Policy[name].Value), `"`)
		_, _ = fmt.Fprintf(w, "  %-28s %-10s %s\n", name, value, d.Policy[name].Origin)
	}
	if len(d.Events) > 0 {
		_, _ = fmt.Fprintln(w, "\nEvents, the newest first:")
		for _, e := range d.Events[:min(len(d.Events), newestEvents)] {
			_, _ = fmt.Fprintf(w, "  %s\n", eventLine(e))
		}
	}
}

func printClauses(w io.Writer, title string, clauses []client.ReasonClause) {
	if len(clauses) == 0 {
		return
	}
	_, _ = fmt.Fprintf(w, "\n%s:\n", title)
	for _, clause := range clauses {
		_, _ = fmt.Fprintf(w, "  %s\n", clause.Text)
	}
}

func (c *cli) explainCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "explain AGENT",
		Short: "why a breaker is as it is, and what happens next",
		Example: `  breakerctl explain payments
  breakerctl explain payments -o json | jq -r '.because[].code'`,
		Args:              someArgs(1, 1, "one AGENT"),
		ValidArgsFunction: c.completeAgents,
		RunE: func(cmd *cobra.Command, args []string) error {
			to, err := c.client()
			if err != nil {
				return err
			}
			why, err := to.ExplainCircuitBreaker(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return c.print(output{value: why, names: []string{why.AgentID}, text: func(w io.Writer) {
				_, _ = fmt.Fprintf(w, "%s is %s\n", why.AgentID, c.coloured(why.State))
				printClauses(w, "Because", why.Because)
				printClauses(w, "Why it does not open, or does not refuse", why.NotTripping)
				printClauses(w, "Next", why.Next)
			}})
		},
	}
}
