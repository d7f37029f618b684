package ctl

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/breakerd/breakerd/pkg/client"
)

func (c *cli) contextCommand() *cobra.Command {
	group := &cobra.Command{
		Use: "context", Short: "the fleets that you work with, and the way to each",
		Example: `  breakerctl context set prod --server https://b1:18180 --token-file ~/.token
  breakerctl context use prod
  breakerctl context test`,
	}
	group.AddCommand(c.contextList(), c.contextUse(), c.contextSet(), c.contextTest())
	return group
}

func (c *cli) contextList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "list the contexts", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			file, err := c.readContexts()
			if err != nil {
				return err
			}
			o := output{
				value: map[string]any{"current": file.Current, "contexts": append([]contextEntry{}, file.Contexts...)},
				lines: []any{}, names: []string{},
				head: []string{"CURRENT", "NAME", "SERVERS", "TOKEN FILE", "READ ONLY", "CONFIRM"},
			}
			for _, e := range file.Contexts {
				current := ""
				if e.Name == file.Current {
					current = "*"
				}
				o.lines = append(o.lines, e)
				o.names = append(o.names, e.Name)
				o.rows = append(o.rows, []string{
					current, e.Name, strings.Join(e.Servers, ","), orDash(e.TokenFile), strconv.FormatBool(e.ReadOnly),
					orDash(e.Confirm),
				})
			}
			return c.print(o)
		},
	}
}

func (c *cli) contextUse() *cobra.Command {
	return &cobra.Command{
		Use: "use NAME", Short: "choose the context of further commands", Args: someArgs(1, 1, "the NAME of a context"),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return c.contextNames(), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			file, err := c.readContexts()
			if err != nil {
				return err
			}
			if file.find(args[0]) == nil {
				return &failure{
					Exit: exitNotFound, Code: "context_unknown", Message: fmt.Sprintf("there is no context %q", args[0]),
					Next: near(args[0], c.contextNames()),
				}
			}
			file.Current = args[0]
			return c.writeContexts(file)
		},
	}
}

func (c *cli) contextNames() []string {
	file, err := c.readContexts()
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range file.Contexts {
		names = append(names, e.Name)
	}
	return names
}

func (c *cli) contextSet() *cobra.Command {
	var readOnly bool
	var confirm string
	cmd := &cobra.Command{
		Use: "set NAME --server ADDRESS", Short: "make a context of the flags, or change one",
		Args: someArgs(1, 1, "the NAME of a context"),
		Example: `  breakerctl context set prod --server https://b1:18180 --token-file ~/.token
  breakerctl context set prod --confirm always`,
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := c.readContexts()
			if err != nil {
				return err
			}
			if confirm != "" && confirm != "always" {
				return usagef("--confirm always", "--confirm takes always, or nothing, not %q", confirm)
			}
			entry := file.find(args[0])
			if entry == nil {
				if len(c.server) == 0 {
					return usagef("add --server http://HOST:18180", "a new context needs --server")
				}
				file.Contexts = append(file.Contexts, contextEntry{Name: args[0]})
				entry = &file.Contexts[len(file.Contexts)-1]
			}
			if len(c.server) > 0 {
				entry.Servers = c.server
			}
			entry.TokenFile = cmp.Or(c.tokenFile, entry.TokenFile)
			entry.CAFile = cmp.Or(c.caFile, entry.CAFile)
			entry.CertFile, entry.KeyFile = cmp.Or(c.certFile, entry.CertFile), cmp.Or(c.keyFile, entry.KeyFile)
			entry.Actor = cmp.Or(c.actor, entry.Actor)
			if cmd.Flags().Changed("read-only") {
				entry.ReadOnly = readOnly
			}
			if cmd.Flags().Changed("confirm") {
				entry.Confirm = confirm
			}
			if file.Current == "" {
				file.Current = args[0]
			}
			return c.writeContexts(file)
		},
	}
	cmd.Flags().BoolVar(&readOnly, "read-only", false, "refuse every change")
	cmd.Flags().StringVar(&confirm, "confirm", "", "always: ask before every change")
	return cmd
}

// serverAnswer is how one server answered.
type serverAnswer struct {
	Server  string  `json:"server"`
	OK      bool    `json:"ok"`
	Status  string  `json:"status,omitempty"`
	Replica string  `json:"replica_id,omitempty"`
	Version string  `json:"version,omitempty"`
	Name    string  `json:"name,omitempty"`
	Role    string  `json:"role,omitempty"`
	Ms      float64 `json:"latency_ms,omitempty"`
	Error   string  `json:"error,omitempty"`
}

// probe asks one server how it is, and who asks.
func probe(ctx context.Context, server string, to *client.Client) (a serverAnswer, code int) {
	a.Server = server
	begun := time.Now()
	health, err := to.Health(ctx)
	if err == nil {
		a.Ms = float64(time.Since(begun).Microseconds()) / 1000
		a.Status, a.Replica, a.Version = health.Status, health.ReplicaID, health.Version
		who, whoErr := to.Whoami(ctx)
		a.Name, a.Role, err = who.Name, who.Role, whoErr
	}
	if a.OK = err == nil; a.OK {
		return a, exitOK
	}
	f := failureOf(err)
	a.Error = f.Message
	return a, f.Exit
}

func (c *cli) contextTest() *cobra.Command {
	return &cobra.Command{
		Use: "test", Short: "ask every server who you are, and how it is", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := c.each()
			if err != nil {
				return err
			}
			var answers []serverAnswer
			o := output{
				names: []string{}, head: []string{"SERVER", "STATUS", "REPLICA", "VERSION", "YOU", "ROLE", "ANSWERED IN"},
			}
			worst := exitOK
			for _, server := range slices.Sorted(maps.Keys(all)) {
				a, code := probe(cmd.Context(), server, all[server])
				worst = worse(worst, code)
				answers = append(answers, a)
				o.names = append(o.names, server)
				o.lines = append(o.lines, a)
				status := a.Status
				if !a.OK {
					status = strings.TrimLeft(status+" ✗ "+a.Error, " ")
				}
				o.rows = append(o.rows, []string{
					server, status, orDash(a.Replica), orDash(a.Version), orDash(a.Name), orDash(a.Role),
					fmt.Sprintf("%.1f ms", a.Ms),
				})
			}
			o.value = map[string]any{"servers": answers}
			if err := c.print(o); err != nil {
				return err
			}
			return conclude(worst)
		},
	}
}
