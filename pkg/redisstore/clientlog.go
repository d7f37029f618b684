package redisstore

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// SetClientLogger sends go-redis's own log lines to l at level debug. They go to stderr otherwise, in a format of their
// own, and what they report, failed dials and failovers, comes back as errors as well. go-redis has one logger for the
// whole process: the last call counts. The first one is to come before any client of the process is made, for go-redis
// does not guard what it sets.
func SetClientLogger(l *slog.Logger) {
	clientLog.log.Store(l)
	clientLog.set.Do(func() { redis.SetLogger(clientLogger{}) })
}

// clientLog is what go-redis, which has one logger for the process, writes to.
var clientLog struct { //nolint:gochecknoglobals // go-redis' own is one
	set sync.Once
	log atomic.Pointer[slog.Logger]
}

type clientLogger struct{}

// Printf implements go-redis's internal logging interface.
func (clientLogger) Printf(ctx context.Context, format string, v ...any) {
	if log := clientLog.log.Load(); log.Enabled(ctx, slog.LevelDebug) {
		log.DebugContext(ctx, "redis client: "+fmt.Sprintf(format, v...))
	}
}
