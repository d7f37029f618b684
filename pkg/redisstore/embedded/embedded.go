// Package embedded is a Redis in this process, for one process and nothing that must last: a first try, a
// demonstration, a test. It is miniredis, which only a program that imports this package links.
//
//	f, err := fleet.Join(ctx, "embedded://", fleet.Options{Embedded: embedded.Start})
//
// By hand it is the same field of redisstore.Options:
//
//	conn, err := redisstore.Open(ctx, "embedded://", redisstore.Options{Embedded: embedded.Start})
package embedded

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/breakerd/breakerd/pkg/redisstore"
)

// server is a miniredis. Its clients reach it over in-memory pipes: whoever can send bytes to a miniredis listener can
// crash it.
type server struct {
	mini   *miniredis.Miniredis
	listen string

	mu     sync.RWMutex
	closed bool // a Dial after Close would start miniredis again
}

// Start starts a server whose keys expire by the clock. listen is the loopback host:port at which it also takes
// connections, for redis-cli, or "" for none. It is what [redisstore.Options] takes as Embedded.
func Start(listen string) (redisstore.Engine, error) {
	s := &server{mini: miniredis.NewMiniRedis()}
	s.mini.ClockTTL(true)
	if listen != "" {
		if err := s.mini.StartAddr(listen); err != nil {
			return nil, fmt.Errorf("embedded redis: %w", err)
		}
		s.listen = s.mini.Addr()
	}
	return s, nil
}

// Dial implements redisstore.Engine.
func (s *server) Dial(context.Context, string, string) (net.Conn, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, fmt.Errorf("embedded redis: %w", net.ErrClosed)
	}
	conn, err := s.mini.Dial()
	if err != nil {
		return nil, fmt.Errorf("embedded redis: %w", err)
	}
	return newPipeConn(conn), nil
}

// Addr implements redisstore.Engine.
func (s *server) Addr() string { return s.listen }

// Close implements redisstore.Engine.
func (s *server) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.mini.Close()
}

// pipeConn is one end of a net.Pipe whose Write never waits for the other end.
//
// A pipe has no buffer. miniredis writes each reply before it reads the next command, and go-redis writes a whole
// pipeline before it reads the first reply: from about 4 KiB on, each would wait for the other.
type pipeConn struct {
	net.Conn

	wake   chan struct{} // capacity 1: there is something to write
	closed chan struct{}
	once   sync.Once

	mu      sync.Mutex
	pending []byte
	err     error
}

// newPipeConn starts the goroutine that writes. Close ends it.
func newPipeConn(conn net.Conn) *pipeConn {
	c := &pipeConn{Conn: conn, wake: make(chan struct{}, 1), closed: make(chan struct{})}
	go c.pump()
	return c
}

// Write queues b and returns at once, with the error of an earlier write.
func (c *pipeConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, c.err
	}
	c.pending = append(c.pending, b...)
	select {
	case c.wake <- struct{}{}:
	default:
	}
	return len(b), nil
}

func (c *pipeConn) pump() {
	for {
		select {
		case <-c.closed:
			return
		case <-c.wake:
		}
		c.mu.Lock()
		b := c.pending
		c.pending = nil
		c.mu.Unlock()
		if _, err := c.Conn.Write(b); err != nil {
			c.mu.Lock()
			c.err = err
			c.mu.Unlock()
			return
		}
	}
}

func (c *pipeConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close() // a Write under way returns io.ErrClosedPipe
}

// SetDeadline sets the deadline of reads. Writes do not wait.
func (c *pipeConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetWriteDeadline does nothing. Writes do not wait.
func (c *pipeConn) SetWriteDeadline(time.Time) error { return nil }
