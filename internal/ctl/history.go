package ctl

import (
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

func (c *cli) historyCommand() *cobra.Command {
	var minutes int
	cmd := &cobra.Command{
		Use: "history AGENT", Short: "calls, failures and slow calls of an agent by minute",
		Example: `  breakerctl history payments
  breakerctl history payments --minutes 15 -o jsonl`,
		Args: someArgs(1, 1, "one AGENT"), ValidArgsFunction: c.completeAgents,
		RunE: func(cmd *cobra.Command, args []string) error {
			to, err := c.client()
			if err != nil {
				return err
			}
			found, err := to.GetHistory(cmd.Context(), args[0], minutes)
			if err != nil {
				return err
			}
			o := output{value: found, lines: []any{}, head: []string{"MINUTE", "CALLS", "FAILED", "SLOW"}}
			for _, m := range found.Minutes {
				o.lines = append(o.lines, m)
				o.rows = append(o.rows, []string{
					m.At.UTC().Format(time.RFC3339), strconv.FormatInt(m.Calls, 10), strconv.FormatInt(m.Failures, 10),
					strconv.FormatInt(m.Slow, 10),
				})
			}
			if found.KeptMinutes == 0 {
				c.tellf("HISTORY_MINUTES is 0: this is the window alone")
			}
			return c.print(o)
		},
	}
	cmd.Flags().IntVar(&minutes, "minutes", 60, "of so many minutes")
	return cmd
}
