package redisstore

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// embeddedRedis is a miniredis in this process. It is reached over in-memory
// pipes: anyone who can send bytes to a miniredis listener can crash it.
type embeddedRedis struct {
	mini *miniredis.Miniredis

	mu     sync.RWMutex
	closed bool // a Dial after Close would start miniredis again
}

// startEmbedded starts a miniredis whose TTLs follow the clock. listen is a
// loopback host:port for redis-cli, or empty for no listener.
func startEmbedded(listen string) (*embeddedRedis, error) {
	mini := miniredis.NewMiniRedis()
	mini.ClockTTL(true)
	if listen != "" {
		if err := mini.StartAddr(listen); err != nil {
			return nil, fmt.Errorf("embedded redis: %w", err)
		}
	}
	return &embeddedRedis{mini: mini}, nil
}

// dial has the shape of go-redis's Dialer.
func (e *embeddedRedis) dial(context.Context, string, string) (net.Conn, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.closed {
		return nil, fmt.Errorf("embedded redis: %w", net.ErrClosed)
	}
	conn, err := e.mini.Dial()
	if err != nil {
		return nil, fmt.Errorf("embedded redis: %w", err)
	}
	return newPipeConn(conn), nil
}

// close ends the server and its connections.
func (e *embeddedRedis) close() {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.mini.Close()
}

// pipeConn is a net.Pipe end whose Write never waits for the other side.
//
// A pipe has no buffer, and miniredis writes each reply before it reads the
// next commands, while go-redis writes a whole pipeline before it reads the
// first reply: from about 4 KiB on, each would wait for the other.
type pipeConn struct {
	net.Conn

	wake   chan struct{} // capacity 1: there is something to write
	closed chan struct{}
	once   sync.Once

	mu      sync.Mutex
	pending []byte
	err     error
}

// newPipeConn starts the goroutine that writes; it ends with Close.
func newPipeConn(conn net.Conn) *pipeConn {
	c := &pipeConn{Conn: conn, wake: make(chan struct{}, 1), closed: make(chan struct{})}
	go c.pump()
	return c
}

// Write takes b over and returns at once, with the error of an earlier write.
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

// SetDeadline sets the deadline of reads: writes do not wait.
func (c *pipeConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetWriteDeadline does nothing: writes do not wait.
func (c *pipeConn) SetWriteDeadline(time.Time) error { return nil }
