//go:build docker

package stack_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

const (
	buildTimeout = 10 * time.Minute // compiles everything on two cores
	projectName  = "stack%d_%d"     // process id, counter
	stacksAtOnce = "4"              // on any number of cores, since stacks mostly wait
)

// images are the images that the stacks run, as NAME=IMAGE. TestMain makes them once.
var images []string

func TestMain(m *testing.M) {
	err := flag.Set("test.parallel", stacksAtOnce) // -parallel on the command line wins
	err = errors.Join(err, need("docker", "docker.io"), need("docker-compose", "docker-compose"))
	if err == nil {
		_, err = run(context.Background(), root, nil, "docker", "version")
	}
	if err == nil {
		sweep()
		err = makeImages()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "stack:", err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		for _, image := range images {
			if _, name, _ := strings.Cut(image, "="); strings.HasSuffix(name, ownTag()) {
				_, _ = run(context.Background(), root, nil, "docker", "rmi", name)
			}
		}
		os.Exit(code)
	}))
}

func need(tool, debian string) error {
	if _, err := exec.LookPath(tool); err != nil {
		return fmt.Errorf("%s is not installed; run: apt-get install %s", tool, debian)
	}
	return nil
}

// ownTag tells the images of this run from those of a person and of another run.
func ownTag() string { return fmt.Sprintf(":stack%d", os.Getpid()) }

// makeImages builds the images of the programs, from those that the environment names or from the stand-ins of
// deploy/offline.
func makeImages() error {
	ctx, cancel := context.WithTimeout(context.Background(), buildTimeout)
	defer cancel()
	if os.Getenv("REDIS_IMAGE") == "" || os.Getenv("RUNTIME_IMAGE") == "" || os.Getenv("BUILD_IMAGE") == "" {
		out, err := run(ctx, root, nil, "deploy/offline/build")
		if err != nil {
			return err
		}
		images = strings.Fields(strings.TrimPrefix(out, "export "))
	}
	images = append(images, "BREAKERD_IMAGE=breakerd"+ownTag(), "BRIDGE_IMAGE=breakerd-bridge"+ownTag())
	_, err := run(ctx, root, images, "docker-compose", "build", "breakerd", "bridge")
	return err
}

// run runs a command in a directory, with variables added to those of the test, and returns its standard output.
func run(ctx context.Context, dir string, environ []string, command ...string) (string, error) {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), environ...)
	var out, words bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &words
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%q: %w\n%s%s", command, err, out.String(), words.String())
	}
	return out.String(), nil
}

// sweep removes what a run that was killed has left: its containers would start with the machine.
func sweep() {
	ctx := context.Background()
	for _, kind := range [][]string{{"container", "ls", "-a"}, {"network", "ls"}, {"volume", "ls"}} {
		command := slices.Concat([]string{"docker"}, kind, []string{"--format", `{{.Label "com.docker.compose.project"}}`})
		out, _ := run(ctx, root, nil, command...)
		for name := range strings.FieldsSeq(out) {
			if found := regexp.MustCompile(`^stack(\d+)_\d+$`).FindStringSubmatch(name); found != nil && !alive(found[1]) {
				remove(ctx, kind[0], name)
			}
		}
	}
}

func alive(pid string) bool {
	n, err := strconv.Atoi(pid)
	if err != nil {
		return false
	}
	process, err := os.FindProcess(n)
	return err == nil && process.Signal(syscall.Signal(0)) == nil
}

// remove removes the containers, networks or volumes of a project.
func remove(ctx context.Context, kind, project string) {
	list := []string{"docker", kind, "ls", "-q", "--filter", "label=com.docker.compose.project=" + project}
	if kind == "container" {
		list = append(list, "-a")
	}
	out, _ := run(ctx, root, nil, list...)
	if ids := strings.Fields(out); len(ids) > 0 {
		_, _ = run(ctx, root, nil, append([]string{"docker", kind, "rm", "-f"}, ids...)...)
	}
}
