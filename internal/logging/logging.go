// Package logging makes the programs' logger: every line carries component="Circuit Breaker", and whoever logs never
// waits for who reads.
package logging

import (
	"io"
	"log/slog"
	"os"

	"github.com/lmittmann/tint"

	"github.com/breakerd/breakerd/pkg/breakerlog"
)

func newLogger(w io.Writer, level slog.Level, format string, terminal bool) *slog.Logger {
	var h slog.Handler
	switch {
	case format == "text":
		h = slog.NewTextHandler(escaping{w}, &slog.HandlerOptions{Level: level})
	case format == "json" || !terminal:
		h = slog.NewJSONHandler(escaping{w}, &slog.HandlerOptions{Level: level})
	default:
		o := &tint.Options{Level: level, NoColor: os.Getenv("NO_COLOR") != "", ReplaceAttr: withoutEscapes}
		h = tint.NewTextHandler(w, o)
	}
	return breakerlog.Component(slog.New(h))
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
