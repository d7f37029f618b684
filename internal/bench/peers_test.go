//go:build bench

package bench

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// The test binary is also the agent and the bare proxy: processes of their own, which the variable of this name tells apart.
const (
	roleVariable = "BENCH_ROLE" // agent or proxy
	toVariable   = "BENCH_TO"   // the proxy's agent
	countPath    = "/count"
)

func TestMain(m *testing.M) {
	role := map[string]func() (http.Handler, error){"agent": agent, "proxy": proxy}[os.Getenv(roleVariable)]
	if role == nil {
		os.Exit(m.Run())
	}
	if err := listen(role); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func listen(role func() (http.Handler, error)) error {
	handler, err := role()
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("http://%s\n", l.Addr())
	return (&http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}).Serve(l)
}

// agent answers with some JSON, and counts.
func agent() (http.Handler, error) {
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
	}), nil
}

// proxy is httputil.ReverseProxy and nothing else, but for a transport that keeps as many connections as bridge's does.
func proxy() (http.Handler, error) {
	to, err := url.Parse(os.Getenv(toVariable))
	if err != nil {
		return nil, err
	}
	return &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(to); r.SetXForwarded() },
		Transport: &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true},
	}, nil
}
