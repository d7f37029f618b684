package registry_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// logLines collects log lines.
type logLines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *logLines) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *logLines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(j, nil)) }

// with returns the lines of an event.
func (j *logLines) with(event string) []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []string
	for line := range strings.Lines(j.b.String()) {
		if strings.Contains(line, "event=circuit_breaker."+event+" ") {
			out = append(out, line)
		}
	}
	return out
}
