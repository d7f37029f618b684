package daemon

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"time"

	"github.com/breakerd/breakerd/internal/framing"
	"github.com/breakerd/breakerd/internal/tlsfile"
)

// rereadTLS is how old what the TLS files held may be at a handshake.
const rereadTLS = time.Second

// Certificate is what the listeners of a program show. The zero Certificate is of listeners without TLS.
type Certificate struct{ source *tlsfile.Source }

// openTLS reads the TLS files, if there are any.
func openTLS(files tlsfile.Files, log *slog.Logger) (Certificate, error) {
	if files.Cert.Path == "" {
		return Certificate{}, nil
	}
	source, err := tlsfile.New(files, rereadTLS, "the listeners", log)
	return Certificate{source}, err
}

// Status is until when the certificate is valid, and why its files cannot be used now, if so; ok is false without TLS.
// The files are read for it.
func (c Certificate) Status() (notAfter time.Time, ok bool, problem error) {
	if c.source == nil {
		return time.Time{}, false, nil
	}
	return c.source.Current().Certificates[0].Leaf.NotAfter, true, c.source.Problem()
}

// Held are the listeners' certificate, nil without TLS, and those of the authorities of clients.
func (c Certificate) Held() (own *x509.Certificate, authorities []*x509.Certificate) {
	return c.source.Held()
}

// config is what a listener speaks TLS by; nil: it does not. A client's certificate is verified if it sends one: what
// needs one is decided by request. HTTP/2 is offered where it is served.
func (c Certificate) config(http2 bool) *tls.Config {
	if c.source == nil {
		return nil
	}
	protocols := []string{"http/1.1"}
	if http2 {
		protocols = []string{"h2", "http/1.1"}
	}
	clients := tls.NoClientCert
	if c.source.Current().CAs != nil {
		clients = tls.VerifyClientCertIfGiven
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			now := c.source.Current()
			return &tls.Config{
				MinVersion: tls.VersionTLS12, NextProtos: protocols, Certificates: now.Certificates,
				ClientCAs: now.CAs, ClientAuth: clients,
			}, nil
		},
	}
}

// secured is the state of TLS on a connection, which net/http does not know. A client's certificate that has expired
// since the handshake does not count any more.
func secured(c net.Conn) *tls.ConnectionState {
	state := framing.TLS(c)
	if state == nil || len(state.PeerCertificates) == 0 || time.Now().Before(state.PeerCertificates[0].NotAfter) {
		return state
	}
	without := *state
	without.PeerCertificates, without.VerifiedChains = nil, nil
	return &without
}
