package ctl

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/breakerd/breakerd/pkg/client"
)

// gateChange is one change of the fleet's gate.
type gateChange struct {
	what     string // for who is asked
	action   string // stop, shed, recover; "": lift it
	reason   string
	percent  float64
	gradual  time.Duration
	length   time.Duration
	reset    bool
	fromLine bool // without a reason, the command line is it
}

// setGate asks, changes the gate, and shows who obeys it.
func (c *cli) setGate(cmd *cobra.Command, g gateChange) error {
	if g.reason == "" && g.fromLine {
		g.reason = commandLine(cmd)
	}
	if g.reason == "" && g.action != "" {
		return usagef("add --reason 'why'", "%s needs a --reason", cmd.CommandPath())
	}
	if err := c.change(scope{what: g.what, fleet: true}); err != nil {
		return err
	}
	to, err := c.client()
	if err != nil {
		return err
	}
	var gate client.Fleet
	if g.action == "" {
		gate, err = to.DeleteFleet(cmd.Context(), "")
	} else {
		gate, err = to.PutFleet(cmd.Context(), client.FleetRequest{
			Action: g.action, Reason: g.reason, Percentage: g.percent, DurationSeconds: g.gradual.Seconds(),
			UntilSeconds: g.length.Seconds(), ResetOpen: g.reset,
		}, "")
	}
	if err != nil {
		return err
	}
	return c.printGate(gate)
}

// commandLine is the command as it was typed, but for what breakerctl itself needs.
func commandLine(cmd *cobra.Command) string {
	line := []string{cmd.CommandPath()}
	for _, name := range []string{
		"all", "all-agents", "cluster", "gradual", "duration", "percentage", "priority", "for",
		"preserve-state", "dump-to",
	} {
		flag := cmd.Flags().Lookup(name)
		switch {
		case flag == nil || !flag.Changed:
		case flag.Value.Type() == "bool":
			line = append(line, "--"+name)
		default:
			line = append(line, "--"+name, flag.Value.String())
		}
	}
	const most = 256 // bytes of a reason
	text := strings.Join(append(line, cmd.Flags().Args()...), " ")
	return text[:min(len(text), most)]
}

func (c *cli) printGate(gate client.Fleet) error {
	now := time.UnixMilli(gate.NowMs)
	action := gate.Action
	if action == "none" {
		action = "none: every call goes to its breaker"
	}
	err := c.print(output{
		value: gate, names: []string{gate.Action},
		head: []string{"GATE", "ADMITS", "SINCE", "ENDS", "BY", "REASON", "+ACKNOWLEDGED"},
		rows: [][]string{{
			action, fmt.Sprintf("%.0f %%", 100*gate.Share), ago(now, gate.StartedAt), until(now, gate.Until),
			orDash(gate.Actor), orDash(gate.Reason), orDash(strings.Join(gate.Acknowledged, ",")),
		}},
	})
	if err != nil {
		return err
	}
	if len(gate.Missing) > 0 {
		c.tellf("these replicas may not have heard of it: %s", strings.Join(gate.Missing, ", "))
	}
	if len(gate.NotCovered) > 0 {
		c.tellf("these replicas have their global switch off, and obey no gate: %s", strings.Join(gate.NotCovered, ", "))
	}
	if gate.Problem != "" {
		c.tellf("the gate in Redis is not in force: %s", gate.Problem)
	}
	if gate.ResetAction != "" {
		c.tellf("open breakers are reset: breakerctl action %s", gate.ResetAction)
	}
	return nil
}

func (c *cli) gateCommand() *cobra.Command {
	return &cobra.Command{
		Use: "gate", Short: "the fleet's gate: what share of all calls is admitted", Args: noArgs,
		Example: `  breakerctl gate
  breakerctl gate -o json | jq .share`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			to, err := c.client()
			if err != nil {
				return err
			}
			gate, err := to.GetFleet(cmd.Context())
			if err != nil {
				return err
			}
			return c.printGate(gate)
		},
	}
}

func (c *cli) stopCommand() *cobra.Command {
	g := gateChange{what: "stop every call of the fleet", action: "stop"}
	cmd := &cobra.Command{
		Use: "stop --reason WHY", Short: "stop every call of the fleet", Args: noArgs,
		Example: `  breakerctl stop --reason 'prices are wrong'
  breakerctl stop --reason 'prices are wrong' --for 10m`,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.setGate(cmd, g) },
	}
	cmd.Flags().StringVar(&g.reason, "reason", "", "why")
	cmd.Flags().DurationVar(&g.length, "for", 0, "lift it by itself after so long")
	return cmd
}

func (c *cli) shedCommand() *cobra.Command {
	g := gateChange{action: "shed"}
	cmd := &cobra.Command{
		Use: "shed --percentage 20 --reason WHY", Short: "refuse a percentage of all calls", Args: noArgs,
		Example: `  breakerctl shed --percentage 20 --reason overload --for 10m`,
		RunE:    func(cmd *cobra.Command, _ []string) error { return c.shed(cmd, g) },
	}
	cmd.Flags().Float64Var(&g.percent, "percentage", 0, "of all calls")
	cmd.Flags().StringVar(&g.reason, "reason", "", "why")
	cmd.Flags().DurationVar(&g.length, "for", 0, "lift it by itself after so long")
	return cmd
}

func (c *cli) shed(cmd *cobra.Command, g gateChange) error {
	if g.percent <= 0 || g.percent > 100 {
		return usagef("--percentage 20", "--percentage takes more than 0, and at most 100, not %v", g.percent)
	}
	g.what = fmt.Sprintf("refuse %v %% of all calls of the fleet", g.percent)
	return c.setGate(cmd, g)
}

func (c *cli) resumeCommand() *cobra.Command {
	g := gateChange{fromLine: true}
	cmd := &cobra.Command{
		Use: "resume", Short: "lift the gate, or let calls return over a while", Args: noArgs,
		Example: `  breakerctl resume
  breakerctl resume --gradual 10m --reset-open --reason 'network is back'`,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.resume(cmd, g) },
	}
	cmd.Flags().DurationVar(&g.gradual, "gradual", 0, "let calls return over so long")
	cmd.Flags().BoolVar(&g.reset, "reset-open", false, "also reset every breaker that is open and not held")
	cmd.Flags().StringVar(&g.reason, "reason", "", "why")
	return cmd
}

func (c *cli) resume(cmd *cobra.Command, g gateChange) error {
	switch {
	case g.gradual > 0:
		g.action = "recover"
		g.what = fmt.Sprintf("let the calls of the fleet return over %v", g.gradual)
	case g.reset:
		return usagef("add --gradual 10m", "--reset-open needs --gradual: every breaker at once is a stampede")
	default:
		g.what = "lift the gate: every call of the fleet goes to its breaker again"
	}
	return c.setGate(cmd, g)
}

// emergencyCommand and circuitBreakerCommand are the words of the Caxton runbook for the same.
func (c *cli) emergencyCommand() *cobra.Command {
	group := &cobra.Command{Use: "emergency", Short: "stop everything, and undo it"}
	stop := &cobra.Command{
		Use: "stop --all-agents", Short: "stop every call of the fleet", Args: noArgs,
		Example: `  breakerctl emergency stop --all-agents
  breakerctl emergency stop --preserve-state --dump-to /backup/emergency/`,
	}
	g := gateChange{what: "stop every call of the fleet", action: "stop", fromLine: true}
	var dumpTo string
	stop.RunE = func(cmd *cobra.Command, _ []string) error {
		if dumpTo != "" || cmd.Flags().Changed("preserve-state") {
			return c.stopAndDump(cmd, g, cmp.Or(dumpTo, "."))
		}
		return c.setGate(cmd, g)
	}
	stop.Flags().Bool("preserve-state", false, "back up the fleet once it is stopped; what it has is kept anyway")
	stop.Flags().StringVar(&dumpTo, "dump-to", "", "the directory of that backup; the current one")
	stop.Flags().Bool("all-agents", true, "every agent: the gate knows no less")
	stop.Flags().Bool("cluster", false, "the same")
	stop.Flags().StringVar(&g.reason, "reason", "", "why; this command line")
	stop.Flags().DurationVar(&g.length, "for", 0, "lift it by itself after so long")

	again := gateChange{fromLine: true}
	resume := &cobra.Command{
		Use: "resume", Short: "lift the gate, or let calls return over a while", Args: noArgs,
		Example: `  breakerctl emergency resume --gradual 10m`,
		RunE:    func(cmd *cobra.Command, _ []string) error { return c.resume(cmd, again) },
	}
	resume.Flags().DurationVar(&again.gradual, "gradual", 0, "let calls return over so long")
	resume.Flags().StringVar(&again.reason, "reason", "", "why; this command line")
	group.AddCommand(stop, resume)
	return group
}

func (c *cli) circuitBreakerCommand() *cobra.Command {
	group := &cobra.Command{Use: "circuit-breaker", Short: "activate or reset every breaker of the fleet"}
	var all bool
	g := gateChange{what: "stop every call of the fleet", action: "stop", fromLine: true}
	activate := &cobra.Command{
		Use: "activate --all", Short: "stop every call of the fleet", Args: noArgs,
		Example: `  breakerctl circuit-breaker activate --all`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !all {
				return usagef("add --all, or breakerctl open AGENT", "activate works on the whole fleet")
			}
			return c.setGate(cmd, g)
		},
	}
	activate.Flags().BoolVar(&all, "all", false, "the whole fleet")
	activate.Flags().StringVar(&g.reason, "reason", "", "why; this command line")

	var gradual bool
	back := gateChange{action: "recover", reset: true, fromLine: true}
	reset := &cobra.Command{
		Use: "reset --gradual --duration 10m", Short: "reset what is open, and let calls return over a while", Args: noArgs,
		Example: `  breakerctl circuit-breaker reset --gradual --duration 10m`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !gradual {
				return usagef("add --gradual, or breakerctl reset AGENT", "reset of the whole fleet is gradual")
			}
			back.what = "reset every breaker that is open and not held, and let calls return over " + back.gradual.String()
			return c.setGate(cmd, back)
		},
	}
	reset.Flags().BoolVar(&gradual, "gradual", false, "let calls return over --duration")
	reset.Flags().DurationVar(&back.gradual, "duration", 10*time.Minute, "over how long")
	reset.Flags().StringVar(&back.reason, "reason", "", "why; this command line")
	group.AddCommand(activate, reset)
	return group
}

// agentsCommand has the words of the Caxton runbook for open and release, and for who is slow.
func (c *cli) agentsCommand() *cobra.Command {
	group := &cobra.Command{Use: "agents", Aliases: []string{"agent"}, Short: "slow agents; suspend and resume agents"}
	group.AddCommand(
		c.slowCommand(),
		c.suspendCommand("suspend", "open", "refuse every call of agents, until they are resumed"),
		c.suspendCommand("resume", "release", "let suspended agents' calls be probes"),
	)
	return group
}

func (c *cli) suspendCommand(name, action, short string) *cobra.Command {
	v := &verb{action: action, ask: true}
	var priority string
	cmd := &cobra.Command{
		Use: name + " AGENT…", Short: short, ValidArgsFunction: c.completeAgents,
		Example: fmt.Sprintf("  breakerctl agent %[1]s processor-5\n  breakerctl agents %[1]s --priority low", name),
		RunE: func(cmd *cobra.Command, agents []string) error {
			if v.reason == "" {
				v.reason = commandLine(cmd)
			}
			if priority != "" {
				v.which.labels = append(v.which.labels, "priority="+priority)
			}
			return c.doVerb(cmd.Context(), v, agents)
		},
	}
	v.addFlags(cmd)
	cmd.Flags().StringVar(&priority, "priority", "", "agents with the label priority=…")
	return cmd
}

// completeAgents offers live names, or none if the server takes longer than a person waits.
func (c *cli) completeAgents(cmd *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
	defer cancel()
	to, err := c.client()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	list, err := to.ListCircuitBreakers(ctx, client.ListQuery{Name: begun, Limit: completionNames})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	for _, b := range list.CircuitBreakers {
		if strings.HasPrefix(b.AgentID, begun) {
			names = append(names, b.AgentID)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

const (
	completionTime  = 300 * time.Millisecond
	completionNames = 200
)
