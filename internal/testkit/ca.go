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
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// CA is a certificate authority made for one test. Its methods are for the
// test's own goroutine.
type CA struct {
	File string // the CA's certificate, PEM

	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	dir    string
	issued int64
}

// Pair names the PEM files of a certificate and of its key.
type Pair struct{ CertFile, KeyFile string }

// NewCA makes an authority whose files end with t.
func NewCA(t testing.TB) *CA {
	t.Helper()
	ca := &CA{dir: t.TempDir()}
	ca.File = filepath.Join(ca.dir, "ca.pem")
	ca.key = newKey(t)
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

// Wrong makes another authority, equal to ca but for its key: what it signs
// must be refused by whoever trusts ca, and the other way round.
func (ca *CA) Wrong(t testing.TB) *CA {
	t.Helper()
	return NewCA(t)
}

// ServerPair issues a server certificate for hosts, which are names or IP
// addresses.
func (ca *CA) ServerPair(t testing.TB, hosts ...string) Pair {
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
func (ca *CA) ClientPair(t testing.TB) Pair {
	t.Helper()
	return ca.issue(t, "client", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
}

// CopyTo overwrites other's files with p's, as a renewal on disk does.
func (p Pair) CopyTo(t testing.TB, other Pair) {
	t.Helper()
	CopyFile(t, p.KeyFile, other.KeyFile)
	CopyFile(t, p.CertFile, other.CertFile)
}

// CopyFile replaces the file to by a copy of from.
func CopyFile(t testing.TB, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatalf("testkit: %v", err)
	}
	if err := os.WriteFile(to, b, 0o600); err != nil {
		t.Fatalf("testkit: %v", err)
	}
}

func (ca *CA) issue(t testing.TB, name string, template *x509.Certificate) Pair {
	t.Helper()
	ca.issued++
	template.SerialNumber = big.NewInt(ca.issued)
	template.Subject = pkix.Name{CommonName: "testkit " + name}
	template.NotBefore, template.NotAfter = ca.cert.NotBefore, ca.cert.NotAfter
	template.KeyUsage = x509.KeyUsageDigitalSignature
	key := newKey(t)
	cert := sign(t, template, ca.cert, key, ca.key)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatalf("testkit: %v", err)
	}
	base := filepath.Join(ca.dir, name+strconv.FormatInt(ca.issued, 10))
	pair := Pair{CertFile: base + ".pem", KeyFile: base + ".key"}
	writePEM(t, pair.CertFile, "CERTIFICATE", cert.Raw)
	writePEM(t, pair.KeyFile, "PRIVATE KEY", der)
	return pair
}

// clientConfig is what a client that holds pair uses to reach ca's server whose
// certificate is for host.
func (ca *CA) clientConfig(t testing.TB, pair Pair, host string) *tls.Config {
	t.Helper()
	cert, err := tls.LoadX509KeyPair(pair.CertFile, pair.KeyFile)
	if err != nil {
		t.Fatalf("testkit: %v", err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	return &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: host, RootCAs: roots, Certificates: []tls.Certificate{cert},
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatalf("testkit: %v", err)
	}
	return key
}

func sign(t testing.TB, template, parent *x509.Certificate, key, parentKey *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		t.Fatalf("testkit: %v", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatalf("testkit: %v", err)
	}
	return cert
}

func writePEM(t testing.TB, path, kind string, der []byte) {
	t.Helper()
	b := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatalf("testkit: %v", err)
	}
}
