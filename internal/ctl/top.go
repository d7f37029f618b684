package ctl

import (
	"github.com/spf13/cobra"

	"github.com/breakerd/breakerd/internal/ctl/top"
)

func (c *cli) topCommand() *cobra.Command {
	return &cobra.Command{
		Use: "top", Short: "the worst breakers, on a screen that follows them", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !isTerminal(c.In) || !isTerminal(c.Out) {
				return usagef("breakerctl get --sort worst", "breakerctl top needs a terminal")
			}
			to, err := c.client()
			if err != nil {
				return err
			}
			if _, err := to.GetSummary(cmd.Context()); err != nil {
				return err
			}
			return top.Run(cmd.Context(), c.In, c.Out, to)
		},
	}
}
