package redisstore

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/redis/go-redis/v9"
)

// SetClientLogger sends go-redis's own log lines to l at level debug. They go to stderr otherwise, in a format of their
// own, and what they report, failed dials and failovers, comes back as errors as well. go-redis has one logger for the
// whole process: call it once, before the first Open.
func SetClientLogger(l *slog.Logger) { redis.SetLogger(clientLogger{l}) }

type clientLogger struct{ log *slog.Logger }

// Printf implements go-redis's internal logging interface.
func (c clientLogger) Printf(ctx context.Context, format string, v ...any) {
	if c.log.Enabled(ctx, slog.LevelDebug) {
		c.log.DebugContext(ctx, "redis client: "+fmt.Sprintf(format, v...))
	}
}
