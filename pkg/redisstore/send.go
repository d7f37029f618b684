package redisstore

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// send runs calls in one round trip. A script that the server does not know is sent once more with its text, alone: NOSCRIPT
// says that it has not run.
func (s *Store) send(ctx context.Context, calls []*call) {
	if len(calls) == 1 {
		cmd := command(ctx, "evalsha", calls[0].script.sha, calls[0])
		_ = s.client.Process(ctx, once{cmd}) // the command keeps its error
		s.settleCall(ctx, calls[0], cmd)
		return
	}
	cmds := make([]*redis.Cmd, len(calls))
	pipe := s.client.Pipeline()
	for i, c := range calls {
		cmds[i] = command(ctx, "evalsha", c.script.sha, c)
		_ = pipe.Process(ctx, once{cmds[i]}) // only queues
	}
	_, _ = pipe.Exec(ctx) // each command keeps its own error
	for i, c := range calls {
		s.settleCall(ctx, c, cmds[i])
	}
}

func (s *Store) settleCall(ctx context.Context, c *call, cmd *redis.Cmd) {
	c.reply, c.err = cmd.Result()
	if c.err != nil && redis.HasErrorPrefix(c.err, "NOSCRIPT") {
		cmd := command(ctx, "eval", c.script.text, c)
		_ = s.client.Process(ctx, once{cmd})
		c.reply, c.err = cmd.Result()
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
