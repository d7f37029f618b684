package monitoring

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/breakerd/breakerd/internal/testkit"
)

// way is the way to a server, which can be cut.
type way struct {
	addr, to string

	mu    sync.Mutex
	off   bool
	conns map[net.Conn]bool
}

func newWay(t *testing.T, to string) *way {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &way{addr: l.Addr().String(), to: to, conns: map[net.Conn]bool{}}
	var done sync.WaitGroup
	done.Go(func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			done.Go(func() { w.carry(from) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		w.cut()
		done.Wait()
	})
	return w
}

// carry carries a connection, until one side ends it or the way is cut.
func (w *way) carry(from net.Conn) {
	defer func() { _ = from.Close() }()
	to, err := net.Dial("tcp", w.to)
	if err != nil {
		return
	}
	defer func() { _ = to.Close() }()
	w.mu.Lock()
	if w.off {
		w.mu.Unlock()
		return
	}
	w.conns[from], w.conns[to] = true, true
	w.mu.Unlock()
	var done sync.WaitGroup
	for _, c := range [][2]net.Conn{{from, to}, {to, from}} {
		done.Go(func() {
			_, _ = io.Copy(c[0], c[1])
			_ = from.Close()
			_ = to.Close()
		})
	}
	done.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.conns, from)
	delete(w.conns, to)
}

func (w *way) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.off = true
	for c := range w.conns {
		_ = c.Close()
	}
}

func (w *way) mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.off = false
}

func serve(t *testing.T, handle http.HandlerFunc) (url string) {
	t.Helper()
	s := httptest.NewServer(handle)
	t.Cleanup(s.Close)
	return s.URL
}

// longLived replaces a certificate by one that is valid for a quarter of a year.
func longLived(t *testing.T, pair testkit.Pair) {
	t.Helper()
	dir := t.TempDir()
	fresh := testkit.Pair{CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem")}
	out, err := exec.CommandContext(t.Context(), "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
		"-nodes", "-days", "90", "-subj", "/CN=server", "-addext", "subjectAltName=IP:127.0.0.1",
		"-keyout", fresh.KeyFile, "-out", fresh.CertFile).CombinedOutput()
	if err != nil {
		t.Fatalf("openssl: %v\n%s", err, out)
	}
	fresh.CopyTo(t, pair)
}

// startUnread starts a breakerd that logs much to a pipe.
func startUnread(f *fleet, stderr *os.File) *replica {
	f.t.Helper()
	r := &replica{addr: testkit.FreeAddress(f.t)}
	cmd := exec.Command(filepath.Join(binaries, "breakerd"))
	cmd.Env = []string{
		"REDIS_URL=" + f.redis.URL(), "BREAKERD_LISTEN=" + r.addr, "REPLICA_ID=" + f.name + "-three", "LOG_LEVEL=debug",
	}
	cmd.Stderr = stderr
	if err := cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	_ = stderr.Close() // the process has a descriptor of its own
	f.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	testkit.Eventually(f.t, "the replica that nobody reads", stepWithin, func() error {
		_, err := get(f.t, "http://"+r.addr+"/readyz")
		return err
	})
	return r
}

// drain reads a log until it ends, which is with the program.
func drain(t *testing.T, log *os.File) {
	t.Helper()
	var done sync.WaitGroup
	done.Go(func() {
		var text strings.Builder
		_, _ = io.Copy(&text, log)
	})
	t.Cleanup(func() {
		_ = log.Close()
		done.Wait()
	})
}
