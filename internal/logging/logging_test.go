package logging_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"github.com/breakerd/breakerd/internal/logging"
)

func TestNew_EveryLineHasTheComponent(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"auto", "json", "text"} {
		var out bytes.Buffer
		logging.New(&out, slog.LevelInfo, format).Info("hello", "agent", "a\nb")
		if !strings.Contains(out.String(), "Circuit Breaker") || strings.Count(out.String(), "\n") != 1 {
			t.Errorf("%s: %q", format, out.String())
		}
		if format != "text" && !json.Valid(out.Bytes()) {
			t.Errorf("%s, and no terminal, is not JSON: %q", format, out.String())
		}
	}
}

func TestNew_DropsLinesBelowTheLevel(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := logging.New(&out, slog.LevelWarn, "json")
	log.Info("no")
	log.Warn("yes")
	if strings.Contains(out.String(), "no") || !strings.Contains(out.String(), "yes") {
		t.Errorf("%q", out.String())
	}
}
