package redisstore

import (
	"context"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// forgetReplicas is when a replica that is no more leaves the heartbeats.
const forgetReplicas = 24 * time.Hour

// Heartbeat says that a replica lives, and counts those heard of within alive, by the server's clock.
func (s *Store) Heartbeat(ctx context.Context, replica string, alive time.Duration) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	now, err := s.client.Time(ctx).Result()
	if err != nil {
		return 0, storeError("heartbeat", "", err)
	}
	ms := func(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }
	pipe := s.client.Pipeline()
	pipe.ZAdd(ctx, s.keys.Replicas(), redis.Z{Score: float64(now.UnixMilli()), Member: replica})
	pipe.ZRemRangeByScore(ctx, s.keys.Replicas(), "-inf", ms(now.Add(-forgetReplicas)))
	n := pipe.ZCount(ctx, s.keys.Replicas(), ms(now.Add(-alive)), "+inf")
	_, err = pipe.Exec(ctx)
	if redis.HasErrorPrefix(err, "WRONGTYPE") { // planted: the next beat finds room [B20]
		_ = s.client.Unlink(ctx, s.keys.Replicas()).Err()
	}
	if err != nil {
		return 0, storeError("heartbeat", "", err)
	}
	return int(n.Val()), nil
}
