package gateway

import (
	"context"
	"net/http"
	"sync"
)

// caller is the one who asked, as a writer: when it cannot be written to it has gone, and the call counts as cancelled.
type caller struct {
	http.ResponseWriter
	gone context.CancelFunc
}

func (c *caller) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b)
	if err != nil {
		c.gone()
	}
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (c *caller) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// buffers are what bodies are copied through. The zero value is ready.
type buffers struct{ pool sync.Pool }

const bufferSize = 32 << 10

// Get implements httputil.BufferPool.
func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return *p
	}
	return make([]byte, bufferSize)
}

// Put implements httputil.BufferPool.
func (b *buffers) Put(p []byte) { b.pool.Put(&p) }
