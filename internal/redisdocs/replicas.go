package redisdocs

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/pkg/redisstore"
)

// forgetReplicas is the age at which the heartbeat of a replica that died is deleted.
const forgetReplicas = 24 * time.Hour

// Heartbeat says that a replica is up, and counts the replicas whose last heartbeat is at most so old, by the server's
// clock. ms is that clock.
func (d *Docs) Heartbeat(ctx context.Context, replica string, alive time.Duration) (up int, ms int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, d.config.Timeout)
	defer cancel()
	now, err := d.client.Time(ctx).Result()
	if err != nil {
		return 0, 0, redisstore.WrapError("heartbeat", "", err)
	}
	score := func(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }
	pipe := d.client.Pipeline()
	pipe.ZAdd(ctx, d.keys.Replicas(), redis.Z{Score: float64(now.UnixMilli()), Member: replica})
	pipe.ZRemRangeByScore(ctx, d.keys.Replicas(), "-inf", score(now.Add(-forgetReplicas)))
	n := pipe.ZCount(ctx, d.keys.Replicas(), score(now.Add(-alive)), "+inf")
	_, err = pipe.Exec(ctx)
	if redis.HasErrorPrefix(err, "WRONGTYPE") { // planted: it makes room for the next heartbeat [B20]
		_ = d.client.Unlink(ctx, d.keys.Replicas()).Err()
	}
	if err != nil {
		return 0, 0, redisstore.WrapError("heartbeat", "", err)
	}
	return int(n.Val()), now.UnixMilli(), nil
}

// LastHeartbeats reads when a replica's last heartbeat was, and the newest of all, in ms; 0: there is none.
func (d *Docs) LastHeartbeats(ctx context.Context, replica string) (own, newest int64, err error) {
	pipe := d.client.Pipeline()
	ownScore := pipe.ZScore(ctx, d.keys.Replicas(), replica)
	last := pipe.ZRangeWithScores(ctx, d.keys.Replicas(), -1, -1)
	_, _ = pipe.Exec(ctx) // each command keeps its own error
	for _, z := range last.Val() {
		newest = int64(z.Score)
	}
	return int64(ownScore.Val()), newest, errors.Join(
		failed("heartbeat", "", ownScore.Err()), failed("heartbeat", "", last.Err()))
}

// EndHeartbeat deletes a replica's heartbeat: Heartbeat counts it no longer.
func (d *Docs) EndHeartbeat(ctx context.Context, replica string) error {
	ctx, cancel := context.WithTimeout(ctx, d.config.Timeout)
	defer cancel()
	return failed("heartbeat", "", d.client.ZRem(ctx, d.keys.Replicas(), replica).Err())
}
