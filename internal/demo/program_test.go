package demo

import (
	"bytes"
	"strings"
	"testing"
)

func TestProgram_BadConfigurationExitsWith2(t *testing.T) {
	t.Parallel()
	for _, variable := range []string{
		"DEMO_LISTEN=9000", "DEMO_LISTEN=127.0.0.1:x", "DEMO_LISTEN=127.0.0.1:65536", "DEMO_LISTEN=http://a:9000", "DEMO_AGENTS=A=dead",
		"LOG_FORMAT=xml", "LOG_LEVEL=loud",
	} {
		var stdout, stderr bytes.Buffer
		name, _, _ := strings.Cut(variable, "=")
		if code := Program().Run(t.Context(), nil, []string{variable}, &stdout, &stderr); code != 2 || stdout.Len() > 0 || !strings.Contains(stderr.String(), name) {
			t.Errorf("%s: %d\n%s", variable, code, stderr.String())
		}
	}
}

func TestProgram_HelpSaysWhatItIsFor(t *testing.T) {
	t.Parallel()
	var stdout, stderr bytes.Buffer
	code := Program().Run(t.Context(), []string{"--help"}, nil, &stdout, &stderr)
	for _, want := range []string{"FOR DEMONSTRATIONS", "DEMO_AGENTS", "DEMO_LISTEN"} {
		if code != 0 || !strings.Contains(stdout.String(), want) {
			t.Errorf("exit code %d, no %s in %s", code, want, stdout.String())
		}
	}
}
