package breakerhttp_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breakerhttp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// outbound is a Transport before one agent, "a", with a breaker in memory, and all that it reports.
type outbound struct {
	*breakerhttp.Transport

	log     *bytes.Buffer // of the Transport, which would log a second settling
	seen    *recorder
	timings chan breakerhttp.Timing
	client  *http.Client
}

// newOutbound makes an outbound with the default policy, changed by edit.
func newOutbound(t *testing.T, edit func(*breaker.Policy)) *outbound {
	t.Helper()
	return newOutboundOn(t, breaker.NewMemory(nil, 0), edit)
}

func newOutboundOn(t *testing.T, s breaker.Store, edit func(*breaker.Policy)) *outbound {
	t.Helper()
	seen := &recorder{settled: make(chan breaker.Outcome, 100)}
	r := &outbound{log: &bytes.Buffer{}, seen: seen, timings: make(chan breakerhttp.Timing, 100)}
	r.Transport = &breakerhttp.Transport{
		Base: newBase(t, false), Manager: newManager(t, s, seen, edit), Agent: func(*http.Request) string { return "a" },
		Observe: func(x breakerhttp.Timing) { r.timings <- x }, Logger: slog.New(slog.NewTextHandler(r.log, nil)),
	}
	r.client = &http.Client{Transport: r.Transport}
	return r
}

func newManager(t *testing.T, s breaker.Store, seen breaker.Observer, edit func(*breaker.Policy)) *breaker.Manager {
	t.Helper()
	p := breaker.DefaultPolicy()
	if edit != nil {
		edit(&p)
	}
	m, err := breaker.NewManager(breaker.Options{Store: s, Observer: seen, Policy: p})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// newBase is a real transport, of HTTP/1.1 or of HTTP/2 without TLS.
func newBase(t *testing.T, h2 bool) *http.Transport {
	t.Helper()
	base := &http.Transport{Protocols: new(http.Protocols)}
	base.Protocols.SetHTTP1(!h2)
	base.Protocols.SetUnencryptedHTTP2(h2)
	t.Cleanup(base.CloseIdleConnections)
	return base
}

// startAgent serves h over real TCP, in HTTP/1.1 and in HTTP/2 without TLS.
func startAgent(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// settledOnce checks that the call was settled once, with that outcome, and observed once.
func (r *outbound) settledOnce(t *testing.T, kind breaker.OutcomeKind, class string) breakerhttp.Timing {
	t.Helper()
	o := <-r.seen.settled
	if o.Kind != kind || o.Class != class {
		t.Errorf("settled with %s %q, want %s %q", o.Kind, o.Class, kind, class)
	}
	x := <-r.timings
	if x.Outcome != o || x.Agent != "a" || x.Total < x.FirstByte {
		t.Errorf("observed %+v, settled %+v", x, o)
	}
	r.nothingElse(t)
	return x
}

// nothingElse checks that no call was settled, observed or logged since the last look.
func (r *outbound) nothingElse(t *testing.T) {
	t.Helper()
	select {
	case o := <-r.seen.settled:
		t.Errorf("settled with %+v", o)
	case x := <-r.timings:
		t.Errorf("observed %+v", x)
	default:
	}
	if r.log.Len() > 0 {
		t.Errorf("logged %s", r.log)
	}
}

// open opens the agent's breaker.
func (r *outbound) open(t *testing.T) {
	t.Helper()
	for range 5 {
		if _, err := r.Manager.Record(t.Context(), "a", breaker.Outcome{Kind: breaker.Failure}); err != nil {
			t.Fatal(err)
		}
		<-r.seen.settled
	}
}

func (r *outbound) state(t *testing.T) breaker.State {
	t.Helper()
	v, _, err := r.Manager.Inspect(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	return v.State
}

func (r *outbound) get(t *testing.T, url string) *http.Response {
	t.Helper()
	resp, err := r.client.Do(request(t.Context(), t, http.MethodGet, url))
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func request(ctx context.Context, t *testing.T, method, url string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// recorder receives the outcomes that a Manager settles.
type recorder struct {
	breaker.NopObserver

	settled chan breaker.Outcome
}

func (r *recorder) Settled(_ string, o breaker.Outcome, _ breaker.Report) { r.settled <- o }

// base is a RoundTripper made of a function.
type base func(*http.Request) (*http.Response, error)

func (b base) RoundTrip(r *http.Request) (*http.Response, error) { return b(r) }

// pipes is a listener whose connections are pipes, for tests in virtual time.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

// serveOnPipes serves h on pipes, which Base dials. It is for synctest.Test.
func (r *outbound) serveOnPipes(t *testing.T, h http.HandlerFunc) {
	t.Helper()
	r.serveOnPipesOver(t, h, false)
}

func (r *outbound) serveOnPipesOver(t *testing.T, h http.HandlerFunc, h2 bool) {
	t.Helper()
	p := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
	base := newBase(t, h2)
	s := &http.Server{Handler: h, Protocols: base.Protocols}
	go func() { _ = s.Serve(p) }()
	base.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		near, far := net.Pipe()
		select {
		case p.conns <- far:
			return near, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	r.Base = base
	t.Cleanup(func() {
		_ = s.Close()
		<-time.After(time.Second) // virtual: net/http keeps some connections for half a second
	})
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (*pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }
