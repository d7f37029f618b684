package breakerlog

import "log/slog"

// Component returns a logger whose lines have component="Circuit Breaker": log itself, if it is from Component, and
// otherwise one that adds it. It is for lines of one's own, and for the Logger of breaker.Options. nil: a logger that
// discards all.
func Component(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.New(slog.DiscardHandler)
	}
	if _, has := log.Handler().(component); has {
		return log
	}
	return slog.New(component{log.Handler().WithAttrs([]slog.Attr{slog.String("component", "Circuit Breaker")})})
}

// component marks a Handler that adds the component, so that it is not added twice.
type component struct{ slog.Handler }

// WithAttrs implements [slog.Handler].
func (c component) WithAttrs(attrs []slog.Attr) slog.Handler {
	return component{c.Handler.WithAttrs(attrs)}
}

// WithGroup implements [slog.Handler].
func (c component) WithGroup(name string) slog.Handler { return component{c.Handler.WithGroup(name)} }
