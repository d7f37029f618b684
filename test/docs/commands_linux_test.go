package docs

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
)

var update = flag.Bool("update", false, "write into the documents what their commands print")

// notRun are the blocks that cannot run here, each with the reason.
func notRun() map[string]string {
	return map[string]string{
		"git clone https://github.com/breakerd/breakerd\ncd breakerd": "there is no network: the runner's directory is such a clone",
		"make test": "this test is a part of it",
	}
}

// stayInForeground are the blocks that a reader leaves running, with what they print when they are up.
func stayInForeground() map[string]string { return map[string]string{"make run": `"msg":"listening"`} }

func TestTheCommandsOfTheDocumentsDoWhatTheDocumentsSay(t *testing.T) {
	t.Parallel()
	left, started := notRun(), stayInForeground()
	programs := t.TempDir()
	build := exec.Command("go", "build", "-trimpath", "-o", programs, "./cmd/...")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, d := range documents(t) {
		var job []command
		var of []int // the block of each command
		for i, b := range d.blocks {
			if b.lang != "sh" {
				continue
			}
			if notRun()[b.text] != "" {
				delete(left, b.text)
				continue
			}
			delete(started, b.text)
			job, of = append(job, command{b.text, stayInForeground()[b.text]}), append(of, i)
		}
		if len(job) > 0 {
			t.Run(d.name, func(t *testing.T) {
				t.Parallel()
				d.check(t, of, runJob(t, programs, job))
			})
		}
	}
	for text := range left {
		t.Errorf("stands in the list of what is not run, but in no document: %s", text)
	}
	for text := range started {
		t.Errorf("stands in the list of what stays in the foreground, but in no document: %s", text)
	}
}

// check compares what each command printed with what the document shows; -update writes it there instead.
func (d document) check(t *testing.T, of []int, results []result) {
	t.Helper()
	type change struct {
		at   block
		text string
	}
	var changes []change
	for n, r := range results {
		b := d.blocks[of[n]]
		if r.Exit != 0 {
			t.Errorf("%s:%d: exit %d\n%s\n%s%s", d.name, b.line, r.Exit, b.text, r.Stdout, r.Stderr)
			return
		}
		shown := d.printed(of[n])
		if shown == nil || same(shown.lang, shown.text, r.Stdout) {
			continue
		}
		if *update {
			changes = append(changes, change{*shown, strings.TrimSpace(strings.ReplaceAll(r.Stdout, "\r", ""))})
			continue
		}
		t.Errorf("%s:%d: %s\nprints\n%s\n%sthe document shows\n%s", d.name, b.line, b.text, r.Stdout, r.Stderr, shown.text)
	}
	slices.Reverse(changes)
	lines := d.lines
	for _, c := range changes {
		end := c.at.line + strings.Count(c.at.text, "\n") + 1
		if c.at.text == "" && lines[c.at.line] == "```" {
			end = c.at.line
		}
		lines = slices.Concat(lines[:c.at.line], strings.Split(c.text, "\n"), lines[end:])
	}
	if len(changes) > 0 {
		if err := os.WriteFile(filepath.Join(root, d.name), []byte(strings.Join(lines, "\n")), 0o644); err != nil {
			t.Error(err)
		}
	}
}

// runJob runs the commands in a copy of the working tree, in a network and among processes of their own.
func runJob(t *testing.T, programs string, job []command) []result {
	t.Helper()
	dir, scratch := t.TempDir(), t.TempDir()
	if err := copyTree(dir, programs); err != nil {
		t.Fatal(err)
	}
	in, err := json.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	attempts := []*syscall.SysProcAttr{isolated(false), isolated(true)}
	if os.Getuid() != 0 {
		attempts = attempts[1:]
	}
	runtime.LockOSThread() // Pdeathsig goes by the thread that forks
	defer runtime.UnlockOSThread()
	for _, attr := range attempts {
		var stdout, stderr bytes.Buffer
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env, cmd.SysProcAttr = append(environment(dir), "TMPDIR="+scratch), attr
		cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &stdout, &stderr
		if err = cmd.Run(); errors.Is(err, syscall.EPERM) {
			continue
		}
		var results []result
		if err == nil {
			err = json.Unmarshal(stdout.Bytes(), &results)
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, stderr.String())
		}
		return results
	}
	t.Fatalf("no network namespace: %v (the kernel must allow root, or user namespaces, to make one)", err)
	return nil
}

// isolated asks for a network, and for processes that end with the runner.
func isolated(user bool) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	if user {
		a.Cloneflags |= syscall.CLONE_NEWUSER
		a.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	return a
}

// environment is ours without what would steer breakerd, redis-cli or curl. The patience is that of a machine under load.
func environment(dir string) []string {
	env := slices.DeleteFunc(os.Environ(), func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		for _, p := range []string{
			"BREAKERD_", "REDIS", "CIRCUIT_BREAKER_", "ENV_FILE", "LOG_", "REPLICA_ID", "BASH_ENV",
			"BRIDGE_", "INBOUND_", "DEMO_", "AGENTS_FILE", "WORKFLOW",
		} {
			if strings.HasPrefix(name, p) {
				return true
			}
		}
		return strings.HasSuffix(strings.ToLower(name), "_proxy")
	})
	return append(env, runnerDir+"="+dir, "REDIS_TIMEOUT_MS=2000")
}

// copyTree copies the working tree, and the programs to where make build would put them.
func copyTree(to, programs string) error {
	return errors.Join(copyFiles(to, root), copyFiles(filepath.Join(to, "bin"), programs))
}

func copyFiles(to, from string) error {
	return filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		rel, relErr := filepath.Rel(from, path)
		if err = errors.Join(err, relErr); err != nil {
			return err
		}
		switch {
		case e.IsDir() && (rel == ".git" || rel == "bin"):
			return filepath.SkipDir
		case e.IsDir():
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		case !e.Type().IsRegular():
			return nil
		}
		return copyFile(filepath.Join(to, rel), path)
	})
}

func copyFile(to, from string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, text, info.Mode().Perm())
}
