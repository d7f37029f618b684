package redisstore

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// send runs calls in one round trip. What takes a second one is an acquire whose breaker is no longer plainly closed: its script
// follows the two reads. A script that the server does not know is sent once more with its text, alone: NOSCRIPT says that it
// has not run.
func (s *Store) send(ctx context.Context, calls []*call) {
	var scripts []*call
	read := false
	for _, c := range calls {
		c.read = c.guess != nil && c.guess.Load()
		read = read || c.read
	}
	s.trip(ctx, calls)
	if !read {
		return
	}
	for _, c := range calls {
		if c.read && c.reply == nil && c.err == nil {
			c.read = false
			scripts = append(scripts, c)
		}
	}
	if len(scripts) > 0 {
		s.trip(ctx, scripts)
	}
}

// trip sends what calls have to say at once, and settles all but those whose reads did not say enough.
func (s *Store) trip(ctx context.Context, calls []*call) {
	if len(calls) == 1 && !calls[0].read {
		cmd := command(ctx, "evalsha", calls[0].script.sha, calls[0])
		_ = s.client.Process(ctx, once{cmd}) // the command keeps its error
		s.settleCall(ctx, calls[0], cmd)
		return
	}
	cmds := make([]*redis.Cmd, 0, 2*len(calls))
	pipe := s.client.Pipeline()
	queue := func(cmd *redis.Cmd) {
		cmds = append(cmds, cmd)
		_ = pipe.Process(ctx, once{cmd}) // only queues
	}
	for _, c := range calls {
		if c.read {
			queue(redis.NewCmd(ctx, "get", c.keys[0]))
			queue(redis.NewCmd(ctx, "hget", c.keys[3], "plain"))
		} else {
			queue(command(ctx, "evalsha", c.script.sha, c))
		}
	}
	_, _ = pipe.Exec(ctx) // each command keeps its own error
	for _, c := range calls {
		if c.read {
			c.readPlainly(cmds[0], cmds[1])
			cmds = cmds[2:]
		} else {
			s.settleCall(ctx, c, cmds[0])
			cmds = cmds[1:]
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
		c.guess.Store(len(list) == plainReply)
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
