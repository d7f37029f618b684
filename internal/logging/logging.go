// Package logging makes the programs' logger: every line carries component="Circuit Breaker".
package logging

import (
	"io"
	"log/slog"
	"os"

	"github.com/lmittmann/tint"
)

// Formats and levels as LOG_FORMAT and LOG_LEVEL spell them.
const (
	Auto = "auto" // colours on a terminal, JSON elsewhere
	Text = "text"
	JSON = "json"
)

// Component stands on every line.
const Component = "Circuit Breaker"

// New makes a logger that writes to w. level is debug, info, warn or error; format is auto, text or json: anything else is
// read as info and auto, for the configuration has checked both.
func New(w io.Writer, level, format string) *slog.Logger {
	var l slog.Level
	if l.UnmarshalText([]byte(level)) != nil {
		l = slog.LevelInfo
	}
	return slog.New(handler(w, l, format)).With("component", Component)
}

func handler(w io.Writer, l slog.Level, format string) slog.Handler {
	switch {
	case format == Text:
		return slog.NewTextHandler(w, &slog.HandlerOptions{Level: l})
	case format == JSON || !terminal(w):
		return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: l})
	default:
		return tint.NewTextHandler(w, &tint.Options{Level: l, NoColor: os.Getenv("NO_COLOR") != ""})
	}
}

func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
