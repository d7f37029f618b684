package daemon

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/internal/tlsfile"
)

// filesOf are a program's, as internal/app names them.
func filesOf(pair testkit.Pair, clientCA string) tlsfile.Files {
	return tlsfile.Files{
		CA:   tlsfile.File{Name: "TLS_CLIENT_CA_FILE", Path: clientCA},
		Cert: tlsfile.File{Name: "TLS_CERT_FILE", Path: pair.CertFile}, Key: tlsfile.File{Name: "TLS_KEY_FILE", Path: pair.KeyFile},
	}
}

// secure is a test's program that speaks TLS.
func secure(mux *http.ServeMux, files tlsfile.Files, stopped chan<- bool) Program {
	p := testProgram(mux, time.Minute, stopped)
	plain := p.Configure
	p.Configure = func(environ []string) (Config, error) {
		c, err := plain(environ)
		c.TLS = files
		return c, err
	}
	return p
}

func startSecure(t *testing.T, mux *http.ServeMux, files tlsfile.Files) *running {
	t.Helper()
	stopped := make(chan bool, 1)
	return startProgram(t, secure(mux, files, stopped), stopped)
}

// whoami answers with the protocol and what the server made of the client's certificate.
func whoami() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		for _, chain := range r.TLS.VerifiedChains {
			fmt.Fprintf(w, "%s ", chain[0].Subject.CommonName)
		}
		fmt.Fprint(w, r.Proto)
	})
	return mux
}

// client has connections of its own.
func client(t *testing.T, c *tls.Config, http2 bool) *http.Transport {
	t.Helper()
	tr := &http.Transport{TLSClientConfig: c.Clone(), Protocols: new(http.Protocols)}
	tr.Protocols.SetHTTP1(!http2)
	tr.Protocols.SetHTTP2(http2)
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

func ask(ctx context.Context, tr *http.Transport, url string) (string, *tls.ConnectionState, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", nil, err
	}
	res, err := tr.RoundTrip(req)
	if err != nil {
		return "", nil, err
	}
	text, err := io.ReadAll(res.Body)
	return string(text), res.TLS, errors.Join(err, res.Body.Close())
}

func TestTLS_ClientCertificatesAreVerifiedIfGiven(t *testing.T) {
	t.Parallel()
	ca, clients := testkit.NewCA(t), testkit.NewCA(t)
	pair := ca.ServerPair(t, "127.0.0.1")
	r := startSecure(t, whoami(), filesOf(pair, clients.File))
	none := ca.ClientConfig(t, pair, "127.0.0.1")
	none.Certificates = nil
	for _, http2 := range []bool{false, true} {
		proto := map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"}[http2]
		for name, c := range map[string]struct {
			config    *tls.Config
			want, err string
		}{
			"none":        {none, proto, ""},
			"one of ours": {ca.ClientConfig(t, clients.ClientPair(t), "127.0.0.1"), "testkit client " + proto, ""},
			"expired":     {ca.ClientConfig(t, clients.ClientPairUntil(t, time.Now().Add(-time.Minute)), "127.0.0.1"), "", "expired certificate"},
			"foreign":     {ca.ClientConfig(t, ca.ClientPair(t), "127.0.0.1"), "", "unknown certificate authority"},
			"a server's":  {ca.ClientConfig(t, clients.ServerPair(t, "x"), "127.0.0.1"), "", "bad certificate"},
		} {
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				c.config.MaxVersion = version
				got, _, err := ask(t.Context(), client(t, c.config, http2), r.url)
				told := version == tls.VersionTLS13 || err == nil || strings.Contains(err.Error(), c.err) // 1.3 may hang up first
				if got != c.want || (err == nil) != (c.err == "") || !told {
					t.Errorf("%s, %s, %s: %q, %v", proto, tls.VersionName(version), name, got, err)
				}
			}
		}
	}
	old := none.Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if _, _, err := ask(t.Context(), client(t, old, false), r.url); err == nil || !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("TLS 1.1: %v", err)
	}
	if _, _, err := ask(t.Context(), client(t, &tls.Config{}, false), r.url); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("a client that does not know the authority: %v", err)
	}
}

// A connection outlives the certificate by which its client was known.
func TestTLS_AClientCertificateThatExpiresCountsNoLonger(t *testing.T) {
	t.Parallel()
	ca := testkit.NewCA(t)
	r := startSecure(t, whoami(), filesOf(ca.ServerPair(t, "127.0.0.1"), ca.File))
	for proto, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2.0": true} {
		tr := client(t, ca.ClientConfig(t, ca.ClientPairUntil(t, time.Now().Add(3*time.Second)), "127.0.0.1"), http2)
		if got, _, err := ask(t.Context(), tr, r.url); err != nil || got != "testkit client "+proto {
			t.Fatalf("%s: %q, %v", proto, got, err)
		}
		testkit.Eventually(t, "its end", 20*time.Second, func() error {
			got, _, err := ask(t.Context(), tr, r.url) // a new connection would fail
			if err == nil && got != proto {
				err = errors.New(got)
			}
			return err
		})
	}
}

// Every call opens a connection of its own, so that each meets the files of its moment.
func TestTLS_RenewalUnderLoadRefusesNobody(t *testing.T) {
	t.Parallel()
	ca, pair := testkit.NewCA(t), testkit.Pair{CertFile: filepath.Join(t.TempDir(), "cert"), KeyFile: filepath.Join(t.TempDir(), "key")}
	first, second := ca.ServerPair(t, "127.0.0.1"), ca.ServerPair(t, "127.0.0.1")
	first.CopyTo(t, pair)
	r := startSecure(t, whoami(), filesOf(pair, ""))
	config := ca.ClientConfig(t, ca.ClientPair(t), "127.0.0.1")
	var calls atomic.Int64
	var serial atomic.Pointer[string]
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	for worker := range 4 {
		tr := client(t, config, worker%2 == 1)
		tr.DisableKeepAlives = worker < 2
		load.Go(func() {
			for ctx.Err() == nil {
				_, state, err := ask(t.Context(), tr, r.url)
				if err != nil {
					t.Errorf("call %d: %v", calls.Load(), err)
					return
				}
				calls.Add(1)
				if worker < 2 {
					serial.Store(new(state.PeerCertificates[0].SerialNumber.String()))
				}
			}
		})
	}
	served := func(of testkit.Pair) {
		t.Helper()
		loaded, err := tls.LoadX509KeyPair(of.CertFile, of.KeyFile)
		if err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, "the certificate of "+of.CertFile, time.Minute, func() error {
			if got := serial.Load(); got == nil || *got != loaded.Leaf.SerialNumber.String() {
				return errors.New("it is another")
			}
			return nil
		})
	}
	logged := func(text string) {
		t.Helper()
		testkit.Eventually(t, text, time.Minute, func() error {
			if !strings.Contains(r.stderr.String(), text) {
				return errors.New(r.stderr.String())
			}
			return nil
		})
	}
	served(first)
	testkit.CopyFile(t, second.KeyFile, pair.KeyFile) // half of a renewal
	logged("TLS files of the listeners cannot be used; the last good ones stay")
	before := calls.Load()
	testkit.Eventually(t, "calls meanwhile", time.Minute, func() error {
		if calls.Load() < before+100 {
			return errors.New("none")
		}
		return nil
	})
	served(first)
	text, err := os.ReadFile(second.CertFile)
	if err != nil {
		t.Fatal(err)
	}
	torn := bytes.Join([][]byte{text, text[:len(text)/2]}, nil) // half of its chain
	if err := os.WriteFile(pair.CertFile, torn, 0o600); err != nil {
		t.Fatal(err)
	}
	logged("PEM blocks are not whole")
	served(first)
	second.CopyTo(t, pair)
	served(second)
	logged("TLS files of the listeners have changed; new connections use them")
	stop()
	load.Wait()
	if n := strings.Count(r.stderr.String(), "the last good ones stay"); n != 2 {
		t.Errorf("the two bad states were logged %d times", n)
	}
}

func TestTLS_HealthAsksWithoutKnowingTheName(t *testing.T) {
	t.Parallel()
	ca := testkit.NewCA(t)
	files := filesOf(ca.ServerPair(t, "breakerd.internal"), ca.File)
	r := startSecure(t, http.NewServeMux(), files)
	var out, errs bytes.Buffer
	listen := "TEST_LISTEN=" + strings.TrimPrefix(r.url, "https://")
	if code := secure(http.NewServeMux(), files, nil).Run(t.Context(), []string{"--health"}, []string{listen}, &out, &errs); code != 0 || out.String() != "ready\n" {
		t.Errorf("%d %s", code, errs.String())
	}
}

func TestTLS_BadFilesExitWith2(t *testing.T) {
	t.Parallel()
	ca := testkit.NewCA(t)
	pair, other := ca.ServerPair(t, "x"), ca.ServerPair(t, "x")
	mixed := testkit.Pair{CertFile: pair.CertFile, KeyFile: other.KeyFile}
	gone := testkit.Pair{CertFile: pair.CertFile, KeyFile: "/no/such/key"}
	for want, files := range map[string]tlsfile.Files{
		"TLS_KEY_FILE: open /no/such/key":                       filesOf(gone, ""),
		"TLS_CERT_FILE " + mixed.CertFile + " and TLS_KEY_FILE": filesOf(mixed, ""),
		"TLS_CLIENT_CA_FILE " + pair.KeyFile + " holds no PEM":  filesOf(pair, pair.KeyFile),
		"TLS_CLIENT_CA_FILE: open /no/such/ca":                  filesOf(pair, "/no/such/ca"),
	} {
		var errs bytes.Buffer
		code := secure(http.NewServeMux(), files, nil).Run(t.Context(), nil, []string{"TEST_LISTEN=127.0.0.1:0"}, io.Discard, &errs)
		if code != exitConfig || !strings.Contains(errs.String(), "bad configuration:\n"+want) {
			t.Errorf("%d %s, want %s", code, errs.String(), want)
		}
	}
}

func TestCertificate_StatusShowsItsEndAndItsProblem(t *testing.T) {
	t.Parallel()
	ca := testkit.NewCA(t)
	pair := ca.ServerPair(t, "x")
	if _, ok, problem := (Certificate{}).Status(); ok || problem != nil {
		t.Errorf("without TLS: %v %v", ok, problem)
	}
	source, err := tlsfile.New(filesOf(pair, ""), 0, "the listeners", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	c := Certificate{source}
	if until, ok, problem := c.Status(); !ok || problem != nil || time.Until(until) < time.Hour {
		t.Errorf("%v %v %v", until, ok, problem)
	}
	if own, authorities := c.Held(); own == nil || len(authorities) > 0 {
		t.Errorf("%v %v", own, authorities)
	}
	if source, err = tlsfile.New(filesOf(pair, ca.File), 0, "the listeners", slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if own, authorities := (Certificate{source}).Held(); own == nil || len(authorities) != 1 || !authorities[0].IsCA {
		t.Errorf("%v %v", own, authorities)
	}
	if own, authorities := (Certificate{}).Held(); own != nil || authorities != nil {
		t.Errorf("without TLS: %v %v", own, authorities)
	}
	testkit.CopyFile(t, ca.ClientPair(t).KeyFile, pair.KeyFile)
	if until, ok, problem := c.Status(); !ok || problem == nil || time.Until(until) < time.Hour {
		t.Errorf("half renewed: %v %v %v", until, ok, problem)
	}
}
