package ctl

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"github.com/breakerd/breakerd/internal/daemon"
	"github.com/breakerd/breakerd/pkg/client"
)

const defaultServer = "http://127.0.0.1:18180"

// Streams are where a command reads and writes.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// cli is one command as it was typed.
type cli struct {
	Streams

	ctx context.Context //nolint:containedctx // a cli is one command, and ends with it
	env map[string]string

	// Flags of every command.
	format      string
	server      []string
	contextName string
	tokenFile   string
	caFile      string
	certFile    string
	keyFile     string
	actor       string
	timeout     time.Duration
	redis       string
	yes         bool

	chosen  *settings      // the context, once it was read
	inside  *direct        // with redis
	clients *client.Client // once it was asked for
}

func newCLI(ctx context.Context, environ []string, streams Streams) *cli {
	c := &cli{Streams: streams, ctx: ctx, env: map[string]string{}}
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		c.env[name] = value
	}
	return c
}

func (c *cli) addFlags(root *cobra.Command) {
	flags := root.PersistentFlags()
	flags.StringVarP(&c.format, "output", "o", formatTable, "table, wide, json, yaml, name or jsonl")
	flags.StringSliceVar(&c.server, "server", nil, "addresses of replicas (BREAKERCTL_SERVER; "+defaultServer+")")
	flags.StringVar(&c.contextName, "context", "", "a context of the configuration (BREAKERCTL_CONTEXT)")
	flags.StringVar(&c.tokenFile, "token-file", "", "file that holds the token (BREAKERCTL_TOKEN_FILE)")
	flags.StringVar(&c.caFile, "ca-file", "", "certificates that sign the server's, PEM (BREAKERCTL_CA_FILE)")
	flags.StringVar(&c.certFile, "cert-file", "", "this client's certificate, PEM")
	flags.StringVar(&c.keyFile, "key-file", "", "its key, PEM")
	flags.StringVar(&c.actor, "as", "", "who does it, for the audit (BREAKERCTL_ACTOR; the user of this machine)")
	flags.DurationVar(&c.timeout, "request-timeout", 10*time.Second, "how long one server may take to answer")
	flags.StringVar(&c.redis, "redis", "", "where no breakerd is left: this Redis, by its URL (BREAKERCTL_REDIS)")
	flags.BoolVarP(&c.yes, "yes", "y", false, "do it without asking")
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats(), cobra.ShellCompDirectiveNoFileComp))
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if !slices.Contains(formats(), c.format) {
			wrong := c.format
			c.format = formatTable
			return usagef("-o "+strings.Join(formats(), "|"), "there is no output format %q", wrong)
		}
		if err := cmd.ValidateFlagGroups(); err != nil {
			return usagef(cmd.CommandPath()+" --help", "%v", err)
		}
		return nil
	}
}

// settings are where a command goes, and how.
type settings struct {
	contextEntry

	token client.Token // of BREAKERCTL_TOKEN
}

// settings reads flags, then the environment, then the context.
func (c *cli) settings() (*settings, error) {
	if c.chosen != nil {
		return c.chosen, nil
	}
	file, err := c.readContexts()
	if err != nil {
		return nil, err
	}
	s := &settings{}
	name := cmp.Or(c.contextName, c.env["BREAKERCTL_CONTEXT"], file.Current)
	if name != "" {
		entry := file.find(name)
		if entry == nil {
			return nil, usagef("breakerctl context list", "there is no context %q in %s", name, c.contextsPath())
		}
		s.contextEntry = *entry
	}
	switch given := c.env["BREAKERCTL_SERVER"]; {
	case len(c.server) > 0:
		s.Servers = c.server
	case given != "":
		s.Servers = strings.Split(given, ",")
	case len(s.Servers) == 0:
		s.Servers = []string{defaultServer}
	}
	switch token, file := c.env["BREAKERCTL_TOKEN"], cmp.Or(c.tokenFile, c.env["BREAKERCTL_TOKEN_FILE"]); {
	case c.tokenFile == "" && token != "":
		s.token, s.TokenFile = client.Token(token), ""
	case file != "":
		s.TokenFile = file
	}
	s.CAFile = cmp.Or(c.caFile, c.env["BREAKERCTL_CA_FILE"], s.CAFile)
	s.CertFile, s.KeyFile = cmp.Or(c.certFile, s.CertFile), cmp.Or(c.keyFile, s.KeyFile)
	s.Actor = cmp.Or(c.actor, c.env["BREAKERCTL_ACTOR"], s.Actor, localActor(c.env["USER"]))
	if redis := cmp.Or(c.redis, c.env["BREAKERCTL_REDIS"]); redis != "" {
		if c.inside, err = c.startDirect(c.ctx, redis, s.Actor); err != nil {
			return nil, err
		}
		s.Servers, s.token, s.TokenFile = []string{c.inside.address}, c.inside.token, ""
	}
	c.chosen = s
	return s, nil
}

// localActor names the user of this machine, in the letters that an actor may have.
func localActor(user string) string {
	host, _ := os.Hostname()
	const most, letters = 64, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-@"
	name := strings.Map(func(r rune) rune {
		if strings.ContainsRune(letters, r) {
			return r
		}
		return '-'
	}, cmp.Or(user, "somebody")+"@"+cmp.Or(host, "somewhere"))
	return name[:min(len(name), most)]
}

// client is the way to the servers.
func (c *cli) client() (*client.Client, error) {
	if c.clients != nil {
		return c.clients, nil
	}
	s, err := c.settings()
	if err != nil {
		return nil, err
	}
	c.clients, err = c.clientOf(s, s.Servers)
	return c.clients, err
}

// each gives a client for each server alone.
func (c *cli) each() (map[string]*client.Client, error) {
	s, err := c.settings()
	if err != nil {
		return nil, err
	}
	all := map[string]*client.Client{}
	for _, server := range s.Servers {
		if all[server], err = c.clientOf(s, []string{server}); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (c *cli) clientOf(s *settings, servers []string) (*client.Client, error) {
	to, err := client.New(client.Options{
		Servers: servers, Token: s.token, TokenFile: s.TokenFile,
		CAFile: s.CAFile, CertFile: s.CertFile, KeyFile: s.KeyFile,
		Actor: s.Actor, UserAgent: "breakerctl/" + daemon.Version(), Timeout: c.timeout,
	})
	if err != nil {
		return nil, usagef("breakerctl context list", "%v", err)
	}
	return to, nil
}

func (c *cli) close() {
	if c.clients != nil {
		c.clients.CloseIdleConnections()
	}
	if c.inside != nil {
		c.inside.end()
	}
}

// tellf says something to who types. It never mixes with data.
func (c *cli) tellf(format string, args ...any) {
	_, _ = fmt.Fprintf(c.Err, format+"\n", args...)
}

// isTerminal says whether a person is at the other end of a stream.
func isTerminal(stream any) bool {
	file, ok := stream.(interface{ Fd() uintptr })
	return ok && isatty.IsTerminal(file.Fd())
}
