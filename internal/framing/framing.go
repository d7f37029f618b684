// Package framing watches where the requests of HTTP/1 begin and end on a server's connections. It refuses one whose
// length is ambiguous, which net/http hides from handlers, and closes a connection in the middle of a request so that
// the client can still read the answer. TLS is spoken here, below the framing: net/http takes such a connection for one
// without TLS.
package framing

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"time"
)

// The bounds of a lingering close: a client that sends its whole request before it reads finds the answer if the rest
// fits into them.
const (
	lingerBytes = 64 << 20
	lingerIdle  = time.Second // without a byte from the client
	lingerTotal = 10 * time.Second

	lingerBuffer = 16 << 10
)

// Listener wraps the TCP connections that it accepts. Other connections are left unchanged.
type Listener struct {
	net.Listener

	TLS         *tls.Config           // nil: connections without TLS
	Closed      func(net.Conn)        // is told of a TCP connection that has been closed; nil: nobody is
	NotSpeaking func(net.Conn, error) // is told once of a connection whose TLS handshake failed; nil: nobody is

	hurried atomic.Bool
}

// NewListener returns a Listener over l.
func NewListener(l net.Listener) *Listener { return &Listener{Listener: l} }

// Accept implements [net.Listener].
func (l *Listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	tcp, ok := c.(*net.TCPConn)
	switch {
	case !ok:
		return c, nil
	case l.TLS == nil:
		return &conn{stream: tcp, tcp: tcp, listener: l}, nil
	}
	secure := tls.Server(tcp, l.TLS) // the first read shakes hands, within the time-out of a header
	return &conn{stream: secure, tcp: tcp, secure: secure, listener: l}, nil
}

// Hurry ends lingering closes, now and from now on. Call it before [http.Server.Close], which closes one connection
// after the other.
func (l *Listener) Hurry() { l.hurried.Store(true) }

// ConnState is for [http.Server.ConnState]: a connection that a handler has taken over carries no more requests.
func ConnState(c net.Conn, s http.ConnState) {
	if c, ok := c.(*conn); ok && s == http.StateHijacked {
		c.tunnel.Store(true)
	}
}

// Inside reports whether a request has begun on a connection of a Listener and has not been read to its end. It knows
// nothing of HTTP/2.
func Inside(c net.Conn) bool {
	watched, ok := c.(*conn)
	return ok && watched.inside.Load()
}

// TLS is the state of TLS on a connection of a Listener once a request has been read from it; nil: it has no TLS.
func TLS(c net.Conn) *tls.ConnectionState {
	watched, ok := c.(*conn)
	if !ok || watched.secure == nil {
		return nil
	}
	return watched.state.Load()
}

// stream is a [net.TCPConn], or a [tls.Conn] on one.
type stream interface {
	net.Conn
	CloseWrite() error
}

// conn is one connection of a server. It has no method ConnectionState: net/http would call it before the handshake.
type conn struct {
	stream

	tcp      *net.TCPConn
	secure   *tls.Conn // nil: no TLS
	listener *Listener
	scanner  scanner // of whoever reads
	refusal  []byte  // to be read in place of what the client sends

	state  atomic.Pointer[tls.ConnectionState] // nil: no handshake yet
	failed atomic.Bool                         // the handshake

	tunnel  atomic.Bool // what passes is no HTTP
	inside  atomic.Bool // a request has begun and not ended
	closing atomic.Bool
}

// badLine is no line of a header: net/http answers it with 400 and closes the connection.
const badLine = "x\n\n"

// Read implements [io.Reader]. In place of the end of an ambiguous header it returns badLine, and then the end.
func (c *conn) Read(p []byte) (int, error) {
	if c.scanner.state == ambiguous {
		if len(c.refusal) == 0 {
			return 0, io.EOF
		}
		n := copy(p, c.refusal)
		c.refusal = c.refusal[n:]
		return n, nil
	}
	n, err := c.stream.Read(p)
	c.shaken(err)
	if n == 0 || c.tunnel.Load() {
		return n, err
	}
	before := c.scanner.read(p[:n])
	c.inside.Store(c.scanner.inside())
	switch c.scanner.state {
	case other:
		c.tunnel.Store(true)
	case ambiguous:
		c.refusal = []byte(badLine)
		if before == 0 {
			return c.Read(p)
		}
		return before, nil
	default:
	}
	return n, err
}

// shaken keeps what the handshake came to, of which the first read has the result.
func (c *conn) shaken(err error) {
	if c.secure == nil || c.state.Load() != nil {
		return
	}
	if state := c.secure.ConnectionState(); state.HandshakeComplete {
		c.state.Store(&state)
		return
	}
	if err == nil || errors.Is(err, io.EOF) || c.failed.Swap(true) {
		return
	}
	if plain, ok := errors.AsType[tls.RecordHeaderError](err); ok && looksLikeHTTP(plain.RecordHeader) {
		_, _ = io.WriteString(c.tcp, "HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\n\r\n"+
			"This listener speaks TLS only: the URL begins with https://.\n")
	}
	if c.listener.NotSpeaking != nil {
		c.listener.NotSpeaking(c, err)
	}
}

// looksLikeHTTP is of the first bytes of a connection.
func looksLikeHTTP(first [5]byte) bool {
	methods := []string{"GET /", "HEAD ", "POST ", "PUT /", "PATCH", "DELET", "OPTIO", "PRI *"}
	return slices.Contains(methods, string(first[:]))
}

// CloseWrite ends what the client reads, and leaves open what it sends.
func (c *conn) CloseWrite() error {
	err := c.stream.CloseWrite()
	if c.secure != nil {
		err = errors.Join(err, c.tcp.CloseWrite())
	}
	return err
}

// Close implements [io.Closer]. In the middle of a request it sends the end of the answer, and then reads on for a
// while: if bytes of the client meet a closed socket, its system drops the answer that it has not read yet (RFC 9112,
// 9.6).
func (c *conn) Close() error {
	if !c.closing.Swap(true) && c.inside.Load() && !c.tunnel.Load() && !c.listener.hurried.Load() {
		c.linger()
	}
	err := c.stream.Close()
	if c.listener.Closed != nil {
		c.listener.Closed(c)
	}
	return err
}

func (c *conn) linger() {
	if c.CloseWrite() != nil {
		return // the client has closed it
	}
	linger(c.tcp, c.tcp.SetReadDeadline, c.listener.hurried.Load) // nobody decrypts what is dropped
}

// Linger reads and drops what a client sends of its request after the answer, within the bounds of a lingering close.
// It is for a stream of HTTP/2, which net/http resets as soon as the handler has returned.
func Linger(r io.Reader, setReadDeadline func(time.Time) error) {
	linger(r, setReadDeadline, func() bool { return false })
}

func linger(r io.Reader, setReadDeadline func(time.Time) error, hurried func() bool) {
	buf := make([]byte, lingerBuffer)
	end := time.Now().Add(lingerTotal)
	for left := lingerBytes; left > 0 && !hurried(); {
		idle := time.Now().Add(lingerIdle)
		if idle.After(end) {
			idle = end
		}
		if setReadDeadline(idle) != nil {
			return
		}
		n, err := r.Read(buf)
		if err != nil {
			return
		}
		left -= n
	}
}
