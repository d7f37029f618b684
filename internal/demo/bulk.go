package demo

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
)

const (
	chunk    = 32 << 10 // bytes held of a body on its way
	maxBytes = 1 << 40  // that one GET may ask for
)

// bodyBytes is the trailer that counts what /echo sent.
const bodyBytes = "X-Body-Bytes"

// isEcho says whether the body is to be sent back as it comes.
func (c *call) isEcho() bool {
	return c.path == "/echo" && (c.r.Method == http.MethodPost || c.r.Method == http.MethodPut)
}

// echo sends each part of the body back before it reads the next, then the count and the request's own trailers.
func (c *call) echo() {
	control := http.NewResponseController(c.w)
	_ = control.EnableFullDuplex() // HTTP/1.1 would else swallow what is unread when the answer begins; HTTP/2 never does
	h := c.w.Header()
	h.Set("Content-Type", "application/octet-stream")
	if t := c.r.Header.Get("Content-Type"); t != "" {
		h.Set("Content-Type", t)
	}
	h.Set("Trailer", bodyBytes)
	var sent int64
	part := make([]byte, chunk)
	for {
		n, err := c.r.Body.Read(part)
		if n > 0 {
			if _, err := c.w.Write(part[:n]); err != nil || control.Flush() != nil {
				abort()
			}
			sent += int64(n)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			abort() // an answer that ends well would look whole
		}
	}
	for name, values := range c.r.Trailer {
		h[http.TrailerPrefix+name] = values
	}
	h.Set(bodyBytes, strconv.FormatInt(sent, 10))
}

// isBytes says whether the call is GET /bytes/{n}, and gives n.
func (c *call) isBytes() (n string, ok bool) {
	n, ok = strings.CutPrefix(c.path, "/bytes/")
	return n, ok && (c.r.Method == http.MethodGet || c.r.Method == http.MethodHead)
}

// bytes sends that many bytes, as fast as the client takes them.
func (c *call) bytes(text string) {
	left, err := strconv.ParseUint(text, 10, 63)
	if err != nil || left > maxBytes {
		newProblem(codeInvalidValue, "path.n: want a whole number from 0 to %d", int64(maxBytes)).write(c.w)
		return
	}
	c.w.Header().Set("Content-Type", "application/octet-stream")
	c.w.Header().Set("Content-Length", strconv.FormatUint(left, 10))
	c.w.WriteHeader(http.StatusOK)
	if c.r.Method == http.MethodHead {
		return
	}
	part := []byte(strings.Repeat("breakerd", chunk/len("breakerd")))
	for left > 0 {
		n := min(left, chunk)
		if _, err := c.w.Write(part[:n]); err != nil {
			abort()
		}
		left -= n
	}
}
