package manifests

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
)

// newToken makes a token and its entry.
func newToken(t *testing.T, programs string) (token, entry string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), filepath.Join(programs, "breakerd"), "token", "new", "--name", "ops", "--role", "admin").Output()
	if err != nil {
		t.Fatal(err)
	}
	token, entry, _ = strings.Cut(string(out), "\n")
	return token, entry
}

// The manifests' pods, all but Kubernetes: three Redises, three Sentinels, two breakerds and a bridge.
func TestManifests_RunAsPods(t *testing.T) {
	t.Parallel()
	s, err := parse(texts(t))
	if err != nil {
		t.Fatal(err)
	}
	redis := []string{"redis-0", "redis-1", "redis-2", "sentinel-0", "sentinel-1", "sentinel-2"}
	programs := []string{"breakerd-0", "breakerd-1", "bridge-0"}
	c := newCluster(t, s, append(redis, programs...)...)
	c.placeholdersAreRefused()
	token := c.makeSecrets()
	for _, name := range redis {
		c.start(name)
	}
	c.awaitReady(redis...)
	for _, name := range programs {
		c.start(name)
	}
	c.awaitReady(programs...)
	for _, name := range programs {
		c.awaitHealthy(name, token)
	}
	c.confined(append(redis, programs...))
	c.opens(token)
	drained := c.drains(token)
	c.losesMaster(token)
	drained()
	c.changesPassword(token)
	c.changesToken(token)
}

// placeholdersAreRefused starts a program and a Redis with the examples of Secrets: neither may run.
func (c *cluster) placeholdersAreRefused() {
	c.t.Helper()
	for name, want := range map[string]struct {
		code int
		says string
	}{"breakerd-0": {2, "REDIS_PASSWORD"}, "redis-0": {1, "there is no password"}} {
		c.start(name)
		p := c.pods[name].process
		if code := p.ExitCode(); code != want.code || !strings.Contains(p.Stderr(), want.says) {
			c.t.Errorf("%s with placeholders: exit code %d, want %d: %s", name, code, want.code, p.Stderr())
		}
	}
}

// makeSecrets fills the Secrets as docs/deploy-kubernetes.md says.
func (c *cluster) makeSecrets() (token string) {
	c.t.Helper()
	redis := c.set.secrets["redis"].StringData
	redis["password"] = strings.Repeat("0123456789abcdef", 4)
	redis["passwords"] = redis["password"]
	token, c.set.secrets["auth"].StringData["auth.yaml"] = newToken(c.t, c.programs)
	c.mountAgain()
	return token
}

// mountAgain has the kubelet notice what has changed in ConfigMaps and Secrets.
func (c *cluster) mountAgain() {
	c.t.Helper()
	for _, p := range c.pods {
		for dir, files := range c.set.files(p.of) {
			c.mount(p, dir, files)
		}
	}
}

// call makes a call with a token from the node, and returns status and body. A body of "" is none.
func (c *cluster) call(token, method, name, path, body string) (status int, answer map[string]any) {
	c.t.Helper()
	p := c.pods[name]
	port := strconv.Itoa(int(portOf(c.set.podsOf[p.of], "http")))
	url := "http://" + net.JoinHostPort(p.address, port) + path
	command := []string{"curl", "--silent", "--show-error", "--request", method, "--header", "X-Breaker-Token: " + token, "--write-out", "\n%{http_code}"}
	if body != "" {
		command = append(command, "--header", "Content-Type: application/json", "--data", body)
	}
	out := c.onNode(append(command, url)...)
	at := strings.LastIndexByte(out, '\n')
	if _, err := fmt.Sscan(out[at+1:], &status); err != nil {
		c.t.Fatalf("%s %s: %q", method, url, out)
	}
	if at > 0 {
		if err := json.Unmarshal([]byte(out[:at]), &answer); err != nil {
			c.t.Fatalf("%s %s: %s: %v", method, url, out, err)
		}
	}
	return status, answer
}

// awaitHealthy waits until a program reaches Redis by the Sentinels.
func (c *cluster) awaitHealthy(name, token string) {
	c.t.Helper()
	c.eventually(name+" to be healthy", func() error {
		_, health := c.call(token, "GET", name, "/health/checks", "")
		if health["status"] == "healthy" {
			return nil
		}
		text, err := json.Marshal(health)
		return errors.Join(err, errors.New(string(text)))
	})
}

// confined checks what the kernel says of each process: its user, no capability, no new ones, a root that is read-only.
func (c *cluster) confined(names []string) {
	c.t.Helper()
	for _, name := range names {
		p := c.pods[name]
		status, err := c.exec(name, "cat", fmt.Sprintf("/proc/%d/status", p.process.PID()))
		c.must(err)
		user := *c.set.podsOf[p.of].Spec.SecurityContext.RunAsUser
		for _, want := range []string{fmt.Sprintf("Uid:\t%d\t", user), "CapBnd:\t0000000000000000", "CapEff:\t0000000000000000", "NoNewPrivs:\t1"} {
			if !strings.Contains(status, want) {
				c.t.Errorf("%s: no %q in its status: %s", name, want, status)
			}
		}
		if out, err := output(c.t, "nsenter", "--target", strconv.Itoa(p.process.PID()), "--mount", "--root", "touch", "/etc/written"); err == nil || !strings.Contains(out, "Read-only") {
			c.t.Errorf("%s: its root can be written: %q, %v", name, out, err)
		}
	}
}

// opens has calls of an agent fail at one breakerd. The other one, and bridge, refuse it.
func (c *cluster) opens(token string) {
	c.t.Helper()
	const agent = "/v1/circuit_breakers/ExampleAgent"
	for range 5 {
		status, answer := c.call(token, "POST", "breakerd-0", agent+"/acquire", "")
		if status != 200 {
			c.t.Fatalf("acquire: %d %v", status, answer)
		}
		body := fmt.Sprintf(`{"permit":%q,"outcome":"failure"}`, answer["permit"])
		if status, answer := c.call(token, "POST", "breakerd-0", agent+"/report", body); status != 200 {
			c.t.Fatalf("report: %d %v", status, answer)
		}
	}
	c.refused(token)
	if status, _ := c.call("", "POST", "breakerd-1", agent+"/acquire", ""); status != 401 {
		c.t.Errorf("without a token: status %d, want 401", status)
	}
}

// refused checks that breakerd-1 and bridge-0 refuse the agent, and not from memory.
func (c *cluster) refused(token string) {
	c.t.Helper()
	for name, path := range map[string]string{"breakerd-1": "/v1/circuit_breakers/ExampleAgent/acquire", "bridge-0": "/agents/ExampleAgent/"} {
		c.eventually(name+" to refuse", func() error {
			if status, answer := c.call(token, "POST", name, path, ""); status != 429 || answer["reason"] != "open" || answer["degraded"] == true {
				return fmt.Errorf("status %d: %v", status, answer)
			}
			return nil
		})
	}
}

// drains sends SIGTERM to breakerd-0. It is not ready at once, and still answers; the function that drains returns
// checks that it has ended in the time that its pod has.
func (c *cluster) drains(token string) (ended func()) {
	c.t.Helper()
	begin := time.Now()
	p := c.pods["breakerd-0"].process
	p.Signal(syscall.SIGTERM)
	container := c.set.container("breakerd")
	testkit.Eventually(c.t, "breakerd-0 not to be ready", 5*time.Second, func() error {
		if c.ask("breakerd-0", container.ReadinessProbe) == nil {
			return errors.New("it is")
		}
		return nil
	})
	if err := c.ask("breakerd-0", container.LivenessProbe); err != nil {
		c.t.Errorf("while it drains the liveness probe fails: %v", err)
	}
	if status, _ := c.call(token, "POST", "breakerd-0", "/v1/circuit_breakers/OtherAgent/acquire", ""); status != 200 {
		c.t.Errorf("status %d while it drains", status)
	}
	return func() {
		c.t.Helper()
		if code := p.ExitCode(); code != 0 {
			c.t.Errorf("exit code %d: %s", code, p.Stderr())
		}
		if took := time.Since(begin); took > time.Duration(*c.set.podsOf["breakerd"].Spec.TerminationGracePeriodSeconds)*time.Second {
			c.t.Errorf("it took %v to end", took)
		}
	}
}

// losesMaster kills the master. Another one takes its place with what it knew, and the former one follows.
func (c *cluster) losesMaster(token string) {
	c.t.Helper()
	begin := time.Now()
	c.pods["redis-0"].process.Signal(syscall.SIGKILL)
	<-c.pods["redis-0"].process.Done()
	c.eventually("another master", func() error {
		out, err := c.exec("sentinel-0", "sh", "-c", "REDISCLI_AUTH=$(cat /run/secrets/redis_password) redis-cli -p 26379 sentinel get-master-addr-by-name mymaster")
		if err == nil && strings.HasPrefix(out, "redis-0.") {
			err = errors.New(out)
		}
		return err
	})
	c.refused(token)
	c.t.Logf("%v after the master was killed all answer by another one", time.Since(begin).Round(100*time.Millisecond))
	c.start("redis-0")
	c.awaitReady("redis-0", "redis-1", "redis-2", "sentinel-0", "sentinel-1", "sentinel-2")
	for _, name := range []string{"breakerd-1", "bridge-0"} {
		c.awaitHealthy(name, token)
	}
	c.refused(token)
}

// changesToken puts another token into the Secret: it counts without a restart, and the former one is refused.
func (c *cluster) changesToken(old string) {
	c.t.Helper()
	fresh, entry := newToken(c.t, c.programs)
	c.set.secrets["auth"].StringData["auth.yaml"] = entry
	c.mountAgain()
	for name, path := range map[string]string{"breakerd-1": "/v1/whoami", "bridge-0": "/api/v1/agents"} {
		for token, want := range map[string]int{fresh: 200, old: 401} {
			c.eventually("the new token", func() error {
				if status, _ := c.call(token, "GET", name, path, ""); status != want {
					return fmt.Errorf("%s: status %d, want %d", name, status, want)
				}
				return nil
			})
		}
	}
}

// changesPassword changes the password of Redis by the steps of docs/deploy-kubernetes.md#secrets.
func (c *cluster) changesPassword(token string) {
	c.t.Helper()
	begin := time.Now()
	secret := c.set.secrets["redis"].StringData
	old, fresh := secret["password"], strings.Repeat("fedcba9876543210", 4)
	for _, step := range []struct{ password, passwords string }{
		{old, old + "\n" + fresh},
		{fresh, ""},
		{fresh, fresh + "\n" + old},
		{fresh, fresh},
	} {
		secret["password"] = step.password
		if step.passwords != "" {
			secret["passwords"] = step.passwords
		}
		c.mountAgain()
		if step.passwords != "" {
			c.restartRedis()
		}
		c.refused(token) // by Redis, and by the breaker from before
	}
	for password, want := range map[string]string{old: "WRONGPASS", fresh: "PONG"} {
		for _, name := range []string{"redis-0", "redis-1", "redis-2"} {
			if out, err := c.exec(name, "env", "REDISCLI_AUTH="+password, "redis-cli", "ping"); !strings.Contains(out, want) {
				c.t.Errorf("%s says %q, want %s; %v", name, out, want, err)
			}
		}
	}
	c.t.Logf("the password was changed in %v", time.Since(begin).Round(100*time.Millisecond))
}

// restartRedis restarts the pods of both StatefulSets as Kubernetes does: the last first, each when the one before is
// ready.
func (c *cluster) restartRedis() {
	c.t.Helper()
	for _, name := range []string{"sentinel-2", "sentinel-1", "sentinel-0", "redis-2", "redis-1", "redis-0"} {
		c.pods[name].process.Signal(syscall.SIGTERM)
		c.pods[name].process.ExitCode()
		c.start(name)
		c.awaitReady(name)
	}
}
