package redisstore

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// call is one script on its way. done is made only for a call that waits; reply and err are set before it is closed.
type call struct {
	script script
	keys   []string
	args   []any
	reply  any
	err    error
	done   chan struct{}
}

// errNotSent says that a caller gave up before its call left this process.
var errNotSent = errors.New("not sent")

// maxShared bounds how many calls share one round trip: larger pipelines block the server for others without gaining more.
const maxShared = 256

// lanes shares round trips among concurrent callers. While a lane is free a caller goes straight to Redis on its own
// goroutine; when all are taken, callers queue, and the next free lane takes all that wait in one pipeline. Nobody waits for a
// batch to fill. A caller that gives up leaves its neighbours alone: a shared trip has its own deadline.
type lanes struct {
	send    func(ctx context.Context, calls []*call)
	timeout time.Duration

	mu    sync.Mutex
	free  int
	queue []*call
}

func newLanes(n int, send func(ctx context.Context, calls []*call), timeout time.Duration) *lanes {
	return &lanes{send: send, timeout: timeout, free: n}
}

// do carries out c and returns its error. After an error from ctx, c may still be under way and must not be used again.
func (l *lanes) do(ctx context.Context, c *call) error {
	l.mu.Lock()
	if l.free > 0 {
		l.free--
		l.mu.Unlock()
		l.send(ctx, []*call{c})
		l.release()
		return c.err
	}
	c.done = make(chan struct{})
	l.queue = append(l.queue, c)
	l.mu.Unlock()
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		if l.withdraw(c) {
			return errors.Join(errNotSent, ctx.Err())
		}
		return ctx.Err()
	}
}

// withdraw takes a call that nobody has taken yet out of the queue.
func (l *lanes) withdraw(c *call) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, q := range l.queue {
		if q == c {
			l.queue = append(l.queue[:i], l.queue[i+1:]...)
			return true
		}
	}
	return false
}

// release frees a lane, or hands it to those who wait.
func (l *lanes) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 {
		l.free++
		return
	}
	go l.drain()
}

// drain runs a lane until nobody waits.
func (l *lanes) drain() {
	for {
		l.mu.Lock()
		n := min(len(l.queue), maxShared)
		if n == 0 {
			l.free++
			l.mu.Unlock()
			return
		}
		batch := l.queue[:n:n]
		l.queue = append([]*call(nil), l.queue[n:]...)
		l.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), l.timeout)
		l.send(ctx, batch)
		cancel()
		for _, c := range batch {
			close(c.done)
		}
	}
}

// send runs calls in one round trip. A script that the server does not know is sent once more with its text, alone: NOSCRIPT
// says that it has not run.
func (s *Store) send(ctx context.Context, calls []*call) {
	if len(calls) == 1 {
		s.straight(ctx, calls[0])
		return
	}
	cmds := make([]*redis.Cmd, len(calls))
	pipe := s.client.Pipeline()
	for i, c := range calls {
		cmds[i] = command(ctx, "evalsha", c.script.sha, c)
		_ = pipe.Process(ctx, once{cmds[i]}) // only queues; each command keeps its own error
	}
	_, _ = pipe.Exec(ctx)
	for i, c := range calls {
		c.reply, c.err = cmds[i].Result()
		if c.err != nil && redis.HasErrorPrefix(c.err, "NOSCRIPT") {
			s.withText(ctx, c)
		}
	}
}

func (s *Store) straight(ctx context.Context, c *call) {
	cmd := command(ctx, "evalsha", c.script.sha, c)
	_ = s.client.Process(ctx, once{cmd})
	c.reply, c.err = cmd.Result()
	if c.err != nil && redis.HasErrorPrefix(c.err, "NOSCRIPT") {
		s.withText(ctx, c)
	}
}

func (s *Store) withText(ctx context.Context, c *call) {
	cmd := command(ctx, "eval", c.script.text, c)
	_ = s.client.Process(ctx, once{cmd})
	c.reply, c.err = cmd.Result()
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
