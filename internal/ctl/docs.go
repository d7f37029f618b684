package ctl

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/breakerd/breakerd/internal/daemon"
)

func (c *cli) versionCommand() *cobra.Command {
	var local bool
	cmd := &cobra.Command{
		Use: "version", Short: "the versions of breakerctl and of the server", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			versions := map[string]string{"breakerctl": daemon.Version()}
			if !local {
				to, err := c.client()
				if err != nil {
					return err
				}
				health, err := to.Health(cmd.Context())
				if err != nil {
					return err
				}
				versions["server"] = health.Version
			}
			return c.print(output{value: versions, text: func(w io.Writer) {
				_, _ = fmt.Fprintln(w, "breakerctl "+versions["breakerctl"])
				if !local {
					_, _ = fmt.Fprintln(w, "server     "+versions["server"])
				}
			}})
		},
	}
	cmd.Flags().BoolVar(&local, "client", false, "of breakerctl alone")
	return cmd
}

func (c *cli) docsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "docs man|markdown DIRECTORY", Short: "write manual pages, or Markdown, of every command",
		Args: someArgs(2, 2, "man or markdown, and a DIRECTORY"),
		Example: `  breakerctl docs man /usr/local/share/man/man1
  breakerctl docs markdown docs/cli`,
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			root.DisableAutoGenTag = true
			if err := os.MkdirAll(args[1], 0o755); err != nil {
				return err
			}
			switch args[0] {
			case "man":
				return doc.GenManTree(root, &doc.GenManHeader{Title: "BREAKERCTL", Section: "1", Source: "breakerd"}, args[1])
			case "markdown":
				return doc.GenMarkdownTree(root, args[1])
			}
			return usagef("breakerctl docs man DIRECTORY", "there is no form %q of the documents", args[0])
		},
	}
}
