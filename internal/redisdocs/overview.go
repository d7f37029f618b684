package redisdocs

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// ClockMs is the server's clock, ms since 1970.
func (d *Docs) ClockMs(ctx context.Context) (int64, error) {
	now, err := d.client.Time(ctx).Result()
	return now.UnixMilli(), failed("read clock", "", err)
}

// Idle counts the agents in the index that were not seen within a time, and lists so many of them, the one seen longest
// ago first. now is the server's clock, ms.
func (d *Docs) Idle(
	ctx context.Context, nowMs int64, within time.Duration, most int,
) (n int, names []string, err error) {
	last := "(" + strconv.FormatInt((nowMs-within.Milliseconds())/1000, 10)
	pipe := d.client.Pipeline()
	count := pipe.ZCount(ctx, d.keys.Agents(), "-inf", last)
	oldest := pipe.ZRangeByScore(ctx, d.keys.Agents(), &redis.ZRangeBy{Min: "-inf", Max: last, Count: int64(most)})
	if _, err = pipe.Exec(ctx); failed("index", "", err) != nil {
		return 0, nil, failed("index", "", err)
	}
	names = slices.DeleteFunc(oldest.Val(), func(n string) bool { return !breaker.ValidName(n) })
	return int(count.Val()), names, nil
}
