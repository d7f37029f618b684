package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// countPath is where the agent says how many calls it has had.
const countPath = "/count"

// play is one process of the stand: it prints its URL and serves until it is ended.
func play(ctx context.Context, role, to string, out io.Writer) error {
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
	fmt.Fprintf(out, "http://%s\n", l.Addr())
	return (&http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}).Serve(l)
}

// agent answers with some JSON, and counts.
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

// proxy is httputil.ReverseProxy and nothing else, but for a transport that keeps as many connections as bridge's does.
func proxy(to *url.URL) http.Handler {
	return &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(to); r.SetXForwarded() },
		Transport: &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true},
	}
}

// batchSize is how many calls wrk/batch.lua puts into one request.
const batchSize = 64

// bare reads the bodies that breakerd reads, and answers with what breakerd answers: net/http, and no breaker.
func bare() http.Handler {
	const permit = `"allowed":true,"permit":"v1.closed.0000000000000000.-.626ebeb9","state":"CLOSED","degraded":false,"lease_seconds":0}`
	const report = `"state":"CLOSED","counted":true}`
	many := func(one string) string {
		return `{"results":[` + strings.TrimSuffix(strings.Repeat(`{"status":200,`+one+`,`, batchSize), ",") + "]}\n"
	}
	mux := http.NewServeMux()
	serve := func(path string, answer func(body string) string) {
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
	serve("/v1/circuit_breakers/{agent}/acquire", func(string) string { return "{" + permit + "\n" })
	serve("/v1/circuit_breakers/{agent}/report", func(string) string { return "{" + report + "\n" })
	permits, reports := many(permit), many(report)
	serve("/v1/batch", func(body string) string {
		if strings.Contains(body, `"report"`) {
			return reports
		}
		return permits
	})
	return mux
}
