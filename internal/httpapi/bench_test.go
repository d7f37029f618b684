package httpapi

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
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

// sink is a response writer that is used again.
type sink struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) WriteHeader(status int)      { s.status = status }
func (s *sink) Write(b []byte) (int, error) { return s.body.Write(b) }

// send hands a handler a request as net/http does.
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

// BenchmarkHandler is the CPU of acquires and their reports in cached mode, one verb a request and by batches of 64,
// and of a bare handler with the same bodies. The difference of two lines is what breakerd's handler costs:
// cpu-ns/verb.
func BenchmarkHandler(b *testing.B) {
	p := breaker.DefaultPolicy()
	p.Consistency = breaker.Cached
	m, err := breaker.NewManager(breaker.Options{Store: breaker.NewMemory(nil, 0), Policy: p})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = m.Close(context.Background()) })
	api, err := New(Options{
		Manager: m, Directory: struct{ Directory }{}, Policies: struct{ Policies }{}, LoopbackOnly: true,
		HealthOptions: route.HealthOptions{Health: healthy},
	})
	if err != nil {
		b.Fatal(err)
	}
	s := &sink{header: http.Header{}}
	const size, one = 64, "/v1/circuit_breakers/bench/"
	var acquires, reports []string
	for i := range size {
		acquires = append(acquires, fmt.Sprintf(`{"op":"acquire","agent":"bench-%d"}`, i))
		reports = append(reports, fmt.Sprintf(`{"op":"report","agent":"bench-%d","permit":"PERMIT","outcome":"success"}`, i))
	}
	many := func(ops []string) string { return `{"operations":[` + strings.Join(ops, ",") + `]}` }
	for _, c := range []struct {
		name     string
		verbs    int
		requests [2][2]string // path and body, of acquires and of reports
	}{
		{"single", 2, [2][2]string{{one + "acquire", "{}"}, {one + "report", `{"permit":"PERMIT","outcome":"success","duration_ms":12.5}`}}},
		{"batch", 2 * size, [2][2]string{{"/v1/batch", many(acquires)}, {"/v1/batch", many(reports)}}},
	} {
		acquire, report := &url.URL{Path: c.requests[0][0]}, &url.URL{Path: c.requests[1][0]}
		s.send(api, acquire, c.requests[0][1])
		acquired := s.body.String()
		body := c.requests[1][1]
		for _, permit := range regexp.MustCompile(`"permit":"([^"]+)"`).FindAllStringSubmatch(acquired, -1) {
			body = strings.Replace(body, "PERMIT", permit[1], 1)
		}
		s.send(api, report, body)
		for _, side := range []struct {
			name            string
			acquire, report http.Handler
		}{{"bare", bare(acquired), bare(s.body.String())}, {"breakerd", api, api}} {
			b.Run(c.name+"/"+side.name, func(b *testing.B) {
				b.ReportAllocs()
				before := cpu(b)
				for b.Loop() {
					s.send(side.acquire, acquire, c.requests[0][1])
					s.send(side.report, report, body)
				}
				b.ReportMetric(float64(cpu(b)-before)/float64(b.N*c.verbs), "cpu-ns/verb")
			})
		}
	}
}
