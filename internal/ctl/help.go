package ctl

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"
)

const helpWidth = 80 // columns

// help shows how a command is typed before anything else.
func help(cmd *cobra.Command, _ []string) {
	w := cmd.OutOrStdout()
	words := strings.Join(strings.Fields(cmp.Or(cmd.Long, cmd.Short)), " ")
	_, _ = fmt.Fprintln(w, strings.TrimRight(text.WrapSoft(words, helpWidth), "\n"))
	if cmd.HasExample() {
		_, _ = fmt.Fprintf(w, "\nExamples:\n%s\n", cmd.Example)
	}
	_, _ = fmt.Fprintf(w, "\nUsage:\n  %s\n", strings.TrimSuffix(cmd.UseLine(), " [flags]"))
	for _, group := range cmd.Groups() {
		helpCommands(w, group.Title, cmd, group.ID)
	}
	helpCommands(w, "Commands:", cmd, "")
	if cmd.HasAvailableLocalFlags() {
		_, _ = fmt.Fprintf(w, "\nFlags:\n%s", cmd.LocalFlags().FlagUsagesWrapped(helpWidth))
	}
	if cmd.HasParent() {
		_, _ = fmt.Fprintf(w, "\n%s --help shows the flags that every command takes.\n", cmd.Root().Name())
		return
	}
	_, _ = fmt.Fprintf(w, "\nExit codes:\n%s\n", exitNames())
	_, _ = fmt.Fprintf(w, "%s COMMAND --help shows a command's own examples and flags.\n", cmd.Name())
}

// helpCommands lists the commands of one group.
func helpCommands(w io.Writer, title string, cmd *cobra.Command, group string) {
	var lines []string
	for _, sub := range cmd.Commands() {
		if sub.GroupID == group && (sub.IsAvailableCommand() || sub.Name() == "help" && group != "") {
			lines = append(lines, fmt.Sprintf("  %-15s %s\n", sub.Name(), sub.Short))
		}
	}
	if len(lines) > 0 {
		_, _ = fmt.Fprintf(w, "\n%s\n%s", title, strings.Join(lines, ""))
	}
}
