package ctl_test

import (
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
)

// hostile are variables that a shell may have, and that must not matter.
func hostile() []string {
	return []string{
		"REDIS_URL=redis://127.0.0.1:1", "BREAKERCTL_REDIS=redis://127.0.0.1:1", "BREAKERD_LISTEN=nowhere",
		"BRIDGE_LISTEN=nowhere", "DEMO_LISTEN=nowhere", "AUTH_FILE=/none", "ENV_FILE=/none", "AGENTS_FILE=/none",
		"TLS_CERT_FILE=/none", "CIRCUIT_BREAKER_ENABLED=false", "HISTORY_MINUTES=0", "MAX_AGENTS=1", "HTTP_PROXY=http://127.0.0.1:1",
		"NOTIFY_SOCKET=/none", "WATCHDOG_USEC=1",
	}
}

func startDev(t *testing.T, args ...string) *testkit.Process {
	t.Helper()
	argv := append([]string{which(t), "server", "start-dev"}, args...)
	return testkit.Run(t, argv, append([]string{"PATH=" + os.Getenv("PATH"), "GORACE=atexit_sleep_ms=10"}, hostile()...))
}

func TestStartDev_EndsInOrderAtASignal(t *testing.T) {
	t.Parallel()
	const anyPort = "127.0.0.1:0"
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			p := startDev(t, "--listen", anyPort, "--bridge-listen", anyPort, "--agents-listen", anyPort)
			testkit.Eventually(t, "the banner", 30*time.Second, func() error {
				if !strings.Contains(p.Stdout(), "HGETALL circuit_breaker:payments:control") {
					return errors.New(p.Stderr())
				}
				return nil
			})
			begin := time.Now()
			p.Signal(signal)
			if code := p.ExitCode(); code != 0 || time.Since(begin) > 5*time.Second {
				t.Errorf("exit code %d after %v: %s", code, time.Since(begin), p.Stderr())
			}
		})
	}
}

func TestStartDev_SaysWhichAddressIsTaken(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	busy := l.Addr().String()
	p := startDev(t, "--listen", testkit.FreeAddress(t), "--bridge-listen", busy)
	if code := p.ExitCode(); code != 1 || p.Stdout() != "" ||
		!strings.Contains(p.Stderr(), "error: --bridge-listen: listen tcp "+busy+": bind: address already in use\n") ||
		!strings.Contains(p.Stderr(), "next: end who listens there, or take a free port: --bridge-listen 127.0.0.1:0\n") {
		t.Errorf("exit code %d: %s", code, p.Stderr())
	}
}
