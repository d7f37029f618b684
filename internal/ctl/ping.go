package ctl

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/breakerd/breakerd/pkg/client"
)

// beat is a replica's answer to a ping: its next heartbeat.
type beat struct {
	ID           string  `json:"id"`
	Heard        bool    `json:"heard"`
	AfterSeconds float64 `json:"after_seconds"`
	RoundTripMs  float64 `json:"round_trip_ms"` // its median to Redis
	RoundTripP99 float64 `json:"round_trip_p99_ms"`
}

const pingEvery = 100 * time.Millisecond

func (c *cli) pingCommand() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "ping [REPLICA…]", Short: "wait for the next heartbeat of replicas",
		Long: `Waits for the next heartbeat of each replica, of all without a name. It says
after how long it came, and how long the replica's calls of Redis take. Ends with
exit code 5 if one did not come.`,
		Example: `  breakerctl cluster ping node-3
  breakerctl cluster ping --timeout 5s`,
		ValidArgsFunction: func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
			defer cancel()
			list, err := c.replicas(ctx)
			var names []string
			for _, r := range list.Replicas {
				names = append(names, r.ID)
			}
			if err != nil {
				names = nil
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, names []string) error {
			begun := time.Now()
			list, err := c.replicas(cmd.Context())
			if err != nil {
				return err
			}
			if list.Degraded {
				return &failure{
					Exit: exitUnreachable, Code: "degraded",
					Message: list.Self + " is cut off from Redis, and hears no heartbeats",
					Next:    "ask another server: --server",
				}
			}
			waits, err := pinged(list, names)
			if err != nil {
				return err
			}
			beats, err := c.hear(cmd.Context(), waits, begun, timeout)
			if err != nil {
				return err
			}
			return c.printBeats(beats, timeout)
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 10*time.Second, "how long to wait")
	return cmd
}

// pinged are the last heartbeats of the replicas that are meant.
func pinged(list client.ReplicaList, names []string) (last map[string]int64, err error) {
	last = map[string]int64{}
	var known []string
	for _, r := range list.Replicas {
		known = append(known, r.ID)
		if slices.Contains(names, r.ID) || len(names) == 0 && r.State == "alive" {
			last[r.ID] = r.HeartbeatMs
		}
	}
	for _, name := range names {
		if _, ok := last[name]; !ok {
			return nil, &failure{
				Exit: exitNotFound, Code: "replica_unknown", Next: near(name, known),
				Message: fmt.Sprintf("no replica %q was heard within the hour", name),
			}
		}
	}
	return last, nil
}

// hear waits until each replica has sent another heartbeat.
func (c *cli) hear(
	ctx context.Context, last map[string]int64, begun time.Time, timeout time.Duration,
) (beats []beat, err error) {
	for {
		list, err := c.replicas(ctx)
		if err != nil {
			return nil, err
		}
		for _, r := range list.Replicas {
			if before, waits := last[r.ID]; waits && r.HeartbeatMs > before {
				beats = append(beats, beat{r.ID, true, time.Since(begun).Seconds(), r.RoundTripMs.P50, r.RoundTripMs.P99})
				delete(last, r.ID)
			}
		}
		if len(last) == 0 || time.Since(begun) > timeout {
			break
		}
		select {
		case <-time.After(pingEvery):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	for id := range last {
		beats = append(beats, beat{ID: id})
	}
	return beats, nil
}

func (c *cli) printBeats(beats []beat, timeout time.Duration) error {
	slices.SortFunc(beats, func(a, b beat) int { return strings.Compare(a.ID, b.ID) })
	o := output{
		value: map[string]any{"replicas": beats}, lines: []any{}, names: []string{},
		head: []string{"NODE-ID", "HEARTBEAT", "REDIS P50", "REDIS P99"},
	}
	code := exitOK
	for _, b := range beats {
		row := []string{
			b.ID, fmt.Sprintf("after %.1f s", b.AfterSeconds), fmt.Sprintf("%.2f ms", b.RoundTripMs),
			fmt.Sprintf("%.2f ms", b.RoundTripP99),
		}
		if !b.Heard {
			row = []string{b.ID, fmt.Sprintf("none within %v", timeout), "-", "-"}
			code = exitFinding
		}
		o.lines, o.names, o.rows = append(o.lines, b), append(o.names, b.ID), append(o.rows, row)
	}
	if err := c.print(o); err != nil {
		return err
	}
	return conclude(code)
}
