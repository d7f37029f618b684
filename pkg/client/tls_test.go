package client_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/client"
)

func TestTLS_OfARealBreakerd(t *testing.T) {
	t.Parallel()
	ca, other := testkit.NewCA(t), testkit.NewCA(t)
	pair := ca.ServerPair(t, "127.0.0.1")
	r := startReplica(t, "embedded://", "TLS_CERT_FILE="+pair.CertFile, "TLS_KEY_FILE="+pair.KeyFile)
	server := "https://" + r.address
	c := must(client.New(client.Options{Servers: []string{server}, CAFile: ca.File}))(t)
	must(c.Acquire(t.Context(), "a", client.AcquireRequest{}))(t)
	for item, err := range c.StreamEvents(t.Context(), client.StreamQuery{After: "1-1"}) {
		if err != nil || item.Reset == "" {
			t.Error(item, err)
		}
		break
	}
	for _, caFile := range []string{"", other.File} {
		c := must(client.New(client.Options{Servers: []string{server}, CAFile: caFile}))(t)
		_, err := c.Acquire(t.Context(), "a", client.AcquireRequest{})
		if _, ok := errors.AsType[x509.UnknownAuthorityError](err); !ok || errors.Is(err, client.ErrUnknown) {
			t.Errorf("%v", err)
		}
	}
}

func TestTLS_ClientCertificateIsReadAgain(t *testing.T) {
	t.Parallel()
	ca := testkit.NewCA(t)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close") // so that each request begins with a handshake
		_, _ = io.WriteString(w, "{}")
	}))
	config := ca.ClientConfig(t, ca.ServerPair(t, "127.0.0.1"), "")
	server.TLS = &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: config.Certificates, ClientCAs: config.RootCAs, ClientAuth: tls.RequireAndVerifyClientCert,
	}
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.StartTLS()
	t.Cleanup(server.Close)
	pair := ca.ClientPair(t)
	o := client.Options{Servers: []string{server.URL}, CAFile: ca.File, CertFile: pair.CertFile, KeyFile: pair.KeyFile}
	c := must(client.New(o))(t)
	good := ca.ClientPair(t)
	for _, step := range []struct {
		pair testkit.Pair
		ok   bool
	}{{good, true}, {ca.ClientPairUntil(t, time.Now().Add(-time.Minute)), false}, {good, true}} {
		step.pair.CopyTo(t, pair)
		if _, err := c.GetSummary(t.Context()); (err == nil) != step.ok {
			t.Errorf("%v, want success %v", err, step.ok)
		}
	}
	testkit.CopyFile(t, ca.File, pair.KeyFile) // a renewal that is half written
	must(c.GetSummary(t.Context()))(t)
	o.CertFile, o.KeyFile = "", ""
	_, err := must(client.New(o))(t).GetSummary(t.Context())
	if err == nil || !strings.Contains(err.Error(), "certificate required") {
		t.Error(err)
	}
}
