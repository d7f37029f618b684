package e2e

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
)

// late is a workflow of one step, which lasts as long as its agent.
func late(agent string) string {
	return `{"workflow_id":"late","steps":{"s":{"id":"s","agent_name":"` + agent + `","path":"/step"}}}`
}

// begun executes late and returns a channel of its answer.
func (h *handled) begun() <-chan reply {
	h.t.Helper()
	h.call(http.MethodPost, "/api/v1/workflows", late("Agent")).want(http.StatusCreated)
	answer := make(chan reply, 1)
	go func() {
		r, err := h.try(http.MethodPost, "/api/v1/workflows/late/execute", "")
		if err != nil {
			r.body = []byte(err.Error())
		}
		answer <- r
	}()
	return answer
}

// patient is an agent that streams on /stream, and on other paths answers once it is released. arrived receives each
// call.
type patient struct {
	stream           *stepwise
	arrived, release chan struct{}
}

func newPatient() *patient {
	return &patient{newStepwise(), make(chan struct{}, 16), make(chan struct{})}
}

// ServeHTTP implements http.Handler.
func (p *patient) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // only then does net/http notice that a client of HTTP/1.1 leaves
	p.arrived <- struct{}{}
	if strings.HasSuffix(r.URL.Path, "/stream") {
		p.stream.ServeHTTP(w, r)
		return
	}
	select {
	case <-p.release:
	case <-r.Context().Done():
	}
}

func TestDrain_BridgeEndsStreamsAndExecutions(t *testing.T) {
	t.Parallel()
	agent := newPatient()
	h := behind(t, agent)
	execution := h.begun()
	<-agent.arrived
	c := streaming(t, "--http1.1", h.url+"/stream")
	two := streaming(t, "--http2-prior-knowledge", h.url+"/stream")
	for _, c := range []*process{c, two} {
		c.awaitOut("data: 0\n\n")
	}
	h.signal(syscall.SIGTERM)
	h.awaitText(`"msg":"stopping"`, "terminated")
	testkit.Eventually(t, "no new calls to be wanted", 10*time.Second, func() error {
		if r := curl(t, h.url+"/other"); r.exit != 7 { // could not connect
			return errors.New(r.head)
		}
		return nil
	})
	if !h.Running() {
		t.Fatal("bridge ended with calls under way")
	}
	close(agent.stream.next)
	close(agent.release)
	for _, c := range []*process{c, two} {
		if code := c.ExitCode(); code != 0 {
			t.Errorf("the stream: exit code %d: %s", code, c.Stderr())
		}
		c.awaitOut("data: 99\n\n")
	}
	(<-execution).want(http.StatusOK).has("status", "completed")
	if code := h.ExitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	h.awaitText(`"msg":"stopped"`)
	checkStats(t, h.daemon, "Agent", map[string]any{"state": "closed", "total_successes": 3.0, "total_failures": 0.0})
}

// TestDrain_BridgeTakesCallsWhileNotReady holds for SHUTDOWN_DELAY_SECONDS, in which load balancers notice.
func TestDrain_BridgeTakesCallsWhileNotReady(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.bridge("SHUTDOWN_DELAY_SECONDS=2")
	b.call(http.MethodGet, "/readyz", "").want(http.StatusOK)
	b.client.CloseIdleConnections() // each call below is a new connection
	b.signal(syscall.SIGTERM)
	begin := time.Now()
	b.awaitText(`"msg":"stopping"`, `"delay":"2s"`)
	fresh := []string{"Connection", "close"}
	b.call(http.MethodGet, "/readyz", "", fresh...).want(http.StatusServiceUnavailable).has("code", "not_ready")
	b.call(http.MethodGet, "/livez", "", fresh...).want(http.StatusOK)
	b.call(http.MethodGet, "/agents/Other/", "", fresh...).want(http.StatusOK)
	b.call(http.MethodPost, "/api/v1/workflows/"+guide+"/execute", "", fresh...).failed()
	if code := b.ExitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if took := time.Since(begin); took < 1900*time.Millisecond {
		t.Errorf("it ended after %v, before its delay was over", took)
	}
}

// TestDaemon_EveryProgramKnowsItsNameAndWhetherItIsReady uses --health, which container health checks run.
func TestDaemon_EveryProgramKnowsItsNameAndWhetherItIsReady(t *testing.T) {
	t.Parallel()
	for _, p := range []program{breakerd, bridge, demoAgent} {
		ask := func(d *daemon, args ...string) (code int, said string) {
			env := []string{"GORACE=atexit_sleep_ms=10"}
			if d != nil {
				env = append(env, p.listen+"="+d.addr)
			}
			one := spawn(t, append([]string{p.binary()}, args...), env)
			return one.ExitCode(), one.Stdout() + one.Stderr()
		}
		if code, said := ask(nil, "--version"); code != 0 || !strings.HasPrefix(said, p.name+" ") {
			t.Errorf("%s --version: exit code %d, %s", p.name, code, said)
		}
		if code, said := ask(nil, "--nonsense"); code != 2 || !strings.Contains(said, "--nonsense") {
			t.Errorf("%s --nonsense: exit code %d, %s", p.name, code, said)
		}
		d := p.start(t)
		if code, said := ask(d, "--health"); code != 0 {
			t.Errorf("%s --health: exit code %d, %s", p.name, code, said)
		}
		d.signal(syscall.SIGTERM)
		if code := d.ExitCode(); code != 0 {
			t.Errorf("%s: exit code %d after SIGTERM", p.name, code)
		}
		if code, said := ask(d, "--health"); code != 1 || said == "" {
			t.Errorf("%s --health of one that has ended: exit code %d, %s", p.name, code, said)
		}
	}
}

// TestDrain_CutsAStreamAtItsEnd wants exit code 0 all the same.
func TestDrain_CutsAStreamAtItsEnd(t *testing.T) {
	t.Parallel()
	agent := newPatient()
	h := behind(t, agent, "SHUTDOWN_TIMEOUT_SECONDS=0.5")
	execution := h.begun()
	<-agent.arrived
	c := streaming(t, "--http1.1", h.url+"/stream")
	c.awaitOut("data: 0\n\n")
	begin := time.Now()
	h.signal(syscall.SIGTERM)
	if code := h.ExitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if took := time.Since(begin); took < 400*time.Millisecond || took > 10*time.Second {
		t.Errorf("it ended %v after SIGTERM", took)
	}
	h.awaitText("stopped with calls still under way")
	if code := c.ExitCode(); code != 18 {
		t.Errorf("the stream that was cut: exit code %d: %s", code, c.Stderr())
	}
	if err := <-agent.stream.ended; err == nil {
		t.Error("the agent was not told")
	}
	if r := <-execution; r.status == http.StatusOK {
		t.Errorf("an execution that was cut: %d %s", r.status, r.body)
	}
}
