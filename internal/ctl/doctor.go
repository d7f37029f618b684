package ctl

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/breakerd/breakerd/internal/doctor"
)

// doctorWithin is how long each question of a diagnosis may take.
const doctorWithin = 5 * time.Second

func (c *cli) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor [AGENT]",
		Short: "what is wrong, with the evidence and the command to run next",
		Long: `With an AGENT, why its calls are refused, or why they are not though they fail.
Without one, the daily review of the fleet. It changes nothing. The exit code is
5 if something was found.`,
		Example: `  breakerctl doctor payments
  breakerctl doctor --server http://a:18180,http://b:18180
  breakerctl doctor -o json | jq -r .next`,
		Args:              someArgs(0, 1, "one AGENT"),
		ValidArgsFunction: c.completeAgents,
		RunE: func(cmd *cobra.Command, args []string) error {
			fleet, err := c.client()
			if err != nil {
				return err
			}
			each, err := c.each()
			if err != nil {
				return err
			}
			facts := doctor.Gather(cmd.Context(), doctor.Sources{
				Fleet: fleet, Each: each, Within: min(c.timeout, doctorWithin),
			}, strings.Join(args, ""))
			for _, one := range each {
				one.CloseIdleConnections()
			}
			switch {
			case cmd.Context().Err() != nil:
				return cmd.Context().Err()
			case facts.Denied() != nil:
				return facts.Denied()
			case !facts.Reached():
				return unreached(facts)
			}
			report := doctor.Judge(facts, doctor.Options{Program: c.again(), Token: c.hasToken()})
			if err := c.printReport(report); err != nil || !report.Found {
				return err
			}
			return conclude(exitFinding)
		},
	}
}

// unreached is the error of servers that none of answers.
func unreached(facts *doctor.Facts) error {
	f := &failure{
		Exit: exitUnreachable, Code: "unreachable", Message: "no server answers",
		Next: "check --server, BREAKERCTL_SERVER or the context: breakerctl context test",
	}
	for _, s := range facts.Servers {
		f.Message += fmt.Sprintf("\n  %s: %v", s.Address, s.Health.Err)
	}
	return f
}

// again begins a command that goes to the same servers as this one.
func (c *cli) again() string {
	words := []string{"breakerctl"}
	servers := strings.Join(c.server, ",")
	for _, flag := range [][2]string{
		{"server", servers}, {"context", c.contextName}, {"token-file", c.tokenFile}, {"ca-file", c.caFile},
	} {
		if flag[1] != "" {
			words = append(words, "--"+flag[0], doctor.Quote(flag[1]))
		}
	}
	return strings.Join(words, " ")
}

func (c *cli) hasToken() bool {
	set, err := c.settings()
	return err == nil && (set.token != "" || set.TokenFile != "")
}

func (c *cli) printReport(r doctor.Report) error {
	lines := make([]any, len(r.Findings))
	for i, f := range r.Findings {
		lines[i] = f
	}
	return c.print(output{value: r, lines: lines, text: func(w io.Writer) {
		say := func(mark, text, next string) {
			_, _ = fmt.Fprintf(w, "%s %s\n", mark, text)
			if next != "" {
				_, _ = fmt.Fprintf(w, "  next: %s\n", next)
			}
		}
		say(r.Mark(), r.Verdict, r.Next)
		_, _ = fmt.Fprintln(w)
		for _, f := range r.Findings {
			say(f.Status.Mark(), fmt.Sprintf("%-18s %s", f.Check, f.Evidence), f.Next)
		}
	}})
}
