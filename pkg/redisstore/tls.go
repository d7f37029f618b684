package redisstore

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/breakerd/breakerd/internal/tlsfile"
)

// tlsFiles are the TLS parameters of a URL. Empty ca means the system's roots, empty cert and key no client
// certificate, empty serverName the dialled host.
type tlsFiles struct{ ca, cert, key, serverName string }

func (f *tlsFiles) params() []param {
	return []param{{"ca_file", &f.ca}, {"cert_file", &f.cert}, {"key_file", &f.key}, {"server_name", &f.serverName}}
}

// tlsDialer dials TLS. It reads the files at every dial, so that the next connection uses a renewed certificate: dials
// are rare, and the files are small. It is safe for concurrent use.
type tlsDialer struct {
	files   *tlsFiles
	source  *tlsfile.Source
	timeout time.Duration // of connecting and the handshake together
}

// newTLSDialer reads the files once, so that a wrong path fails at start.
func newTLSDialer(files *tlsFiles, timeout time.Duration, log *slog.Logger) (*tlsDialer, error) {
	if (files.cert == "") != (files.key == "") {
		return nil, errors.New("cert_file and key_file go together: one of them is missing")
	}
	source, err := tlsfile.New(tlsfile.Files{
		CA:   tlsfile.File{Name: "ca_file", Path: files.ca},
		Cert: tlsfile.File{Name: "cert_file", Path: files.cert},
		Key:  tlsfile.File{Name: "key_file", Path: files.key},
	}, 0, "Redis", log)
	return &tlsDialer{files: files, source: source, timeout: timeout}, err
}

func (d *tlsDialer) current() *tls.Config {
	now := d.source.Current()
	return &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: d.files.serverName, RootCAs: now.CAs, Certificates: now.Certificates,
	}
}

// dial has the shape of go-redis's Dialer. It verifies the name of the host it dials, which behind Sentinel and in a
// Cluster differs from node to node.
func (d *tlsDialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	conn, err := (&tls.Dialer{Config: d.current()}).DialContext(ctx, network, addr)
	if connect, ok := errors.AsType[*net.OpError](err); ok && connect.Op == "dial" {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("TLS with %s: %w", addr, d.explain(err))
	}
	return &tlsConn{Conn: conn.(*tls.Conn), dialer: d, addr: addr}, nil //nolint:forcetypeassert,errcheck // it is
}

// explain says which setting a failed handshake depends on.
func (d *tlsDialer) explain(err error) error {
	var (
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		invalid   x509.CertificateInvalidError
		noTLS     tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &authority) && d.files.ca != "":
		return fmt.Errorf("its certificate is not signed by the CA in ca_file %s: %w", d.files.ca, err)
	case errors.As(err, &authority):
		return fmt.Errorf("its certificate is not signed by a CA this system trusts (ca_file can name another): %w", err)
	case errors.As(err, &name):
		return fmt.Errorf("its certificate is for another name (server_name can set the expected one): %w", err)
	case errors.As(err, &invalid):
		return fmt.Errorf("its certificate is not valid: %w", err)
	case errors.As(err, &noTLS):
		return fmt.Errorf("it does not speak TLS on this port (without TLS the scheme is redis or redis+cluster): %w", err)
	case errors.Is(err, context.DeadlineExceeded): // a plain Redis waits for the end of a line
		return fmt.Errorf("no answer to the handshake; is this a port without TLS (redis:// or redis+cluster://)?: %w", err)
	}
	_, refused := d.explainRefusal(err)
	return refused
}

// explainRefusal says of a server that hung up that it may want a client certificate, or another one. ok is whether it
// hung up.
func (d *tlsDialer) explainRefusal(err error) (ok bool, refused error) {
	var op *net.OpError
	alert := errors.As(err, &op) && op.Op == "remote error" // how crypto/tls marks the peer's alerts
	hungUp := errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
	switch {
	case !alert && !hungUp:
		return false, err
	case d.files.cert == "":
		return true, fmt.Errorf("the server may demand a client certificate (cert_file, key_file): %w", err)
	default:
		return true, fmt.Errorf("the server may not accept the client certificate in cert_file %s: %w", d.files.cert, err)
	}
}

// tlsConn explains an end of the connection before the first byte: in TLS 1.3 the server refuses a client's certificate
// only after the handshake. Nothing but go-redis's own greeting can have been sent by then: the error is a dialError.
// tlsConn embeds *tls.Conn, so that go-redis sees its other methods.
type tlsConn struct {
	*tls.Conn

	dialer *tlsDialer
	addr   string
	heard  atomic.Bool
}

func (c *tlsConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.heard.Store(true)
	}
	return n, c.explain(err)
}

func (c *tlsConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	return n, c.explain(err)
}

func (c *tlsConn) explain(err error) error {
	if err == nil || c.heard.Load() {
		return err
	}
	if ok, refused := c.dialer.explainRefusal(err); ok {
		return &dialError{Addr: c.addr, Err: fmt.Errorf("TLS: %w", refused)}
	}
	return err
}
