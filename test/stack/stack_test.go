//go:build docker

package stack_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
)

const (
	healthTimeout = 90 * time.Second // from up to healthy on a busy machine
	downTimeout   = 2 * time.Minute
)

// stack is the containers of one project. Its methods must be called from the goroutine of the test.
type stack struct {
	t       testing.TB
	project string
	dir     string   // a copy of the project, which the test may edit
	files   []string // compose files
	environ []string
	client  *http.Client
	ports   map[string]string // cache of address, cleared with every start of a container
}

var projects atomic.Int64

// newStack prepares a stack of compose files with a name, ports and a subnet of its own. environ, as NAME=VALUE,
// overrides those. Nothing runs before up, and everything ends with the test.
func newStack(t testing.TB, files []string, environ ...string) *stack {
	t.Helper()
	n := projects.Add(1)
	s := &stack{t: t, project: fmt.Sprintf(projectName, os.Getpid(), n), dir: copyProject(t), files: files, ports: map[string]string{}}
	s.client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}
	s.environ = append(s.environ, images...)
	s.environ = append(s.environ, "BREAKERD_PORT=0", "BRIDGE_PORTS=0", "DEMO_PORT=0", "COMPOSE_HTTP_TIMEOUT=300",
		fmt.Sprintf("PRIVATE_NET=10.%d.%d", 182+n%60, os.Getpid()%250))
	s.environ = append(s.environ, environ...)
	t.Cleanup(s.end)
	return s
}

// copyProject copies the files that `docker-compose up --build` needs.
func copyProject(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	files, err := filepath.Glob(filepath.Join(root, "docker-compose*.yml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("compose files: %v", err)
	}
	for _, name := range []string{".dockerignore", ".env", "go.mod", "go.sum"} {
		files = append(files, filepath.Join(root, name))
	}
	for _, from := range files { // with the modes of a clone, or a build would miss the cache of TestMain's build
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(from)), []byte(read(t, filepath.Base(from))), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"cmd", "deploy", "internal", "lua", "pkg"} {
		if err := os.CopyFS(filepath.Join(dir, name), os.DirFS(filepath.Join(root, name))); err != nil {
			t.Fatal(err)
		}
	}
	for _, secret := range []string{"deploy/secrets", "deploy/tls/certs"} { // of the person who runs the test
		if err := os.RemoveAll(filepath.Join(dir, secret)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// end takes the stack down. If the test has failed, it shows the end of the logs.
func (s *stack) end() {
	ctx, cancel := context.WithTimeout(context.Background(), downTimeout)
	defer cancel()
	if s.t.Failed() {
		state, _ := s.runCompose(ctx, "ps")
		logs, _ := s.runCompose(ctx, "logs", "--no-color", "--tail", "15")
		s.t.Logf("%s\n%s", state, logs)
	}
	if _, err := s.runCompose(ctx, "down", "--volumes", "--remove-orphans", "--timeout", "2"); err != nil {
		s.t.Error(err)
	}
}

// runCompose runs docker-compose for this stack, with the profile demo.
func (s *stack) runCompose(ctx context.Context, args ...string) (string, error) {
	command := []string{"docker-compose", "--project-name", s.project, "--profile", "demo"}
	for _, f := range s.files {
		command = append(command, "--file", f)
	}
	return run(ctx, s.dir, s.environ, append(command, args...)...)
}

// compose runs docker-compose for this stack. It must succeed.
func (s *stack) compose(args ...string) string {
	s.t.Helper()
	clear(s.ports)
	out, err := s.runCompose(s.t.Context(), args...)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// docker runs docker. It must succeed.
func (s *stack) docker(args ...string) string {
	s.t.Helper()
	out, err := run(s.t.Context(), s.dir, nil, append([]string{"docker"}, args...)...)
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// script runs a command of the project, such as deploy/redis/make-password. It must succeed.
func (s *stack) script(command ...string) string {
	s.t.Helper()
	out, err := run(s.t.Context(), s.dir, s.environ, command...)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// up starts services and waits until they are healthy.
func (s *stack) up(services ...string) {
	s.t.Helper()
	s.compose(append([]string{"up", "--detach", "--no-build"}, services...)...)
	s.awaitHealthy(services...)
}

// restart restarts services, as an operator does after an edit. It may change the published ports.
func (s *stack) restart(services ...string) {
	s.t.Helper()
	s.compose(append([]string{"restart"}, services...)...)
	s.awaitHealthy(services...)
}

// awaitHealthy waits for every container of the services.
func (s *stack) awaitHealthy(services ...string) {
	s.t.Helper()
	for _, service := range services {
		testkit.Eventually(s.t, service+" to be healthy", healthTimeout, func() error {
			for _, id := range s.containers(service) {
				if health := s.docker("inspect", "--format", "{{.State.Status}} {{.State.Health.Status}}", id); health != "running healthy" {
					return fmt.Errorf("container %s is %s", id, health)
				}
			}
			return nil
		})
	}
}

// containers returns the ids of the containers of a service, running or not, in the order of their numbers.
func (s *stack) containers(service string) []string {
	s.t.Helper()
	out := s.docker("container", "ls", "--all", "--filter", "label=com.docker.compose.project="+s.project,
		"--filter", "label=com.docker.compose.service="+service, "--format", `{{.Label "com.docker.compose.container-number"}} {{.ID}}`)
	lines := strings.Split(out, "\n")
	slices.SortFunc(lines, func(a, b string) int { return number(a) - number(b) })
	var ids []string
	for _, line := range lines {
		if _, id, ok := strings.Cut(line, " "); ok {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		s.t.Fatalf("%s has no container", service)
	}
	return ids
}

// number returns the number that a line begins with.
func number(line string) int {
	text, _, _ := strings.Cut(line, " ")
	n, _ := strconv.Atoi(text)
	return n
}

// container returns the id of the n-th container of a service, from 1.
func (s *stack) container(service string, n int) string {
	s.t.Helper()
	ids := s.containers(service)
	if n > len(ids) {
		s.t.Fatalf("%s has %d containers; the test wants number %d", service, len(ids), n)
	}
	return ids[n-1]
}

// exec runs a command in the first container of a service. It must succeed.
func (s *stack) exec(service string, command ...string) string {
	s.t.Helper()
	return s.docker(append([]string{"exec", s.container(service, 1)}, command...)...)
}

// kill ends a container as a crash would. start starts it again.
func (s *stack) kill(service string, n int) {
	s.t.Helper()
	s.docker("kill", s.container(service, n))
}

func (s *stack) start(service string, n int) {
	s.t.Helper()
	clear(s.ports)
	s.docker("start", s.container(service, n))
}

// pause stops every process of a container, with its connections open. unpause continues them. Docker gives up on a
// container that forks meanwhile, as one does for its health check: "unable to freeze".
func (s *stack) pause(service string, n int) {
	s.t.Helper()
	id := s.container(service, n)
	testkit.Eventually(s.t, service+" to be paused", stepTimeout, func() error {
		_, err := run(s.t.Context(), s.dir, nil, "docker", "pause", id)
		return err
	})
}

func (s *stack) unpause(service string, n int) {
	s.t.Helper()
	s.docker("unpause", s.container(service, n))
}

// disconnect takes a container off a network of the stack, private or public. reconnect puts it back, with the same
// address if that is fixed.
func (s *stack) disconnect(network, service string, n int) (reconnect func()) {
	s.t.Helper()
	network, id := s.project+"_"+network, s.container(service, n)
	fixed := s.docker("inspect", "--format", `{{with index .NetworkSettings.Networks "`+network+`"}}{{with .IPAMConfig}}{{.IPv4Address}}{{end}}{{end}}`, id)
	s.docker("network", "disconnect", network, id)
	return func() {
		s.t.Helper()
		command := []string{"network", "connect", "--alias", service}
		if fixed != "" {
			command = append(command, "--ip", fixed)
		}
		s.docker(append(command, network, id)...)
	}
}

// logs returns everything that a service has logged.
func (s *stack) logs(service string) string {
	s.t.Helper()
	return s.compose("logs", "--no-color", service)
}

// address returns the host:port at which a port of the n-th container of a service is published. It may change with
// every start.
func (s *stack) address(service string, n, port int) string {
	s.t.Helper()
	key := fmt.Sprint(service, n, port)
	if s.ports[key] == "" {
		out := s.docker("port", s.container(service, n), strconv.Itoa(port)+"/tcp")
		s.ports[key], _, _ = strings.Cut(out, "\n")
	}
	return s.ports[key]
}

// rewrite edits a file of the project by replacing it, as sed -i does.
func (s *stack) rewrite(path string, edit func(before string) string) {
	s.t.Helper()
	path = filepath.Join(s.dir, path)
	before, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(path+".new", []byte(edit(string(before))), 0o644), os.Rename(path+".new", path)); err != nil {
		s.t.Fatal(err)
	}
}

// reply is one answer over HTTP.
type reply struct {
	t      testing.TB
	what   string // the request, for messages
	status int
	header http.Header
	body   string
}

// call sends one request to a published port. A body is JSON.
func (s *stack) call(method, address, path, body string) reply {
	s.t.Helper()
	r, err := s.try(method, address, path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// try is call for any goroutine.
func (s *stack) try(method, address, path, body string) (reply, error) {
	r := reply{t: s.t, what: method + " " + path}
	req, err := http.NewRequestWithContext(s.t.Context(), method, "http://"+address+path, strings.NewReader(body))
	if err != nil {
		return r, err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := s.client.Do(req)
	if err != nil {
		return r, fmt.Errorf("%s: %w", r.what, err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return r, fmt.Errorf("%s: %w", r.what, err)
	}
	r.status, r.header, r.body = res.StatusCode, res.Header, string(text)
	return r, nil
}

// get returns a field of the JSON object, nil if it is missing.
func (r reply) get(field string) any {
	r.t.Helper()
	var object map[string]any
	if err := json.Unmarshal([]byte(r.body), &object); err != nil {
		r.t.Errorf("%s: body is no JSON (%v): %s", r.what, err, r.body)
	}
	return object[field]
}

// want stops the test if the status is another one.
func (r reply) want(status int) reply {
	r.t.Helper()
	if r.status != status {
		r.t.Fatalf("%s: status %d, want %d: %s", r.what, r.status, status, r.body)
	}
	return r
}
