package daemon

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"testing"

	"github.com/breakerd/breakerd/internal/testkit"
)

func listenTCP(t *testing.T) *net.TCPListener {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestPart_ServesWhereItIsToldUntilItsContextEnds(t *testing.T) {
	t.Parallel()
	mux, stopped := http.NewServeMux(), make(chan bool, 1)
	ctx, stop := context.WithCancel(t.Context())
	l, stderr, exit := listenTCP(t), &testkit.Buffer{}, make(chan int, 1)
	go func() {
		exit <- testProgram(mux, 0, stopped).RunPart(ctx, Part{
			Stderr: stderr, Listeners: map[string]*net.TCPListener{"TEST_LISTEN": l},
		})
	}()
	if err := reach(t.Context(), l.Addr().String(), "/readyz", false); err != nil {
		t.Error(err)
	}
	stop()
	if code, orderly := <-exit, <-stopped; code != exitOK || !orderly {
		t.Errorf("exit code %d, orderly %v: %s", code, orderly, stderr.String())
	}
}

// Several parts in a process have one default logger, which is none of theirs.
func TestPart_LeavesTheDefaultLogger(t *testing.T) {
	before := slog.Default()
	ctx, stop := context.WithCancel(t.Context())
	stop()
	code := testProgram(http.NewServeMux(), 0, make(chan bool, 1)).RunPart(ctx, Part{
		Stderr: &testkit.Buffer{}, Environ: []string{"TEST_LISTEN=127.0.0.1:0"},
	})
	if code != exitOK || slog.Default() != before {
		t.Errorf("exit code %d, another default logger: %v", code, slog.Default() != before)
	}
}

func TestPart_ClosesItsListenersIfItCannotBeConfigured(t *testing.T) {
	t.Parallel()
	l, other := listenTCP(t), listenTCP(t)
	p := Program{Name: "tester", Configure: func([]string) (Config, error) { return Config{}, net.ErrClosed }}
	code := p.RunPart(t.Context(), Part{Stderr: &testkit.Buffer{}, Listeners: map[string]*net.TCPListener{"A": l, "B": other}})
	if code != exitConfig || l.Close() == nil || other.Close() == nil {
		t.Errorf("exit code %d, and a listener is open", code)
	}
}
