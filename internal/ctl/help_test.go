package ctl_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/breakerd/breakerd/internal/ctl"
)

// TestHelp_FitsATerminalAndBeginsWithExamples, of every command.
func TestHelp_FitsATerminalAndBeginsWithExamples(t *testing.T) {
	t.Parallel()
	var visit func(path []string)
	visit = func(path []string) {
		var out, errs bytes.Buffer
		code := ctl.Run(t.Context(), append(path, "--help"), nil, ctl.Streams{In: strings.NewReader(""), Out: &out, Err: &errs})
		help := out.String()
		if code != 0 || help == "" || errs.Len() > 0 {
			t.Fatalf("%q --help: exit code %d, %s", path, code, errs.String())
		}
		for line := range strings.Lines(help) {
			if utf8.RuneCountInString(strings.TrimRight(line, "\n")) > 80 {
				t.Errorf("%q --help has a line of more than 80 columns: %s", path, line)
			}
		}
		if at := strings.Index(help, "\nExamples:\n"); at > strings.Index(help, "\nUsage:\n") {
			t.Errorf("%q --help shows its usage before its examples", path)
		}
		commands, _, _ := strings.Cut(help, "\nFlags:\n")
		_, commands, _ = strings.Cut(commands, "\nUsage:\n")
		for line := range strings.Lines(commands) {
			if name := strings.Fields(line + " -")[0]; strings.HasPrefix(line, "  ") && name != "breakerctl" && name != "help" {
				visit(append(slices.Clip(path), name))
			}
		}
	}
	visit(nil)
}
