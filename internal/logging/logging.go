// Package logging makes the programs' logger: every line carries component="Circuit Breaker".
package logging

import (
	"io"
	"log/slog"
	"os"

	"github.com/lmittmann/tint"
)

// New makes a logger that writes to w. format is auto (colours on a terminal, JSON elsewhere), text or json.
func New(w io.Writer, level slog.Level, format string) *slog.Logger {
	return slog.New(handler(w, level, format)).With("component", "Circuit Breaker")
}

func handler(w io.Writer, level slog.Level, format string) slog.Handler {
	switch {
	case format == "text":
		return slog.NewTextHandler(w, &slog.HandlerOptions{Level: level})
	case format == "json" || !Terminal(w):
		return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})
	default:
		return tint.NewTextHandler(w, &tint.Options{Level: level, NoColor: os.Getenv("NO_COLOR") != ""})
	}
}

// Terminal says whether w is a terminal.
func Terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
