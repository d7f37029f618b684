package testkit

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// CA is a certificate authority made for one test. Its methods must be called from the test's own goroutine.
type CA struct {
	File string // PEM of its certificate

	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	dir    string
	issued int64
}

// Pair names the PEM files of a certificate and of its key.
type Pair struct{ CertFile, KeyFile string }

// NewCA makes an authority. Two authorities differ in their keys only, so a client that trusts one must refuse the
// other.
func NewCA(t T) *CA {
	t.Helper()
	ca := &CA{dir: t.TempDir(), key: newKey(t)}
	ca.File = filepath.Join(ca.dir, "ca.pem")
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: "testkit CA"},
		NotBefore:    time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	ca.cert = sign(t, template, template, ca.key, ca.key)
	writePEM(t, ca.File, "CERTIFICATE", ca.cert.Raw)
	return ca
}

// ServerPair issues a server certificate for hosts, which are names or IP addresses.
func (ca *CA) ServerPair(t T, hosts ...string) Pair {
	t.Helper()
	template := &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	return ca.issue(t, "server", template)
}

// ClientPair issues a client certificate.
func (ca *CA) ClientPair(t T) Pair {
	t.Helper()
	return ca.issue(t, "client", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
}

// ClientPairUntil issues a client certificate that is valid until a time, to the second.
func (ca *CA) ClientPairUntil(t T, end time.Time) Pair {
	t.Helper()
	return ca.issue(t, "client", &x509.Certificate{
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, NotAfter: end,
	})
}

// CopyTo overwrites the files of other with those of p, as a renewal on disk does.
func (p Pair) CopyTo(t T, other Pair) {
	t.Helper()
	CopyFile(t, p.KeyFile, other.KeyFile)
	CopyFile(t, p.CertFile, other.CertFile)
}

// CopyFile replaces the file to with a copy of from.
func CopyFile(t T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	must(t, err)
	must(t, os.WriteFile(to, b, 0o600))
}

func (ca *CA) issue(t T, name string, template *x509.Certificate) Pair {
	t.Helper()
	ca.issued++
	template.SerialNumber = big.NewInt(ca.issued)
	template.Subject = pkix.Name{CommonName: "testkit " + name}
	template.NotBefore = ca.cert.NotBefore
	if template.NotAfter.IsZero() {
		template.NotAfter = ca.cert.NotAfter
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	key := newKey(t)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	base := filepath.Join(ca.dir, name+strconv.FormatInt(ca.issued, 10))
	pair := Pair{CertFile: base + ".pem", KeyFile: base + ".key"}
	writePEM(t, pair.CertFile, "CERTIFICATE", sign(t, template, ca.cert, key, ca.key).Raw)
	writePEM(t, pair.KeyFile, "PRIVATE KEY", der)
	return pair
}

// ClientConfig returns the configuration of a client that has pair, for a server of ca whose certificate is for host.
func (ca *CA) ClientConfig(t T, pair Pair, host string) *tls.Config {
	t.Helper()
	cert, err := tls.LoadX509KeyPair(pair.CertFile, pair.KeyFile)
	must(t, err)
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	return &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: host, RootCAs: roots, Certificates: []tls.Certificate{cert},
	}
}

func newKey(t T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return key
}

func sign(t T, template, parent *x509.Certificate, key, parentKey *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return cert
}

func writePEM(t T, path, kind string, der []byte) {
	t.Helper()
	must(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

// StartTLS starts one server that speaks TLS only, with a certificate of ca for localhost, 127.0.0.1 and ::1, and
// that demands a client certificate of ca. CAFile, CertFile and KeyFile are those of a client.
func StartTLS(t T, ca *CA, args ...string) *Server {
	t.Helper()
	s := newServer(t)
	s.start(append(s.useTLS(ca, "localhost", "127.0.0.1", "::1"), args...)...)
	return s
}

// useTLS issues a certificate for hosts and one for a client, and returns the arguments of redis-server that use them.
func (s *Server) useTLS(ca *CA, hosts ...string) []string {
	s.t.Helper()
	server, client := ca.ServerPair(s.t, hosts...), ca.ClientPair(s.t)
	s.CAFile, s.CertFile, s.KeyFile = ca.File, client.CertFile, client.KeyFile
	s.tls = ca.ClientConfig(s.t, client, hosts[0])
	return []string{
		"--tls-auth-clients", "yes", "--tls-replication", "yes",
		"--tls-cert-file", server.CertFile, "--tls-key-file", server.KeyFile, "--tls-ca-cert-file", ca.File,
	}
}

// tlsQuery returns the part of a URL that names the files of a client.
func (s *Server) tlsQuery() string {
	return url.Values{"ca_file": {s.CAFile}, "cert_file": {s.CertFile}, "key_file": {s.KeyFile}}.Encode()
}

// TLSSentinel is one master and one sentinel, which speak TLS only and demand client certificates. The certificate of
// the sentinel is for localhost only, that of the master for 127.0.0.1 only, so a client that verifies one name for
// both fails.
type TLSSentinel struct{ Master, Sentinel *Server }

// StartTLSSentinel starts the pair. The quorum is 1.
func StartTLSSentinel(t T, ca *CA) *TLSSentinel {
	t.Helper()
	set := &TLSSentinel{Master: newServer(t), Sentinel: newServer(t)}
	set.Master.start(set.Master.useTLS(ca, "127.0.0.1")...)
	set.Sentinel.startSentinel(set.Master, 1, set.Sentinel.useTLS(ca, "localhost")...)
	return set
}

// URL reaches the sentinel by the name in its certificate.
func (set *TLSSentinel) URL() string {
	return "rediss://localhost:" + strconv.Itoa(set.Sentinel.Port) + "/" + masterName + "?" + set.Sentinel.tlsQuery()
}
