package ctl

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/breakerd/breakerd/pkg/client"
)

// selection is which breakers a command is about.
type selection struct {
	labels   []string
	states   []string
	holds    []string
	modes    []string
	ramping  bool
	override string
	reason   string
	name     string
}

func (s *selection) addFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringArrayVarP(&s.labels, "selector", "l", nil, "with this label, KEY=VALUE; given again: with each")
	flags.StringSliceVar(&s.states, "state", nil, "in this state: closed, open or half_open")
	flags.StringSliceVar(&s.holds, "hold", nil, "held: any, open, closed, protected, or none")
	flags.StringSliceVar(&s.modes, "mode", nil, "whose policy does this: enforce, observe or disabled")
	flags.BoolVar(&s.ramping, "ramping", false, "that let calls return after they closed")
	flags.StringVar(&s.override, "override", "", "with an override: any, invalid, or none")
	flags.StringVar(&s.reason, "with-reason", "", "whose reason contains this")
	flags.StringVarP(&s.name, "name", "q", "", "whose name contains this")
	states := cobra.FixedCompletions([]string{"closed", "open", "half_open"}, cobra.ShellCompDirectiveNoFileComp)
	_ = cmd.RegisterFlagCompletionFunc("state", states)
}

// empty says that nothing was selected.
func (s *selection) empty() bool {
	return len(s.labels)+len(s.states)+len(s.holds)+len(s.modes) == 0 && !s.ramping && s.override+s.reason+s.name == ""
}

// words are the states as the API has them.
func words(states []string) []string {
	out := make([]string, 0, len(states))
	for _, state := range states {
		out = append(out, strings.ToUpper(strings.ReplaceAll(state, "-", "_")))
	}
	return out
}

func (s *selection) query() (client.ListQuery, error) {
	q := client.ListQuery{
		States: words(s.states), Holds: s.holds, Override: s.override, Reason: s.reason, Name: s.name,
		Modes: s.modes, Ramping: s.ramping,
	}
	for _, label := range s.labels {
		name, value, ok := strings.Cut(label, "=")
		if !ok || name == "" {
			return q, usagef("-l team=payments", "-l takes KEY=VALUE, not %q", label)
		}
		if q.Labels == nil {
			q.Labels = map[string]string{}
		}
		q.Labels[name] = value
	}
	return q, nil
}

func (s *selection) selector() *client.Selector {
	return &client.Selector{
		Label: s.labels, State: words(s.states), Hold: s.holds, Override: s.override, Reason: s.reason, Q: s.name,
		Mode: s.modes, Ramping: s.ramping,
	}
}

// matches says whether a breaker that was asked for by itself belongs to the selection, as far as it can be seen.
func (s *selection) matches(b client.Breaker) bool {
	return len(s.states) == 0 || slices.Contains(words(s.states), b.State)
}

func (c *cli) getCommand() *cobra.Command {
	var which selection
	var sort string
	var watch bool
	var limit int
	cmd := &cobra.Command{
		Use:   "get [AGENT…]",
		Short: "list breakers, those that are not closed first",
		Example: `  breakerctl get
  breakerctl get payments search -o wide
  breakerctl get -l team=payments --state open,half_open --sort worst
  breakerctl get --hold any -o name
  breakerctl get --state open -w`,
		ValidArgsFunction: c.completeAgents,
		RunE: func(cmd *cobra.Command, agents []string) error {
			if len(agents) > 0 && (!which.empty() || sort != "") && !watch {
				return usagef("breakerctl get --help", "agents are named, or selected, not both")
			}
			q, err := which.query()
			if err != nil {
				return err
			}
			q.Sort, q.Include = sort, []string{"window", "profile"}
			found, code, err := c.breakers(cmd.Context(), agents, q, limit)
			if err != nil {
				return err
			}
			if err := c.printBreakers(found); err != nil {
				return err
			}
			if len(found) == 0 && code == exitOK {
				c.tellf("no breaker was found")
			}
			if watch {
				return c.watch(cmd.Context(), agents, &which, found)
			}
			return conclude(code)
		},
	}
	which.addFlags(cmd)
	cmd.Flags().StringVar(&sort, "sort", "", "state, worst, opened_at, timeout_until, failure_rate or agent_id")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on, with a line for each breaker that changes")
	cmd.Flags().IntVar(&limit, "limit", 0, "list at most so many; 0: all")
	return cmd
}

// breakers reads those that were named, or all that a query finds. What became of a name that has none is told, and the
// worst of it is the exit code.
func (c *cli) breakers(
	ctx context.Context, agents []string, q client.ListQuery, limit int,
) (found []client.ListEntry, code int, err error) {
	to, err := c.client()
	if err != nil {
		return nil, 0, err
	}
	for _, agent := range agents {
		detail, err := to.GetCircuitBreaker(ctx, agent)
		if err != nil {
			if ctx.Err() != nil {
				return nil, 0, err
			}
			code = worse(code, c.fail(ctx, err, ""))
			continue
		}
		found = append(found, client.ListEntry{Breaker: detail.Breaker})
	}
	if len(agents) > 0 {
		return found, code, nil
	}
	if limit > 0 {
		q.Limit = min(limit, 1000)
	}
	for entry, err := range to.AllCircuitBreakers(ctx, q) {
		if err != nil {
			return nil, 0, err
		}
		if found = append(found, entry); len(found) == limit {
			break
		}
	}
	return found, exitOK, nil
}

func breakerRow(now time.Time, e client.ListEntry) []string {
	failures, rate := strconv.FormatInt(e.FailureCount, 10), fmt.Sprintf("%.0f %%", 100*e.FailureRate)
	if e.Window != nil {
		failures = fmt.Sprintf("%d of %d", e.Window.Failures, e.Window.Calls)
	}
	next, held, labels := "-", "-", "-"
	if e.State == "OPEN" {
		next = "probe " + until(now, e.TimeoutUntil)
		if e.TimeoutUntil.IsZero() {
			next = "held for ever"
		}
	}
	if e.Ramp != nil {
		next = "ramp ends " + until(now, e.Ramp.Until)
	}
	if e.Hold != nil {
		held = e.Hold.Kind + " by " + orDash(e.Hold.Actor)
		if e.Hold.Protected {
			held += ", protected"
		}
	}
	if e.Profile != nil && len(e.Profile.Labels) > 0 {
		labels = named(e.Profile.Labels)
	}
	return []string{
		e.AgentID, e.State, ago(now, e.OpenedAt), failures, rate, next, orDash(e.Reason),
		held, strconv.FormatInt(e.Reopens, 10), orDash(e.Epoch), labels,
	}
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func (c *cli) printBreakers(found []client.ListEntry) error {
	now := time.Now()
	o := output{
		value: map[string]any{"circuit_breakers": append([]client.ListEntry{}, found...)},
		lines: []any{}, names: []string{},
		head: []string{
			"AGENT", "STATE", "SINCE", "FAILURES", "RATE", "NEXT", "REASON", "+HELD BY", "+REOPENS", "+EPOCH", "+LABELS",
		},
	}
	for _, e := range found {
		o.lines = append(o.lines, e)
		o.names = append(o.names, e.AgentID)
		o.rows = append(o.rows, breakerRow(now, e))
	}
	return c.print(o)
}

const gather = 200 * time.Millisecond // events that come within it cost one look at their agents

// watch prints a line for each breaker that has changed.
func (c *cli) watch(ctx context.Context, agents []string, which *selection, seen []client.ListEntry) error {
	to, err := c.client()
	if err != nil {
		return err
	}
	last := map[string]string{}
	for _, e := range seen {
		last[e.AgentID] = mark(e.Breaker)
	}
	changed := make(chan string, 1024)
	broken := make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { broken <- follow(ctx, to, client.StreamQuery{}, changed) }()
	waiting := map[string]bool{}
	look := time.NewTicker(gather)
	defer look.Stop()
	for {
		select {
		case err := <-broken:
			return err
		case agent := <-changed:
			if agent != "" && agent != "-" && (len(agents) == 0 || slices.Contains(agents, agent)) {
				waiting[agent] = true
			}
		case <-look.C:
			for _, agent := range slices.Sorted(maps.Keys(waiting)) {
				if err := c.printChange(ctx, to, agent, which, last); err != nil {
					return err
				}
			}
			clear(waiting)
		}
	}
}

// printChange prints one breaker, if it differs from what was seen last.
func (c *cli) printChange(
	ctx context.Context, to *client.Client, agent string, which *selection, last map[string]string,
) error {
	now, err := to.GetCircuitBreaker(ctx, agent)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		c.tellf("%s: %v", agent, failureOf(err))
		return nil
	case last[agent] == mark(now.Breaker) || !which.matches(now.Breaker):
		return nil
	}
	last[agent] = mark(now.Breaker)
	return c.printLine(client.ListEntry{Breaker: now.Breaker})
}

// mark differs where a person sees a change.
func mark(b client.Breaker) string {
	return fmt.Sprint(b.State, b.Epoch, b.Hold != nil, b.TimeoutUntil.Unix())
}

func follow(ctx context.Context, to *client.Client, q client.StreamQuery, changed chan<- string) error {
	for item, err := range to.StreamEvents(ctx, q) {
		if err != nil {
			return err
		}
		select {
		case changed <- item.AgentID:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return ctx.Err()
}

// printLine prints one more breaker of a list that goes on.
func (c *cli) printLine(e client.ListEntry) error {
	switch c.format {
	case formatJSON, formatJSONL:
		format := c.format
		c.format = formatJSONL
		defer func() { c.format = format }()
		return c.print(output{value: e})
	case formatYAML:
		_, _ = fmt.Fprintln(c.Out, "---")
		return c.print(output{value: e})
	case formatName:
		return c.print(output{names: []string{e.AgentID}})
	}
	row := breakerRow(time.Now(), e)
	_, err := fmt.Fprintf(c.Out, "%s   %s   %s   %s   %s\n", row[0], c.coloured(row[1]), row[4], row[5], row[6])
	return err
}
