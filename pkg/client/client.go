package client

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/breakerd/breakerd/internal/tlsfile"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// defaultTimeout is that of Options.Timeout.
const defaultTimeout = 10 * time.Second

// Options says whom a client calls, and as whom. Servers is required.
type Options struct {
	// Servers are the addresses of replicas, such as http://127.0.0.1:18180. One is called until it fails, then the next.
	// A path is what a proxy has before the API's own.
	Servers []string
	// Token is sent with each request. "": none, or that of TokenFile.
	Token Token
	// TokenFile holds the token, alone in one line. It is read again when it changes; while it cannot be read, the last
	// token stays.
	TokenFile string
	// CAFile holds the certificates, PEM, of which one signs each server's. "": those of the system.
	CAFile string
	// CertFile and KeyFile hold this client's certificate and key, PEM. They are read with each handshake.
	CertFile, KeyFile string
	// Actor is who makes a change, for the audit: 1 to 64 of A-Z a-z 0-9 . _ : @ -. "": nobody says.
	Actor string
	// UserAgent is sent with each request. "": breakerd-client.
	UserAgent string
	// Timeout bounds how long one server may take to answer, but for an execution and for a stream, which end with their
	// context. 0: 10 s.
	Timeout time.Duration
	// Logger tells of outcomes that Do could not report, and of streams that broke off. nil: silent.
	Logger *slog.Logger
}

// Token is a bearer token. It never prints as what it is.
type Token string

const hidden = "[hidden]"

// Format implements [fmt.Formatter].
func (Token) Format(s fmt.State, _ rune) { fmt.Fprint(s, hidden) }

// MarshalText implements [encoding.TextMarshaler].
func (Token) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// Client calls breakerd. Its methods may be called concurrently.
type Client struct{ api }

// Bridge calls the API of the bridge. Its methods may be called concurrently.
type Bridge struct{ api }

// New makes a client of breakerd. It asks no server. There is nothing to close.
func New(o Options) (*Client, error) {
	a, err := newAPI(o)
	if err != nil {
		return nil, err
	}
	return &Client{a}, nil
}

// NewBridge makes a client of the bridge, as [New] does of breakerd.
func NewBridge(o Options) (*Bridge, error) {
	a, err := newAPI(o)
	if err != nil {
		return nil, err
	}
	return &Bridge{a}, nil
}

// As is c for changes by another actor. Both share their connections.
func (c *Client) As(actor string) (*Client, error) {
	a, err := c.as(actor)
	return &Client{a}, err
}

// As is b for changes by another actor. Both share their connections.
func (b *Bridge) As(actor string) (*Bridge, error) {
	a, err := b.as(actor)
	return &Bridge{a}, err
}

// CloseIdleConnections closes connections that no request uses. Without it they close after a while.
func (a api) CloseIdleConnections() { a.http.CloseIdleConnections() }

// api is what the clients of both programs have in common.
type api struct {
	*connection // a pointer, so that printing a client prints no token

	actor string
}

// connection is how the servers are reached.
type connection struct {
	servers   []string
	current   atomic.Uint32 // the index of the server that is called first, modulo their number
	http      *http.Client
	token     tokenSource
	userAgent string
	timeout   time.Duration
	log       *slog.Logger
}

func newAPI(o Options) (api, error) {
	c := &connection{
		token: tokenSource{given: string(o.Token), path: o.TokenFile}, timeout: o.Timeout, userAgent: o.UserAgent,
		log: o.Logger,
	}
	if err := c.setServers(o.Servers); err != nil {
		return api{}, err
	}
	if o.Timeout < 0 {
		return api{}, fmt.Errorf("client: Options.Timeout is %v: want more than 0, or 0 for %v", o.Timeout, defaultTimeout)
	}
	if c.timeout == 0 {
		c.timeout = defaultTimeout
	}
	if c.userAgent == "" {
		c.userAgent = "breakerd-client"
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if o.Token != "" && o.TokenFile != "" {
		return api{}, errors.New("client: Options.Token and TokenFile are both set: want one of them")
	}
	if _, err := c.token.read(); err != nil {
		return api{}, err
	}
	secured, err := o.tls(c.log)
	if err != nil {
		return api{}, err
	}
	transport, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return api{}, fmt.Errorf("client: http.DefaultTransport is a %T: want an *http.Transport", http.DefaultTransport)
	}
	transport = transport.Clone()
	transport.TLSClientConfig, transport.MaxIdleConnsPerHost = secured, transport.MaxIdleConns
	// A redirect would take the token elsewhere, and there is none in these APIs.
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.http = &http.Client{Transport: transport, CheckRedirect: stay}
	return api{connection: c}.as(o.Actor)
}

func (c *connection) setServers(servers []string) error {
	if len(servers) == 0 {
		return errors.New("client: Options.Servers is empty: want an address at least, such as http://127.0.0.1:18180")
	}
	for i, server := range servers {
		u, err := url.Parse(server)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" ||
			u.Fragment != "" { // a bad one may hold a password
			return fmt.Errorf("client: Options.Servers[%d] is no address: want http or https, host and port, "+
				"without user, query and fragment, such as http://127.0.0.1:18180", i)
		}
		c.servers = append(c.servers, strings.TrimRight(server, "/"))
	}
	return nil
}

func (a api) as(actor string) (api, error) {
	if actor != "" && !breaker.ValidWord(actor) {
		return api{}, fmt.Errorf("client: actor %q: want 1 to 64 of A-Z a-z 0-9 . _ : @ -", actor)
	}
	a.actor = actor
	return a, nil
}

// tls reads the files once, so that a wrong path is an error now.
func (o Options) tls(log *slog.Logger) (*tls.Config, error) {
	if (o.CertFile == "") != (o.KeyFile == "") {
		return nil, errors.New("client: Options.CertFile and KeyFile go together: one of them is missing")
	}
	files, err := tlsfile.New(tlsfile.Files{
		CA:   tlsfile.File{Name: "Options.CAFile", Path: o.CAFile},
		Cert: tlsfile.File{Name: "Options.CertFile", Path: o.CertFile},
		Key:  tlsfile.File{Name: "Options.KeyFile", Path: o.KeyFile},
	}, 0, "a client of breakerd", log)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: files.Current().CAs}
	if o.CertFile != "" {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &files.Current().Certificates[0], nil
		}
	}
	return c, nil
}
