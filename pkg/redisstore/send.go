package redisstore

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// send runs calls in one round trip. What takes a second one is a call whose breaker is no longer as it was guessed to be: its own
// script follows what was quick. A script that the server does not know is sent once more with its text, alone: NOSCRIPT says that
// it has not run.
func (s *Store) send(ctx context.Context, calls []*call) {
	var slow []*call
	quick := false
	for _, c := range calls {
		c.quick = c.guess != nil && c.guess.Load()
		quick = quick || c.quick
	}
	s.trip(ctx, calls)
	if !quick {
		return
	}
	for _, c := range calls {
		if c.quick && c.reply == nil && c.err == nil {
			c.quick = false
			slow = append(slow, c)
		}
	}
	if len(slow) > 0 {
		s.trip(ctx, slow)
	}
}

// trip sends what calls have to say at once, and settles all but those whose quick way did not answer them.
func (s *Store) trip(ctx context.Context, calls []*call) {
	if len(calls) == 1 && (!calls[0].quick || calls[0].share.verb == "record") {
		calls[0].quick = false
		cmd := command(ctx, "evalsha", calls[0].script.sha, calls[0])
		_ = s.client.Process(ctx, once{cmd}) // the command keeps its error
		s.settleCall(ctx, calls[0], cmd)
		return
	}
	pipe := s.client.Pipeline()
	var settle []func()
	queue := func(cmd *redis.Cmd) *redis.Cmd {
		_ = pipe.Process(ctx, once{cmd}) // only queues
		return cmd
	}
	for _, c := range gather(calls) {
		switch {
		case !c[0].quick:
			cmd := queue(command(ctx, "evalsha", c[0].script.sha, c[0]))
			settle = append(settle, func() { s.settleCall(ctx, c[0], cmd) })
		case c[0].share.verb == "record":
			cmd := queue(s.records(ctx, "evalsha", s.scripts["records"].sha, c))
			settle = append(settle, func() { s.settleRecords(ctx, c, cmd) })
		default:
			get := queue(redis.NewCmd(ctx, "get", c[0].keys[0]))
			hget := queue(redis.NewCmd(ctx, "hget", c[0].keys[3], "plain"))
			settle = append(settle, func() { c[0].readPlainly(get, hget) })
		}
	}
	_, _ = pipe.Exec(ctx) // each command keeps its own error
	for _, f := range settle {
		f()
	}
}

// gather puts the quick records of one policy together; one that finds no other goes the ordinary way.
func gather(calls []*call) (groups [][]*call) {
	if len(calls) == 1 {
		return [][]*call{calls}
	}
	at := map[*packedPolicy]int{}
	for _, c := range calls {
		if c.quick && c.share.verb == "record" {
			if i, ok := at[c.share.policy]; ok {
				groups[i] = append(groups[i], c)
				continue
			}
			at[c.share.policy] = len(groups)
		}
		groups = append(groups, []*call{c})
	}
	for _, i := range at {
		if len(groups[i]) == 1 {
			groups[i][0].quick = false
		}
	}
	return groups
}

// records makes one command of several records of one policy: see lua/records.lua.
func (s *Store) records(ctx context.Context, name, what string, calls []*call) *redis.Cmd {
	args := make([]any, 0, 5+5*len(calls))
	args = append(args, name, what, 3*len(calls))
	for _, c := range calls {
		args = append(args, c.keys[0], c.keys[2], c.keys[3])
	}
	args = append(args, s.nowMs(), calls[0].share.policy.rule)
	for _, c := range calls {
		args = append(args, c.share.epoch, c.args[successesArg])
	}
	cmd := redis.NewCmd(ctx, args...)
	cmd.SetFirstKeyPos(3)
	return cmd
}

// settleRecords tells each of several records whether it is counted. Those that are not have no answer yet; an error is one of all.
func (s *Store) settleRecords(ctx context.Context, calls []*call, cmd *redis.Cmd) {
	if redis.HasErrorPrefix(cmd.Err(), "NOSCRIPT") {
		cmd = s.records(ctx, "eval", s.scripts["records"].text, calls)
		_ = s.client.Process(ctx, once{cmd})
	}
	counted, err := cmd.Int64Slice()
	if err == nil && len(counted) != len(calls)+1 {
		err = fmt.Errorf("%d records are answered by %d numbers", len(calls), len(counted))
	}
	for i, c := range calls {
		switch {
		case err != nil:
			c.err = err
		case counted[i+1] == 1:
			c.reply = []any{string(machine.CodeOK), string(breaker.Closed), c.share.epoch, counted[0]}
		default:
			c.guess.Store(false)
		}
	}
}

func (s *Store) settleCall(ctx context.Context, c *call, cmd *redis.Cmd) {
	c.reply, c.err = cmd.Result()
	if c.err != nil && redis.HasErrorPrefix(c.err, "NOSCRIPT") {
		cmd := command(ctx, "eval", c.script.text, c)
		_ = s.client.Process(ctx, once{cmd})
		c.reply, c.err = cmd.Result()
	}
	if c.guess != nil {
		list, _ := c.reply.([]any)
		c.guess.Store(len(list) == c.short)
	}
}

func command(ctx context.Context, name, what string, c *call) *redis.Cmd {
	args := make([]any, 0, 3+len(c.keys)+len(c.args))
	args = append(args, name, what, len(c.keys))
	for _, k := range c.keys {
		args = append(args, k)
	}
	args = append(args, c.args...)
	cmd := redis.NewCmd(ctx, args...)
	cmd.SetFirstKeyPos(3)
	return cmd
}
