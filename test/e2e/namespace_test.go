package e2e

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/breakerd/breakerd/internal/testkit"
)

// namespace is a network namespace with a loopback device only, in which the ports that documents name are free.
type namespace struct{ enter []string } // the command that runs another in it

func newNamespace(t testing.TB) namespace {
	t.Helper()
	need(t, "unshare", "nsenter", "ip")
	unshare, enter := []string{"unshare", "-n"}, []string{"nsenter", "-n"}
	if os.Geteuid() != 0 { // root of a new user namespace
		unshare, enter = []string{"unshare", "-r", "-n"}, []string{"nsenter", "-U", "--preserve-credentials", "-n"}
	}
	p := spawn(t, append(unshare, "sh", "-c", "ip link set lo up && echo ready && exec sleep infinity"), os.Environ())
	testkit.Eventually(t, "a network namespace", startTimeout, func() error {
		if strings.Contains(p.Stdout(), "ready") {
			return nil
		}
		if !p.Running() {
			t.Fatalf("no network namespace: %s\nrun the tests as root, or in a container with --cap-add SYS_ADMIN, "+
				"or allow user namespaces (sysctl kernel.unprivileged_userns_clone=1)", p.Stderr())
		}
		return errors.New("not ready")
	})
	return namespace{append(enter, "-t", strconv.Itoa(p.PID()))}
}

// redis starts a server on Redis' usual port.
func (ns namespace) redis(t testing.TB) {
	t.Helper()
	need(t, "redis-server", "redis-cli")
	p := spawn(t, append(slices.Clone(ns.enter), "redis-server", "--port", "6379", "--bind", "127.0.0.1", "--save", ""), os.Environ())
	ping := append(slices.Clone(ns.enter), "redis-cli", "PING")
	testkit.Eventually(t, "redis-server on port 6379", startTimeout, func() error {
		if out, err := exec.CommandContext(t.Context(), ping[0], ping[1:]...).CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "PONG" {
			return errors.New(string(out) + p.Stdout())
		}
		return nil
	})
}
