package docs

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// runnerDir in the environment turns this test binary into the runner of one document: it reads a job from its standard input,
// runs it in a network of its own, and writes the results to its standard output. When it ends, the kernel ends what it started.
const runnerDir = "BREAKERD_DOCS_RUNNER_DIR"

func TestMain(m *testing.M) {
	dir := os.Getenv(runnerDir)
	if dir == "" {
		os.Exit(m.Run())
	}
	if err := run(dir); err != nil {
		fmt.Fprintln(os.Stderr, "runner:", err)
		os.Exit(1)
	}
}

// command is one sh block; a command with Ready stays in the foreground, and is up when it has printed that on either output.
type command struct {
	Text  string `json:"text"`
	Ready string `json:"ready"`
}

// result is what a command came to.
type result struct {
	Stdout string `json:"stdout"`
	Stderr string `json:"stderr"`
	Exit   int    `json:"exit"`
}

func run(dir string) error {
	var job []command
	if err := json.NewDecoder(os.Stdin).Decode(&job); err != nil {
		return err
	}
	if err := loopbackUp(); err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	shell, err := startShell(dir)
	if err != nil {
		return err
	}
	var results []result
	for i, c := range job {
		var r result
		if c.Ready != "" {
			r, err = foreground(dir, c)
		} else {
			r, err = shell.run(strconv.Itoa(i), c.Text)
		}
		if err != nil {
			return fmt.Errorf("%w\n%s", err, c.Text)
		}
		results = append(results, r)
		if r.Exit != 0 {
			break
		}
	}
	return json.NewEncoder(os.Stdout).Encode(results)
}

// loopbackUp brings lo up, as `ip link set lo up` would.
func loopbackUp() error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = syscall.Close(fd) }()
	var request struct {
		name  [syscall.IFNAMSIZ]byte
		flags uint16
		_     [22]byte
	}
	copy(request.name[:], "lo")
	request.flags = syscall.IFF_UP | syscall.IFF_RUNNING
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return errno
	}
	lo, err := net.InterfaceByName("lo")
	if err == nil && lo.Flags&net.FlagUp == 0 {
		err = errors.New("lo stays down")
	}
	return err
}

// shell is one bash for a whole document, as a reader's terminal is: variables last from block to block.
type shell struct {
	dir   string // for files
	stdin io.Writer
	exits *bufio.Scanner // a line for each block that did not end the shell
}

func startShell(dir string) (*shell, error) {
	files, err := os.MkdirTemp("", "docs")
	if err != nil {
		return nil, err
	}
	exits, theirs, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("bash", "--noprofile", "--norc")
	cmd.Dir, cmd.ExtraFiles = dir, []*os.File{theirs}
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	stdin, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	_ = theirs.Close()
	return &shell{dir: files, stdin: stdin, exits: bufio.NewScanner(exits)}, err
}

// run runs a block; the first command that fails ends it, and the shell.
func (s *shell) run(name, text string) (r result, err error) {
	at := func(what string) string { return filepath.Join(s.dir, name+"."+what) }
	if err := os.WriteFile(at("sh"), []byte("set -eo pipefail\n"+text+"\n"), 0o600); err != nil {
		return r, err
	}
	// Descriptor 3 is ours: what a block leaves running must not hold it.
	_, err = fmt.Fprintf(s.stdin, "trap 'echo $? >%s' EXIT\n. %s >%s 2>%s </dev/null 3>&-\ntrap - EXIT; echo 0 >&3\n",
		at("exit"), at("sh"), at("out"), at("err"))
	if err != nil {
		return r, err
	}
	if !s.exits.Scan() { // the shell has ended
		exit, err := os.ReadFile(at("exit"))
		if err == nil {
			r.Exit, err = strconv.Atoi(strings.TrimSpace(string(exit)))
		}
		if err != nil {
			return r, errors.Join(err, s.exits.Err())
		}
	}
	stdout, outErr := os.ReadFile(at("out"))
	stderr, errErr := os.ReadFile(at("err"))
	r.Stdout, r.Stderr = string(stdout), string(stderr)
	return r, errors.Join(err, outErr, errErr)
}

// foreground starts what a reader leaves running in another terminal, and returns when it is up.
func foreground(dir string, c command) (r result, err error) {
	out, theirs, err := os.Pipe()
	if err != nil {
		return r, err
	}
	cmd := exec.Command("bash", "-c", c.Text)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, theirs, theirs
	err = cmd.Start()
	_ = theirs.Close()
	if err != nil {
		return r, err
	}
	timer := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		r.Stdout += lines.Text() + "\n"
		if strings.Contains(lines.Text(), c.Ready) {
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return r, nil
		}
	}
	return r, errors.Join(errors.New("it did not come up: "+r.Stdout), cmd.Wait())
}
