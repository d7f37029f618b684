package ctl

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/breakerd/breakerd/pkg/client"
)

func (c *cli) slowCommand() *cobra.Command {
	var q client.LatencyQuery
	cmd := &cobra.Command{
		Use:   "slow",
		Short: "agents whose calls take long, the slowest first",
		Long: `How long the calls of each agent took in about the last ten minutes, on all
replicas. The average is exact, percentiles to within a factor of two.`,
		Example: `  breakerctl agents slow --threshold 100ms
  breakerctl agents slow --sort average --limit 5
  breakerctl agents slow -o json | jq '.agents[0].p99_ms'`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			to, err := c.client()
			if err != nil {
				return err
			}
			found, err := to.ListLatency(cmd.Context(), q)
			if err != nil {
				return err
			}
			return c.printSlow(found)
		},
	}
	cmd.Flags().DurationVar(&q.Threshold, "threshold", 0, "only agents whose p99 is at least this; by average, that")
	cmd.Flags().StringVar(&q.Sort, "sort", "p99", "p99, average or calls, the greatest first")
	cmd.Flags().IntVar(&q.Limit, "limit", 0, "at most so many")
	_ = cmd.RegisterFlagCompletionFunc("sort",
		cobra.FixedCompletions([]string{"p99", "average", "calls"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (c *cli) printSlow(found client.LatencyList) error {
	o := output{
		value: found, names: []string{}, lines: []any{},
		head: []string{"AGENT-ID", "AVG-LATENCY", "P50", "P95", "P99-LATENCY", "CALLS", "+FIRST-BYTE P99", "+REPLICAS"},
	}
	for _, a := range found.Agents {
		first := "-"
		if a.FirstByte != nil {
			first = milliseconds(a.FirstByte.P99Ms)
		}
		o.names, o.lines = append(o.names, a.AgentID), append(o.lines, a)
		o.rows = append(o.rows, []string{
			a.AgentID, milliseconds(a.AverageMs), milliseconds(a.P50Ms), milliseconds(a.P95Ms), milliseconds(a.P99Ms),
			strconv.FormatInt(a.Calls, 10), first, strconv.FormatInt(a.Replicas, 10),
		})
	}
	if o.rows == nil {
		o.head, o.text = nil, func(io.Writer) {} // a head over nothing says nothing
	}
	if err := c.print(o); err != nil {
		return err
	}
	if o.rows == nil {
		c.tellf("no agent is that slow, of those whose calls were measured within ten minutes")
	}
	if more := int(found.Total) - len(found.Agents); more > 0 {
		c.tellf("%d more are not shown", more)
	}
	if found.Degraded {
		c.tellf("Redis is away: these are the calls of one replica alone")
	}
	return nil
}

// latencyLine sums up how long an agent's calls took.
func latencyLine(l *client.Latency) string {
	line := fmt.Sprintf("average %s, p50 %s, p95 %s, p99 %s, of %d calls since %s", milliseconds(l.AverageMs),
		milliseconds(l.P50Ms), milliseconds(l.P95Ms), milliseconds(l.P99Ms), l.Calls, l.Since.UTC().Format(time.RFC3339))
	if l.FirstByte != nil {
		line += fmt.Sprintf("; first byte p50 %s, p99 %s", milliseconds(l.FirstByte.P50Ms), milliseconds(l.FirstByte.P99Ms))
	}
	return line
}

// milliseconds shows a duration to three digits, seconds to a tenth.
func milliseconds(ms float64) string {
	const second = 1000
	if ms >= second-0.5 {
		return strings.TrimSuffix(strconv.FormatFloat(ms/second, 'f', 1, 64), ".0") + "s"
	}
	return strconv.FormatFloat(ms, 'g', 3, 64) + "ms"
}
