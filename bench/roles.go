package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// countPath is the path at which the agent answers the number of its calls.
const countPath = "/count"

// serve is one of the servers that wrk calls. It logs its address as breakerd does, and serves until the process is
// killed.
func serve(ctx context.Context, role, to string) error {
	var handler http.Handler
	switch role {
	case "agent":
		handler = agent()
	case "proxy":
		target, err := url.Parse(to)
		if err != nil {
			return err
		}
		handler = proxy(target)
	case "bare":
		handler = bare()
	default:
		return fmt.Errorf("no role %q", role)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	slog.New(slog.NewJSONHandler(os.Stderr, nil)).Info("listening", "address", l.Addr().String())
	return (&http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}).Serve(l)
}

// agent answers every call with some JSON, and counts the calls.
func agent() http.Handler {
	var calls atomic.Int64
	answer := []byte(`{"answer":"` + strings.Repeat("x", 200) + `"}`)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == countPath {
			_, _ = w.Write(strconv.AppendInt(nil, calls.Load(), 10))
			return
		}
		calls.Add(1)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(answer)
	})
}

// proxy is an httputil.ReverseProxy whose transport keeps as many connections as that of bridge.
func proxy(to *url.URL) http.Handler {
	return &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(to); r.SetXForwarded() },
		Transport: &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true},
	}
}

// batchSize is the number of operations that wrk/batch.lua puts into one request.
const batchSize = 64

// bare is net/http without a breaker. It reads the bodies that breakerd reads, and writes the answers that breakerd
// writes.
func bare() http.Handler {
	const permit = `"allowed":true,"permit":"v1.closed.0000000000000000.-.626ebeb9","state":"CLOSED",` +
		`"degraded":false,"lease_seconds":0}`
	const report = `"state":"CLOSED","counted":true}`
	many := func(one string) string {
		return `{"results":[` + strings.TrimSuffix(strings.Repeat(`{"status":200,`+one+`,`, batchSize), ",") + "]}\n"
	}
	mux := http.NewServeMux()
	handle := func(path string, answer func(body string) string) {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return
			}
			h := w.Header()
			h.Set("Cache-Control", "no-store")
			h.Set("Content-Type", "application/json")
			h.Set("X-Content-Type-Options", "nosniff")
			_, _ = io.WriteString(w, answer(string(body)))
		})
	}
	handle("/v1/circuit_breakers/{agent}/acquire", func(string) string { return "{" + permit + "\n" })
	handle("/v1/circuit_breakers/{agent}/report", func(string) string { return "{" + report + "\n" })
	permits, reports := many(permit), many(report)
	handle("/v1/batch", func(body string) string {
		if strings.Contains(body, `"report"`) {
			return reports
		}
		return permits
	})
	return mux
}
