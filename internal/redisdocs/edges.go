package redisdocs

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

const (
	edgesKept = 4096           // the newest
	edgesLive = 24 * time.Hour // since the call was last seen
	edgesMost = 4 * edgesKept  // a hash with more was planted, and is not read
)

// Edge is a call of one agent by another one, or by a workflow.
type Edge struct{ Parent, Agent string }

// field is the edge's in the hash. No name has a >.
func (e Edge) field() string { return e.Parent + ">" + e.Agent }

func parseEdge(field string) (e Edge, ok bool) {
	e.Parent, e.Agent, ok = strings.Cut(field, ">")
	return e, ok && breaker.ValidName(e.Parent) && breaker.ValidName(e.Agent)
}

// PutEdges writes that these calls were seen now. Of more than 4,096 the oldest go.
func (d *Docs) PutEdges(ctx context.Context, edges []Edge) error {
	ctx, cancel := context.WithTimeout(ctx, d.config.Timeout)
	defer cancel()
	now, err := d.client.Time(ctx).Result()
	if err != nil {
		return redisstore.WrapError("write edges", "", err)
	}
	key, at := d.keys.Edges(), strconv.FormatInt(now.UnixMilli(), 10)
	var kept int64
	for some := range slices.Chunk(edges, chunk) {
		values := make([]string, 0, 2*len(some))
		for _, e := range some {
			values = append(values, e.field(), at)
		}
		err := d.write(ctx, key, func() error {
			pipe := d.client.Pipeline()
			set, lives, n := pipe.HSet(ctx, key, values), pipe.Expire(ctx, key, edgesLive), pipe.HLen(ctx, key)
			_, _ = pipe.Exec(ctx) // each command keeps its own error
			kept = n.Val()
			return cmp.Or(set.Err(), lives.Err(), n.Err())
		})
		if err := failed("write edges", "", err); err != nil {
			return err
		}
	}
	if kept <= edgesKept {
		return nil
	}
	_, err = d.readEdges(ctx, now, kept)
	return err
}

// Edges reads which calls were seen within a day.
func (d *Docs) Edges(ctx context.Context) ([]Edge, error) {
	ctx, cancel := context.WithTimeout(ctx, d.config.Timeout)
	defer cancel()
	pipe := d.client.Pipeline()
	now, n := pipe.Time(ctx), pipe.HLen(ctx, d.keys.Edges())
	_, _ = pipe.Exec(ctx) // each command keeps its own error
	for _, err := range []error{now.Err(), n.Err()} {
		if err := failed("read edges", "", err); err != nil {
			return nil, err
		}
	}
	return d.readEdges(ctx, now.Val(), n.Val())
}

// readEdges reads the edges, of which there are n, and deletes what was planted [B20], is old, or is too much.
func (d *Docs) readEdges(ctx context.Context, now time.Time, n int64) ([]Edge, error) {
	key := d.keys.Edges()
	if n > edgesMost {
		return nil, failed("delete edges", "", d.client.Unlink(ctx, key).Err())
	}
	fields, err := d.client.HGetAll(ctx, key).Result()
	if err := failed("read edges", "", err); err != nil {
		return nil, err
	}
	type seen struct {
		Edge

		ms int64
	}
	var all []seen
	var drop []string
	for field, value := range fields {
		e, ok := parseEdge(field)
		ms, err := strconv.ParseInt(value, 10, 64)
		age := now.Sub(time.UnixMilli(ms))
		if !ok || err != nil || age > edgesLive || age < -edgesLive {
			drop = append(drop, field)
			continue
		}
		all = append(all, seen{e, ms})
	}
	slices.SortFunc(all, func(a, b seen) int {
		return cmp.Or(cmp.Compare(b.ms, a.ms), strings.Compare(a.Parent, b.Parent), strings.Compare(a.Agent, b.Agent))
	})
	for _, old := range all[min(len(all), edgesKept):] {
		drop = append(drop, old.field())
	}
	all = all[:min(len(all), edgesKept)]
	for some := range slices.Chunk(drop, chunk) {
		if err := d.client.HDel(ctx, key, some...).Err(); err != nil && !redis.HasErrorPrefix(err, "WRONGTYPE") {
			return nil, redisstore.WrapError("delete edges", "", err)
		}
	}
	edges := make([]Edge, len(all))
	for i, s := range all {
		edges[i] = s.Edge
	}
	return edges, nil
}
