package redisstore

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Born gives the identity of the data in Redis: a random text that the first replica writes and nobody changes. A Redis
// that has lost its data gets another. On a Cluster every master has one; the identity is all of them, sorted and
// joined by commas.
func (s *Store) Born(ctx context.Context) (string, error) {
	keys, err := s.bornKeys(ctx)
	if err != nil {
		return "", WrapError("born", "", err)
	}
	ids := make([]string, len(keys))
	for i, key := range keys {
		if ids[i], err = s.bornAt(ctx, key); err != nil {
			return "", WrapError("born", "", err)
		}
	}
	slices.Sort(ids)
	return strings.Join(ids, ","), nil
}

// bornAt reads a key, and writes it where it is missing. One of another type was planted, and makes room [B20].
func (s *Store) bornAt(ctx context.Context, key string) (id string, err error) {
	draw := make([]byte, 8)
	_, _ = rand.Read(draw) // never fails
	for range 2 {
		err = s.client.SetArgs(ctx, key, hex.EncodeToString(draw), redis.SetArgs{Mode: "NX"}).Err()
		if err != nil && !errors.Is(err, redis.Nil) { // Nil: it is there
			return "", err
		}
		if id, err = s.client.Get(ctx, key).Result(); !redis.HasErrorPrefix(err, "WRONGTYPE") {
			return id, err
		}
		_ = s.client.Unlink(ctx, key).Err() // the next read tells if that failed
	}
	return id, err
}

// bornKeys gives one key for each master: the first of born.{0}, born.{1}, … whose slot it serves.
func (s *Store) bornKeys(ctx context.Context) ([]string, error) {
	cluster, ok := s.client.(*redis.ClusterClient)
	if !ok {
		return []string{s.keys.born(0)}, nil
	}
	shards, err := cluster.ClusterShards(ctx).Result()
	if err != nil {
		return nil, err
	}
	shards = slices.DeleteFunc(shards, func(shard redis.ClusterShard) bool { return len(shard.Slots) == 0 })
	var keys []string
	for i := 0; len(shards) > 0; i++ {
		key := s.keys.born(i)
		slot, err := cluster.ClusterKeySlot(ctx, key).Result()
		if err != nil {
			return nil, err
		}
		at := slices.IndexFunc(shards, func(shard redis.ClusterShard) bool {
			return slices.ContainsFunc(shard.Slots, func(r redis.SlotRange) bool { return r.Start <= slot && slot <= r.End })
		})
		if at >= 0 {
			shards = slices.Delete(shards, at, at+1)
			keys = append(keys, key)
		}
	}
	return keys, nil
}
