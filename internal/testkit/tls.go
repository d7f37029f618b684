package testkit

import (
	"net/url"
	"strconv"
	"testing"
)

// StartTLS starts one server that speaks TLS only, with a certificate of ca
// for 127.0.0.1, ::1 and localhost, and demands a client certificate of ca. CAFile,
// CertFile and KeyFile hold what a client needs.
func StartTLS(t testing.TB, ca *CA, args ...string) *Server {
	t.Helper()
	s := newServer(t, args)
	own := s.useTLS(t, ca, "localhost", "127.0.0.1", "::1")
	s.command = func(s *Server) []string {
		return append(append(s.tlsPorts(), own...), s.baseArgs(args)...)
	}
	s.start()
	return s
}

// useTLS issues a certificate for hosts and one for a client, and returns the
// redis-server arguments that do not depend on the port.
func (s *Server) useTLS(t testing.TB, ca *CA, hosts ...string) []string {
	t.Helper()
	server, client := ca.ServerPair(t, hosts...), ca.ClientPair(t)
	s.CAFile, s.CertFile, s.KeyFile = ca.File, client.CertFile, client.KeyFile
	s.tls = ca.clientConfig(t, client, hosts[0])
	return []string{
		"--tls-auth-clients", "yes", "--tls-replication", "yes",
		"--tls-cert-file", server.CertFile, "--tls-key-file", server.KeyFile, "--tls-ca-cert-file", ca.File,
	}
}

func (s *Server) tlsPorts() []string {
	return []string{"--port", "0", "--tls-port", strconv.Itoa(s.Port)}
}

// tlsQuery is the part of a URL that names a client's files.
func (s *Server) tlsQuery() string {
	return url.Values{"ca_file": {s.CAFile}, "cert_file": {s.CertFile}, "key_file": {s.KeyFile}}.Encode()
}

// TLSSentinel is one master and one sentinel, which speak TLS only and demand
// client certificates. The sentinel's certificate is for localhost alone, the
// master's for 127.0.0.1 alone: who verifies one name for both fails.
type TLSSentinel struct{ Master, Sentinel *Server }

// StartTLSSentinel starts the pair; the sentinel's quorum is 1.
func StartTLSSentinel(t testing.TB, ca *CA) *TLSSentinel {
	t.Helper()
	master := newServer(t, nil)
	own := master.useTLS(t, ca, "127.0.0.1")
	master.command = func(s *Server) []string {
		return append(append(s.tlsPorts(), own...), s.baseArgs(nil)...)
	}
	master.start()
	sentinel := newServer(t, nil)
	opts := sentinel.useTLS(t, ca, "localhost")
	conf := sentinel.writeSentinelConf(t, master, 1)
	sentinel.command = func(s *Server) []string {
		return append(append([]string{conf, "--sentinel"}, s.tlsPorts()...), opts...)
	}
	sentinel.start()
	return &TLSSentinel{Master: master, Sentinel: sentinel}
}

// URL reaches the sentinel by the name in its certificate.
func (set *TLSSentinel) URL() string {
	return "rediss://localhost:" + strconv.Itoa(set.Sentinel.Port) + "/" + MasterName + "?" + set.Sentinel.tlsQuery()
}
