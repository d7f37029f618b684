package redisstore

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/redis/go-redis/v9"
)

// SetClientLogger sends go-redis's own log lines, which otherwise go to stderr
// in a format of their own, to l at level debug: what they tell, failed dials
// and failovers, comes back as errors as well. go-redis has one logger for the
// whole process: call it once, from main, before the first Open.
func SetClientLogger(l *slog.Logger) { redis.SetLogger(clientLogger{l}) }

type clientLogger struct{ log *slog.Logger }

// Printf implements go-redis's internal logging interface.
func (c clientLogger) Printf(ctx context.Context, format string, v ...any) {
	if c.log.Enabled(ctx, slog.LevelDebug) {
		c.log.DebugContext(ctx, "redis client: "+fmt.Sprintf(format, v...))
	}
}
