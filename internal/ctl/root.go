package ctl

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/breakerd/breakerd/internal/daemon"
	"github.com/breakerd/breakerd/internal/text"
	"github.com/breakerd/breakerd/pkg/client"
)

const about = `breakerctl shows and steers the circuit breakers of a fleet: why an agent is refused,
who holds it, what happens next, and what to type now.`

// Groups of commands, as the help lists them.
const (
	groupSee    = "see"
	groupChange = "change"
	groupFleet  = "fleet"
	groupSelf   = "self"
)

// Run runs one command, and returns its exit code. It ends at SIGINT and SIGTERM.
func Run(ctx context.Context, args, environ []string, streams Streams) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	c := newCLI(ctx, environ, streams)
	root := c.root()
	root.SetArgs(args)
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.Err)
	err := root.ExecuteContext(ctx)
	c.close()
	code := verdict(exitOK)
	switch {
	case err == nil:
	case errors.As(err, &code):
	case ctx.Err() != nil:
		return exitInterrupted
	default:
		return c.fail(ctx, err, "")
	}
	return int(code)
}

func (c *cli) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "breakerctl",
		Short: "see and steer the circuit breakers of a fleet",
		Long:  about,
		Example: `  breakerctl doctor                          what is wrong, and what to type
  breakerctl get --state open --sort worst   what is open
  breakerctl explain payments                why, and what happens next
  breakerctl open payments --reason 'provider is down' --for 1h
  breakerctl reset payments --reason 'provider is back'
  breakerctl stop --reason 'prices are wrong'`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.AddGroup(
		&cobra.Group{ID: groupSee, Title: "See:"}, &cobra.Group{ID: groupChange, Title: "Change:"},
		&cobra.Group{ID: groupFleet, Title: "The whole fleet:"}, &cobra.Group{ID: groupSelf, Title: "breakerctl itself:"},
	)
	root.SetHelpFunc(help)
	root.Version = daemon.Version()
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	c.addFlags(root)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef(cmd.CommandPath()+" --help", "%v", err)
	})
	for group, commands := range map[string][]*cobra.Command{
		groupSee: {
			c.getCommand(), c.describeCommand(), c.explainCommand(), c.doctorCommand(), c.topCommand(),
			c.eventsCommand(), c.historyCommand(), c.waitCommand(), c.traceCommand(),
		},
		groupChange: append(c.changeCommands(), c.configCommand(), c.agentsCommand(), c.actionCommand()),
		groupFleet: {
			c.gateCommand(), c.stopCommand(), c.shedCommand(), c.resumeCommand(), c.emergencyCommand(),
			c.circuitBreakerCommand(),
			c.clusterCommand(), c.queueCommand(), c.memoryCommand(), c.resourcesCommand(),
			c.securityCommand(), c.tokenCommand(),
			c.backupCommand(),
		},
		groupSelf: {c.serverCommand(), c.contextCommand(), c.debugCommand(), c.versionCommand(), c.docsCommand()},
	} {
		for _, command := range commands {
			command.GroupID = group
			root.AddCommand(command)
		}
	}
	root.SetHelpCommandGroupID(groupSelf)
	root.SetCompletionCommandGroupID(groupSelf)
	strict(root)
	return root
}

// fail says what went wrong, of what, and what to do next. It returns the exit code.
func (c *cli) fail(ctx context.Context, err error, of string) int {
	f := failureOf(err)
	if of != "" {
		f.Message = of + ": " + f.Message
	}
	if answer := (*client.Error)(nil); errors.As(err, &answer) && answer.Code == client.CodeAgentUnknown && f.Next == "" {
		f.Next = c.nearestAgent(ctx, answer.Agent)
	}
	f.say(c.Err, c.format)
	return f.Exit
}

// nearestAgent says which agent may have been meant.
func (c *cli) nearestAgent(ctx context.Context, agent string) string {
	list := "breakerctl get -o name"
	to, err := c.client()
	if err != nil || agent == "" {
		return list
	}
	page, err := to.ListCircuitBreakers(ctx, client.ListQuery{Sort: "agent_id"})
	if err != nil {
		return list
	}
	const most = 3 // edits
	best, edits := "", most+1
	for _, b := range page.CircuitBreakers {
		if n := text.Edits(agent, b.AgentID); n < edits {
			best, edits = b.AgentID, n
		}
	}
	if best == "" {
		return list
	}
	return "did you mean " + best + "?"
}

// strict makes a name that a group of commands does not know an error, with the nearest names, where cobra shows help.
func strict(cmd *cobra.Command) {
	cmd.SuggestionsMinimumDistance = 2
	for _, sub := range cmd.Commands() {
		strict(sub)
	}
	if cmd.HasSubCommands() && cmd.Args == nil {
		cmd.Args = noArgs
		cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
}

// noArgs refuses arguments; those of a group of commands are commands that it does not have.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if !cmd.HasSubCommands() {
		return usagef(cmd.CommandPath()+" --help", "%s takes no arguments, and got %q", cmd.CommandPath(), args[0])
	}
	next := cmd.CommandPath() + " --help"
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		next = "did you mean " + strings.Join(near, " or ") + "?"
	}
	return usagef(next, "%s has no command %q", cmd.CommandPath(), args[0])
}

// someArgs takes from least to most arguments; most < 0: any number.
func someArgs(least, most int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usagef(cmd.CommandPath()+" --help", "%s needs %s", cmd.CommandPath(), what)
		case most >= 0 && len(args) > most:
			return usagef(cmd.CommandPath()+" --help", "%s takes %s, and got %q as well", cmd.CommandPath(), what, args[most])
		}
		return nil
	}
}

// near says which known name was meant, maybe.
func near(name string, known []string) string {
	if len(known) == 0 {
		return ""
	}
	nearer := func(a, b string) int { return text.Edits(name, a) - text.Edits(name, b) }
	return "did you mean " + slices.MinFunc(known, nearer) + "?"
}
