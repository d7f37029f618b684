//go:build nightly

package e2e

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
)

//go:embed testdata/boot.sh
var bootScript string

// machine is a real systemd, the first process of namespaces of its own: it sees no process, network, mount or control
// group of this machine, and none of its units but ours. A Redis with the password "secret" runs beside it.
type machine struct {
	*process

	pid string // of systemd
	ops holder // of a token of breakerd
	dir string // its /etc/breakerd, /run/systemd/system, /usr/local/bin and /var/log
}

func boot(t *testing.T) *machine {
	t.Helper()
	need(t, "systemctl", "unshare", "nsenter", "ip", "redis-server", "curl", "logrotate")
	if os.Getuid() != 0 {
		t.Fatal("systemd in a namespace needs root")
	}
	m := &machine{dir: t.TempDir()}
	for _, d := range []string{"etc", "units", "bin", "log"} {
		if err := os.MkdirAll(filepath.Join(m.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	group := "breakerd-test-" + strconv.Itoa(os.Getpid())
	t.Cleanup(func() { // after the process has ended
		testkit.Eventually(t, "the control groups to be empty", startTimeout, func() error {
			text, err := exec.Command("unshare", "-m", "sh", "-c",
				"mount -t cgroup2 cgroup2 /sys/fs/cgroup && find /sys/fs/cgroup/"+group+" -depth -type d -exec rmdir {} +").CombinedOutput()
			if err != nil {
				return fmt.Errorf("%w: %s", err, text)
			}
			return nil
		})
	})
	m.copyIn(t)
	m.process = spawn(t, []string{"unshare", "--mount", "sh", "-c", bootScript, "boot", m.dir, group}, os.Environ())
	testkit.Eventually(t, "systemd", startTimeout, func() error {
		if !m.Running() {
			t.Fatalf("systemd does not run:\n%s", m.Stderr())
		}
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", m.PID()))
		if m.pid = strings.TrimSpace(string(children)); m.pid == "" {
			return errors.Join(err, errors.New("it has not been started"))
		}
		_, err = m.run("systemctl", "is-active", "breakerd.socket")
		return err
	})
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(m.dir, "log/breakerd/breakerd.log"))
			t.Logf("systemd said:\n%s\nbreakerd said:\n%s", tail(m.Stderr(), 6000), tail(string(log), 6000))
		}
	})
	return m
}

// copyIn fills the directories of the machine with the units and drop-ins of deploy/systemd, unchanged, and the programs.
func (m *machine) copyIn(t *testing.T) {
	t.Helper()
	for from, to := range map[string]string{
		"breakerd.service": "units", "breakerd.socket": "units", "bridge.service": "units", "bridge.socket": "units",
		"breakerd.env": "etc", "bridge.env": "etc", "tmpfiles.conf": "etc", "logrotate": "etc",
		"credentials.conf": "units/breakerd.service.d", "log-to-file.conf": "units/breakerd.service.d",
	} {
		copyFile(t, filepath.Join(unitsDir, from), filepath.Join(m.dir, to, from), 0o644)
	}
	for _, p := range []program{breakerd, bridge} {
		copyFile(t, p.binary(), filepath.Join(m.dir, "bin", p.name), 0o755)
	}
	pair := testkit.NewCA(t).ServerPair(t, "127.0.0.1")
	copyFile(t, pair.CertFile, filepath.Join(m.dir, "etc/tls.crt"), 0o600)
	copyFile(t, pair.KeyFile, filepath.Join(m.dir, "etc/tls.key"), 0o600)
	write(t, filepath.Join(m.dir, "etc/redis-password"), "secret\n")
	m.ops = newHolder(t, "--name", "ops", "--role", "admin")
	writeAuth(t, filepath.Join(m.dir, "etc/auth.yaml"), m.ops)
	// GORACE: the programs of this test have the race detector.
	write(t, filepath.Join(m.dir, "units/breakerd.service.d/test.conf"), "[Service]\nEnvironment=GORACE=atexit_sleep_ms=10\nWatchdogSec=2\n")
	write(t, filepath.Join(m.dir, "units/bridge.service.d/test.conf"),
		"[Service]\nEnvironment=GORACE=atexit_sleep_ms=10 REDIS_PASSWORD=secret\n")
}

func copyFile(t testing.TB, from, to string, mode os.FileMode) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err == nil {
		err = errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, text, mode))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// run runs a command inside the machine.
func (m *machine) run(argv ...string) (string, error) {
	text, err := exec.Command("nsenter", append([]string{"-t", m.pid, "-m", "-p", "-n", "-C", "-i", "-u"}, argv...)...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%q: %w: %s", argv, err, text)
	}
	return strings.TrimSpace(string(text)), err
}

func (m *machine) must(argv ...string) string {
	m.t.Helper()
	text, err := m.run(argv...)
	if err != nil {
		m.t.Fatal(err)
	}
	return text
}

// rotates wants the log that breakerd writes to be rotated under it.
func (m *machine) rotates(t *testing.T) {
	t.Helper()
	const log = "/var/log/breakerd/breakerd.log"
	before := m.must("cat", log)
	m.must("logrotate", "--force", "--state", "/run/logrotate", "/etc/breakerd/logrotate")
	if old := m.must("cat", log+".1"); !strings.HasPrefix(old, before) {
		t.Errorf("the rotated log lacks lines:\n%s", old)
	}
	m.must("curl", "-sSkf", "-X", "POST", "-H", "Authorization: Bearer "+m.ops.token, "-H", "Content-Type: application/json",
		"-d", `{"reason":"rotated"}`, "https://127.0.0.1:18180/v1/admin/circuit_breakers/any/open")
	testkit.Eventually(t, "a line in the new file", startTimeout, func() error {
		if text := m.must("cat", log); !strings.Contains(text, "circuit_breaker.manual_open") || !strings.HasPrefix(text, "{") {
			return errors.New(text)
		}
		return nil
	})
}

// TestSystemd_RunsTheUnits with systemd itself: socket activation, READY=1, credentials, restarts, the watchdog.
func TestSystemd_RunsTheUnits(t *testing.T) {
	t.Parallel()
	m := boot(t)
	show := func(unit, property string) string {
		return m.must("systemctl", "show", "--value", "-p", property, unit)
	}
	m.must("systemd-tmpfiles", "--create", "/etc/breakerd/tmpfiles.conf")
	if state := show("breakerd.service", "ActiveState"); state != "inactive" {
		t.Errorf("breakerd is %s before the first call", state)
	}
	get := []string{"curl", "-sSk", "-o", "/dev/null", "-w", `%{http_code}\n`, "-m", "20", "-H", "Authorization: Bearer " + m.ops.token, "https://127.0.0.1:18180/v1/admin/circuit_breakers"}
	if status := m.must(get...); status != "200" {
		t.Errorf("the first call starts breakerd: status %s", status)
	}
	if state := show("breakerd.service", "ActiveState"); state != "active" {
		t.Errorf("breakerd is %s after the first call", state)
	}
	if text := show("breakerd.service", "StatusText"); text != "serves at https://127.0.0.1:18180" {
		t.Errorf("status %q", text)
	}
	m.must("systemctl", "start", "bridge.socket", "bridge.service") // returns after READY=1
	if status := m.must("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "http://127.0.0.1:8000/readyz"); status != "200" {
		t.Errorf("bridge: /readyz %s", status)
	}

	// Each call has a connection of its own, and nothing is tried again.
	stop := filepath.Join(t.TempDir(), "stop")
	const loops = `for i in 1 2 3 4; do while [ ! -e "$0" ]; do "$@"; done & done; wait`
	calls := spawn(t, append([]string{"nsenter", "-t", m.pid, "-n", "sh", "-c", loops, stop}, get...), os.Environ())
	flow := func() {
		t.Helper()
		want := strings.Count(calls.Stdout(), "\n") + 20
		testkit.Eventually(t, "calls", startTimeout, func() error {
			if got := strings.Count(calls.Stdout(), "\n"); got < want {
				return fmt.Errorf("%d of %d", got, want)
			}
			return nil
		})
	}
	for range 3 {
		flow()
		m.must("systemctl", "restart", "breakerd.service")
	}
	flow()
	write(t, stop, "")
	calls.ExitCode()
	statuses := strings.Fields(calls.Stdout())
	for _, status := range statuses {
		if status != "200" {
			t.Errorf("a call during the restarts: %q; %s", status, calls.Stderr())
		}
	}
	t.Logf("%d calls during three restarts", len(statuses))

	// A process that hangs is ended by the watchdog, and started again.
	before := show("breakerd.service", "MainPID")
	m.must("kill", "-STOP", before)
	testkit.Eventually(t, "the watchdog to end it", startTimeout, func() error {
		if show("breakerd.service", "NRestarts") != "1" || show("breakerd.service", "ActiveState") != "active" {
			return errors.New(show("breakerd.service", "ActiveState"))
		}
		return nil
	})
	if status := m.must(get...); status != "200" {
		t.Errorf("after the watchdog: status %s", status)
	}

	m.rotates(t)

	// The user is systemd's own, and its capabilities are none.
	status := m.must("cat", "/proc/"+show("breakerd.service", "MainPID")+"/status")
	for _, want := range []string{"CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"} {
		if !strings.Contains(status, want) {
			t.Errorf("the process lacks %q:\n%s", want, status)
		}
	}
	if strings.Contains(status, "Uid:\t0\t") {
		t.Error("it runs as root")
	}
	begin := time.Now()
	m.must("systemctl", "stop", "breakerd.socket", "breakerd.service", "bridge.socket", "bridge.service")
	if took := time.Since(begin); took > 15*time.Second {
		t.Errorf("the end took %s", took)
	}
	for _, unit := range []string{"breakerd.service", "bridge.service"} {
		if result := show(unit, "Result"); result != "success" {
			t.Errorf("%s ended with %s", unit, result)
		}
	}
}
