package httpapi

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/access"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/route/routetest"
)

func TestWhoami_SaysWhoAsks(t *testing.T) {
	t.Parallel()
	newFixture(t).Do("GET", "/v1/whoami", "").Want(200, `name=null`, `role="admin"`, `agents=null`, `by=null`, `until=null`)
	c := guarded(t, routetest.Guard(t))
	c.Token = routetest.TokenOf("report")
	c.Do("GET", "/v1/whoami", "").Want(200, `name="report"`, `role="report"`, `agents=null`, `by="token"`, `until=null`)
	c.Token = routetest.TokenOf(routetest.Elsewhere)
	c.Do("GET", "/v1/whoami", "").Want(200, `agents=["elsewhere-*"]`)
}

func TestSession_TakesTheTokensPlaceForItsOwnPage(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(o *Options) { o.Access = routetest.Guard(t) })
	c := f.Client
	c.Token = routetest.TokenOf("admin")
	opened := c.Do("POST", "/v1/session", "").Want(200, `by="token"`)
	set := opened.Header.Get("Set-Cookie")
	for _, want := range []string{"Path=/v1;", "Max-Age=43", "HttpOnly", "SameSite=Strict"} {
		if !strings.Contains(set, want) {
			t.Errorf("%s: no %s", set, want)
		}
	}
	if opened.JSON["until"] == nil {
		t.Errorf("without an end: %s", opened.Text)
	}
	cookie, _, _ := strings.Cut(set, ";")
	c.Token = ""
	c.Do("GET", "/v1/whoami", "", "Cookie", cookie).Want(200, `name="admin"`, `by="session"`)
	if again := c.Do("POST", "/v1/session", "", "Cookie", cookie).Want(200); again.Header.Get("Set-Cookie") != "" {
		t.Error("a session opens another")
	}
	const path, body = "/v1/admin/circuit_breakers/a/open", `{"reason":"fire"}`
	for id, op := range c.Operations() { // another site's page, with the cookie
		if op.Method == http.MethodGet {
			continue
		}
		c.Send(op, routetest.Probe{Header: []string{"Cookie", cookie, "Sec-Fetch-Site", "cross-site"}}).WantProblem(403, problem.CrossOrigin)
		c.Unharmed(id)
	}
	c.Do("POST", path, body, "Cookie", cookie, "Origin", "https://evil.example").WantProblem(403, problem.CrossOrigin)
	c.Do("GET", "/v1/gate/a", "", "Cookie", cookie).WantProblem(401, problem.Unauthenticated) // it changes something
	c.Unharmed("all")
	c.Do("POST", path, body, "Cookie", cookie, "Sec-Fetch-Site", "same-origin").Want(200)
	c.Do("GET", "/v1/admin/circuit_breakers/a", "", "Cookie", cookie).Want(200, `hold.actor="admin"`)
	closed := c.Do("DELETE", "/v1/session", "", "Cookie", cookie).Want(204).Header.Get("Set-Cookie")
	if !strings.HasPrefix(closed, access.Cookie+"=;") || !strings.Contains(closed, "Max-Age=0") {
		t.Errorf("closed: %s", closed)
	}
	if _, mac, _ := strings.Cut(cookie, "."); strings.Contains(c.Log.String(), mac) {
		t.Errorf("a session is logged: %s", c.Log)
	}
}

// A listener whose token is removed hears nothing any more.
func TestEventStream_EndsWithItsToken(t *testing.T) {
	t.Parallel()
	path := routetest.AuthFile(t)
	g, err := access.New(access.Options{File: path})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); g.Run(ctx) }()
	t.Cleanup(func() { stop(); <-done })
	f := newFixture(t, func(o *Options) { o.Access = g })
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.URL+"/v1/events", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+routetest.TokenOf("read"))
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatal(res, err)
	}
	defer res.Body.Close()
	stream := bufio.NewReader(res.Body)
	if _, err := stream.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var kept []string
	for line := range strings.Lines(string(text)) {
		if !strings.Contains(line, "name: read") {
			kept = append(kept, line)
		}
	}
	removed := time.Now()
	if err := os.WriteFile(path, []byte(strings.Join(kept, "")), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, stream); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(removed); took > 5*time.Second {
		t.Errorf("it went on for %v", took)
	}
	f.Token = routetest.TokenOf("read")
	f.Do("GET", "/v1/whoami", "").WantProblem(401, problem.Unauthenticated)
}
