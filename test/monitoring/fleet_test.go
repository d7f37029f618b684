package monitoring

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/internal/testkit"
)

// fleet is one fleet that the watch sees under a name.
type fleet struct {
	*watch

	t        *testing.T
	name     string
	redis    *testkit.Server
	client   *redis.Client
	replicas map[string]*replica
}

// set changes a setting of the fleet's Redis.
func (f *fleet) set(name, value string) {
	f.t.Helper()
	if err := f.client.ConfigSet(f.t.Context(), name, value).Err(); err != nil {
		f.t.Fatal(err)
	}
}

// used is how many bytes of memory that Redis uses.
func (f *fleet) used() int64 {
	f.t.Helper()
	text, err := f.client.Info(f.t.Context(), "memory").Result()
	m := regexp.MustCompile(`\nused_memory:(\d+)`).FindStringSubmatch(text)
	if err != nil || m == nil {
		f.t.Fatal(err)
	}
	n, _ := strconv.ParseInt(m[1], 10, 64)
	return n
}

// replica is one process of it.
type replica struct {
	*testkit.Process

	addr string
}

// newFleet makes a fleet with a Redis and no replica.
func newFleet(t *testing.T, w *watch, name string) *fleet {
	t.Helper()
	f := &fleet{watch: w, t: t, name: name, redis: testkit.Start(t), replicas: map[string]*replica{}}
	f.client = f.redis.Client(t)
	return f
}

// start starts a replica, or starts it again at its old address.
func (f *fleet) start(program, id string, env ...string) *replica {
	f.t.Helper()
	r := f.replicas[id]
	if r == nil {
		r = &replica{addr: testkit.FreeAddress(f.t)}
		f.replicas[id] = r
	}
	environ := append([]string{
		"PATH=" + os.Getenv("PATH"), "REDIS_URL=" + f.redis.URL(), "REDIS_TIMEOUT_MS=1000", "REPLICA_ID=" + f.name + "-" + id,
		strings.ToUpper(program) + "_LISTEN=" + r.addr,
	}, env...)
	r.Process = testkit.Run(f.t, []string{filepath.Join(binaries, program)}, environ)
	f.t.Cleanup(func() { // before testkit kills it, which nobody should see as a fault
		if f.t.Failed() {
			f.t.Logf("%s-%s said\n%s", f.name, id, tail(r.Stderr()))
		}
	})
	f.awaitReady(r, environ)
	return r
}

func (f *fleet) awaitReady(r *replica, environ []string) {
	f.t.Helper()
	url := "http://" + r.addr + "/readyz"
	if strings.Contains(strings.Join(environ, " "), "TLS_CERT_FILE=") {
		url = "https://" + r.addr + "/readyz"
	}
	testkit.Eventually(f.t, url, stepWithin, func() error {
		if !r.Running() {
			f.t.Fatalf("it ended\n%s", r.Stderr())
		}
		if _, err := get(f.t, url); err != nil {
			return err
		}
		if !strings.Contains(r.Stderr(), `"msg":"joined the fleet"`) {
			return errors.New("no heartbeat yet")
		}
		return nil
	})
}

func tail(text string) string {
	return text[max(0, len(text)-4000):]
}

// watched starts a replica that Prometheus scrapes.
func (f *fleet) watched(program, id string, env ...string) *replica {
	f.t.Helper()
	r := f.start(program, id, env...)
	f.scrape(program, r.addr, "http")
	return r
}

// scrape makes Prometheus scrape an address.
func (f *fleet) scrape(job, addr, scheme string) {
	f.t.Helper()
	text := fmt.Sprintf(`[{"targets":[%q],"labels":{"fleet":%q,"job":%q,"__scheme__":%q}}]`, addr, f.name, job, scheme)
	write(f.t, f.targets, strings.ReplaceAll(addr, ":", "-")+".json", text)
	testkit.Eventually(f.t, "the first scrape of "+addr, stepWithin, func() error { // what a counter counts before it is lost
		if n, err := f.query(f.t, fmt.Sprintf("up{instance=%q} == 1", addr)); err != nil || n == 0 {
			return errors.Join(errors.New("none"), err)
		}
		return nil
	})
}

// kill ends a replica without a word.
func (r *replica) kill() {
	r.Signal(syscall.SIGKILL)
	<-r.Done()
}

// end ends a replica in order.
func (r *replica) end(t *testing.T) {
	t.Helper()
	r.Signal(syscall.SIGTERM)
	select {
	case <-r.Done():
	case <-time.After(stepWithin):
		t.Fatal("SIGTERM did not end it")
	}
}

// do sends a request, which must have this status.
func (r *replica) do(t *testing.T, status int, method, path, body string) string {
	t.Helper()
	got, text, err := r.try(t, method, path, body)
	if err != nil || got != status {
		t.Fatalf("%s %s: status %d, want %d: %v %s", method, path, got, status, err, text)
	}
	return text
}

func (r *replica) try(t *testing.T, method, path, body string) (status int, text string, err error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+r.addr+path, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	req.Close = true
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, string(b), errors.Join(err, res.Body.Close())
}

// report reports outcomes of calls that had no permit.
func (r *replica) report(t *testing.T, agent, outcome string, n int) {
	t.Helper()
	for range n {
		r.do(t, http.StatusOK, http.MethodPost, "/v1/circuit_breakers/"+agent+"/report", `{"outcome":"`+outcome+`"}`)
	}
}

// configure gives an agent an override.
func (r *replica) configure(t *testing.T, agent, config string) {
	t.Helper()
	r.do(t, http.StatusCreated, http.MethodPut, "/v1/admin/circuit_breakers/"+agent+"/config", config)
}

// step is one fault that a fleet gets: what causes it, the alert that it fires, and what the platform does about it
// beside the commands of the runbook.
type step struct {
	alert, severity string
	agent           string
	instance        func() string
	cause, mend     func()
}

// play causes the faults, has a person told of each, goes by the runbooks, and has the person told that each is over.
func (f *fleet) play(steps ...step) {
	f.t.Helper()
	began := time.Now()
	for _, s := range steps {
		if s.cause != nil {
			f.forget(key(f.name, s.alert, s.severity))
			s.cause()
		}
	}
	for _, s := range steps {
		f.await(f.t, key(f.name, s.alert, s.severity), false)
	}
	fired := time.Now()
	for _, s := range steps {
		f.run(s, "How to see")
	}
	for _, s := range steps {
		f.run(s, "What to do")
		if s.mend != nil {
			s.mend()
		}
	}
	mended := time.Now()
	for _, s := range steps {
		f.await(f.t, key(f.name, s.alert, s.severity), true)
		f.run(s, "How to see that it cleared")
		f.cleared(s)
	}
	round := func(from, to time.Time) time.Duration { return to.Sub(from).Round(time.Second) }
	f.t.Logf("%d alerts: told after %v, mended after %v, over after %v", len(steps), round(began, fired), round(fired, mended), round(mended, time.Now()))
}

// run runs the commands below a heading of the alert's page.
func (f *fleet) run(s step, heading string) {
	f.t.Helper()
	for _, command := range readPage(f.t, s.alert).commands[heading] {
		f.shell(s, command)
	}
}

// cleared asks the Alertmanager as the README of the runbooks says.
func (f *fleet) cleared(s step) {
	f.t.Helper()
	testkit.Eventually(f.t, "the Alertmanager to forget "+s.alert, stepWithin, func() error {
		out := f.shell(s, "ALERT="+s.alert+"\n"+readPage(f.t, "README").commands["How to see that an alert cleared"][0])
		if strings.TrimSpace(out) != "0" {
			return fmt.Errorf("%s are active", out)
		}
		return nil
	})
}

// awaitInhibited waits until an alert of the fleet fires and nobody is told, because of another one.
func (f *fleet) awaitInhibited(alert string) {
	f.t.Helper()
	testkit.Eventually(f.t, alert+" to be inhibited", stepWithin, func() error {
		text, err := get(f.t, fmt.Sprintf("%s/api/v2/alerts?filter=alertname=%s&filter=fleet=%s", f.alertmanager, alert, f.name))
		if err != nil || !strings.Contains(text, `"state":"suppressed"`) {
			return fmt.Errorf("%s: %w", text, errors.Join(errors.New("it is not"), err))
		}
		return nil
	})
}

// shell runs commands as a person on call would, with the variables that the README of the runbooks names. They must
// succeed.
func (f *fleet) shell(s step, command string) string {
	f.t.Helper()
	first := "one"
	if f.replicas[first] == nil {
		f.t.Fatal("no replica one")
	}
	cmd := exec.CommandContext(f.t.Context(), "bash", "-euo", "pipefail", "-c", command)
	cmd.Env = []string{
		"PATH=" + binaries + ":" + os.Getenv("PATH"), "HOME=" + f.t.TempDir(), "BREAKERCTL_ACTOR=ops", "FLEET=" + f.name,
		"BREAKERCTL_SERVER=http://" + f.replicas[first].addr, "REDIS_URL=" + f.redis.URL(), "PROMETHEUS=" + f.prometheus,
		"ALERTMANAGER=" + f.alertmanager, "AGENT=" + s.agent, "INSTANCE=" + f.replicas[first].addr,
	}
	if s.instance != nil {
		cmd.Env = append(cmd.Env, "INSTANCE="+s.instance())
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		f.t.Fatalf("%s: %v\n%s\n%s", s.alert, err, command, out)
	}
	f.t.Logf("%s: %s\n%s", s.alert, command, out)
	return string(out)
}
