package ctl

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/breakerd/breakerd/pkg/client"
)

const lookAgain = time.Second // a deadline that passes changes a breaker without an event

func (c *cli) waitCommand() *cobra.Command {
	var until string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "wait AGENT --for state=closed",
		Short: "wait until a breaker is in a state",
		Example: `  breakerctl wait payments --for state=closed --timeout 5m
  breakerctl wait payments --for state=open,half_open
  breakerctl wait payments --for hold=none`,
		Args:              someArgs(1, 1, "one AGENT"),
		ValidArgsFunction: c.completeAgents,
		RunE: func(cmd *cobra.Command, args []string) error {
			fits, err := condition(until)
			if err != nil {
				return err
			}
			to, err := c.client()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			now, err := wait(ctx, to, args[0], fits)
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return &failure{
					Exit: exitWaited, Code: "timeout",
					Message: fmt.Sprintf("%s is still %s after %v, waiting for %s", args[0], orDash(now.State), timeout, until),
					Next:    "breakerctl explain " + args[0],
				}
			}
			if err != nil {
				return err
			}
			return c.printBreakers([]client.ListEntry{{Breaker: now}})
		},
	}
	cmd.Flags().StringVar(&until, "for", "state=closed", "state=closed|open|half_open, or hold=none|any")
	cmd.Flags().DurationVar(&timeout, "timeout", 5*time.Minute, "how long to wait")
	return cmd
}

// wait looks at a breaker until it fits, and returns what it saw last.
func wait(
	ctx context.Context, to *client.Client, agent string, fits func(client.Breaker) bool,
) (last client.Breaker, err error) {
	now, err := to.GetCircuitBreaker(ctx, agent)
	if err != nil {
		return last, err
	}
	changed := make(chan string, 1)
	go func() { _ = follow(ctx, to, client.StreamQuery{Agent: agent}, changed) }()
	look := time.NewTicker(lookAgain)
	defer look.Stop()
	for last = now.Breaker; !fits(last); {
		select {
		case <-changed:
		case <-look.C:
		case <-ctx.Done():
			return last, ctx.Err()
		}
		now, err = to.GetCircuitBreaker(ctx, agent)
		switch {
		case err == nil:
			last = now.Breaker
		case ctx.Err() != nil || failureOf(err).Exit != exitUnreachable: // an outage may pass
			return last, err
		}
	}
	return last, nil
}

// condition reads what is waited for.
func condition(text string) (fits func(client.Breaker) bool, err error) {
	what, values, _ := strings.Cut(text, "=")
	wanted := words(strings.Split(values, ","))
	for _, value := range wanted {
		switch what + "=" + value {
		case "state=CLOSED", "state=OPEN", "state=HALF_OPEN", "hold=NONE", "hold=ANY":
		default:
			return nil, usagef("--for state=closed", "--for takes state=closed|open|half_open or hold=none|any, not %q", text)
		}
	}
	return func(b client.Breaker) bool {
		for _, value := range wanted {
			switch value {
			case b.State:
				return true
			case "NONE":
				return b.Hold == nil
			case "ANY":
				return b.Hold != nil
			}
		}
		return false
	}, nil
}
