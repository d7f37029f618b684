package testkit

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// startAttempts bounds the ports that a start tries.
const startAttempts = 10

// errPortTaken says that another process bound the chosen port first.
var errPortTaken = errors.New("port taken by another process")

// Server is one redis-server.
type Server struct {
	Addr     string // host:port, or the path of the unix socket
	Port     int    // 0 for a unix socket
	Password string // the argument of --requirepass, or ""

	// CAFile, CertFile and KeyFile are the PEM files of a client of a server with TLS, "" without TLS.
	CAFile, CertFile, KeyFile string

	t        T
	dir      string
	args     []string            // of redis-server, without the ports
	freePort func() (int, error) // chooses a port
	socket   string              // path of the unix socket, "" for TCP
	tls      *tls.Config         // of the kit's own clients, nil without TLS
	cluster  bool                // a node of a Cluster, which has a second port
	bus      int                 // that port
	proc     *Process
}

// Start starts one server on a free loopback port. args are further arguments of redis-server ("--requirepass",
// "pw"), which override those of the kit.
func Start(t T, args ...string) *Server {
	t.Helper()
	s := newServer(t)
	s.start(args...)
	return s
}

// StartUnix starts one server that listens on a unix socket only, and returns the path of the socket as well.
func StartUnix(t T, args ...string) (*Server, string) {
	t.Helper()
	s := newServer(t)
	s.socket = filepath.Join(s.dir, "redis.sock")
	s.start(append([]string{"--unixsocket", s.socket, "--unixsocketperm", "700"}, args...)...)
	return s, s.socket
}

// newServer returns a server that has not been started. t removes its directory.
func newServer(t T) *Server {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Fatalf("testkit: redis-server is not installed; run: apt-get install redis-server (%v)", err)
	}
	// The path of a unix socket may have 108 bytes, and t.TempDir can be longer, as it holds the name of the test.
	dir, err := os.MkdirTemp("", "testkit")
	must(t, err)
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Logf("testkit: %v", err)
		}
	})
	return &Server{t: t, dir: dir, freePort: freePort}
}

// start starts a server of Redis data with args after the kit's own arguments.
func (s *Server) start(args ...string) {
	s.t.Helper()
	s.Password = argValue(args, "--requirepass")
	s.args = append([]string{
		"--bind", "127.0.0.1", "--dir", s.dir, "--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0",
	}, args...)
	s.startOnFreePort()
}

// argValue returns the argument that follows name, or "".
func argValue(args []string, name string) string {
	if i := slices.Index(args, name); i >= 0 && i+1 < len(args) {
		return args[i+1]
	}
	return ""
}

// startOnFreePort chooses a port and launches the server, again while another process takes the port in between.
func (s *Server) startOnFreePort() {
	s.t.Helper()
	for range startAttempts {
		s.choosePorts()
		if err := s.launch(); err == nil {
			return
		} else if !errors.Is(err, errPortTaken) {
			s.fatal(err)
		}
	}
	s.fatal(fmt.Errorf("no free port in %d attempts", startAttempts))
}

func (s *Server) choosePorts() {
	s.t.Helper()
	if s.socket != "" {
		s.Addr = s.socket
		return
	}
	var err error
	s.Port, err = s.freePort()
	must(s.t, err)
	s.Addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port))
	if s.cluster {
		s.bus, err = s.freePort()
		must(s.t, err)
	}
}

// command returns the command line. A sentinel's configuration file must be its first argument, so the ports come last.
func (s *Server) command() []string {
	ports := []string{"--port", strconv.Itoa(s.Port)} // 0: none
	if s.tls != nil {
		ports = []string{"--port", "0", "--tls-port", strconv.Itoa(s.Port)}
	}
	if s.cluster {
		ports = append(ports, "--cluster-port", strconv.Itoa(s.bus))
	}
	return slices.Concat([]string{"redis-server"}, s.args, ports)
}

// launch runs the command and waits until that process answers.
func (s *Server) launch() error {
	s.proc = Run(s.t, s.command(), os.Environ())
	client := redis.NewClient(s.options())
	defer func() { _ = client.Close() }()
	err := poll(startTimeout, func() error {
		if !s.proc.Running() {
			return nil
		}
		return s.ready(client)
	})
	switch {
	case s.proc.Running():
		return err
	case strings.Contains(s.proc.Stdout(), "Address already in use"):
		return errPortTaken
	default:
		return errors.New("redis-server ended at once")
	}
}

// ready returns nil if the server that answers is the process of s, not another one that has its port. INFO has the
// process id; where an ACL denies INFO, the log of the process must say that it listens.
func (s *Server) ready(client *redis.Client) error {
	info, err := infoOf(client, "server")
	if reply := redis.Error(nil); errors.As(err, &reply) {
		if strings.Contains(s.proc.Stdout(), "Ready to accept connections") {
			return nil
		}
		return err
	}
	if err == nil && !strings.Contains(info, fmt.Sprintf("process_id:%d\r\n", s.PID())) {
		err = fmt.Errorf("another server answers on %s", s.Addr)
	}
	return err
}

// infoOf returns a section of INFO.
func infoOf(client *redis.Client, section string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return client.Info(ctx, section).Result()
}

// fatal stops the test, and shows what the server said.
func (s *Server) fatal(err error) {
	s.t.Helper()
	s.t.Logf("testkit: %q said:\n%s%s", s.command(), s.proc.Stdout(), s.proc.Stderr())
	s.t.Fatalf("testkit: %v", err)
}

// PID returns the id of the server's process.
func (s *Server) PID() int { return s.proc.PID() }

// Kill ends the server as a crash would (SIGKILL) and waits until it has ended.
func (s *Server) Kill() {
	s.t.Helper()
	s.proc.kill()
}

// Pause stops the process (SIGSTOP): the kernel still accepts connections to its port, but nothing answers.
func (s *Server) Pause() {
	s.t.Helper()
	s.proc.Signal(syscall.SIGSTOP)
}

// Resume continues a paused process (SIGCONT).
func (s *Server) Resume() {
	s.t.Helper()
	s.proc.Signal(syscall.SIGCONT)
}

// Restart kills the server if it runs, starts it again on the same port, empty, and waits until it answers. A
// sentinel and a node of a Cluster keep what they have written to their configuration.
func (s *Server) Restart() {
	s.t.Helper()
	s.Kill()
	// An outgoing connection of another process may hold the port for a moment.
	err := poll(startTimeout, func() error {
		err := s.launch()
		if err != nil && !errors.Is(err, errPortTaken) {
			s.fatal(err)
		}
		return err
	})
	if err != nil {
		s.fatal(err)
	}
}

// URL returns the address in the form that REDIS_URL takes, with the password.
func (s *Server) URL() string {
	switch {
	case s.socket != "":
		return "unix://" + s.userinfo() + s.socket + "?db=0"
	case s.tls != nil:
		return "rediss://" + s.userinfo() + s.Addr + "/0?" + s.tlsQuery()
	default:
		return "redis://" + s.userinfo() + s.Addr + "/0"
	}
}

// userinfo returns what a URL has before the host: ":password@" or "".
func (s *Server) userinfo() string {
	if s.Password == "" {
		return ""
	}
	return url.UserPassword("", s.Password).String() + "@"
}

// Client returns a client that never retries. t closes it.
func (s *Server) Client(t T) *redis.Client {
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
