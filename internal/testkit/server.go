package testkit

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// startAttempts is how many ports are tried before giving up.
const startAttempts = 10

// errPortTaken says that another process bound the chosen port first.
var errPortTaken = errors.New("port taken by another process")

// Server is one redis-server process. Kill, Pause, Resume and Restart are for
// one goroutine at a time; the other methods may be called concurrently.
type Server struct {
	Addr     string // host:port, or the socket's path
	Port     int    // 0 for a unix socket
	Password string // of --requirepass; "" when there is none

	// CAFile, CertFile and KeyFile are what a client of StartTLS's server
	// presents and trusts (PEM); empty otherwise.
	CAFile, CertFile, KeyFile string

	t       testing.TB
	dir     string
	socket  string                   // path of the unix socket, "" for TCP
	tls     *tls.Config              // what our own client uses; nil for plain
	command func(s *Server) []string // the command line for s.Port
	proc    *process
}

// Start starts one server on a free loopback port, without persistence. args
// are further redis-server arguments ("--requirepass", "pw"); they may override
// ours.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	s := newServer(t, args)
	s.command = func(s *Server) []string {
		return append([]string{"--port", strconv.Itoa(s.Port)}, s.baseArgs(args)...)
	}
	s.start()
	return s
}

// StartUnix starts one server that listens on a unix socket only, and returns
// the socket's path.
func StartUnix(t testing.TB, args ...string) (*Server, string) {
	t.Helper()
	s := newServer(t, args)
	s.socket = filepath.Join(s.dir, "redis.sock")
	s.command = func(s *Server) []string {
		own := []string{"--port", "0", "--unixsocket", s.socket, "--unixsocketperm", "700"}
		return slices.Concat(own, s.baseArgs(args))
	}
	s.start()
	return s, s.socket
}

// newServer makes a server that has not been started, and ends it with t.
func newServer(t testing.TB, args []string) *Server {
	t.Helper()
	//nolint:usetesting // not t.TempDir: a unix socket's path may have 108 bytes at most, and a
	// test's name can be longer.
	dir, err := os.MkdirTemp("", "testkit")
	if err != nil {
		t.Fatalf("testkit: %v", err)
	}
	s := &Server{t: t, dir: dir, Password: argValue(args, "--requirepass")}
	t.Cleanup(func() {
		if s.proc != nil {
			_ = s.proc.kill()
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Logf("testkit: %v", err)
		}
	})
	return s
}

// baseArgs is what every server gets, followed by the test's own arguments.
func (s *Server) baseArgs(args []string) []string {
	base := []string{
		"--bind", "127.0.0.1", "--dir", s.dir, "--save", "", "--appendonly", "no",
		"--repl-diskless-sync-delay", "0",
	}
	return slices.Concat(base, args)
}

// argValue is the value that follows name in a redis-server command line.
func argValue(args []string, name string) string {
	for i := 1; i < len(args); i++ {
		if args[i-1] == name {
			return args[i]
		}
	}
	return ""
}

// start chooses a port and launches, again and again while the port it chose
// is taken by somebody else in between.
func (s *Server) start() {
	s.t.Helper()
	for range startAttempts {
		if err := s.choosePort(); err != nil {
			s.t.Fatalf("testkit: %v", err)
		}
		err := s.launch()
		if err == nil {
			return
		}
		if !errors.Is(err, errPortTaken) {
			s.fatal(err)
		}
	}
	s.fatal(fmt.Errorf("no free port in %d attempts", startAttempts))
}

func (s *Server) choosePort() error {
	if s.socket != "" {
		s.Addr = s.socket
		return nil
	}
	port, err := freePort()
	s.Port, s.Addr = port, net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	return err
}

// launch runs the command and waits until this very process answers.
func (s *Server) launch() error {
	logPath := filepath.Join(s.dir, "redis.log")
	if err := os.Remove(logPath); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	proc, err := startProcess(s.command(s), logPath)
	if err != nil {
		return err
	}
	s.proc = proc
	client := redis.NewClient(s.options())
	defer func() { _ = client.Close() }()
	ended := false
	err = poll(startTimeout, func() error {
		if ended = !proc.running(); ended {
			return nil
		}
		return s.ready(client)
	})
	switch {
	case ended && portTaken(s.log()):
		return errPortTaken
	case ended:
		return errors.New("redis-server ended at once")
	case err != nil:
		_ = proc.kill()
	}
	return err
}

// ready tells whether the server that answers is the process we started, not
// another one that has its port. INFO says so; where an ACL denies INFO, the
// process's own log must say that it listens.
func (s *Server) ready(client *redis.Client) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	info, err := client.Info(ctx, "server").Result()
	var reply redis.Error
	switch {
	case errors.As(err, &reply):
		if strings.Contains(s.log(), "Ready to accept connections") {
			return nil
		}
		return err
	case err != nil:
		return err
	}
	if want := fmt.Sprintf("process_id:%d\r\n", s.proc.pid()); !strings.Contains(info, want) {
		return fmt.Errorf("another server answers on %s", s.Addr)
	}
	return nil
}

func (s *Server) log() string {
	b, err := os.ReadFile(filepath.Join(s.dir, "redis.log"))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// fatal stops the test, with what the server said.
func (s *Server) fatal(err error) {
	s.t.Helper()
	if s.command != nil {
		s.t.Logf("testkit: redis-server %q said:\n%s", s.command(s), s.log())
	}
	s.t.Fatalf("testkit: %v", err)
}

// Kill ends the server as a crash would (SIGKILL) and waits until it is gone.
// A server that is already dead stays dead.
func (s *Server) Kill() {
	s.t.Helper()
	if err := s.proc.kill(); err != nil {
		s.t.Fatalf("testkit: %v", err)
	}
}

// Pause stops the process (SIGSTOP): its port still accepts, nobody answers.
func (s *Server) Pause() {
	s.t.Helper()
	if err := s.proc.signal(syscall.SIGSTOP); err != nil {
		s.t.Fatalf("testkit: %v", err)
	}
}

// Resume lets a paused process go on (SIGCONT).
func (s *Server) Resume() {
	s.t.Helper()
	if err := s.proc.signal(syscall.SIGCONT); err != nil {
		s.t.Fatalf("testkit: %v", err)
	}
}

// Restart kills the server if it still runs and starts it again, empty, on the
// same port, and waits until it answers. (A sentinel and a cluster node keep
// what they had written to their configuration.)
func (s *Server) Restart() {
	s.t.Helper()
	s.Kill()
	// Somebody's outgoing connection may hold the port for a moment.
	err := poll(startTimeout, func() error {
		if err := s.launch(); !errors.Is(err, errPortTaken) {
			if err != nil {
				s.fatal(err)
			}
			return nil
		}
		return errPortTaken
	})
	if err != nil {
		s.fatal(err)
	}
}

// URL is the server's address in the form REDIS_URL takes, password included.
func (s *Server) URL() string {
	auth := s.userinfo()
	switch {
	case s.socket != "":
		return "unix://" + auth + s.socket + "?db=0"
	case s.tls != nil:
		return "rediss://" + auth + s.Addr + "/0?" + s.tlsQuery()
	default:
		return "redis://" + auth + s.Addr + "/0"
	}
}

// userinfo is what a URL puts before the host: ":password@" or nothing.
func (s *Server) userinfo() string {
	if s.Password == "" {
		return ""
	}
	return url.UserPassword("", s.Password).String() + "@"
}

// Client returns a client that never retries, closed with t.
func (s *Server) Client(t testing.TB) *redis.Client {
	t.Helper()
	client := redis.NewClient(s.options())
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func (s *Server) options() *redis.Options {
	network := "tcp"
	if s.socket != "" {
		network = "unix"
	}
	return &redis.Options{
		Network: network, Addr: s.Addr, Password: s.Password, TLSConfig: s.tls,
		MaxRetries: -1, DialerRetries: 1, ContextTimeoutEnabled: true, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}
