package redisdocs

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

const (
	// latencyLives is how long what a replica has published of its calls' durations is shown: three turns.
	latencyLives = 30 * time.Second
	// latencyBytes bounds such a text. A longer one was planted.
	latencyBytes = 1 << 20
)

// PutLatency replaces what a replica says of how long its calls took.
func (d *Docs) PutLatency(ctx context.Context, replica string, text []byte) error {
	ctx, cancel := context.WithTimeout(ctx, d.config.Timeout)
	defer cancel()
	return failed("publish latency", "", d.client.Set(ctx, d.keys.Latency(replica), text, latencyLives).Err())
}

// Latency reads what the replicas, but for one of them, say of how long their calls took.
func (d *Docs) Latency(ctx context.Context, but string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, d.config.Timeout)
	defer cancel()
	now, err := d.client.Time(ctx).Result()
	if err != nil {
		return nil, redisstore.WrapError("read latency", "", err)
	}
	lately := now.Add(-latencyLives - BeatAlive).UnixMilli()
	heard, err := d.client.ZRangeByScore(ctx, d.keys.Replicas(), &redis.ZRangeBy{
		Min: strconv.FormatInt(lately, 10), Max: "+inf", Count: maxReplicas,
	}).Result()
	if err = failed("read latency", "", err); err != nil {
		return nil, err
	}
	ids := slices.DeleteFunc(heard, func(id string) bool { return id == but || !breaker.ValidWord(id) }) // [B20]
	texts, err := d.getAll(ctx, "read latency", ids, d.keys.Latency)
	return slices.DeleteFunc(texts, func(text string) bool { return text == "" || len(text) > latencyBytes }), err
}
