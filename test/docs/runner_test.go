package docs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// result is what one block printed, and its exit code.
type result struct {
	Stdout, Stderr string
	Exit           int
}

// trace is what a page did: the results of its blocks up to the first that failed, and what was left after the last.
type trace struct {
	blocks    []result
	processes string // that still run
	changes   string // git status --porcelain
}

// cloneURL is where the documents clone from. In a page git takes the repository of origin instead.
const cloneURL = "https://github.com/breakerd/breakerd"

// origin is a repository whose one commit is the working tree as it is, without what git ignores.
func origin(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name := range strings.SplitSeq(git(t, root, "ls-files", "-z", "--cached", "--others", "--exclude-standard"), "\x00") {
		if err := copyFile(filepath.Join(dir, name), filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	git(t, dir, "init", "-q", "-b", "main")
	git(t, dir, "add", "-A")
	git(t, dir, "-c", "user.name=docs", "-c", "user.email=docs@localhost", "commit", "-q", "-m", "The tree as it is")
	return dir
}

func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// copyFile copies a file; one that is deleted, or a directory, is none.
func copyFile(to, from string) error {
	info, err := os.Lstat(from)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
		return nil
	}
	text, readErr := os.ReadFile(from)
	if err = errors.Join(err, readErr, os.MkdirAll(filepath.Dir(to), 0o755)); err != nil {
		return err
	}
	return os.WriteFile(to, text, info.Mode().Perm())
}

// runPage runs the blocks of a page one after the other, in one bash and in a fresh clone. As in a reader's terminal,
// variables last from block to block; the first command that fails ends the page. enter is a command that runs another
// one in namespaces of its own; without it the page runs on the machine itself. The clone is dir/breakerd, which a page
// that begins with git clone makes itself.
func runPage(t *testing.T, origin, dir string, enter []string, limit time.Duration, blocks ...string) trace {
	t.Helper()
	clone, work, files := filepath.Join(dir, "breakerd"), dir, t.TempDir()
	if !strings.Contains(blocks[0], "git clone") {
		git(t, dir, "clone", "-q", origin, clone)
		work = clone
		lend(t, filepath.Join(origin, "bin"), filepath.Join(clone, "bin"))
	}
	at := func(i int, what string) string { return filepath.Join(files, strconv.Itoa(i)+"."+what) }
	exit, left := filepath.Join(files, "exit"), filepath.Join(files, "left")
	var page strings.Builder
	fmt.Fprintf(&page, "set -eo pipefail\ntrap 'echo $? >%s' EXIT\n", exit)
	if enter != nil {
		page.WriteString("ip link set lo up\n")
	}
	for i, b := range blocks {
		if err := os.WriteFile(at(i, "sh"), []byte(b+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&page, ". %s >%s 2>%s </dev/null\n", at(i, "sh"), at(i, "out"), at(i, "err"))
	}
	if enter != nil { // /proc shows the namespace, whose first process is this bash
		fmt.Fprintf(&page, "for p in /proc/[0-9]*; do [ $p = /proc/1 ] || tr '\\0' ' ' <$p/cmdline; done >%s 2>/dev/null\n", left)
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	argv := append(slices.Clone(enter), "bash", "--noprofile", "--norc", "-c", page.String())
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env, cmd.WaitDelay = work, environment(origin), 10*time.Second
	said, err := cmd.CombinedOutput()
	var tr trace
	for i := range blocks {
		if _, err := os.Stat(at(i, "out")); err != nil {
			break
		}
		tr.blocks = append(tr.blocks, result{Stdout: text(at(i, "out")), Stderr: text(at(i, "err"))})
	}
	code, exitErr := strconv.Atoi(strings.TrimSpace(text(exit)))
	if exitErr != nil || len(tr.blocks) == 0 {
		t.Fatalf("the page did not end, in block %d of %d: %v\n%s", len(tr.blocks), len(blocks), errors.Join(err, ctx.Err()), said)
	}
	tr.blocks[len(tr.blocks)-1].Exit = code
	tr.processes, tr.changes = text(left), git(t, clone, "status", "--porcelain")
	return tr
}

// lend links the programs that were built of the same commit to where a page builds them: go build finds that they are
// right, and does not link them anew. Without any it does nothing.
func lend(t *testing.T, from, to string) {
	t.Helper()
	programs, err := os.ReadDir(from)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	err = errors.Join(err, os.Mkdir(to, 0o755))
	for _, p := range programs {
		err = errors.Join(err, os.Link(filepath.Join(from, p.Name()), filepath.Join(to, p.Name())))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// text is what a file holds; nothing if it is not there.
func text(path string) string {
	b, _ := os.ReadFile(path)
	return string(b)
}

// environment is the test's, without what would configure breakerd, redis-cli, git or curl. REDIS_TIMEOUT_MS is long,
// because the machine may be under load.
func environment(origin string) []string {
	env := slices.DeleteFunc(os.Environ(), func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		for _, p := range []string{
			"BREAKERD_", "REDIS", "CIRCUIT_BREAKER_", "ENV_FILE", "LOG_", "REPLICA_ID", "BASH_ENV",
			"BRIDGE_", "INBOUND_", "DEMO_", "AGENTS_FILE", "WORKFLOW", "GIT_", "MAKE", "MFLAGS",
		} {
			if strings.HasPrefix(name, p) {
				return true
			}
		}
		return strings.HasSuffix(strings.ToLower(name), "_proxy")
	})
	return append(env, "REDIS_TIMEOUT_MS=2000", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=url."+origin+".insteadOf", "GIT_CONFIG_VALUE_0="+cloneURL)
}

// apart gives the command that runs another one in network and process namespaces of its own. The ports that the
// documents name are free there, and whatever the page has started ends with it.
var apart = sync.OnceValues(func() ([]string, error) {
	enter := []string{"unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"}
	if os.Getuid() != 0 {
		enter = slices.Insert(enter, 1, "--map-root-user")
	}
	out, err := exec.Command(enter[0], append(enter[1:], "ip", "link", "set", "lo", "up")...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("no namespaces (the kernel must allow root, or users, to make them): %w\n%s", err, out)
	}
	return enter, err
})

func enterApart(t *testing.T) []string {
	t.Helper()
	enter, err := apart()
	if err != nil {
		t.Fatal(err)
	}
	return enter
}

// A runner that missed one of these would let a document say anything.
func TestRunner_NoticesFailuresAndWhatIsLeft(t *testing.T) {
	t.Parallel()
	// The block ends once the process that it leaves is tail, and no longer a copy of the shell.
	const leave = "tail -f /dev/null >/dev/null 2>&1 &\nuntil [ \"$(cat /proc/$!/comm)\" = tail ]; do sleep 0.01; done"
	repository, enter := origin(t), enterApart(t)
	for name, c := range map[string]struct {
		blocks []string
		want   trace
	}{
		"the last command":  {[]string{"echo a; echo b >&2", "false", "true"}, trace{blocks: []result{{"a\n", "b\n", 0}, {"", "", 1}}}},
		"an earlier one":    {[]string{"(exit 3)\necho later"}, trace{blocks: []result{{"", "", 3}}}},
		"one of a pipe":     {[]string{"false | cat"}, trace{blocks: []result{{"", "", 1}}}},
		"variables last":    {[]string{"a=1", "echo $a"}, trace{blocks: []result{{"", "", 0}, {"1\n", "", 0}}}},
		"an exit is an end": {[]string{"exit 0", "true"}, trace{blocks: []result{{"", "", 0}}}},
		"a clone":           {[]string{"git clone -q " + cloneURL + "\ncd breakerd", "ls go.mod"}, trace{blocks: []result{{}, {"go.mod\n", "", 0}}}},
		"a process is left": {[]string{leave}, trace{blocks: []result{{}}, processes: "tail -f /dev/null "}},
		"a file is changed": {[]string{"echo >>go.mod; echo >new; mkdir -p bin; echo >bin/ours"}, trace{blocks: []result{{}}, changes: " M go.mod\n?? new\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := runPage(t, repository, t.TempDir(), enter, time.Minute, c.blocks...)
			if !slices.Equal(got.blocks, c.want.blocks) || got.processes != c.want.processes || got.changes != c.want.changes {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}
