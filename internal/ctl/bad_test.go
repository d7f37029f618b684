package ctl_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/breakerd/breakerd/internal/ctl"
	"github.com/breakerd/breakerd/internal/testkit"
)

// TestRun_AnswersABadLineWithItsCodeAndAHint, and prints no data.
func TestRun_AnswersABadLineWithItsCodeAndAHint(t *testing.T) {
	t.Parallel()
	_, address := launch(t, "breakerd", "REDIS_URL="+testkit.Start(t).URL(), "BREAKERD_LISTEN=127.0.0.1:0")
	environ := []string{"BREAKERCTL_SERVER=" + address, "HOME=" + t.TempDir()}
	for _, row := range []struct {
		line string
		code int
		hint string
	}{
		{"gte", 2, "did you mean gate or get?"},
		{"descrbe payments", 2, "did you mean describe?"},
		{"frobnicate", 2, "breakerctl --help"},
		{"get --colour", 2, "breakerctl get --help"},
		{"get -o xml", 2, "table|wide|json|yaml|name|jsonl"},
		{"get --state ajar", 2, "state"},
		{"get --hold maybe", 2, "hold"},
		{"get --sort beauty", 2, "sort"},
		{"get -l team", 2, "-l team=payments"},
		{"get payments --state open", 2, "not both"},
		{"get nobody", 3, "breakerctl get -o name"},
		{"get no/body", 2, "agent"},
		{"get --limit many", 2, "--limit"},
		{"describe", 2, "one AGENT"},
		{"describe a b", 2, `"b" as well`},
		{"describe nobody", 3, "nobody"},
		{"explain", 2, "one AGENT"},
		{"explain nobody", 3, "nobody"},
		{"history nobody", 3, "nobody"},
		{"history", 2, "one AGENT"},
		{"events --since yesterday", 2, "--since"},
		{"events --since 1h -w", 2, "since watch"},
		{"wait nobody --for state=ajar", 2, "--for state=closed"},
		{"wait nobody", 3, "nobody"},
		{"wait", 2, "one AGENT"},
		{"trace", 2, "--error-cascade"},
		{"trace --error-cascade --last 48h", 2, "last"},
		{"open payments", 2, "add --reason"},
		{"open --reason x", 2, "-l KEY=VALUE"},
		{"open payments --reason x --for 1h --until 02:00", 2, "for until"},
		{"open payments --reason x --until noon", 2, "--until 02:00"},
		{"open payments --reason x --until 2001-01-01T00:00:00Z", 2, "is over"},
		{"open payments --reason x --for -1h", 2, "timeout_seconds"},
		{"reset nobody --reason x", 3, "nobody"},
		{"release nobody --reason x", 3, "nobody"},
		{"hold nobody --reason x", 3, "nobody"},
		{"hold payments --reason x --as-state ajar", 2, "--as-state open|closed"},
		{"reset -l a=b --state ajar --reason x", 2, "state"},
		{"config set payments failure_threshold --reason x", 2, "NAME=VALUE"},
		{"config set payments failure_treshold=1 --reason x", 2, "did you mean failure_threshold?"},
		{"config set payments failure_threshold=1", 2, "add --reason"},
		{"config unset payments --reason x", 2, "NAMEs, or --all"},
		{"config gte payments", 2, "did you mean get"},
		{"config diff", 2, "--baseline FILE"},
		{"config apply -f /nowhere --reason x", 2, "cannot be read"},
		{"stop", 2, "add --reason"},
		{"stop --reason x", 2, "add --yes"},
		{"shed --reason x --percentage 120", 2, "--percentage 20"},
		{"resume --reset-open", 2, "add --gradual 10m"},
		{"emergency resume", 2, "add --yes"},
		{"circuit-breaker activate", 2, "add --all"},
		{"circuit-breaker reset", 2, "add --gradual"},
		{"agents suspend", 2, "needs an AGENT"},
		{"context use nowhere", 3, "nowhere"},
		{"context set fresh", 2, "add --server"},
		{"get --context nowhere", 2, "breakerctl context list"},
		{"get --server not-a-url", 2, "is no address"},
		{"get --server http://127.0.0.1:1", 7, "--server"},
		{"get --token-file /nowhere", 2, "TokenFile"},
		{"top", 2, "needs a terminal"},
		{"docs html somewhere", 2, "docs man"},
		{"gate up", 2, "takes no arguments"},
	} {
		t.Run(row.line, func(t *testing.T) {
			t.Parallel()
			var out, errs bytes.Buffer
			streams := ctl.Streams{In: strings.NewReader(""), Out: &out, Err: &errs}
			code := ctl.Run(t.Context(), strings.Fields(row.line), environ, streams)
			if code != row.code || !strings.Contains(errs.String(), row.hint) || out.Len() > 0 {
				t.Errorf("exit code %d, want %d; it says %q, want %q; data %q", code, row.code, errs.String(), row.hint, out.String())
			}
		})
	}
}
