package ctl

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/breakerd/breakerd/internal/startdev"
)

func (c *cli) serverCommand() *cobra.Command {
	group := &cobra.Command{Use: "server", Short: "a fleet to play with, in one process"}
	group.AddCommand(c.serverStartDev())
	return group
}

func (c *cli) serverStartDev() *cobra.Command {
	var o startdev.Options
	var verbose bool
	cmd := &cobra.Command{
		Use: "start-dev", Short: "breakerd, its page, bridge and agents that fail at times", Args: noArgs,
		Long: `Starts breakerd with its page, bridge, eight agents and Redis in this process, and calls the agents:
within a minute a breaker opens, probes and closes. Everything listens on loopback, asks nobody who he is, and
ends with Ctrl-C. Of this shell's variables only LOG_LEVEL and LOG_FORMAT count.`,
		Example: `  breakerctl server start-dev
  breakerctl server start-dev --listen 127.0.0.1:0 --verbose
  breakerctl server start-dev --redis redis://127.0.0.1:6379/0`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.LogLevel, o.LogFormat = c.env["LOG_LEVEL"], c.env["LOG_FORMAT"]
			if verbose {
				o.LogLevel = "info"
			}
			o.Command, o.Stdout, o.Stderr = typedAs(os.Args[0]), c.Out, c.Err
			return startDevFailure(startdev.Run(cmd.Context(), o))
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Listen, "listen", startdev.DefaultListen, "address of breakerd; port 0: a free one")
	flags.StringVar(&o.BridgeListen, "bridge-listen", startdev.DefaultBridgeListen, "address of bridge")
	flags.StringVar(&o.AgentsListen, "agents-listen", startdev.DefaultAgentsListen, "address of the agents")
	flags.StringVar(&o.Redis, "redis", "", "URL of a Redis to use instead of one in this process")
	flags.BoolVar(&verbose, "verbose", false, "log what the programs do, and what the script does, too")
	return cmd
}

// typedAs is how breakerctl was called, so that a line with it can be pasted.
func typedAs(program string) string {
	if filepath.Base(program) == "breakerctl" {
		return program
	}
	return "breakerctl"
}

// startDevFailure says what to change, where that is known.
func startDevFailure(err error) error {
	refused, ok := errors.AsType[*startdev.FlagError](err)
	if !ok {
		return err
	}
	switch refused.Fault {
	case startdev.Taken:
		return &failure{
			Exit: exitFailed, Code: "address_taken", Message: err.Error(),
			Next: "end who listens there, or take a free port: " + refused.Flag + " 127.0.0.1:0",
		}
	case startdev.Unreachable:
		return &failure{
			Exit: exitUnreachable, Code: "redis", Message: err.Error(),
			Next: "redis-cli -u URL ping, or leave out " + refused.Flag,
		}
	}
	return usagef("breakerctl server start-dev --help", "%v", err)
}
