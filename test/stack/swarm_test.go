//go:build docker && swarm

package stack_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
)

const (
	swarmStack   = "breakerd"
	swarmTimeout = 2 * time.Minute
	callerImage  = "breakerd-offline/runtime:1"
)

// swarm is deploy/swarm, deployed, and a caller in the network of callers.
type swarm struct {
	t       *testing.T // of the step under way
	engine  *engine
	dir     string // a copy of the project
	out     string // a directory of the caller's
	token   string
	environ []string
}

// newSwarm deploys the stack with agents to play with, opens the breaker of FailingAgent, and starts the load.
func newSwarm(t *testing.T) *swarm {
	t.Helper()
	s := &swarm{t: t, dir: copyProject(t), out: t.TempDir()}
	if err := os.Chmod(s.out, 0o777); err != nil {
		t.Fatal(err)
	}
	s.run(nil, "go", "build", "-buildvcs=false", "-o", filepath.Join(s.out, "caller"), "./test/stack/internal/caller")
	s.engine = startEngine(t)
	s.environ = append(slices.Clone(images), "RESOLVE_IMAGE=never", "UPDATE_MONITOR=5s")
	s.environ = append(s.environ, s.engine.environ()...)
	s.engine.copyImages(s.image("REDIS_IMAGE"), s.image("BREAKERD_IMAGE"), s.image("BRIDGE_IMAGE"), callerImage)
	s.edit(".env", "CIRCUIT_BREAKER_TIMEOUT_SECONDS=60", "CIRCUIT_BREAKER_TIMEOUT_SECONDS=600")
	s.run(nil, filepath.Join(s.dir, "deploy/redis/make-password"))
	s.token = s.newToken("ops", "admin")
	s.deploy()
	s.engine.docker("run", "--detach", "--name", "caller", "--network", swarmStack+"_callers", "--volume", s.out+":/out",
		"--env", "TOKEN="+s.token, callerImage, "sleep", "infinity")
	for range 5 {
		s.call(http.MethodGet, "http://bridge:8000/agents/FailingAgent/", "").want(http.StatusInternalServerError)
	}
	s.call(http.MethodGet, "http://bridge:8000/agents/FailingAgent/", "").want(http.StatusTooManyRequests)
	s.engine.docker("exec", "--detach", "caller", "/out/caller", "load")
	return s
}

// run runs a command of the project, with variables added. It must succeed.
func (s *swarm) run(environ []string, command ...string) string {
	s.t.Helper()
	dir := s.dir
	if command[0] == "go" {
		dir, environ = root, append(environ, "CGO_ENABLED=0")
	}
	out, err := run(s.t.Context(), dir, environ, command...)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// image returns the value of a variable of images, or of the environment.
func (s *swarm) image(variable string) string {
	s.t.Helper()
	for _, i := range images {
		if name, ok := strings.CutPrefix(i, variable+"="); ok {
			return name
		}
	}
	return os.Getenv(variable)
}

// edit replaces the first occurrence of a text in a file of the project.
func (s *swarm) edit(path, before, after string) {
	s.t.Helper()
	path = filepath.Join(s.dir, path)
	text, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, []byte(strings.Replace(string(text), before, after, 1)), 0o644)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// newToken makes a token, and adds its entry to deploy/secrets/auth.yaml.
func (s *swarm) newToken(name, role string) string {
	s.t.Helper()
	out := s.run(nil, "docker", "run", "--rm", s.image("BREAKERD_IMAGE"), "/usr/local/bin/breakerd", "token", "new", "--name", name, "--role", role)
	token, entry, _ := strings.Cut(out, "\n")
	path := filepath.Join(s.dir, "deploy/secrets/auth.yaml")
	before, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, append(before, entry...), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return token
}

// deploy runs deploy/swarm/deploy, which must succeed.
func (s *swarm) deploy(environ ...string) {
	s.t.Helper()
	if err := s.tryDeploy(environ...); err != nil {
		s.t.Fatal(err)
	}
}

func (s *swarm) tryDeploy(environ ...string) error {
	begin := time.Now()
	_, err := run(s.t.Context(), s.dir, append(slices.Clone(s.environ), environ...), "deploy/swarm/deploy", "deploy/swarm/demo.yml")
	s.t.Logf("deploy %q took %v", environ, time.Since(begin).Round(100*time.Millisecond))
	return err
}

// call makes one call from the network of callers.
func (s *swarm) call(method, url, body string, options ...string) reply {
	s.t.Helper()
	command := slices.Concat([]string{"exec"}, options, []string{"caller", "/out/caller", method, url})
	if body != "" {
		command = append(command, body)
	}
	out := s.engine.docker(command...)
	status, text, _ := strings.Cut(out, "\n")
	r := reply{t: s.t, what: method + " " + url, body: text}
	if _, err := fmt.Sscan(status, &r.status); err != nil {
		s.t.Fatalf("%s: %q: %v", r.what, out, err)
	}
	return r
}

// tasks returns the containers of a service that run.
func (s *swarm) tasks(service string) []string {
	s.t.Helper()
	return strings.Fields(s.engine.docker("ps", "--quiet", "--no-trunc", "--filter", "label=com.docker.swarm.service.name="+swarmStack+"_"+service))
}

// addresses returns the addresses of the tasks of a service in the network of callers.
func (s *swarm) addresses(service string) (found []string) {
	s.t.Helper()
	for _, id := range s.tasks(service) {
		found = append(found, s.engine.docker("inspect", "--format", `{{(index .NetworkSettings.Networks "`+swarmStack+`_callers").IPAddress}}`, id))
	}
	return found
}

// awaitTasks waits until a service has this number of tasks and no more.
func (s *swarm) awaitTasks(service string, n int) {
	s.t.Helper()
	testkit.Eventually(s.t, fmt.Sprintf("%d tasks of %s", n, service), swarmTimeout, func() error {
		if got := len(s.tasks(service)); got != n {
			return fmt.Errorf("there are %d", got)
		}
		return nil
	})
}

// report is what the caller writes.
type report struct {
	Calls    int      `json:"calls"`
	Degraded int      `json:"degraded"`
	Slowest  int64    `json:"slowest_ms"`
	Slow     string   `json:"slow"`
	Wrong    int      `json:"wrong"`
	Samples  []string `json:"samples"`
}

func (s *swarm) report() (r report) {
	s.t.Helper()
	testkit.Eventually(s.t, "the caller's report", time.Minute, func() error {
		text, err := os.ReadFile(filepath.Join(s.out, "report.json"))
		return errors.Join(err, json.Unmarshal(text, &r))
	})
	return r
}

// step runs a part of the test under load. After it, and a hundred calls more, no answer may have been wrong.
func (s *swarm) step(t *testing.T, name string, do func()) {
	t.Helper()
	outer := s.t
	t.Run(name, func(t *testing.T) {
		s.t, s.engine.t = t, t
		defer func() { s.t, s.engine.t = outer, outer }()
		begin, before := time.Now(), s.report()
		do()
		testkit.Eventually(t, "more calls", time.Minute, func() error {
			if now := s.report(); now.Calls < before.Calls+100 {
				return errors.New("too few")
			}
			return nil
		})
		now := s.report()
		t.Logf("%v: %d calls, %d of them degraded, %d wrong, slowest of all so far %d ms: %s", time.Since(begin).Round(100*time.Millisecond),
			now.Calls-before.Calls, now.Degraded-before.Degraded, now.Wrong-before.Wrong, now.Slowest, now.Slow)
		if now.Wrong > before.Wrong {
			t.Errorf("wrong answers:\n%s\n%s", strings.Join(now.Samples, "\n"), s.history())
		}
	})
}

// history tells what became of each task.
func (s *swarm) history() string {
	s.t.Helper()
	var all []string
	for _, service := range []string{"redis", "breakerd", "bridge"} {
		for id := range strings.FieldsSeq(s.engine.docker("service", "ps", "--quiet", "--no-trunc", swarmStack+"_"+service)) {
			all = append(all, service+" "+s.engine.docker("inspect", "--type", "task", "--format",
				"{{.CreatedAt}} {{.Status.Timestamp}} {{.Status.State}} {{.Status.Message}} {{.Status.Err}} {{range .NetworksAttachments}}{{.Addresses}}{{end}}", id))
		}
	}
	return strings.Join(all, "\n")
}

func TestSwarm_UpdatesScalesAndRotatesWithoutAWrongAnswer(t *testing.T) {
	s := newSwarm(t)
	s.step(t, "a rolling update replaces every task", s.update)
	s.step(t, "a setting that is refused is rolled back", s.refusedSetting)
	s.step(t, "a version that is never healthy is rolled back", s.unhealthyVersion)
	s.step(t, "scaled from three to five to two", s.scale)
	s.step(t, "what the API changes needs no update", s.changeByAPI)
	s.step(t, "the password of Redis is changed", s.rotatePassword)
	s.step(t, "a token is changed", s.rotateToken)
	t.Run("ports of the node", func(t *testing.T) {
		s.t, s.engine.t = t, t
		s.publish()
	})
}

func (s *swarm) update() {
	before := append(s.tasks("bridge"), s.tasks("breakerd")...)
	s.edit(".env", "CIRCUIT_BREAKER_WINDOW_SIZE_SECONDS=120", "CIRCUIT_BREAKER_WINDOW_SIZE_SECONDS=90")
	s.deploy()
	s.awaitTasks("bridge", 3)
	s.awaitTasks("breakerd", 2)
	for _, id := range append(s.tasks("bridge"), s.tasks("breakerd")...) {
		if slices.Contains(before, id) {
			s.t.Errorf("task %.12s is still the one from before", id)
		}
	}
	s.everyBreakerd("HealthyAgent", "window_size_seconds", 90)
}

// everyBreakerd checks the value of a policy's field at each breakerd.
func (s *swarm) everyBreakerd(agent, field string, want float64) {
	s.t.Helper()
	for _, ip := range s.addresses("breakerd") {
		testkit.Eventually(s.t, field, stepTimeout, func() error {
			r := s.call(http.MethodGet, "http://"+ip+":18180"+admin+agent, "").want(http.StatusOK)
			policy, _ := r.get("policy").(map[string]any)
			value, _ := policy[field].(map[string]any)
			if value["value"] != want {
				return fmt.Errorf("%s: %v, want %v", ip, value, want)
			}
			return nil
		})
	}
}

// refusedSetting deploys a setting at which the programs exit.
func (s *swarm) refusedSetting() {
	before := s.tasks("bridge")
	s.edit(".env", "CIRCUIT_BREAKER_FAILURE_THRESHOLD=5", "CIRCUIT_BREAKER_FAILURE_THRESHOLD=500")
	if err := s.tryDeploy(); err == nil || !strings.Contains(err.Error(), "rolled back") {
		s.t.Errorf("deploy/swarm/deploy: %v, want that it was rolled back", err)
	}
	s.sameTasks("bridge", before)
	s.edit(".env", "CIRCUIT_BREAKER_FAILURE_THRESHOLD=500", "CIRCUIT_BREAKER_FAILURE_THRESHOLD=5")
}

// unhealthyVersion has bridge run a command that lives and serves nothing.
func (s *swarm) unhealthyVersion() {
	before := s.tasks("bridge")
	service := swarmStack + "_bridge"
	_, err := run(s.t.Context(), s.dir, s.environ, "docker", "service", "update", "--quiet", "--detach=false", "--args", "sleep 600", service)
	state := s.engine.docker("service", "inspect", "--format", "{{.UpdateStatus.State}}: {{.UpdateStatus.Message}}", service)
	if err != nil || !strings.HasPrefix(state, "rollback_completed") {
		s.t.Errorf("state %s; %v", state, err)
	}
	s.sameTasks("bridge", before)
}

// sameTasks waits until a service has the tasks from before.
func (s *swarm) sameTasks(service string, before []string) {
	s.t.Helper()
	slices.Sort(before)
	testkit.Eventually(s.t, "the tasks from before", swarmTimeout, func() error {
		if now := s.tasks(service); !slices.Equal(slices.Sorted(slices.Values(now)), before) {
			return fmt.Errorf("tasks %q, were %q", now, before)
		}
		return nil
	})
}

func (s *swarm) scale() {
	before := s.tasks("bridge")
	for _, n := range []int{5, 2} {
		s.deploy(fmt.Sprintf("BRIDGE_REPLICAS=%d", n))
		s.awaitTasks("bridge", n)
		s.call(http.MethodGet, "http://bridge:8000/agents/FailingAgent/", "").want(http.StatusTooManyRequests)
	}
	for _, id := range s.tasks("bridge") {
		if !slices.Contains(before, id) {
			s.t.Logf("task %.12s is none of the first three", id)
		}
	}
	s.environ = append(s.environ, "BRIDGE_REPLICAS=2")
}

// changeByAPI overrides a policy and registers an agent.
func (s *swarm) changeByAPI() {
	before := append(s.tasks("bridge"), s.tasks("breakerd")...)
	s.call(http.MethodPut, "http://breakerd:18180"+admin+"CriticalAgent/config", `{"failure_threshold":2}`).want(http.StatusCreated)
	s.everyBreakerd("CriticalAgent", "failure_threshold", 2)
	s.call(http.MethodPost, "http://bridge:8000/api/v1/agents", `{"name":"NewAgent","url":"http://demo-agent:9000/NewAgent"}`).want(http.StatusCreated)
	for _, ip := range s.addresses("bridge") {
		testkit.Eventually(s.t, "NewAgent", stepTimeout, func() error {
			if r := s.call(http.MethodGet, "http://"+ip+":8000/agents/NewAgent/", ""); r.status != http.StatusOK {
				return fmt.Errorf("%s: status %d: %s", ip, r.status, r.body)
			}
			return nil
		})
	}
	if after := append(s.tasks("bridge"), s.tasks("breakerd")...); !slices.Equal(after, before) {
		s.t.Errorf("tasks %q, were %q", after, before)
	}
}

func (s *swarm) rotatePassword() {
	old := s.secret("redis_password")
	if said := s.ping(old); said != "PONG" {
		s.t.Fatalf("Redis says %q to the password", said)
	}
	s.run(s.environ, "deploy/swarm/rotate-redis-password", "deploy/swarm/demo.yml")
	if now := s.secret("redis_password"); now == old {
		s.t.Error("the password is still the one from before")
	} else if said := s.ping(now); said != "PONG" {
		s.t.Errorf("Redis says %q to the new password", said)
	}
	if said := s.ping(old); !strings.Contains(said, "WRONGPASS") {
		s.t.Errorf("Redis says %q to the old password", said)
	}
	for _, ip := range s.addresses("breakerd") {
		testkit.Eventually(s.t, "breakerd to answer from Redis", stepTimeout, func() error {
			r := s.call(http.MethodPost, "http://"+ip+":18180"+agents+"Worker/acquire", "").want(http.StatusOK)
			if r.get("degraded") != false {
				return errors.New(r.body)
			}
			return nil
		})
	}
}

// secret returns the content of a file in deploy/secrets.
func (s *swarm) secret(name string) string {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, "deploy/secrets", name))
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// ping returns what Redis says to a client with a password.
func (s *swarm) ping(password string) string {
	s.t.Helper()
	task := s.tasks("redis")
	if len(task) != 1 {
		s.t.Fatalf("%d tasks of Redis", len(task))
	}
	out, _ := run(s.t.Context(), s.dir, s.environ, "docker", "exec", "--env", "REDISCLI_AUTH="+password, task[0], "sh", "-c", "redis-cli ping 2>&1")
	return strings.TrimSpace(out)
}

// rotateToken has a second token replace a first one that is not the load's.
func (s *swarm) rotateToken() {
	ask := func(token string) int {
		return s.call(http.MethodGet, "http://breakerd:18180/v1/whoami", "", "--env", "TOKEN="+token).status
	}
	keep := s.secret("auth.yaml") + "\n"
	old := s.newToken("shop", "report")
	withOld := s.secret("auth.yaml")
	s.deploy()
	if got := ask(old); got != http.StatusOK {
		s.t.Fatalf("status %d for the old token before its end", got)
	}
	s.edit("deploy/secrets/auth.yaml", withOld+"\n", keep)
	fresh := s.newToken("shop", "report")
	s.deploy()
	s.awaitTasks("breakerd", 2)
	if got := ask(old); got != http.StatusUnauthorized {
		s.t.Errorf("status %d for the old token, want 401", got)
	}
	if got := ask(fresh); got != http.StatusOK {
		s.t.Errorf("status %d for the new token, want 200", got)
	}
}

// publish deploys one task of each with ports of the node, and updates them: the port is free for the next task.
func (s *swarm) publish() {
	s.engine.docker("stop", "--time", "1", "caller")
	s.environ = append(s.environ, "PORTS=1", "BRIDGE_REPLICAS=1", "BREAKERD_REPLICAS=1")
	s.deploy()
	s.edit(".env", "CIRCUIT_BREAKER_WINDOW_SIZE_SECONDS=90", "CIRCUIT_BREAKER_WINDOW_SIZE_SECONDS=100")
	s.deploy()
	for _, port := range []string{"8000", "18180"} {
		testkit.Eventually(s.t, "port "+port, stepTimeout, func() error {
			_, err := run(s.t.Context(), s.dir, nil, "nsenter", "--net=/run/netns/"+s.engine.name, "curl", "-sSf", "http://198.18.0.1:"+port+"/readyz")
			return err
		})
	}
}
