package client_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/breakerd/breakerd/pkg/client"
)

func TestNew_RefusesBadOptions(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	empty, two := filepath.Join(dir, "empty"), filepath.Join(dir, "two")
	for path, text := range map[string]string{empty: " \n", two: "one\ns3cret"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	servers := []string{"http://127.0.0.1:18180"}
	for _, c := range []struct {
		o    client.Options
		want string
	}{
		{client.Options{}, "Options.Servers is empty"},
		{client.Options{Servers: []string{servers[0], "127.0.0.1:18180"}}, "Options.Servers[1] is no address"},
		{client.Options{Servers: []string{"http://u:s3cret@h"}}, "Options.Servers[0] is no address"},
		{client.Options{Servers: []string{"http://u:s3cret@h:x"}}, "Options.Servers[0] is no address"},
		{client.Options{Servers: []string{"ftp://h"}}, "Options.Servers[0] is no address"},
		{client.Options{Servers: []string{"http://h?a=b"}}, "Options.Servers[0] is no address"},
		{client.Options{Servers: servers, Timeout: -1}, "Options.Timeout is -1ns"},
		{client.Options{Servers: servers, Actor: "a b"}, `actor "a b"`},
		{client.Options{Servers: servers, Token: "s3cret s3cret"}, "Options.Token: want"},
		{client.Options{Servers: servers, Token: "s3cret", TokenFile: two}, "both set"},
		{client.Options{Servers: servers, TokenFile: two}, "Options.TokenFile " + two + ": want"},
		{client.Options{Servers: servers, TokenFile: empty}, "is empty"},
		{client.Options{Servers: servers, TokenFile: dir + "/none"}, "no such file"},
		{client.Options{Servers: servers, TokenFile: dir}, "is a directory"},
		{client.Options{Servers: servers, CAFile: dir + "/none"}, "Options.CAFile"},
		{client.Options{Servers: servers, CAFile: two}, "holds no PEM certificate"},
		{client.Options{Servers: servers, CertFile: two}, "go together"},
		{client.Options{Servers: servers, CertFile: two, KeyFile: two}, "Options.CertFile"},
	} {
		_, err := client.New(c.o)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%v, want %q", err, c.want)
		}
		if _, err := client.NewBridge(c.o); err == nil {
			t.Errorf("the bridge's takes %q", c.want)
		}
	}
}

func TestToken_FileIsReadAgain(t *testing.T) {
	t.Parallel()
	var right atomic.Value
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != right.Load() {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"code":"unauthenticated","status":401,"detail":"no"}`)
			return
		}
		_, _ = io.WriteString(w, "{}")
	})
	path := filepath.Join(t.TempDir(), "token")
	write := func(token string) {
		if err := os.WriteFile(path+"~", []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+"~", path); err != nil {
			t.Fatal(err)
		}
	}
	write("first\n")
	c := must(client.New(client.Options{Servers: []string{s.url}, TokenFile: path}))(t)
	right.Store("Bearer first")
	must(c.GetSummary(t.Context()))(t)
	right.Store("Bearer second")
	if _, err := c.GetSummary(t.Context()); !errors.Is(err, client.ErrUnauthenticated) {
		t.Error(err)
	}
	write("second")
	must(c.GetSummary(t.Context()))(t)
	write("half written\n\n") // the last token stays
	must(c.GetSummary(t.Context()))(t)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	must(c.GetSummary(t.Context()))(t)
}

func TestToken_StaysWhereItBelongs(t *testing.T) {
	t.Parallel()
	const token = "s3cret-token"
	elsewhere := newServer(t, func(_ http.ResponseWriter, r *http.Request) { t.Error("redirected with", r.Header) })
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+token {
			t.Error(r.Header)
		}
		http.Redirect(w, r, elsewhere.url, http.StatusTemporaryRedirect)
	})
	var log bytes.Buffer
	o := client.Options{Servers: []string{s.url}, Token: token, Logger: slog.New(slog.NewJSONHandler(&log, nil))}
	c := must(client.New(o))(t)
	_, err := c.GetSummary(t.Context())
	e, _ := errors.AsType[*client.Error](err)
	if e == nil || e.Status != http.StatusTemporaryRedirect {
		t.Error(err)
	}
	bad := must(client.New(client.Options{Servers: []string{"http://127.0.0.1:1"}, Token: token}))(t)
	_, refused := bad.Acquire(t.Context(), "a", client.AcquireRequest{})
	text, jsonErr := json.Marshal(o.Token)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "o", o.Token, "c", c)
	slog.New(slog.NewTextHandler(&log, nil)).Info("m", "o", o, "c", c)
	shown := fmt.Sprintf("%v %+v %#v %s %q %x %v %+v %#v %v %v %s %v", o, o, o, o.Token, o.Token, o.Token, c, c, c, err, refused, text, jsonErr)
	for _, where := range []string{shown, log.String()} {
		if strings.Contains(where, token) || strings.Contains(where, fmt.Sprintf("%x", token)) {
			t.Errorf("the token is in %s", where)
		}
	}
	has(t, shown, "[hidden]")
}

// A program with a client links no Redis, no metrics and no OpenAPI.
func TestClient_LinksLittle(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	const ours = "github.com/breakerd/breakerd/"
	allowed := []string{
		ours + "pkg/breaker", ours + "pkg/client", ours + "internal/bounded", ours + "internal/backup", ours + "internal/filewatch", ours + "internal/tlsfile",
		"github.com/cenkalti/backoff/", "github.com/tmaxmax/go-sse", "github.com/puzpuzpuz/xsync/", "golang.org/x/sync/",
	}
	for pkg := range strings.FieldsSeq(string(out)) {
		known := false
		for _, prefix := range allowed {
			known = known || strings.HasPrefix(pkg, prefix)
		}
		if !known {
			t.Errorf("pkg/client depends on %s", pkg)
		}
	}
}
