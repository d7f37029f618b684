package httpapi

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/route"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// bare is what the benchmark compares with: a handler that reads the body and writes an answer of the same length.
func bare(reply string) http.Handler {
	answer := []byte(reply)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			panic(err)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(answer)
	})
}

// sink is a response that is looked at and forgotten.
type sink struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) WriteHeader(status int)      { s.status = status }
func (s *sink) Write(b []byte) (int, error) { return s.body.Write(b) }

// send is one request as net/http hands it on.
func (s *sink) send(h http.Handler, target *url.URL, body string) {
	clear(s.header)
	s.status = http.StatusOK
	s.body.Reset()
	r := &http.Request{
		Method: http.MethodPost, URL: target, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Host: "127.0.0.1:18180", RequestURI: target.Path,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}
	h.ServeHTTP(s, r)
	if s.status != http.StatusOK {
		panic(fmt.Sprintf("%d %s", s.status, &s.body))
	}
}

// cpu is the time that this process has used: on a machine that others use too, it says more than the clock.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// BenchmarkHandler is what breakerd's API costs in cached mode beyond a bare handler: CPU of a verb less that of its
// bare twin.
func BenchmarkHandler(b *testing.B) {
	p := breaker.DefaultPolicy()
	p.Consistency = breaker.Cached
	m, err := breaker.NewManager(breaker.Options{Store: breaker.NewMemory(nil, 0), Policy: p})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = m.Close(context.Background()) })
	api, err := New(Options{
		Manager: m, Directory: struct{ Directory }{}, Policies: struct{ Policies }{}, LoopbackOnly: true, Logger: slog.New(slog.DiscardHandler),
		HealthOptions: route.HealthOptions{Health: healthy},
	})
	if err != nil {
		b.Fatal(err)
	}
	s := &sink{header: http.Header{}}
	at := func(path string) *url.URL { return &url.URL{Path: path} }
	s.send(api, at("/v1/circuit_breakers/bench/acquire"), "{}")
	_, permit, _ := strings.Cut(s.body.String(), `"permit":"`)
	permit, _, _ = strings.Cut(permit, `"`)
	var acquires, reports []string
	for i := range 64 {
		acquires = append(acquires, fmt.Sprintf(`{"op":"acquire","agent":"bench-%d"}`, i))
		reports = append(reports, fmt.Sprintf(`{"op":"report","agent":"bench-%d","outcome":"success","duration_ms":12.5}`, i))
	}
	for _, c := range []struct{ name, path, body string }{
		{"acquire", "/v1/circuit_breakers/bench/acquire", "{}"},
		{"report", "/v1/circuit_breakers/bench/report", `{"permit":"` + permit + `","outcome":"success","duration_ms":12.5}`},
		{"acquires64", "/v1/batch", `{"operations":[` + strings.Join(acquires, ",") + `]}`},
		{"reports64", "/v1/batch", `{"operations":[` + strings.Join(reports, ",") + `]}`},
	} {
		s.send(api, at(c.path), c.body)
		for name, h := range map[string]http.Handler{"bare": bare(s.body.String()), "breakerd": api} {
			b.Run(c.name+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				before := cpu(b)
				for b.Loop() {
					s.send(h, at(c.path), c.body)
				}
				b.ReportMetric(float64(cpu(b)-before)/float64(b.N), "cpu-ns/op")
			})
		}
	}
}
