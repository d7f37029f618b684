//go:build bench

package bench

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/redistest"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// tally prints the figures of one run of wrk as JSON; latencies are in microseconds.
const tally = `done = function(summary, latency, requests)
  io.write(string.format('\nTALLY {"requests":%d,"micros":%d,"p50":%d,"p99":%d,"refused":%d,"broken":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout))
end`

// load is one run of wrk.
type load struct {
	Requests int64   `json:"requests"`
	Micros   int64   `json:"micros"` // of the whole run
	Refused  int64   `json:"refused"`
	Broken   int64   `json:"broken"`
	P50      float64 `json:"p50"`
	P99      float64 `json:"p99"`

	cpu map[string]float64 // microseconds a request, by process
}

func (l load) rate() float64 { return float64(l.Requests) / float64(l.Micros) * 1e6 }

// stand is everything that is measured: the same agent behind nothing, behind a bare httputil.ReverseProxy and behind bridge, whose
// Redis is on the same machine.
type stand struct {
	t                   *testing.T
	redis               *redistest.Server
	script              string
	agent, bare, bridge string // http://host:port
	barePid, ours       int
}

func newStand(t *testing.T) *stand {
	t.Helper()
	for _, tool := range []string{"wrk", "redis-server"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is not installed", tool)
		}
	}
	dir := t.TempDir()
	s := &stand{t: t, redis: redistest.Start(t), script: filepath.Join(dir, "tally.lua")}
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(s.script, tally)
	s.agent, _ = serve(t, []string{os.Args[0]}, roleVariable+"=agent")
	s.bare, s.barePid = serve(t, []string{os.Args[0]}, roleVariable+"=proxy", toVariable+"="+s.agent)
	agents, binary := filepath.Join(dir, "agents.json"), filepath.Join(dir, "bridge")
	write(agents, `[{"name":"bench","url":"`+s.agent+`"}]`)
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-o", binary, "github.com/breakerd/breakerd/cmd/bridge")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build bridge: %v\n%s", err, out)
	}
	s.bridge, s.ours = serve(t, []string{binary}, "BRIDGE_LISTEN=127.0.0.1:0", "REDIS_URL="+s.redis.URL(), "AGENTS_FILE="+agents)
	return s
}

// serve starts a program that prints a line which ends with the URL that it serves, and ends it with the test.
func serve(t *testing.T, argv []string, env ...string) (url string, pid int) {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatalf("start %s: %v", argv[0], err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	i := strings.LastIndex(line, "http://")
	if err != nil || i < 0 {
		t.Fatalf("%s does not say where it listens: %q, %v", argv[0], line, err)
	}
	return strings.TrimSpace(line[i:]), cmd.Process.Pid
}

// drive runs wrk for one round. processes are those whose CPU time counts.
func (s *stand) drive(url string, connections int, processes map[string]int) load {
	s.t.Helper()
	before := map[string]time.Duration{}
	for name, pid := range processes {
		before[name] = s.cpu(pid)
	}
	seconds := strconv.Itoa(int(math.Ceil(round.Seconds()))) + "s"
	out, err := exec.CommandContext(s.t.Context(), "wrk", "-t1", "-c"+strconv.Itoa(connections), "-d"+seconds, "-s", s.script, url).CombinedOutput()
	_, text, ok := strings.Cut(string(out), "TALLY ")
	var l load
	if err != nil || !ok || json.Unmarshal([]byte(text), &l) != nil {
		s.t.Fatalf("wrk: %v\n%s", err, out)
	}
	if l.Broken > 0 {
		s.t.Fatalf("void: %d of %d requests to %s broke\n%s", l.Broken, l.Requests, url, out)
	}
	l.cpu = map[string]float64{}
	for name, pid := range processes {
		l.cpu[name] = float64((s.cpu(pid) - before[name]).Microseconds()) / float64(l.Requests)
	}
	return l
}

// cpu is the time that a process has had so far, of user and kernel, in the 10 ms of the kernel's clock.
func (s *stand) cpu(pid int) time.Duration {
	s.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		s.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ") // the name before may hold blanks
	fields := strings.Fields(rest)
	var ticks int64
	for _, field := range fields[11:13] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			s.t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks*10) * time.Millisecond
}

// called is how many calls the agent has had.
func (s *stand) called() int64 {
	s.t.Helper()
	res, err := http.Get(s.agent + countPath)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	n, err2 := strconv.ParseInt(string(text), 10, 64)
	if err != nil || err2 != nil {
		s.t.Fatalf("count of the agent: %q, %v", text, err)
	}
	return n
}

// TestGateway compares a call through bridge, in strict mode over a Redis on this machine, with the same call through a bare
// httputil.ReverseProxy, and measures what a refusal costs. A run is void unless the breaker has counted the calls.
func TestGateway(t *testing.T) {
	s := newStand(t)
	m := s.manager()
	redisPid := s.redisPid()
	var rows, refusals []string
	var through int64
	for _, connections := range []int{8, 64} {
		var bare, ours, refused []load
		s.drive(s.bare, connections, nil) // warm
		through += s.drive(s.bridge+"/agents/bench/", connections, nil).Requests
		for range *rounds {
			bare = append(bare, s.drive(s.bare, connections, map[string]int{"proxy": s.barePid}))
			ours = append(ours, s.drive(s.bridge+"/agents/bench/", connections, map[string]int{"proxy": s.ours, "redis": redisPid}))
			through += ours[len(ours)-1].Requests
		}
		rows = append(rows, row(connections, bare, ours))
		t.Log(rows[len(rows)-1])
		if _, err := m.Force(t.Context(), "bench", breaker.Force{Target: breaker.HoldOpen, Actor: "bench"}); err != nil {
			t.Fatal(err)
		}
		before := s.called()
		for range *rounds {
			refused = append(refused, s.drive(s.bridge+"/agents/bench/", connections, map[string]int{"proxy": s.ours, "redis": redisPid}))
			if l := refused[len(refused)-1]; l.Refused != l.Requests {
				t.Fatalf("void: %d of %d calls were refused", l.Refused, l.Requests)
			}
		}
		if n := s.called() - before; n != 0 {
			t.Fatalf("void: the agent was called %d times while the breaker was open", n)
		}
		refusals = append(refusals, refusalRow(connections, refused))
		t.Log(refusals[len(refusals)-1])
		if _, err := m.Force(t.Context(), "bench", breaker.Force{Target: breaker.ResetClosed, Actor: "bench"}); err != nil {
			t.Fatal(err)
		}
	}
	s.reportGateway(rows, refusals, through)
}

// manager is one more of the fleet, which holds the breaker open.
func (s *stand) manager() *breaker.Manager {
	s.t.Helper()
	conn, err := redisstore.Open(s.t.Context(), s.redis.URL(), redisstore.Options{Timeout: 5 * time.Second})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	store, err := redisstore.New(conn.Client, false, redisstore.Config{Timeout: 5 * time.Second})
	if err != nil {
		s.t.Fatal(err)
	}
	m, err := breaker.NewManager(breaker.Options{Store: store})
	if err != nil {
		s.t.Fatal(err)
	}
	return m
}

func (s *stand) redisPid() int {
	s.t.Helper()
	for line := range strings.SplitSeq(s.redis.Client(s.t).Info(s.t.Context(), "server").Val(), "\r\n") {
		if text, ok := strings.CutPrefix(line, "process_id:"); ok {
			pid, err := strconv.Atoi(text)
			if err != nil {
				s.t.Fatal(err)
			}
			return pid
		}
	}
	s.t.Fatal("INFO shows no process_id")
	return 0
}

// middle is the median of one figure over the rounds.
func middle(loads []load, figure func(load) float64) float64 {
	all := make([]float64, len(loads))
	for i, l := range loads {
		all[i] = figure(l)
	}
	return median(all)
}

func (l load) p50() float64 { return l.P50 / 1000 }
func (l load) p99() float64 { return l.P99 / 1000 }

func cpuOf(process string) func(load) float64 {
	return func(l load) float64 { return l.cpu[process] }
}

func row(connections int, bare, ours []load) string {
	var ratios []float64
	for i := range ours {
		ratios = append(ratios, ours[i].rate()/bare[i].rate())
	}
	return fmt.Sprintf("| %d | %.0f | %.0f | **%.2f** | %.2f to %.2f | %.2f / %.2f | %.2f / %.2f | %.0f | %.0f + %.0f |", connections,
		middle(bare, load.rate), middle(ours, load.rate), median(ratios), slices.Min(ratios), slices.Max(ratios),
		middle(bare, load.p50), middle(bare, load.p99), middle(ours, load.p50), middle(ours, load.p99),
		middle(bare, cpuOf("proxy")), middle(ours, cpuOf("proxy")), middle(ours, cpuOf("redis")))
}

func refusalRow(connections int, refused []load) string {
	return fmt.Sprintf("| %d | %.0f | %.2f / %.2f | %.0f + %.0f |", connections, middle(refused, load.rate),
		middle(refused, load.p50), middle(refused, load.p99), middle(refused, cpuOf("proxy")), middle(refused, cpuOf("redis")))
}

// counted is a metric of bridge.
func (s *stand) counted(series string) int64 {
	s.t.Helper()
	res, err := http.Get(s.bridge + "/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	page := bufio.NewScanner(res.Body)
	for page.Scan() {
		if text, ok := strings.CutPrefix(page.Text(), series+" "); ok {
			n, err := strconv.ParseFloat(text, 64)
			if err != nil {
				s.t.Fatal(err)
			}
			return int64(n)
		}
	}
	return 0
}

func (s *stand) reportGateway(rows, refusals []string, through int64) {
	s.t.Helper()
	// What wrk leaves behind at the end of a round has been answered, or was cancelled and is ignored.
	successes, failures := s.counted(`circuit_breaker_calls_total{agent="bench",result="success"}`), s.counted(`circuit_breaker_calls_total{agent="bench",result="failure"}`)
	if late := int64(2 * (*rounds + 1) * 64); failures != 0 || successes < through || successes > through+late {
		s.t.Fatalf("void: wrk counted %d answers, the breaker %d successes and %d failures", through, successes, failures)
	}
	replace(s.t, "gateway", fmt.Sprintf(`%d cores (%s), Go %s, wrk, agent, proxy and Redis all on them; %d rounds of %v each in turns, medians.
The breaker counted every one of the %d calls that wrk saw answered.

| connections | bare proxy, requests a second | bridge | ratio | spread of the ratio | bare, p50 / p99 ms | bridge, p50 / p99 ms | bare, CPU µs a call | bridge + Redis, CPU µs a call |
|---|---|---|---|---|---|---|---|---|
%s

| connections | refusals a second | p50 / p99 ms | bridge + Redis, CPU µs a refusal |
|---|---|---|---|
%s

While the breaker was open the agent was called 0 times.
`, runtime.NumCPU(), runtime.GOARCH, runtime.Version(), *rounds, *round, through, strings.Join(rows, "\n"), strings.Join(refusals, "\n")))
}
