package redisstore

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// tlsFiles are the TLS parameters of a URL. Empty ca means the system's roots,
// empty cert and key no client certificate, empty serverName the dialled host.
type tlsFiles struct {
	ca, cert, key string
	serverName    string
}

// tlsDialer dials TLS. It reads the files at every dial, so that a renewed
// certificate is used from the next connection on: dials are rare and the
// files small, while a modification time can stay the same over a change.
// It is safe for concurrent use.
type tlsDialer struct {
	files   tlsFiles
	timeout time.Duration // of connecting and the handshake together
	log     *slog.Logger

	mu     sync.Mutex
	good   tlsMaterial // the last that could be used
	logged string      // the last failure to read, logged once
}

// tlsMaterial is what the files held.
type tlsMaterial struct {
	ca, cert, key []byte // as read, to notice a change
	roots         *x509.CertPool
	pair          []tls.Certificate
}

// newTLSDialer reads the files once, so that a wrong path fails at start.
func newTLSDialer(files tlsFiles, timeout time.Duration, log *slog.Logger) (*tlsDialer, error) {
	if (files.cert == "") != (files.key == "") {
		return nil, errors.New("cert_file and key_file go together: one of them is missing")
	}
	material, err := files.load()
	if err != nil {
		return nil, err
	}
	return &tlsDialer{files: files, timeout: timeout, log: log, good: material}, nil
}

// load reads and parses the files.
func (f tlsFiles) load() (tlsMaterial, error) {
	m, err := f.read()
	if err != nil {
		return m, err
	}
	if f.ca != "" {
		m.roots = x509.NewCertPool()
		if !m.roots.AppendCertsFromPEM(m.ca) {
			return m, fmt.Errorf("ca_file %s holds no PEM certificate", f.ca)
		}
	}
	if f.cert != "" {
		pair, err := tls.X509KeyPair(m.cert, m.key)
		if err != nil {
			return m, fmt.Errorf("cert_file %s and key_file %s: %w", f.cert, f.key, err)
		}
		m.pair = []tls.Certificate{pair}
	}
	return m, nil
}

func (f tlsFiles) read() (m tlsMaterial, err error) {
	for _, file := range []struct {
		param, path string
		to          *[]byte
	}{{"ca_file", f.ca, &m.ca}, {"cert_file", f.cert, &m.cert}, {"key_file", f.key, &m.key}} {
		if file.path == "" {
			continue
		}
		if *file.to, err = os.ReadFile(file.path); err != nil {
			return m, fmt.Errorf("%s: %w", file.param, err)
		}
	}
	return m, nil
}

// current is what the files hold now. While they cannot be used, half of a
// renewal written for instance, the last good ones stay.
func (d *tlsDialer) current() tlsMaterial {
	fresh, err := d.files.load()
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case err != nil && err.Error() != d.logged:
		d.logged = err.Error()
		d.log.Warn("TLS files of Redis cannot be used; the last good ones stay", "error", err)
	case err == nil:
		d.logged = ""
		if !d.good.equal(fresh) {
			d.log.Info("TLS files of Redis have changed; new connections use them",
				"ca_file", d.files.ca, "cert_file", d.files.cert)
		}
		d.good = fresh
	}
	return d.good
}

func (m tlsMaterial) equal(o tlsMaterial) bool {
	return bytes.Equal(m.ca, o.ca) && bytes.Equal(m.cert, o.cert) && bytes.Equal(m.key, o.key)
}

// dial has the shape of go-redis's Dialer. It verifies the name of the host it
// dials, which behind Sentinel and in a cluster differs from node to node.
func (d *tlsDialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	raw, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	name := d.files.serverName
	if name == "" {
		if name, _, err = net.SplitHostPort(addr); err != nil {
			_ = raw.Close()
			return nil, err
		}
	}
	material := d.current()
	conn := tls.Client(raw, &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: name,
		RootCAs: material.roots, Certificates: material.pair,
	})
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, fmt.Errorf("TLS with %s: %w", addr, d.explain(err))
	}
	return &tlsConn{Conn: conn, dialer: d, addr: addr}, nil
}

// explain says of a failed handshake which setting it hangs on.
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
		return fmt.Errorf("no answer to the handshake; is this a port without TLS (scheme redis or redis+cluster)?: %w", err)
	}
	_, told := d.explainRefusal(err)
	return told
}

// explainRefusal says of a server that hung up that it may want a client
// certificate, or another one; ok tells whether the server did hang up.
func (d *tlsDialer) explainRefusal(err error) (ok bool, told error) {
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

// tlsConn explains an end of the connection before the first byte: in TLS 1.3
// the server refuses a client's certificate only after the handshake. Nothing
// but go-redis's own greeting can have been sent by then: a DialError.
// It embeds *tls.Conn, so that go-redis sees its other methods.
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
	if ok, told := c.dialer.explainRefusal(err); ok {
		return &DialError{Addr: c.addr, Err: fmt.Errorf("TLS: %w", told)}
	}
	return err
}
