//go:build docker && swarm

package stack_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
)

const (
	engineName  = "breakerd-swarm" // and the process id: of its network namespace and its directory
	engineStart = time.Minute
	engineEnd   = 90 * time.Second
)

// engine is a second Docker Engine, which the test starts: the only node of a Swarm. It has its own network namespace,
// because a Swarm adds to the network of its host. So the machine's own engine and network stay as they are.
type engine struct {
	t    testing.TB
	name string // of the network namespace
	dir  string
	cmd  *exec.Cmd
	log  *testkit.Buffer
	done chan struct{} // closed when the engine has ended
}

// startEngine starts an engine with a Swarm. It ends with the test, and all that it made.
func startEngine(t testing.TB) *engine {
	t.Helper()
	for tool, debian := range map[string]string{"dockerd": "docker.io", "fuse-overlayfs": "fuse-overlayfs", "nsenter": "util-linux", "ip": "iproute2"} {
		if err := need(tool, debian); err != nil {
			t.Fatal(err)
		}
	}
	sweepEngines()
	name := engineName + strconv.Itoa(os.Getpid())
	e := &engine{t: t, name: name, dir: filepath.Join(os.TempDir(), name), log: &testkit.Buffer{}, done: make(chan struct{})}
	t.Cleanup(e.end)
	for _, command := range [][]string{
		{"ip", "netns", "add", e.name},
		{"ip", "-n", e.name, "link", "set", "lo", "up"},
		{"ip", "-n", e.name, "link", "add", "swarm0", "type", "veth", "peer", "name", "swarm1"},
		{"ip", "-n", e.name, "addr", "add", "198.18.0.1/24", "dev", "swarm0"},
		{"ip", "-n", e.name, "link", "set", "swarm0", "up"},
		{"ip", "-n", e.name, "link", "set", "swarm1", "up"},
	} {
		if _, err := run(t.Context(), root, nil, command...); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Mkdir(e.dir, 0o700), os.WriteFile(e.path("config.json"), []byte("{}\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	// Not by `ip netns exec`, which hides the mounts of the control groups.
	e.cmd = exec.Command("nsenter", "--net=/run/netns/"+e.name, "dockerd", "--config-file", e.path("config.json"),
		"--data-root", e.path("data"), "--exec-root", e.path("exec"), "--pidfile", e.path("pid"), "-H", e.host(),
		"--bridge", "none", "--storage-driver", "fuse-overlayfs")
	e.cmd.Stdout, e.cmd.Stderr = e.log, e.log
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for the test, which ends it in order
	if err := e.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = e.cmd.Wait() // the log tells
		close(e.done)
	}()
	testkit.Eventually(t, "a second engine", engineStart, func() error {
		_, err := run(t.Context(), root, e.environ(), "docker", "version")
		return err
	})
	e.docker("swarm", "init", "--advertise-addr", "198.18.0.1")
	e.docker("node", "update", "--label-add", "breakerd.redis=true", strings.TrimSpace(e.docker("node", "ls", "--quiet")))
	return e
}

func (e *engine) path(name string) string { return filepath.Join(e.dir, name) }
func (e *engine) host() string            { return "unix://" + e.path("sock") }
func (e *engine) environ() []string       { return []string{"DOCKER_HOST=" + e.host()} }

// docker runs docker against this engine. It must succeed.
func (e *engine) docker(args ...string) string {
	e.t.Helper()
	out, err := run(e.t.Context(), root, e.environ(), append([]string{"docker"}, args...)...)
	if err != nil {
		e.t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// copyImages copies images from the engine at hand.
func (e *engine) copyImages(names ...string) {
	e.t.Helper()
	save := exec.CommandContext(e.t.Context(), "docker", append([]string{"save"}, names...)...)
	load := exec.CommandContext(e.t.Context(), "docker", "load", "--quiet")
	load.Env = append(os.Environ(), e.environ()...)
	var words bytes.Buffer
	save.Stderr, load.Stderr = &words, &words
	pipe, err := save.StdoutPipe()
	if err != nil {
		e.t.Fatal(err)
	}
	load.Stdin = pipe
	if err := errors.Join(load.Start(), save.Run(), load.Wait()); err != nil {
		e.t.Fatalf("copy %q: %v: %s", names, err, words.String())
	}
}

// end ends the engine and removes what it made.
func (e *engine) end() {
	ctx, cancel := context.WithTimeout(context.Background(), engineEnd)
	defer cancel()
	if e.cmd != nil && e.cmd.Process != nil {
		_, _ = run(ctx, root, e.environ(), "docker", "swarm", "leave", "--force") // ends all tasks
		_ = e.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-e.done:
		case <-ctx.Done():
			_ = e.cmd.Process.Kill()
			<-e.done
		}
	}
	if e.t.Failed() {
		lines := strings.Split(e.log.String(), "\n")
		e.t.Logf("the end of the engine's log:\n%s", strings.Join(lines[max(0, len(lines)-30):], "\n"))
	}
	if err := clearEngine(ctx, e.name); err != nil {
		e.t.Error(err)
	}
}

// sweepEngines removes what a run that was killed has left.
func sweepEngines() {
	left, _ := filepath.Glob(filepath.Join(os.TempDir(), engineName+"*"))
	spaces, _ := filepath.Glob("/run/netns/" + engineName + "*")
	for _, path := range append(left, spaces...) {
		name := filepath.Base(path)
		if m := regexp.MustCompile(`^` + engineName + `(\d+)$`).FindStringSubmatch(name); m != nil && !alive(m[1]) {
			_ = clearEngine(context.Background(), name)
		}
	}
}

// clearEngine kills the processes that have the directory of an engine in their arguments, unmounts what is mounted
// below it, and removes it and the network namespace.
func clearEngine(ctx context.Context, name string) error {
	dir := filepath.Join(os.TempDir(), name)
	for range 50 {
		ids := processesOf(dir)
		if len(ids) == 0 {
			break
		}
		for _, id := range ids {
			_ = syscall.Kill(id, syscall.SIGKILL)
		}
		time.Sleep(100 * time.Millisecond) // nothing tells of the end of others' children
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	lines := slices.Collect(strings.Lines(string(mounts)))
	for _, line := range slices.Backward(lines) {
		if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			err = errors.Join(err, syscall.Unmount(fields[4], syscall.MNT_DETACH))
		}
	}
	err = errors.Join(err, os.RemoveAll(dir))
	if _, statErr := os.Stat("/run/netns/" + name); statErr == nil {
		_, netErr := run(ctx, root, nil, "ip", "netns", "del", name)
		err = errors.Join(err, netErr)
	}
	if err != nil {
		return fmt.Errorf("clear %s: %w", name, err)
	}
	return nil
}

// processesOf returns the processes that have a path below dir in their arguments: engine, containerd, their shims, and
// the file systems of containers.
func processesOf(dir string) (ids []int) {
	paths, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range paths {
		text, _ := os.ReadFile(path)
		id, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if strings.Contains(string(text), dir+"/") && id != os.Getpid() && id > 0 {
			ids = append(ids, id)
		}
	}
	return ids
}
