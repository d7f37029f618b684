package gateway

import (
	"cmp"
	"context"
	"errors"
	"math/bits"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/breakerd/breakerd/internal/destination"
	"github.com/breakerd/breakerd/internal/registry"
)

// Base is the transport to agents, to allowed destinations only, and with HTTP/2 where a call of gRPC goes to an agent
// without TLS. An agent may say how long its unused connections are kept, and an http.Transport knows one time for all:
// so Base has one for each of few times. It is safe for concurrent use.
type Base struct{ plain, grpc transports }

// transports are alike but for how long they keep connections.
type transports struct {
	mu   sync.Mutex
	like *http.Transport // which the others are copies of
	kept [classes]atomic.Pointer[http.Transport]
}

// The times are shortest × 2^class: DefaultIdleTimeout is one of them, and the last is beyond registry.MaxTimeout.
const (
	shortest = registry.DefaultIdleTimeout >> 10
	classes  = 21
)

// NewBase makes a transport to any destination. It keeps connections, neither compresses nor decompresses, and follows
// HTTP_PROXY, HTTPS_PROXY and NO_PROXY. header bounds the wait for a response's header; 0: no bound.
func NewBase(header time.Duration) *Base {
	d := dialer()
	return newBase(&http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: d.DialContext,
		MaxIdleConnsPerHost: 256, TLSHandshakeTimeout: 5 * time.Second,
		ExpectContinueTimeout: time.Second, ResponseHeaderTimeout: header,
		DisableCompression: true, ForceAttemptHTTP2: true,
	})
}

func newBase(like *http.Transport) *Base {
	grpc := like.Clone()
	grpc.Proxy = nil // none passes HTTP/2 on without TLS
	grpc.Protocols = new(http.Protocols)
	grpc.Protocols.SetUnencryptedHTTP2(true)
	return &Base{plain: transports{like: like}, grpc: transports{like: grpc}}
}

// Bound closes unused connections beyond most, and closes all of them when the process has no file left for another
// one. It returns b. Call it before the first call.
func (b *Base) Bound(most int) *Base {
	for _, all := range []*transports{&b.plain, &b.grpc} {
		dial := all.like.DialContext
		all.like.MaxIdleConns = most
		all.like.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := dial(ctx, network, address)
			if errors.Is(err, syscall.EMFILE) {
				b.CloseIdleConnections()
				c, err = dial(ctx, network, address)
			}
			return c, err
		}
	}
	return b
}

func dialer() net.Dialer { return net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second} }

// NewAgentBase is NewBase to allowed destinations, without a bound for the header.
func NewAgentBase(allowed destination.Allowed) *Base {
	return newAgentBase(allowed, http.ProxyFromEnvironment)
}

func newAgentBase(allowed destination.Allowed, proxy func(*http.Request) (*url.URL, error)) *Base {
	var proxies sync.Map // by address; they are the operator's, and no agents
	like := NewBase(0).plain.like
	like.Proxy = func(r *http.Request) (*url.URL, error) {
		u, err := proxy(r)
		if u == nil || err != nil {
			return nil, err
		}
		if err := allowed.Check(r.URL.Hostname()); err != nil {
			return nil, err
		}
		proxies.Store(proxyAddress(u), nil)
		return u, nil
	}
	like.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if _, ok := proxies.Load(address); ok {
			d := dialer()
			return d.DialContext(ctx, network, address)
		}
		return allowed.Dial(ctx, dialer(), network, address)
	}
	return newBase(like)
}

// proxyAddress is what a transport dials for a proxy.
func proxyAddress(u *url.URL) string {
	port := map[string]string{"https": "443", "socks5": "1080", "socks5h": "1080"}[u.Scheme]
	return net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), port, "80"))
}

// RoundTrip implements [http.RoundTripper]. Connections are kept for registry.DefaultIdleTimeout.
func (b *Base) RoundTrip(r *http.Request) (*http.Response, error) {
	return b.of(r).keeping(registry.DefaultIdleTimeout).RoundTrip(r)
}

// of returns the transports for a call.
func (b *Base) of(r *http.Request) *transports {
	if r.URL.Scheme == "http" && isGRPC(r.Header.Get("Content-Type")) {
		return &b.grpc
	}
	return &b.plain
}

// isGRPC reports whether a media type is that of gRPC, which needs HTTP/2; gRPC-Web does not.
func isGRPC(mediaType string) bool {
	rest, ok := strings.CutPrefix(strings.ToLower(strings.TrimSpace(mediaType)), "application/grpc")
	return ok && (rest == "" || strings.ContainsAny(rest[:1], "+; \t"))
}

// keeper is Base with a time of its own for unused connections.
type keeper struct {
	base *Base
	idle time.Duration
}

// RoundTrip implements [http.RoundTripper].
func (k keeper) RoundTrip(r *http.Request) (*http.Response, error) {
	return k.base.of(r).keeping(k.idle).RoundTrip(r)
}

// keeping returns the transport that keeps unused connections for idle at most, and for more than half of it; 0: for
// registry.DefaultIdleTimeout.
func (b *transports) keeping(idle time.Duration) *http.Transport {
	if idle == 0 {
		idle = registry.DefaultIdleTimeout
	}
	class := min(max(bits.Len64(uint64(max(idle, 0)/shortest))-1, 0), classes-1)
	if t := b.kept[class].Load(); t != nil {
		return t
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.kept[class].Load()
	if t == nil {
		t = b.like.Clone()
		t.IdleConnTimeout = shortest << class
		b.kept[class].Store(t)
	}
	return t
}

// CloseIdleConnections closes the connections that no call uses.
func (b *Base) CloseIdleConnections() {
	for _, all := range []*transports{&b.plain, &b.grpc} {
		for i := range all.kept {
			if t := all.kept[i].Load(); t != nil {
				t.CloseIdleConnections()
			}
		}
	}
}
