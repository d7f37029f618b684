package startdev

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/breakerd/breakerd/internal/daemon"
	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// started is a fleet that runs.
type started struct {
	page, bridge, agents, redis string // as the banner names them

	breakerd *client.Client
}

var place = regexp.MustCompile(`(?m)^  (page|bridge|agents|redis) +([^ ,\n]+)`)

// await waits for the banner.
func await(t *testing.T, stdout, stderr func() string) *started {
	t.Helper()
	testkit.Eventually(t, "the banner", 30*time.Second, func() error {
		if !strings.Contains(stdout(), "HGETALL") {
			return errors.New(stderr())
		}
		return nil
	})
	at := map[string]string{}
	for _, m := range place.FindAllStringSubmatch(stdout(), -1) {
		at[m[1]] = m[2]
	}
	s := &started{page: at["page"], bridge: at["bridge"], agents: at["agents"], redis: at["redis"]}
	var err error
	if s.breakerd, err = client.New(client.Options{Servers: []string{strings.TrimSuffix(s.page, "/ui/")}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.breakerd.CloseIdleConnections)
	return s
}

func free() (o Options, stdout, stderr *testkit.Buffer) {
	stdout, stderr = &testkit.Buffer{}, &testkit.Buffer{}
	const anyPort = "127.0.0.1:0"
	return Options{Listen: anyPort, BridgeListen: anyPort, AgentsListen: anyPort, Stdout: stdout, Stderr: stderr}, stdout, stderr
}

// start runs a fleet in this process. end wants that it ends in order, and soon; the test's end calls it too.
func start(t *testing.T, soon time.Duration) (s *started, end func()) {
	t.Helper()
	o, stdout, stderr := free()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, o) }()
	end = sync.OnceFunc(func() {
		begin := time.Now()
		stop()
		if err, took := <-ended, time.Since(begin); err != nil || took > soon {
			t.Errorf("it ended after %v: %v\n%s", took, err, stderr.String())
		}
	})
	t.Cleanup(end)
	return await(t, stdout.String, stderr.String), end
}

func (s *started) kinds(t *testing.T, agent string) (kinds []string) {
	t.Helper()
	out, err := s.breakerd.ListEvents(t.Context(), agent)
	if err != nil && !errors.Is(err, client.ErrNotFound) {
		t.Fatal(err)
	}
	for _, e := range slices.Backward(out.Events) {
		kinds = append(kinds, e.Event)
	}
	return kinds
}

// TestScript_ShowsABreakerThatOpensProbesAndCloses follows the script for half a minute, in a program that was built
// without the race detector: Redis' scripts take too much time with it.
func TestScript_ShowsABreakerThatOpensProbesAndCloses(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "breakerctl")
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", program, "../../cmd/breakerctl")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	const anyPort = "127.0.0.1:0"
	begin := time.Now()
	p := testkit.Run(t, []string{
		program, "server", "start-dev", "--listen", anyPort, "--bridge-listen", anyPort, "--agents-listen", anyPort,
	}, nil)
	s := await(t, p.Stdout, p.Stderr)
	testkit.Eventually(t, "payments to be open", 10*time.Second-time.Since(begin), func() error {
		sum, err := s.breakerd.GetSummary(t.Context())
		if err == nil && (sum.States["OPEN"] < 2 || sum.Causes["consecutive_failures"] == 0) {
			err = fmt.Errorf("%v, %v", sum.States, sum.Causes)
		}
		return err
	})
	// What the page has to show beside that.
	list, err := s.breakerd.ListCircuitBreakers(t.Context(), client.ListQuery{})
	if err != nil {
		t.Fatal(err)
	}
	about := map[string]client.ListEntry{}
	for _, b := range list.CircuitBreakers {
		about[b.AgentID] = b
	}
	if h := about["geo"].Hold; h == nil || h.Actor != "alice" || about["geo"].Reason == "" {
		t.Errorf("geo is not held: %+v", about["geo"])
	}
	if about["translate"].Mode != "observe" || len(about) != len(agents()) {
		t.Errorf("%d agents, and translate is in mode %q", len(about), about["translate"].Mode)
	}
	agent, err := s.breakerd.GetAgent(t.Context(), "payments")
	if err != nil || agent.Labels["team"] != "checkout" || agent.Contact == "" {
		t.Errorf("payments: %+v, %v", agent, err)
	}
	if h, err := s.breakerd.GetHistory(t.Context(), "payments", 60); err != nil || h.KeptMinutes != 60 {
		t.Errorf("history: %+v, %v", h, err)
	}

	want := []string{"opened", "half_opened", "opened", "half_opened", "closed"}
	testkit.Eventually(t, "payments to be closed", time.Minute-time.Since(begin), func() error {
		got := slices.DeleteFunc(s.kinds(t, "payments"), func(kind string) bool { return !slices.Contains(want, kind) })
		if !slices.Equal(got, want) {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
	if log := p.Stderr(); log != "" {
		t.Errorf("it logs, and the banner is scrolled away:\n%s", log)
	}
}

func get(t *testing.T, url string) *http.Response {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	return res
}

func TestRun_ServesWhatTheBannerNames(t *testing.T) {
	t.Parallel()
	s, _ := start(t, 5*time.Second)
	for url, want := range map[string]int{
		s.page: 200, s.agents: 200, s.bridge + "/agents/search/any": 200, s.bridge + "/agents/geo/any": 429,
		s.bridge + "/api/v1/workflows": 200,
	} {
		if res := get(t, url); res.StatusCode != want { //nolint:bodyclose // get closes it
			t.Errorf("%s: %s, want %d", url, res.Status, want)
		}
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.redis, "redis://"))
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
}

// A call that hangs, and a stream, are cut.
func TestRun_EndsInTimeWhateverIsUnderWay(t *testing.T) {
	t.Parallel()
	s, end := start(t, 10*time.Second)
	f := &fleet{agents: &program{address: strings.TrimSuffix(strings.TrimPrefix(s.agents, "http://"), "/modes")}}
	f.http.Transport = &http.Transport{DisableKeepAlives: true}
	if err := f.put(t.Context(), "mailer", `{"mode": "hanging"}`); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 2)
	for _, url := range []string{s.bridge + "/agents/mailer/send", strings.Replace(s.page, "/ui/", "/v1/events", 1)} {
		sent := make(chan struct{})
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			WroteRequest: func(httptrace.WroteRequestInfo) { close(sent) },
		})
		go func() { ended <- f.ask(ctx, http.MethodGet, url, "") }()
		<-sent
	}
	end()
	for range cap(ended) {
		<-ended
	}
}

// taken listens where the fleet is to listen.
func taken(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

func TestRun_NamesTheFlagToChange(t *testing.T) {
	t.Parallel()
	busy := taken(t)
	for _, c := range []struct {
		flag  string
		fault Fault
		says  string
		set   func(*Options)
	}{
		{"--listen", Taken, busy, func(o *Options) { o.Listen = busy }},
		{"--bridge-listen", Taken, busy, func(o *Options) { o.BridgeListen = busy }},
		{"--agents-listen", Taken, busy, func(o *Options) { o.AgentsListen = busy }},
		{"--listen", BadValue, "loopback", func(o *Options) { o.Listen = "0.0.0.0:0" }},
		{"--bridge-listen", BadValue, "127.0.0.1:8000", func(o *Options) { o.BridgeListen = "8000" }},
		{"--redis", BadValue, "embedded", func(o *Options) { o.Redis = "embedded://" }},
		{"--redis", BadValue, "unknown scheme", func(o *Options) { o.Redis = "http://127.0.0.1" }},
		{"--redis", Unreachable, "refused", func(o *Options) { o.Redis = "redis://127.0.0.1:1" }},
	} {
		o, stdout, _ := free()
		c.set(&o)
		err := Run(t.Context(), o)
		refused, ok := errors.AsType[*FlagError](err)
		if !ok || refused.Flag != c.flag || refused.Fault != c.fault || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s, %s: %v", c.flag, c.says, err)
		}
		if stdout.String() != "" {
			t.Errorf("%s: a banner: %s", c.flag, stdout.String())
		}
	}
}

func TestRun_RefusesABadLogLevel(t *testing.T) {
	t.Parallel()
	o, _, _ := free()
	o.LogLevel = "loud"
	if err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), `LOG_LEVEL="loud"`) {
		t.Error(err)
	}
}

func TestRun_EndsIfOneProgramFails(t *testing.T) {
	t.Parallel()
	o, _, stderr := free()
	f, err := newFleet(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	f.bridge.Configure = func([]string) (daemon.Config, error) { return daemon.Config{}, errors.New("broken") }
	err = f.run(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), "bridge has ended by itself with exit code 2") ||
		!strings.Contains(stderr.String(), "broken") {
		t.Errorf("%v\n%s", err, stderr.String())
	}
}

func TestRun_UsesAnotherRedisUnderAPrefixOfItsOwn(t *testing.T) {
	t.Parallel()
	redis := testkit.Start(t)
	o, stdout, stderr := free()
	o.Redis = redis.URL()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, o) }()
	testkit.Eventually(t, "the banner", 30*time.Second, func() error {
		if !strings.Contains(stdout.String(), "keys begin with "+ownPrefix) {
			return errors.New(stderr.String())
		}
		return nil
	})
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	to := redis.Client(t)
	all, err := to.Keys(t.Context(), "*").Result()
	if err != nil || !slices.Contains(all, ownPrefix+":geo:state") {
		t.Errorf("%q, %v", all, err)
	}
	for _, key := range all {
		if !strings.HasPrefix(key, ownPrefix+":") {
			t.Errorf("key %s", key)
		}
	}
}

func TestScript_ChangesAgentsThatAreThereInOrder(t *testing.T) {
	t.Parallel()
	known, last := map[string]bool{}, time.Duration(0)
	for _, a := range agents() {
		known[a.name] = true
	}
	for _, s := range script() {
		if !known[s.agent] || s.at < last || s.at >= round {
			t.Errorf("%+v", s)
		}
		last = s.at
	}
	if !known[byOperator().agent] {
		t.Errorf("%+v", byOperator())
	}
}
