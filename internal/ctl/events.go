package ctl

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/breakerd/breakerd/pkg/client"
)

func eventLine(e client.Event) string {
	line := e.At.UTC().Format(time.RFC3339) + "  " + e.Event
	if e.From != "" && e.To != "" && e.From != e.To {
		line += fmt.Sprintf("  %s > %s", e.From, e.To)
	}
	if e.Actor != "" {
		line += "  by " + e.Actor
	}
	if e.Calls > 0 {
		line += fmt.Sprintf("  (%d of %d calls failed)", e.Failures, e.Calls)
	}
	if e.Reason != "" {
		line += "  " + e.Reason
	}
	return line
}

// eventList is what a command asks of the events.
type eventList struct {
	agent string
	since time.Duration
	kinds []string
	limit int
	audit bool
}

func (c *cli) eventsCommand() *cobra.Command {
	var list eventList
	var watch bool
	cmd := &cobra.Command{
		Use:   "events [AGENT]",
		Short: "what happened, the newest first",
		Example: `  breakerctl events payments
  breakerctl events --since 1h --kind opened
  breakerctl events -w -o jsonl
  breakerctl events --audit                  who changed what`,
		Args:              someArgs(0, 1, "one AGENT"),
		ValidArgsFunction: c.completeAgents,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				list.agent = args[0]
			}
			to, err := c.client()
			if err != nil {
				return err
			}
			if watch {
				return c.watchEvents(cmd.Context(), to, client.StreamQuery{Agent: list.agent, Kinds: list.kinds})
			}
			found, err := list.read(cmd.Context(), to)
			if err != nil {
				return err
			}
			return c.printEvents(found)
		},
	}
	cmd.Flags().DurationVar(&list.since, "since", 0, "of the last while, such as 1h; then the oldest come first")
	cmd.Flags().StringSliceVar(&list.kinds, "kind", nil, "of these kinds, such as opened,closed,reset")
	cmd.Flags().IntVar(&list.limit, "limit", 100, "at most so many; 0: all")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "follow what happens from now on")
	cmd.Flags().BoolVar(&list.audit, "audit", false, "who changed what")
	cmd.MarkFlagsMutuallyExclusive("watch", "since")
	cmd.MarkFlagsMutuallyExclusive("watch", "audit")
	return cmd
}

func (l *eventList) read(ctx context.Context, to *client.Client) (found []client.FleetEvent, err error) {
	q := client.EventQuery{Agent: l.agent, Kinds: l.kinds}
	if l.since > 0 {
		q.Since = time.Now().Add(-l.since).UTC().Format(time.RFC3339)
	}
	all := to.AllFleetEvents(ctx, q)
	if l.audit {
		all = to.AllAudit(ctx, client.AuditQuery{EventQuery: q})
	}
	for e, err := range all {
		if err != nil {
			return nil, err
		}
		if found = append(found, e); len(found) == l.limit {
			break
		}
	}
	return found, nil
}

func (c *cli) watchEvents(ctx context.Context, to *client.Client, q client.StreamQuery) error {
	for item, err := range to.StreamEvents(ctx, q) {
		if err != nil {
			return err
		}
		if item.Reset != "" {
			c.tellf("some events may be missing here: %s", item.Reset)
			continue
		}
		if err := c.printEvent(item.FleetEvent); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (c *cli) printEvents(found []client.FleetEvent) error {
	o := output{
		value: map[string]any{"events": append([]client.FleetEvent{}, found...)}, lines: []any{},
		head: []string{"TIME", "AGENT", "EVENT", "STATE", "ACTOR", "FAILED", "REASON", "+EPOCH", "+ADDRESS"},
	}
	for _, e := range found {
		o.lines = append(o.lines, e)
		o.rows = append(o.rows, eventRow(e))
	}
	return c.print(o)
}

func eventRow(e client.FleetEvent) []string {
	state, failed := orDash(e.To), "-"
	if e.From != "" && e.From != e.To {
		state = e.From + " > " + e.To
	}
	if e.Calls > 0 {
		failed = fmt.Sprintf("%d of %d", e.Failures, e.Calls)
	}
	return []string{
		e.At.UTC().Format(time.RFC3339), orDash(e.AgentID), e.Event.Event, state, orDash(e.Actor), failed, orDash(e.Reason),
		orDash(e.Epoch), orDash(e.Address),
	}
}

func (c *cli) printEvent(e client.FleetEvent) error {
	if c.format == formatTable || c.format == formatWide {
		_, err := fmt.Fprintf(c.Out, "%s  %s\n", orDash(e.AgentID), eventLine(e.Event))
		return err
	}
	format := c.format
	if format == formatJSON {
		c.format = formatJSONL
		defer func() { c.format = format }()
	}
	return c.print(output{value: e})
}
