package ctl

import (
	"cmp"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/breakerd/breakerd/pkg/client"
)

func (c *cli) verifyCommand() *cobra.Command {
	var deep bool
	node := ""
	cmd := &cobra.Command{
		Use: "verify", Short: "which replicas differ, and which keys are not in order", Args: noArgs,
		Long: `Compares the replicas: policy, gate, the Redis that each sees, what waits. With
--deep it also looks at the keys of every agent. It changes nothing. Ends with
exit code 5 if something was found.`,
		Example: `  breakerctl cluster verify
  breakerctl cluster verify --deep
  breakerctl cluster verify --node node-2`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if deep && node != "" {
				return usagef("leave one out", "--deep looks at Redis, and --node at one replica: not both")
			}
			if node != "" {
				list, err := c.replicas(cmd.Context())
				if err != nil {
					return err
				}
				if _, err := pinged(list, []string{node}); err != nil {
					return err
				}
			}
			found, looked, err := c.findings(cmd, client.FindingQuery{Deep: deep}, node)
			if err != nil {
				return err
			}
			return c.printFindings(found, looked)
		},
	}
	cmd.Flags().BoolVar(&deep, "deep", false, "look at the keys of every agent, too")
	cmd.Flags().StringVar(&node, "node", "", "of one replica alone")
	return cmd
}

// looked is what was looked at.
type looked struct{ Replicas, Agents int64 }

// findings reads all pages, and says how far it is: a large fleet takes a while.
func (c *cli) findings(
	cmd *cobra.Command, q client.FindingQuery, node string,
) (found []client.Finding, l looked, err error) {
	to, err := c.client()
	if err != nil {
		return nil, l, err
	}
	for pages := 0; ; pages++ {
		page, err := to.ListFindings(cmd.Context(), q)
		if err != nil {
			return nil, l, err
		}
		l.Replicas, l.Agents = max(l.Replicas, page.Replicas), l.Agents+page.Agents
		for _, f := range page.Findings {
			if node == "" || f.Replica == node {
				found = append(found, f)
			}
		}
		if q.Cursor = page.NextCursor; q.Cursor == "" {
			return found, l, nil
		}
		if pages > 0 && pages%10 == 0 && isTerminal(c.Err) {
			c.tellf("%d agents …", l.Agents)
		}
	}
}

func (c *cli) printFindings(found []client.Finding, l looked) error {
	o := output{
		value: map[string]any{"findings": append([]client.Finding{}, found...), "replicas": l.Replicas, "agents": l.Agents},
		lines: []any{}, names: []string{}, head: []string{"FINDING", "OF", "DETAIL", "+KEY", "+ACTION"},
	}
	for _, f := range found {
		of := cmp.Or(f.Replica, f.AgentID, f.Key)
		o.lines, o.names = append(o.lines, f), append(o.names, of)
		o.rows = append(o.rows, []string{f.Code, of, f.Detail, orDash(f.Key), f.Action})
	}
	what := fmt.Sprintf("%d replicas and %d agents", l.Replicas, l.Agents)
	if l.Agents == 0 {
		what = fmt.Sprintf("%d replicas", l.Replicas)
	}
	if len(found) == 0 && (c.format == formatTable || c.format == formatWide) {
		_, err := fmt.Fprintf(c.Out, "OK: %s, nothing found\n", what)
		return err
	}
	if err := c.print(o); err != nil {
		return err
	}
	if len(found) == 0 {
		return nil
	}
	c.tellf("%d findings of %s; -o wide says what to do", len(found), what)
	return conclude(exitFinding)
}
