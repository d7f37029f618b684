package redisdocs

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// notClosedPage is how many members of the index one command reads.
const notClosedPage = 5000

// NotClosed reads the index of breakers that are not closed, or held, with their scores. An agent's score changes with
// each transition and each manual action. Of more than MaxAgents it reads those that changed longest ago, for there are
// the holds without end.
func (d *Docs) NotClosed(ctx context.Context) (map[string]float64, error) {
	found := map[string]float64{}
	for from := int64(0); len(found) < d.config.MaxAgents; from += notClosedPage {
		page, err := d.client.ZRangeWithScores(ctx, d.keys.NotClosed(), from, from+notClosedPage-1).Result()
		if err = failed("list", "", err); err != nil {
			return nil, err
		}
		for _, z := range page {
			// A name that no breaker can have was planted.
			if name, ok := z.Member.(string); ok && breaker.ValidName(name) && len(found) < d.config.MaxAgents {
				found[name] = z.Score
			}
		}
		if len(page) < notClosedPage {
			break
		}
	}
	return found, nil
}

// AddNotClosed adds an agent to the index of breakers that are not closed, unless it is there. ms is Redis' time.
func (d *Docs) AddNotClosed(ctx context.Context, agent string, ms int64) error {
	key, one := d.keys.NotClosed(), redis.Z{Score: float64(ms), Member: agent}
	return failed("list", agent, d.write(ctx, key, func() error { return d.client.ZAddNX(ctx, key, one).Err() }))
}

// removeUnchanged removes a member whose score is still the one that was read.
const removeUnchanged = `
if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1])) == tonumber(ARGV[2]) then redis.call('ZREM', KEYS[1], ARGV[1]) end
return 0`

// RemoveNotClosed removes an agent from the index of breakers that are not closed, unless its score has changed since
// it was read.
func (d *Docs) RemoveNotClosed(ctx context.Context, agent string, score float64) error {
	return failed("list", agent, d.client.Eval(ctx, removeUnchanged, []string{d.keys.NotClosed()}, agent, score).Err())
}

// lease gives a key that is free, or its own, to ARGV[1] for ARGV[2] ms, and returns who has it. What has another type
// was planted [B20].
const lease = `
local holder = redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) and ARGV[1] or redis.pcall('GET', KEYS[1])
if type(holder) ~= 'string' or holder == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return ARGV[1]
end
return holder`

// Lease gives a key that nobody else has to holder, for so long from now, and returns who has it.
func (d *Docs) Lease(ctx context.Context, key, holder string, length time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, d.config.Timeout)
	defer cancel()
	has, err := d.client.Eval(ctx, lease, []string{key}, holder, length.Milliseconds()).Text()
	if err != nil {
		return "", redisstore.WrapError("lease", "", err)
	}
	return has, nil
}

// PutLease gives a key to holder, whoever has it.
func (d *Docs) PutLease(ctx context.Context, key, holder string, length time.Duration) error {
	return failed("lease", "", d.client.Set(ctx, key, holder, length).Err())
}
