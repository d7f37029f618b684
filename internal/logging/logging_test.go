package logging_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/breakerd/breakerd/internal/logging"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// written is what a logger writes that use has used.
func written(level slog.Level, format string, use func(*slog.Logger)) string {
	var out bytes.Buffer
	q := logging.NewQueue(&out)
	use(q.Logger(level, format))
	q.Close(time.Minute)
	return out.String()
}

func TestLogger_EveryLineHasTheComponent(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"auto", "json", "text"} {
		out := written(slog.LevelInfo, format, func(l *slog.Logger) { l.Info("hello", "agent", "a\nb") })
		if !strings.Contains(out, "Circuit Breaker") || strings.Count(out, "\n") != 1 {
			t.Errorf("%s: %q", format, out)
		}
		if format != "text" && !json.Valid([]byte(out)) {
			t.Errorf("%s, and no terminal, is not JSON: %q", format, out)
		}
	}
}

func TestLogger_DropsLinesBelowTheLevel(t *testing.T) {
	t.Parallel()
	out := written(slog.LevelWarn, "json", func(l *slog.Logger) {
		l.Info("no")
		l.Warn("yes")
	})
	if strings.Contains(out, "no") || !strings.Contains(out, "yes") {
		t.Errorf("%q", out)
	}
}
