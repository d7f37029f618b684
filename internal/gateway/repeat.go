package gateway

import (
	"bytes"
	"io"
	"net/http"
)

// maxRepeated bounds the body of a request that may be sent once more, in bytes.
const maxRepeated = 64 << 10

// repeatable holds the body of a request that may be sent twice, if it is small: an agent may close a kept connection
// just when the request comes, and then it is sent again on another one.
func repeatable(out *http.Request) {
	if !mayRepeat(out) || out.ContentLength <= 0 || out.ContentLength > maxRepeated || out.Header.Get("Expect") != "" {
		return
	}
	sent := out.Body
	text, err := io.ReadAll(sent)
	if err != nil {
		out.Body = broken{sent, err}
		return
	}
	out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil }
	out.Body, _ = out.GetBody()
}

// mayRepeat reports whether a request has the same effect twice as once (RFC 9110, 9.2.2), or its agent knows it again.
func mayRepeat(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodPut, http.MethodDelete, http.MethodTrace:
		return true
	}
	return r.Header.Get("Idempotency-Key") != "" || r.Header.Get("X-Idempotency-Key") != ""
}

// broken is a body that its caller has failed to send.
type broken struct {
	io.Closer

	err error
}

// Read implements [io.Reader].
func (b broken) Read([]byte) (int, error) { return 0, b.err }
