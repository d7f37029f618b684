package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
)

// diagnosis is what breakerctl doctor says.
type diagnosis struct {
	Cause    string    `json:"cause"`
	Next     string    `json:"next"`
	Findings []finding `json:"findings"`

	exit int
	text string
}

// finding is what one check of it found.
type finding struct {
	Check  string `json:"check"`
	Status string `json:"status"`
}

// first is the check that decides.
func (d *diagnosis) first() string {
	for _, status := range []string{"fault", "unknown"} {
		for _, f := range d.Findings {
			if f.Status == status {
				return f.Check
			}
		}
	}
	return ""
}

// sh runs a command of a shell as an operator of these servers would. Its output is both streams.
func sh(t testing.TB, servers, command string) (out string, exit int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", command)
	cmd.Env = []string{"PATH=" + binaries + ":" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "USER=ops", "BREAKERCTL_SERVER=" + servers}
	text, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(text), cmd.ProcessState.ExitCode()
}

// doctor asks about an agent, or "": the fleet.
func (d *daemon) doctor(agent string, others ...*daemon) (r diagnosis) {
	d.t.Helper()
	servers := []string{"http://" + d.addr}
	for _, o := range others {
		servers = append(servers, "http://"+o.addr)
	}
	r.text, r.exit = sh(d.t, strings.Join(servers, ","), "breakerctl doctor -o json "+agent)
	if err := json.Unmarshal([]byte(r.text), &r); err != nil {
		d.t.Fatalf("doctor %s: exit code %d: %s", agent, r.exit, r.text)
	}
	return r
}

// finds waits until the doctor names a check first, runs the command it gives, and returns what that said.
func (d *daemon) finds(agent, check, cause string, others ...*daemon) string {
	d.t.Helper()
	r := d.awaitFinding(agent, check, others...)
	if r.exit != 5 || r.Cause != cause || r.Next == "" {
		d.t.Errorf("%s of %q: exit code %d, cause %q: %s", check, agent, r.exit, r.Cause, r.text)
	}
	command := r.Next
	if strings.Contains(command, " resume ") {
		command += " --yes" // for nobody is there to be asked
	}
	out, exit := sh(d.t, "http://"+d.addr, command)
	if exit != 0 && !strings.Contains(r.Next, "breakerctl doctor") && check != "store_away" {
		d.t.Errorf("%s: exit code %d: %s", command, exit, out)
	}
	return out
}

func (d *daemon) awaitFinding(agent, check string, others ...*daemon) (r diagnosis) {
	d.t.Helper()
	testkit.Eventually(d.t, fmt.Sprintf("a finding of %q for %q", check, agent), 20*time.Second, func() error {
		if r = d.doctor(agent, others...); r.first() != check {
			return fmt.Errorf("%s", r.text)
		}
		return nil
	})
	return r
}

// says wants a text in what a command said.
func says(t testing.TB, out, want string) {
	t.Helper()
	if !strings.Contains(out, want) {
		t.Errorf("%q is missing in %s", want, out)
	}
}

// TestDoctor_OfAnAgent names why it is refused, or is not, and its command mends it, or shows it.
func TestDoctor_OfAnAgent(t *testing.T) {
	t.Parallel()
	need(t, "redis-cli", "jq", "curl")
	a, b, s := pair(t)
	a.run("Sound", "success", 3)
	for agent, want := range map[string]string{"": "✓ nothing wrong\n", "Sound": "✓ nothing wrong\n"} {
		if out, exit := sh(t, "http://"+a.addr+",http://"+b.addr, "breakerctl doctor "+agent); exit != 0 || !strings.HasPrefix(out, want) {
			t.Errorf("%q: exit code %d: %s", agent, exit, out)
		}
	}
	hold := func(agent, verb, body string) {
		a.call(http.MethodPost, adminPath+agent+"/"+verb, body, "X-Actor", "alice").want(http.StatusOK)
	}
	fail := func(agent string, n int) {
		for range n {
			a.call(http.MethodPost, dataPath+agent+"/report", `{"outcome":"failure","error":"boom"}`).want(http.StatusOK)
		}
	}
	for _, c := range []struct {
		agent, check, cause string
		fault               func(agent string)
		shows               string // in what the command says
		after               string // the check that comes first then; "-": any
	}{
		{"Banned", "hold", "manual_ban_not_reset", func(x string) { hold(x, "open", `{"reason":"flooding"}`) }, "HALF_OPEN", "waiting"},
		{"Protected", "hold", "manual_ban_not_reset", func(x string) { hold(x, "open", `{"reason":"fraud","protected":true,"timeout_seconds":600}`) }, "HALF_OPEN", "waiting"},
		{"HeldClosed", "hold", "", func(x string) { a.run(x, "success", 1); hold(x, "close", `{"reason":"false alarm"}`) }, "CLOSED", ""},
		{"ByHand", "hold", "manual_ban_not_reset", func(x string) {
			a.run(x, "success", 1)
			redisCLI(t, s, "SET", "circuit_breaker:"+x+":state", "open")
			a.acquire(x).refused("OPEN", "open")
		}, "HALF_OPEN", "waiting"},
		{"Invalid", "override", "", func(x string) {
			a.run(x, "success", 1)
			redisCLI(t, s, "SET", "circuit_breaker:"+x+":config", `{"failure_threshold":-3}`)
		}, "", ""},
		{"Ended", "override", "", func(x string) {
			a.run(x, "success", 1)
			redisCLI(t, s, "SET", "circuit_breaker:"+x+":config", `{"failure_threshold":3,"_until":"2026-01-01T00:00:00Z"}`)
		}, "", ""},
		{"Observed", "mode", "", func(x string) { a.override(x, `{"mode":"observe"}`); a.run(x, "success", 1) }, "", ""},
		{"Disabled", "mode", "", func(x string) { a.override(x, `{"enabled":false}`) }, "", "-"},
		{"Asked", "upstream_wait", "automatic_ban", func(x string) {
			a.override(x, `{"timeout_seconds":0.1}`)
			for range 5 {
				a.call(http.MethodPost, dataPath+x+"/report", `{"outcome":"failure","retry_after_seconds":6}`).want(http.StatusOK)
			}
		}, "HALF_OPEN", "waiting"},
		{"Alone", "one_reporter", "automatic_ban", func(x string) { b.run(x, "success", 3); a.run(x, "failure", 5) }, "minimum_reporters", "-"},
		{"Loops", "flapping", "half_open_loop", func(x string) {
			a.override(x, `{"timeout_seconds":0.05,"half_open_max_calls":1}`)
			fail(x, 5)
			for range 3 {
				testkit.Eventually(t, "a probe", 20*time.Second, func() error {
					if r := a.acquire(x); r.status == http.StatusOK {
						a.report(x, r.text("permit"), "failure").want(http.StatusOK)
						return nil
					}
					return errors.New("none yet")
				})
			}
		}, "OPEN", "hold"},
		{"Waits", "waiting", "automatic_ban", func(x string) { a.override(x, `{"timeout_seconds":4}`); a.run(x, "failure", 5) }, "HALF_OPEN", "waiting"},
		{"WaitsLong", "waiting", "timeout_too_long", func(x string) { a.override(x, `{"timeout_seconds":3600}`); a.run(x, "failure", 5) }, "HALF_OPEN", "waiting"},
		{"Sick", "not_refused", "", func(x string) { a.override(x, `{"failure_threshold":0,"minimum_calls":100}`); fail(x, 4) }, "minimum_calls", "not_refused"},
		{"Soumd", "name", "", func(string) {}, "nothing wrong", "name"},
	} {
		t.Run(c.agent, func(t *testing.T) {
			t.Parallel()
			a := a.of(t)
			c.fault(c.agent)
			says(t, a.finds(c.agent, c.check, c.cause), c.shows)
			if c.after != "-" {
				a.awaitFinding(c.agent, c.after)
			}
		})
	}
}

// of is d for another test.
func (d *daemon) of(t testing.TB) *daemon {
	other := *d
	other.process = &process{Process: d.Process, t: t}
	return &other
}

// TestDoctor_OfTheFleet names what concerns every call, in the order of its checks, and nothing that is mended.
func TestDoctor_OfTheFleet(t *testing.T) {
	t.Parallel()
	need(t, "redis-cli", "jq", "curl")
	s := testkit.Start(t)
	d := start(t, "REDIS_URL="+s.URL())
	set := func(name, value string) { redisCLI(t, s, "CONFIG", "SET", name, value) }
	d.awaitFinding("", "")

	d.call(http.MethodPost, adminPath+"Banned/open", `{"reason":"flooding"}`).want(http.StatusOK)
	says(t, d.finds("", "holds_endless", ""), "manual ban not reset")
	d.reset("Banned", "CLOSED")
	d.awaitFinding("", "")

	d.call(http.MethodPut, "/v1/admin/fleet", `{"action":"stop","reason":"fire"}`).want(http.StatusOK)
	d.finds("Banned", "gate", "")
	d.awaitFinding("", "")

	set("maxmemory", "1gb")
	set("maxmemory-policy", "allkeys-lru")
	d.finds("", "store_eviction", "")
	d.awaitFinding("", "")

	used, _, _ := strings.Cut(strings.SplitN(redisCLI(t, s, "INFO", "memory"), "used_memory:", 2)[1], "\n")
	bytes, err := strconv.Atoi(strings.TrimSpace(used))
	if err != nil {
		t.Fatal(err)
	}
	set("maxmemory", strconv.Itoa(bytes+bytes/50))
	says(t, d.finds("Banned", "store_memory", ""), "maxmemory:")
	set("maxmemory", "0")
	d.awaitFinding("", "")

	set("requirepass", "secret")
	redisCLIAuth(t, s, "CLIENT", "KILL", "TYPE", "normal")
	says(t, d.finds("Banned", "store_answers", ""), "NOAUTH")
	redisCLIAuth(t, s, "CONFIG", "SET", "requirepass", "")
	d.awaitFinding("", "")

	redisCLI(t, s, "FLUSHALL")
	says(t, d.finds("", "store_data", ""), "store_reset")

	s.Kill()
	says(t, d.finds("Banned", "store_away", ""), "Could not connect")
}

// redisCLIAuth is redisCLI of a server whose password a test has set.
func redisCLIAuth(t testing.TB, s *testkit.Server, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "redis-cli", append([]string{"-h", "127.0.0.1", "-p", strconv.Itoa(s.Port)}, args...)...)
	cmd.Env = append(os.Environ(), "REDISCLI_AUTH=secret")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("redis-cli %v: %v %s", args, err, out)
	}
}

// TestDoctor_OfReplicas names the one that differs from the others.
func TestDoctor_OfReplicas(t *testing.T) {
	t.Parallel()
	need(t, "redis-cli", "jq", "curl")
	s := testkit.Start(t)
	env := "REDIS_URL=" + s.URL()
	a := start(t, env, "REPLICA_ID=a")
	b, c, off := launch(t, nil, env, "REPLICA_ID=b"), launch(t, nil, env, "REPLICA_ID=c", "CIRCUIT_BREAKER_FAILURE_THRESHOLD=7"),
		launch(t, nil, env, "REPLICA_ID=off", "CIRCUIT_BREAKER_ENABLED=false")
	for _, d := range []*daemon{b, c, off} {
		d.awaitListening()
	}
	a.run("Any", "success", 1)
	says(t, a.finds("Any", "global_switch", "", off), "CIRCUIT_BREAKER_ENABLED is false")
	says(t, a.finds("Any", "global_switch", ""), `"id": "off"`) // by its heartbeat
	off.signal(syscall.SIGTERM)
	<-off.Done()
	says(t, a.finds("Any", "replicas_policy", ""), `"id": "c"`)
	c.signal(syscall.SIGTERM)
	<-c.Done()

	const ghost = `{"program":"breakerd","host":"h","enabled":true,"degraded_since_ms":1770800400000,"last_error":"timeout"}`
	beat := func() {
		redisCLI(t, s, "SET", "circuit_breaker:replica.ghost", ghost)
		redisCLI(t, s, "ZADD", "circuit_breaker:replicas", strconv.FormatInt(time.Now().UnixMilli(), 10), "ghost")
	}
	testkit.Eventually(t, "the ghost to be degraded", 20*time.Second, func() error {
		beat()
		if r := a.doctor("Any"); r.first() != "replicas_degraded" {
			return fmt.Errorf("%s", r.text)
		}
		return nil
	})
	redisCLI(t, s, "DEL", "circuit_breaker:replica.ghost")
	redisCLI(t, s, "ZREM", "circuit_breaker:replicas", "ghost")

	b.signal(syscall.SIGKILL)
	<-b.Done()
	says(t, a.finds("Any", "replicas_missing", ""), `"id": "b"`)
	if r := a.doctor("Any", b); !strings.Contains(r.text, b.addr) {
		t.Errorf("a server that is gone: %s", r.text)
	}
	if out, exit := sh(t, "http://"+b.addr, "breakerctl doctor"); exit != 7 || !strings.Contains(out, "no server answers") {
		t.Errorf("no server: exit code %d: %s", exit, out)
	}
}
