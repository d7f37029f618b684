package redisstore

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/breakerd/breakerd/internal/testkit"
)

// tlsURL is the URL of s with the files that a test chooses.
func tlsURL(s *testkit.Server, caFile string, pair testkit.Pair) string {
	url := "rediss://" + s.Addr + "?ca_file=" + caFile
	if pair.CertFile != "" {
		url += "&cert_file=" + pair.CertFile + "&key_file=" + pair.KeyFile
	}
	return url
}

// refusal is the error of a connection's first command.
func refusal(t *testing.T, c *Conn) string {
	t.Helper()
	err := c.Client.Ping(t.Context()).Err()
	if err == nil {
		t.Fatalf("%s answers", c.Display)
	}
	return err.Error()
}

func wantIn(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q lacks %q", text, part)
		}
	}
}

func TestTLS_WithAClientCertificate(t *testing.T) {
	t.Parallel()
	s := testkit.StartTLS(t, testkit.NewCA(t), "--requirepass", "pw")
	c := openURL(t, s.URL())
	writeAndRead(t, c)
	if w, err := c.Check(t.Context()); err != nil || len(w) != 0 {
		t.Errorf("Check: %v, %v", w, err)
	}
}

func TestTLS_AWrongCAIsNamedWithTheAddress(t *testing.T) {
	t.Parallel()
	ca := testkit.NewCA(t)
	s, wrong := testkit.StartTLS(t, ca), testkit.NewCA(t)
	pair := ca.ClientPair(t)
	wantIn(t, refusal(t, openURL(t, tlsURL(s, wrong.File, pair))), "not signed by the CA in ca_file "+wrong.File, s.Addr)
	system := "rediss://" + s.Addr + "?cert_file=" + pair.CertFile + "&key_file=" + pair.KeyFile
	wantIn(t, refusal(t, openURL(t, system)), "not signed by a CA this system trusts", "ca_file", s.Addr)
}

func TestTLS_AMissingOrForeignClientCertificateIsNamed(t *testing.T) {
	t.Parallel()
	ca := testkit.NewCA(t)
	s, foreign := testkit.StartTLS(t, ca), testkit.NewCA(t).ClientPair(t)
	wantIn(t, refusal(t, openURL(t, tlsURL(s, ca.File, testkit.Pair{}))),
		"may demand a client certificate (cert_file, key_file)", s.Addr)
	wantIn(t, refusal(t, openURL(t, tlsURL(s, ca.File, foreign))),
		"may not accept the client certificate in cert_file "+foreign.CertFile, s.Addr)
}

func TestTLS_TheServersNameMustMatch(t *testing.T) {
	t.Parallel()
	ca := testkit.NewCA(t)
	s := testkit.StartTLS(t, ca)
	wantIn(t, refusal(t, openURL(t, s.URL()+"&server_name=elsewhere")), "for another name", "server_name", s.Addr)
	writeAndRead(t, openURL(t, s.URL()+"&server_name=localhost"))
}

func TestTLS_ToAPlainPortSaysSo(t *testing.T) {
	t.Parallel()
	s := testkit.Start(t)
	c := openURL(t, "rediss://"+s.Addr, func(o *Options) { o.Timeout = DefaultTimeout })
	wantIn(t, refusal(t, c), s.Addr, "is this a port without TLS")
}

func TestTLS_RenewedFilesAreUsedWithoutReopening(t *testing.T) {
	t.Parallel()
	ca := testkit.NewCA(t)
	s, old := testkit.StartTLS(t, ca), testkit.NewCA(t)
	pair, caFile := old.ClientPair(t), filepath.Join(t.TempDir(), "ca.pem")
	testkit.CopyFile(t, old.File, caFile)
	c := openURL(t, tlsURL(s, caFile, pair))
	wantIn(t, refusal(t, c), caFile)
	testkit.CopyFile(t, ca.File, caFile)
	wantIn(t, refusal(t, c), pair.CertFile)
	ca.ClientPair(t).CopyTo(t, pair)
	writeAndRead(t, c)
}

func TestTLS_AHalfWrittenRenewalKeepsTheLastGoodFiles(t *testing.T) {
	t.Parallel()
	ca := testkit.NewCA(t)
	s, pair := testkit.StartTLS(t, ca), ca.ClientPair(t)
	var log bytes.Buffer
	c := openURL(t, tlsURL(s, ca.File, pair), func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	writeAndRead(t, c)
	testkit.CopyFile(t, ca.ClientPair(t).KeyFile, pair.KeyFile)
	for range 2 {
		s.Restart() // so that every connection is a new one
		testkit.Eventually(t, "an answer", patience, func() error { return c.Client.Ping(t.Context()).Err() })
	}
	if n := strings.Count(log.String(), "the last good ones stay"); n != 1 {
		t.Errorf("logged %d times:\n%s", n, log.String())
	}
}

func TestTLS_SentinelVerifiesTheNodeItDials(t *testing.T) {
	t.Parallel()
	set := testkit.StartTLSSentinel(t, testkit.NewCA(t))
	writeAndRead(t, openURL(t, set.URL()))
	wantIn(t, refusal(t, openURL(t, set.URL()+"&server_name=localhost")), "for another name", set.Master.Addr)
}

func TestTLS_UnusableFilesFailAtOpen(t *testing.T) {
	t.Parallel()
	ca := testkit.NewCA(t)
	pair, empty := ca.ClientPair(t), filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for query, want := range map[string]string{
		"ca_file=/no/such/file":      "ca_file: open /no/such/file",
		"ca_file=" + empty:           "holds no PEM certificate",
		"cert_file=" + pair.CertFile: "go together",
		"cert_file=" + pair.CertFile + "&key_file=" + ca.ClientPair(t).KeyFile: "cert_file " + pair.CertFile,
	} {
		_, err := Open(context.Background(), "rediss://u:s3cret@h?"+query, Options{})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: got %v, want %q in it", query, err, want)
		}
	}
}
