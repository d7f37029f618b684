package daemon

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
)

// told is what a program sends to its manager.
type told struct {
	mu  sync.Mutex
	all []string
}

func (s *told) notify(state string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, state)
	return nil
}

// first are the first lines of all messages so far, the same in a row once.
func (s *told) first() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var lines []string
	for _, m := range s.all {
		line, _, _ := strings.Cut(m, "\n")
		if len(lines) == 0 || lines[len(lines)-1] != line {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, " ")
}

// eventually waits until the messages begin so.
func (s *told) eventually(t *testing.T, want string) {
	t.Helper()
	testkit.Eventually(t, want, 20*time.Second, func() error {
		if got := s.first(); got != want {
			return errors.New(got)
		}
		return nil
	})
}

func TestNotify_SaysReadyAliveAndStopping(t *testing.T) {
	t.Parallel()
	began, release := make(chan struct{}, 1), make(chan struct{})
	mux := hold(began, release)
	mux.HandleFunc("/livez", func(http.ResponseWriter, *http.Request) {})
	s, stopped := &told{}, make(chan bool, 1)
	r := startManaged(t, testProgram(mux, time.Minute, stopped), stopped, manager{notify: s.notify, watchdog: 100 * time.Millisecond})
	s.eventually(t, "READY=1 WATCHDOG=1")
	res, err := r.get(false, "/hold")
	if err != nil {
		t.Fatal(err)
	}
	<-began
	r.signals <- syscall.SIGTERM
	s.eventually(t, "READY=1 WATCHDOG=1 STOPPING=1 WATCHDOG=1") // it lives on while a call is under way
	close(release)
	if _, err := io.ReadAll(res.Body); err != nil {
		t.Error(err)
	}
	_ = res.Body.Close()
	r.wantExit(exitOK)
	all := strings.Join(s.all, "\n")
	for _, want := range []string{"\nSTATUS=serves at " + r.url + "\n", "\nSTATUS=stopping, calls have 1m0s to end\nEXTEND_TIMEOUT_USEC=65000000\n"} {
		if !strings.Contains(all, want) {
			t.Errorf("nobody was told %q:\n%s", want, all)
		}
	}
}

// A listener that accepts connections and answers nothing is no sign of life.
func TestWatchdog_StopsWhileTheListenerDoesNotAnswer(t *testing.T) {
	t.Parallel()
	began, release := make(chan struct{}, 100), make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/livez", func(http.ResponseWriter, *http.Request) {
		began <- struct{}{}
		<-release
	})
	s, stopped := &told{}, make(chan bool, 1)
	startManaged(t, testProgram(mux, time.Minute, stopped), stopped, manager{notify: s.notify, watchdog: 100 * time.Millisecond})
	for range 3 {
		<-began
	}
	if got := s.first(); got != "READY=1" {
		t.Error(got)
	}
	close(release)
	s.eventually(t, "READY=1 WATCHDOG=1")
}

// file is a duplicate of a socket, with a name, as systemd passes it.
func file(t *testing.T, socket interface{ File() (*os.File, error) }, name string) *os.File {
	t.Helper()
	f, err := socket.File()
	if err != nil {
		t.Fatal(err)
	}
	return named(t, f, name)
}

// named gives an open file another name.
func named(t *testing.T, f *os.File, name string) *os.File {
	t.Helper()
	fd, err := syscall.Dup(int(f.Fd()))
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), name)
}

func tcp(t *testing.T, network, address string) *net.TCPListener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.(*net.TCPListener)
}

func TestSockets_AreServedAndJudgedByTheirAddress(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"TEST_LISTEN", "tester.socket", "LISTEN_FD_3"} {
		held, stopped := tcp(t, "tcp", "127.0.0.1:0"), make(chan bool, 1)
		p := testProgram(http.NewServeMux(), 0, stopped)
		p.Sockets = []string{"TEST_LISTEN", "OTHER_LISTEN"}
		r := startManaged(t, p, stopped, manager{sockets: []*os.File{file(t, held, name)}})
		if want := "http://" + held.Addr().String(); r.url != want { // its variable says port 0
			t.Errorf("%s: it listens at %s, want %s", name, r.url, want)
		}
		res, err := r.get(false, "/readyz")
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("%s: %v %v", name, res, err)
		}
		_ = res.Body.Close()
		if !strings.Contains(r.stderr.String(), `"inherited":true`) {
			t.Error(r.stderr.String())
		}
	}
	got := inherited{"A": tcp(t, "tcp4", "0.0.0.0:0")}
	if all := got.environ([]string{"A=127.0.0.1:1", "AB=x", "A=2"}); len(all) != 2 || all[0] != "AB=x" || all[1] != "A="+got["A"].Addr().String() {
		t.Error(all)
	}
}

func TestSockets_ThatFitNoListenerAreRefused(t *testing.T) {
	t.Parallel()
	stream, path := tcp(t, "tcp", "127.0.0.1:0"), filepath.Join(t.TempDir(), "s")
	unix, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close()
	conn, err := net.Dial("tcp", stream.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer packets.Close()
	regular, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	for want, files := range map[string][]*os.File{
		`socket "web" of systemd: tester has no such listener: want FileDescriptorName to be TEST_LISTEN or OTHER_LISTEN`: {file(t, stream, "web")},
		`socket "LISTEN_FD_4" of systemd: tester has no such listener`:                                                    {file(t, stream, "TEST_LISTEN"), file(t, stream, "LISTEN_FD_4")},
		`a second one for TEST_LISTEN`:                           {file(t, stream, "TEST_LISTEN"), file(t, stream, "TEST_LISTEN")},
		`is of unix: want TCP`:                                   {file(t, unix.(*net.UnixListener), "TEST_LISTEN")},
		`want Accept=no`:                                         {file(t, conn.(*net.TCPConn), "TEST_LISTEN")},
		`want a listening TCP socket: `:                          {file(t, packets.(*net.UDPConn), "TEST_LISTEN")},
		`TEST_LISTEN" of systemd: want a listening TCP socket: `: {named(t, regular, "TEST_LISTEN")},
	} {
		var stderr bytes.Buffer
		p := testProgram(http.NewServeMux(), 0, nil)
		p.Sockets = []string{"TEST_LISTEN", "OTHER_LISTEN"}
		code := p.run(t.Context(), nil, []string{"TEST_LISTEN=127.0.0.1:0"}, io.Discard, &stderr, nil, manager{sockets: files})
		if code != exitConfig || !strings.Contains(stderr.String(), want) {
			t.Errorf("exit code %d, want %q: %s", code, want, stderr.String())
		}
	}
}

// net/http closes without an answer a connection whose first request it reads after Shutdown has begun.
func TestDrain_AnswersConnectionsThatWereAccepted(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.HandleFunc("/late", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "whole") })
	r := start(t, mux, time.Minute)
	address := strings.TrimPrefix(r.url, "http://")
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	res, err := r.get(false, "/readyz") // connections are accepted in their order
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	r.signals <- syscall.SIGTERM
	testkit.Eventually(t, "the listener to close", 20*time.Second, func() error {
		if other, err := net.Dial("tcp", address); err == nil {
			return errors.Join(errors.New("it still listens"), other.Close())
		}
		return nil
	})
	if _, err := io.WriteString(conn, "GET /late HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(text), "HTTP/1.1 200 OK\r\n") || !strings.HasSuffix(string(text), "whole") || !strings.Contains(string(text), "Connection: close") {
		t.Errorf("%q %v", text, err)
	}
	r.wantExit(exitOK)
}
