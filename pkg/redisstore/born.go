package redisstore

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Born gives the identity of the data in Redis: a random text that the first replica writes and nobody changes. A Redis
// that has lost its data gets another. On a Cluster every master has one; the identity is all of them, sorted and
// joined by commas. It is for breaker.FallbackOptions.
func (s *Store) Born(ctx context.Context) (string, error) {
	id, _, err := s.claim(ctx)
	return id, err
}

// claim is [Store.Born]. created says that this call wrote the identity, on a Cluster that of at least one master. Of
// replicas that meet one empty server at once, only one is told so. created may be true beside an error.
func (s *Store) claim(ctx context.Context) (id string, created bool, err error) {
	keys, err := s.bornKeys(ctx)
	if err != nil {
		return "", false, WrapError("born", "", err)
	}
	pipe := s.client.Pipeline()
	ids, claims := make([]string, len(keys)), make([]*redis.Cmd, len(keys))
	for i, key := range keys {
		ids[i] = drawIdentity()
		claims[i] = pipe.Eval(ctx, claimScript, []string{key}, ids[i])
	}
	_, _ = pipe.Exec(ctx) // each command keeps its own error
	for i, claim := range claims {
		found, failed := claim.Text()
		created = created || failed == nil && found == ids[i]
		ids[i], err = found, cmp.Or(err, failed)
	}
	if err != nil {
		return "", created, WrapError("born", "", err)
	}
	slices.Sort(ids)
	return strings.Join(ids, ","), created, nil
}

// claimScript gives a key's text, and writes ARGV[1] where there is none. What has another type was planted, and makes
// room [B20].
const claimScript = `
local id = redis.call('SET', KEYS[1], ARGV[1], 'NX') and ARGV[1] or redis.pcall('GET', KEYS[1])
if type(id) ~= 'string' or id == '' then
  redis.call('SET', KEYS[1], ARGV[1])
  return ARGV[1]
end
return id`

// renewScript replaces a key's text, if it is still ARGV[1].
const renewScript = `if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('SET', KEYS[1], ARGV[2]) end return 1`

// Renew gives the data another identity, for somebody has found that it is an older copy of the data that was there. It
// does nothing if the identity is no longer the former one. It returns the identity. It is for authors of replicas:
// package fleet calls it.
func (s *Store) Renew(ctx context.Context, former string) (id string, err error) {
	keys, err := s.bornKeys(ctx)
	if err != nil {
		return "", WrapError("born", "", err)
	}
	part, err := s.client.Eval(ctx, claimScript, keys[:1], drawIdentity()).Text()
	if err == nil && slices.Contains(strings.Split(former, ","), part) {
		err = s.client.Eval(ctx, renewScript, keys[:1], part, drawIdentity()).Err()
	}
	if err != nil {
		return "", WrapError("born", "", err)
	}
	return s.Born(ctx)
}

func drawIdentity() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// maxBorn is a number below which born.{0}, born.{1}, … have every slot.
const maxBorn = 1 << 20

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
		if i == maxBorn {
			return nil, fmt.Errorf("no key has a slot of %d of the masters that CLUSTER SHARDS names", len(shards))
		}
		key := s.keys.born(i)
		slot := slotOf(strconv.Itoa(i))
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

// slotOf is the Cluster's slot of the keys with this hash tag: its CRC16 (XMODEM), modulo 16384.
func slotOf(tag string) int64 {
	var crc uint16
	for _, b := range []byte(tag) {
		crc ^= uint16(b) << 8
		for range 8 {
			carry := crc >> 15
			crc = crc<<1 ^ carry*0x1021
		}
	}
	return int64(crc % 16384)
}
