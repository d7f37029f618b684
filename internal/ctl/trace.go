package ctl

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/breakerd/breakerd/pkg/client"
)

func (c *cli) traceCommand() *cobra.Command {
	var cascade bool
	var last time.Duration
	cmd := &cobra.Command{
		Use:     "trace --error-cascade",
		Short:   "which agent failed first, and which followed",
		Example: `  breakerctl trace --error-cascade --last 5m`,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cascade {
				return usagef("breakerctl trace --error-cascade --last 5m", "breakerctl trace needs --error-cascade")
			}
			to, err := c.client()
			if err != nil {
				return err
			}
			found, err := to.ListCascades(cmd.Context(), last)
			if err != nil {
				return err
			}
			names := []string{}
			for _, trip := range found.Cascades {
				names = append(names, trip.AgentID)
			}
			return c.print(output{value: found, names: names, text: func(w io.Writer) {
				if len(found.Cascades) == 0 {
					_, _ = fmt.Fprintf(w, "nothing opened within %v\n", last)
				}
				for _, trip := range found.Cascades {
					printTrip(w, trip, 0)
				}
				if found.Truncated {
					c.tellf("there is more than this: ask for a shorter --last")
				}
			}})
		},
	}
	cmd.Flags().BoolVar(&cascade, "error-cascade", false, "the openings as trees: at the root who failed first")
	cmd.Flags().DurationVar(&last, "last", 5*time.Minute, "of the last while, 1s to 24h")
	return cmd
}

func printTrip(w io.Writer, trip client.Trip, depth int) {
	via := ""
	if len(trip.Via) > 0 {
		via = "  via " + strings.Join(trip.Via, ", ")
	}
	again := ""
	if trip.Openings > 1 {
		again = fmt.Sprintf("  %d openings", trip.Openings)
	}
	_, _ = fmt.Fprintf(w, "%s%s  %s  %s%s%s\n", strings.Repeat("  ", depth), trip.OpenedAt.UTC().Format(time.RFC3339),
		trip.AgentID, trip.Cause, again, via)
	for _, next := range trip.Followed {
		printTrip(w, next, depth+1)
	}
}
