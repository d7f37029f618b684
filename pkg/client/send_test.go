package client_test

import (
	"context"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/clientgen"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/client"
)

// server answers as it is told, and counts the requests that it got.
type server struct {
	url string
	got atomic.Int64
}

func newServer(t *testing.T, answer http.HandlerFunc) *server {
	t.Helper()
	s := &server{}
	h := httptest.NewServer(s.counts(answer))
	t.Cleanup(h.Close)
	s.url = h.URL
	return s
}

func (s *server) counts(answer http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/livez" { // which opens a connection that is used again
			_, _ = io.WriteString(w, "{}")
			return
		}
		s.got.Add(1)
		answer(w, r)
	})
}

// newServer2 is newServer over TLS and HTTP/2.
func newServer2(t *testing.T, answer http.HandlerFunc) (s *server, caFile string) {
	t.Helper()
	s = &server{}
	h := httptest.NewUnstartedServer(s.counts(answer))
	h.EnableHTTP2 = true
	h.StartTLS()
	t.Cleanup(h.Close)
	s.url, caFile = h.URL, filepath.Join(t.TempDir(), "ca.pem")
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.Certificate().Raw})
	if err := os.WriteFile(caFile, ca, 0o600); err != nil {
		t.Fatal(err)
	}
	return s, caFile
}

// cut ends the connection, as a replica that dies after it has done what was asked.
func cut(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// cutHalf ends it within the answer.
func cutHalf(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", "1000")
	_, _ = io.WriteString(w, `{"allowed":true,`)
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

func refuse(code problem.Code, retryAfter string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		problem.New(code, "no").With("Retry-After", retryAfter).Write(w)
	}
}

// each calls every method that is an operation, each with a server and a client of its own.
func each(
	t *testing.T, target func() (*server, client.Options), check func(op *clientgen.Operation, s *server, err error),
) {
	t.Helper()
	breakerd, bridge := clientgen.Documents(t)
	var all sync.WaitGroup
	defer all.Wait()
	call := func(id string, op *clientgen.Operation, newClient func(client.Options) any) {
		s, o := target()
		c := reflect.ValueOf(newClient(o))
		method := slices.IndexFunc(slices.Collect(c.Type().Methods()), func(m reflect.Method) bool { return strings.EqualFold(m.Name, id) })
		if id == "live" || id == "streamEvents" || method < 0 {
			return // what has no method fails another test
		}
		all.Go(func() {
			_ = c.MethodByName("Live").Call([]reflect.Value{reflect.ValueOf(t.Context())})
			check(op, s, run(t.Context(), c.Method(method), strings.Count(op.Path, "{"), false))
		})
	}
	for id, op := range breakerd.Operations() {
		call(id, op, func(o client.Options) any { return must(client.New(o))(t) })
	}
	for id, op := range bridge.Operations() {
		call(id, op, func(o client.Options) any { return must(client.NewBridge(o))(t) })
	}
}

func TestSend_NothingThatMayHaveRunIsSentTwice(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]http.HandlerFunc{
		"the store may have done it": refuse(problem.StoreUnavailable, "0"), "before the answer": cut, "within the answer": cutHalf, "before it, HTTP/2": cut, "within it, HTTP/2": cutHalf,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, func() (s *server, o client.Options) {
				if strings.HasSuffix(name, "HTTP/2") {
					s, o.CAFile = newServer2(t, end)
				} else {
					s = newServer(t, end)
				}
				o.Servers = []string{s.url, s.url}
				return s, o
			}, func(op *clientgen.Operation, s *server, err error) {
				n := s.got.Load()
				alone := strings.HasPrefix(op.Path, "/health") || op.Path == "/readyz" || op.Path == "/metrics"
				repeatable := strings.EqualFold(op.Method, http.MethodGet) && !strings.HasPrefix(op.Path, "/v1/gate") || op.OperationID == "renew" ||
					op.OperationID == "batch" // of nothing
				unknown := errors.Is(err, client.ErrUnknown) || errors.Is(err, breaker.ErrStoreUnavailable)
				switch {
				case err == nil:
					t.Errorf("%s: no error", op.OperationID)
				case alone:
				case op.OperationID == "getBackup" && strings.HasPrefix(name, "within"): // what came was handed on
				case repeatable && (n < 6 || errors.Is(err, client.ErrUnknown)):
					t.Errorf("%s was sent %d times: %v", op.OperationID, n, err)
				case !repeatable && (n != 1 || !unknown):
					t.Errorf("%s was sent %d times: %v", op.OperationID, n, err)
				}
			})
		})
	}
}

// A report with a key, and a batch of such and of renewals, is sent until it is answered; a batch that acquires is not.
func TestSend_TokenMakesReportsRepeatable(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1)%3 != 0 {
			cut(w, r)
		}
		_, _ = io.WriteString(w, `{"counted":true,"results":[{"status":200},{"status":200}]}`)
	})
	c := newClient(t, s.url)
	if r, err := c.Report(t.Context(), "a", client.ReportRequest{Outcome: "success"}, "key"); err != nil || !r.Counted || s.got.Swap(0) != 3 {
		t.Error(r, err)
	}
	ops := []client.BatchOp{{Op: "renew", Agent: "a", Permit: "p"}, {Op: "report", Agent: "a", Outcome: "success", IdempotencyKey: "k"}}
	if r, err := c.Batch(t.Context(), ops); err != nil || len(r) != 2 || s.got.Swap(0) != 3 {
		t.Error(r, err)
	}
	for _, op := range []client.BatchOp{{Op: "acquire", Agent: "a"}, {Op: "report", Agent: "a", Outcome: "success"}} {
		n.Store(0)
		if _, err := c.Batch(t.Context(), []client.BatchOp{ops[0], op}); !errors.Is(err, client.ErrUnknown) || s.got.Swap(0) != 1 {
			t.Error(err)
		}
	}
}

func TestSend_GoesToTheNextServerWhereNothingWasDone(t *testing.T) {
	t.Parallel()
	ok := func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }
	stopping, full := newServer(t, refuse(problem.NotReady, "1")), newServer(t, refuse(problem.TooManyConnections, "1"))
	target := func() (*server, client.Options) {
		fine := newServer(t, ok)
		noTLS := "https://" + strings.TrimPrefix(fine.url, "http://")
		return fine, client.Options{Servers: []string{"http://127.0.0.1:1", stopping.url, full.url, noTLS, fine.url}}
	}
	each(t, target, func(op *clientgen.Operation, fine *server, err error) {
		alone := strings.HasPrefix(op.Path, "/health") || op.Path == "/readyz" || op.Path == "/metrics"
		batch := op.OperationID == "batch" || op.OperationID == "getBackup" // the answer has no results, and is no file
		if n := fine.got.Load(); !alone && (n != 1 || err != nil && !batch) {
			t.Errorf("%s reached the server %d times: %v", op.OperationID, n, err)
		}
	})
	_, o := target()
	c := must(client.New(o))(t)
	for range 3 {
		must(c.Acquire(t.Context(), "a", client.AcquireRequest{}))(t)
	}
	before := stopping.got.Load()
	must(c.Acquire(t.Context(), "a", client.AcquireRequest{}))(t)
	if stopping.got.Load() != before {
		t.Error("a server that works is left")
	}
}

func TestSend_RefusalIsAnAnswer(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
		problem.Refusal(&breaker.OpenError{Agent: "a", Reason: breaker.ReasonShedding, Wait: time.Second}).Write(w)
	})
	_, err := newClient(t, s.url, s.url).Acquire(t.Context(), "a", client.AcquireRequest{})
	open, _ := errors.AsType[*breaker.OpenError](err)
	if open == nil || open.Reason != breaker.ReasonShedding || open.Wait != time.Second || open.State != "" || s.got.Load() != 1 {
		t.Errorf("%v, %d requests", err, s.got.Load())
	}
}

func TestSend_HonoursRetryAfter(t *testing.T) {
	t.Parallel()
	var once sync.Once
	passes := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		first := false
		once.Do(func() { first = true })
		if first {
			refuse(problem.NotReady, "1")(w, r)
			return
		}
		_, _ = io.WriteString(w, "{}")
	})
	began := time.Now()
	must(newClient(t, passes.url).GetSummary(t.Context()))(t)
	if took := time.Since(began); took < time.Second {
		t.Errorf("it came back after %v", took)
	}
	for after, timeout := range map[string]time.Duration{"20": 10 * time.Second, "3600": time.Hour} {
		s := newServer(t, refuse(problem.StoreUnavailable, after))
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		_, err := newClient(t, s.url).GetSummary(ctx)
		e, _ := errors.AsType[*client.Error](err)
		if e == nil || e.RetryAfter < 20*time.Second || !errors.Is(err, breaker.ErrStoreUnavailable) || s.got.Load() != 1 || ctx.Err() != nil {
			t.Errorf("Retry-After %s: %v, %d requests", after, err, s.got.Load())
		}
	}
}

func TestSend_HungServerHoldsOneCallOnly(t *testing.T) {
	t.Parallel()
	end := make(chan struct{})
	hung := newServer(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-end:
		case <-r.Context().Done():
		}
	})
	t.Cleanup(func() { close(end) })
	fine := newServer(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") })
	c := must(client.New(client.Options{Servers: []string{hung.url, fine.url}, Timeout: 200 * time.Millisecond}))(t)
	_, err := c.Acquire(t.Context(), "a", client.AcquireRequest{})
	if !errors.Is(err, client.ErrUnknown) {
		t.Error(err)
	}
	has(t, err.Error(), "no answer within 200ms")
	if !errors.Is(err, context.DeadlineExceeded) || t.Context().Err() != nil {
		t.Error(err)
	}
	must(c.Acquire(t.Context(), "a", client.AcquireRequest{}))(t)
	again := must(client.New(client.Options{Servers: []string{hung.url, fine.url}, Timeout: 200 * time.Millisecond}))(t)
	must(again.GetSummary(t.Context()))(t)

	ctx, cancel := context.WithCancel(t.Context())
	go cancel()
	_, err = newClient(t, hung.url).GetSummary(ctx)
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestSend_BelowAPath(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.EscapedPath() != "/behind/a%20proxy/v1/admin/summary" {
			t.Error(r.URL)
		}
		_, _ = io.WriteString(w, "{}")
	})
	c := newClient(t, s.url+"/behind/a%20proxy/")
	defer c.CloseIdleConnections()
	must(c.GetSummary(t.Context()))(t)
}

func TestError_OfAProxy(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.Header().Set("X-Request-ID", "r-1")
		w.WriteHeader(http.StatusBadGateway)
		_, _ = io.WriteString(w, "<h1>Bad\n Gateway</h1>"+strings.Repeat("x", 1000))
	})
	_, err := newClient(t, s.url).Acquire(t.Context(), "a", client.AcquireRequest{})
	e, _ := errors.AsType[*client.Error](err)
	if e == nil || e.Status != http.StatusBadGateway || e.Code != "" || e.RequestID != "r-1" || s.got.Load() != 1 {
		t.Fatalf("%+v", err)
	}
	has(t, err.Error(), "POST /v1/circuit_breakers/a/acquire: 502 Bad Gateway: <h1>Bad Gateway</h1>x")
	if len(err.Error()) > 400 {
		t.Error(err)
	}
	s.got.Store(0)
	if _, err := newClient(t, s.url).GetSummary(t.Context()); err == nil || s.got.Load() != 3 {
		t.Errorf("%v, %d requests", err, s.got.Load())
	}
}
