package redisdocs

import (
	"context"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/pkg/redisstore"
)

// forgetReplicas is the age at which the heartbeat of a replica that died is deleted.
const forgetReplicas = 24 * time.Hour

// Heartbeat says that a replica is up, and counts the replicas whose last heartbeat is at most so old, by the server's
// clock.
func (d *Docs) Heartbeat(ctx context.Context, replica string, alive time.Duration) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, d.config.Timeout)
	defer cancel()
	now, err := d.client.Time(ctx).Result()
	if err != nil {
		return 0, redisstore.WrapError("heartbeat", "", err)
	}
	ms := func(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }
	pipe := d.client.Pipeline()
	pipe.ZAdd(ctx, d.keys.Replicas(), redis.Z{Score: float64(now.UnixMilli()), Member: replica})
	pipe.ZRemRangeByScore(ctx, d.keys.Replicas(), "-inf", ms(now.Add(-forgetReplicas)))
	n := pipe.ZCount(ctx, d.keys.Replicas(), ms(now.Add(-alive)), "+inf")
	_, err = pipe.Exec(ctx)
	if redis.HasErrorPrefix(err, "WRONGTYPE") { // planted: it makes room for the next heartbeat [B20]
		_ = d.client.Unlink(ctx, d.keys.Replicas()).Err()
	}
	if err != nil {
		return 0, redisstore.WrapError("heartbeat", "", err)
	}
	return int(n.Val()), nil
}

// EndHeartbeat deletes a replica's heartbeat: Heartbeat counts it no longer.
func (d *Docs) EndHeartbeat(ctx context.Context, replica string) error {
	ctx, cancel := context.WithTimeout(ctx, d.config.Timeout)
	defer cancel()
	return failed("heartbeat", "", d.client.ZRem(ctx, d.keys.Replicas(), replica).Err())
}
