package ctl

import (
	"bytes"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/breakerd/breakerd/internal/access"
	"github.com/breakerd/breakerd/pkg/client"
)

func (c *cli) tokenCommand() *cobra.Command {
	group := &cobra.Command{Use: "token", Short: "make a token, and list who has one"}
	group.AddCommand(c.tokenNewCommand(), c.tokenListCommand())
	return group
}

// tokenNewCommand makes a token as breakerd token new does. It asks no server.
func (c *cli) tokenNewCommand() *cobra.Command {
	given := map[string]*string{}
	cmd := &cobra.Command{
		Use: "new --name NAME --role ROLE", Short: "make a token, and its entry for AUTH_FILE", Args: noArgs,
		Long: `Prints a token, once, and its entry for AUTH_FILE below it. The token is kept
nowhere. No server is asked.`,
		Example: `  breakerctl token new --name ops --role operate
  breakerctl token new --name ci --role report --expires 2160h`,
		RunE: func(*cobra.Command, []string) error {
			var args []string
			for _, name := range []string{"name", "role", "expires", "agents"} {
				if *given[name] != "" {
					args = append(args, "--"+name, *given[name])
				}
			}
			var out bytes.Buffer
			if err := access.NewToken(args, &out, time.Now()); err != nil {
				return usagef("breakerctl token new --help", "%v", err)
			}
			token, entry, _ := strings.Cut(out.String(), "\n")
			return c.print(output{
				value: map[string]string{"token": token, "entry": entry},
				text:  func(w io.Writer) { _, _ = w.Write(out.Bytes()) },
			})
		},
	}
	for name, about := range map[string]string{
		"name": "who it is for, as the audit will say", "role": "read, report, operate or admin",
		"expires": "its end: a time, or how long from now, as 2160h", "agents": "patterns of agents that it may name; all",
	} {
		given[name] = cmd.Flags().String(name, "", about)
	}
	_ = cmd.RegisterFlagCompletionFunc("role",
		cobra.FixedCompletions([]string{"read", "report", "operate", "admin"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (c *cli) tokenListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "who is in AUTH_FILE, with what he may do", Args: noArgs,
		Long: `Who is in the AUTH_FILE of the answering replica. No token, and no hash of one,
is shown. It needs the role admin.`,
		Example: `  breakerctl token list`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			to, err := c.client()
			if err != nil {
				return err
			}
			list, err := to.ListTokens(cmd.Context())
			if err != nil {
				return err
			}
			o := output{
				value: list, lines: []any{}, names: []string{},
				head: []string{"NAME", "ROLE", "AGENTS", "EXPIRES", "BY", "+SUBJECT"},
			}
			for _, t := range list.Tokens {
				o.lines, o.names = append(o.lines, t), append(o.names, t.Name)
				o.rows = append(o.rows, tokenRow(t))
			}
			if err := c.print(o); err != nil {
				return err
			}
			if list.File == "" {
				c.tellf("this replica has no AUTH_FILE: everyone who reaches it may do everything")
			}
			if list.Problem != "" {
				c.tellf("AUTH_FILE as it is now is not in force: %s", list.Problem)
			}
			return nil
		},
	}
}

func tokenRow(t client.TokenEntry) []string {
	agents, ends, by := "all", "never", "token"
	if len(t.Agents) > 0 {
		agents = strings.Join(t.Agents, ",")
	}
	switch {
	case t.Expired:
		ends = "EXPIRED"
	case !t.ExpiresAt.IsZero():
		ends = until(time.Now(), t.ExpiresAt)
	}
	if !t.Token {
		by = "certificate"
	}
	return []string{t.Name, t.Role, agents, ends, by, orDash(t.Subject)}
}
