// Package tlsfile reads the PEM files of TLS again while a program runs, so that a renewed certificate is used without
// a restart. What cannot be used, as a renewal that is half written, leaves the last good contents in force.
package tlsfile

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// File is one file, and the name of the setting that says where it is.
type File struct{ Name, Path string }

// Files are those of one end of a connection. An empty path is no file; Cert and Key go together.
type Files struct{ CA, Cert, Key File }

// Contents are what the files held when they were last good. Nobody may change them.
type Contents struct {
	CAs          *x509.CertPool      // nil: no CA file
	Certificates []tls.Certificate   // one, with its Leaf; empty: no certificate
	Authorities  []*x509.Certificate // those of the CA file

	texts [3][]byte
}

// Source reads Files again. It is safe for concurrent use.
type Source struct {
	files Files
	every time.Duration
	whose string
	log   *slog.Logger

	good    atomic.Pointer[Contents]
	problem atomic.Pointer[error]

	mu   sync.Mutex // held while the files are read
	last time.Time
}

// New reads the files once; an error names the setting and the file. Later Current reads them again when the last time
// is more than every ago: it does not go by modification times, which can stay the same over a change. whose is the end
// whose files they are, for the log.
func New(files Files, every time.Duration, whose string, log *slog.Logger) (*Source, error) {
	s := &Source{files: files, every: every, whose: whose, log: log, last: time.Now()}
	good, err := files.load(nil)
	s.good.Store(good)
	return s, err
}

// Current is what the files hold. Who calls while another one reads gets what was good before.
func (s *Source) Current() *Contents {
	if !s.mu.TryLock() {
		return s.good.Load()
	}
	defer s.mu.Unlock()
	good := s.good.Load()
	if time.Since(s.last) < s.every {
		return good
	}
	fresh, err := s.files.load(good)
	s.last = time.Now()
	switch before := s.Problem(); {
	case err != nil && (before == nil || err.Error() != before.Error()):
		s.log.Warn("TLS files of "+s.whose+" cannot be used; the last good ones stay", "error", err)
	case err == nil && fresh != good:
		s.log.Info("TLS files of "+s.whose+" have changed; new connections use them", s.files.attributes()...)
	}
	s.problem.Store(&err)
	if err != nil {
		return good
	}
	s.good.Store(fresh)
	return fresh
}

// Problem is why the files could not be used when they were last read; nil: they could.
func (s *Source) Problem() error {
	if p := s.problem.Load(); p != nil {
		return *p
	}
	return nil
}

func (f Files) attributes() (attrs []any) {
	for _, one := range []File{f.CA, f.Cert, f.Key} {
		if one.Path != "" {
			attrs = append(attrs, one.Name, one.Path)
		}
	}
	return attrs
}

// load reads the files. It returns before, which may be nil, if nothing has changed.
func (f Files) load(before *Contents) (*Contents, error) {
	c := &Contents{}
	same := before != nil
	for i, one := range []File{f.CA, f.Cert, f.Key} {
		if one.Path == "" {
			continue
		}
		text, err := os.ReadFile(one.Path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", one.Name, err)
		}
		if n := torn(text); n != 0 {
			return nil, fmt.Errorf("%s %s: %d PEM blocks are not whole", one.Name, one.Path, n)
		}
		same = same && bytes.Equal(text, before.texts[i])
		c.texts[i] = text
	}
	if same {
		return before, nil
	}
	if f.CA.Path != "" {
		if c.CAs = x509.NewCertPool(); !c.CAs.AppendCertsFromPEM(c.texts[0]) {
			return nil, fmt.Errorf("%s %s holds no PEM certificate", f.CA.Name, f.CA.Path)
		}
		c.Authorities = authorities(c.texts[0])
	}
	if f.Cert.Path != "" {
		pair, err := tls.X509KeyPair(c.texts[1], c.texts[2])
		if err != nil {
			return nil, fmt.Errorf("%s %s and %s %s: %w", f.Cert.Name, f.Cert.Path, f.Key.Name, f.Key.Path, err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// authorities are the certificates of a CA file. What is none is left out, as a pool leaves it out.
func authorities(text []byte) (out []*x509.Certificate) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if c, err := x509.ParseCertificate(block.Bytes); err == nil && block.Type == "CERTIFICATE" {
			out = append(out, c)
		}
	}
	return out
}

// Held are the certificates of a Source: that of its own end, nil without one, and those of the authorities that it
// trusts, none where it trusts the system's. The files are read for it. A nil Source has none.
func (s *Source) Held() (own *x509.Certificate, authorities []*x509.Certificate) {
	if s == nil {
		return nil, nil
	}
	now := s.Current()
	if len(now.Certificates) > 0 {
		own = now.Certificates[0].Leaf
	}
	return own, now.Authorities
}

// torn counts the blocks that have no end: a file that is being written may hold a certificate and a part of its chain.
func torn(text []byte) int {
	n := bytes.Count(text, []byte("-----BEGIN "))
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		n--
	}
	return n
}
