package breakerprom

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/goleak"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scrape returns the lines of circuit_breaker metrics. The registry checks that each metric was described.
func scrape(t *testing.T, c *Collector) string {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(c)
	res := httptest.NewRecorder()
	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil)
	promhttp.HandlerFor(r, promhttp.HandlerOpts{}).ServeHTTP(res, request)
	text, err := io.ReadAll(res.Result().Body)
	if err != nil || res.Code != http.StatusOK {
		t.Fatal(res.Code, string(text), err)
	}
	return strings.Join(regexp.MustCompile(`(?m)^circuit_breaker.*$`).FindAllString(string(text), -1), "\n")
}

func bound(maxAgents int, s breaker.Source) *Collector {
	c := New(Options{MaxAgents: maxAgents})
	c.Bind(s)
	return c
}

func wantLines(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, l := range lines {
		if !strings.Contains("\n"+text+"\n", "\n"+l+"\n") {
			t.Errorf("no line %s in\n%s", l, text)
		}
	}
}

// drive makes a manager on a store in memory, with m as its observer.
func drive(t *testing.T, m *Collector, nowMs func() int64, p breaker.Policy) *breaker.Manager {
	t.Helper()
	mgr, err := breaker.NewManager(breaker.Options{
		Store: breaker.NewMemory(nowMs, 0), Observer: m,
		Policy: p,
	})
	if err != nil {
		t.Fatal(err)
	}
	return mgr
}

func TestCollector_OfABreakersLife(t *testing.T) {
	t.Parallel()
	now := int64(1_770_800_400_000)
	m := bound(1000, breaker.Source{
		Degraded: func() bool { return true },
		Refusals: func() breaker.Refusals { return breaker.Refusals{Agents: 2, Operations: 5} },
		Outcomes: func() breaker.Outcomes {
			return breaker.Outcomes{
				Taken: 9, Settled: map[machine.Code]int64{machine.CodeOK: 3, machine.CodeLost: 2},
				Lost:   map[machine.Reason]int64{"epoch": 2},
				Unsent: breaker.Backlog{Outcomes: 4, Agents: 3, Oldest: 1500 * time.Millisecond},
			}
		},
	})
	mgr := drive(t, m, func() int64 { return now }, breaker.DefaultPolicy())
	ctx := t.Context()
	early, _ := mgr.Acquire(ctx, "AgentName")
	ok, _ := mgr.Acquire(ctx, "AgentName")
	_, _ = ok.Success(ctx)
	for range 5 {
		p, _ := mgr.Acquire(ctx, "AgentName")
		_, _ = p.Failure(ctx, "boom")
	}
	_, _ = mgr.Acquire(ctx, "AgentName")
	_, _ = early.Success(ctx)
	now += 60_000
	probe, _ := mgr.Acquire(ctx, "AgentName")
	_, _ = probe.Ignore(ctx)
	probe, _ = mgr.Acquire(ctx, "AgentName")
	_, _ = probe.Failure(ctx, "boom")
	wantLines(t, scrape(t, m),
		`circuit_breaker_calls_total{agent="AgentName",result="success"} 1`,
		`circuit_breaker_calls_total{agent="AgentName",result="failure"} 6`,
		`circuit_breaker_calls_total{agent="AgentName",result="ignored"} 1`,
		`circuit_breaker_rejections_total{agent="AgentName",reason="open"} 1`,
		`circuit_breaker_transitions_total{agent="AgentName",from="closed",to="open"} 1`,
		`circuit_breaker_transitions_total{agent="AgentName",from="open",to="half_open"} 1`,
		`circuit_breaker_transitions_total{agent="AgentName",from="half_open",to="open"} 1`,
		`circuit_breaker_outcomes_uncounted_total{agent="AgentName",why="late"} 1`,
		`circuit_breaker_probes_total{agent="AgentName",result="ignored"} 1`,
		`circuit_breaker_probes_total{agent="AgentName",result="failure"} 1`,
		`circuit_breaker_store_duration_seconds_count{result="ok",verb="acquire"} 10`,
		`circuit_breaker_degraded 1`, `circuit_breaker_unsent_agents 3`, `circuit_breaker_unsent_age_seconds 1.5`,
		`circuit_breaker_unsent_outcomes 4`, `circuit_breaker_outcomes_taken_total 9`, `circuit_breaker_refused_agents 2`,
		`circuit_breaker_refused_operations_total 5`,
		`circuit_breaker_outcomes_settled_total{as="acknowledged"} 3`, `circuit_breaker_outcomes_settled_total{as="lost"} 2`,
		`circuit_breaker_outcomes_settled_total{as="late"} 0`, `circuit_breaker_outcomes_lost_total{why="epoch"} 2`)
}

func TestCollector_ObserveCountsWhatItWouldRefuse(t *testing.T) {
	t.Parallel()
	p := breaker.DefaultPolicy()
	p.Mode = breaker.Observe
	m := bound(1000, breaker.Source{})
	mgr := drive(t, m, nil, p)
	for range 6 {
		permit, _ := mgr.Acquire(t.Context(), "a")
		_, _ = permit.Failure(t.Context(), "")
	}
	wantLines(t, scrape(t, m), `circuit_breaker_would_reject_total{agent="a",reason="open"} 1`,
		`circuit_breaker_outcomes_uncounted_total{agent="a",why="observed"} 1`)
}

func TestCollector_CountOnlyTransitionsOfThisReplica(t *testing.T) {
	t.Parallel()
	m := bound(1000, breaker.Source{})
	opened := breaker.Event{Kind: machine.EventOpened, From: breaker.Closed, To: breaker.Open}
	m.Event("a", opened, true)
	m.Event("a", breaker.Event{Kind: machine.EventManualOpen, From: breaker.Open, To: breaker.Open}, false)
	m.Event("a", breaker.Event{Kind: machine.EventConfigured, To: breaker.Open}, false)
	m.Event("a", breaker.Event{Kind: machine.EventRepaired, From: breaker.Open, To: breaker.Open}, false)
	m.StoreCall(machine.VerbRecord, time.Millisecond, &breaker.StoreError{Unknown: true, Err: errors.New("x")})
	m.StoreCall(machine.VerbRecord, time.Millisecond, &breaker.StoreError{Err: errors.New("x")})
	text := scrape(t, m)
	wantLines(t, text, `circuit_breaker_heals_total{agent="a"} 1`, `circuit_breaker_store_duration_seconds_count{result="unknown",verb="record"} 1`,
		`circuit_breaker_store_duration_seconds_count{result="error",verb="record"} 1`)
	if strings.Contains(text, "transitions_total{") {
		t.Error(text)
	}
}

func TestStates_AreReadTwiceASecond(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(0)
	asked := 0
	var err error
	m := bound(1000, breaker.Source{States: func(context.Context) (map[string]breaker.State, error) {
		asked++
		return map[string]breaker.State{"a": breaker.Closed, "b": breaker.Open, "c": breaker.HalfOpen}, err
	}})
	m.states.now = func() time.Time { return now }
	for range 3 {
		wantLines(t, scrape(t, m), `circuit_breaker_state{agent="a"} 0`, `circuit_breaker_state{agent="b"} 1`, `circuit_breaker_state{agent="c"} 2`,
			`circuit_breaker_state_info{agent="a",state="CLOSED"} 1`, `circuit_breaker_state_info{agent="b",state="OPEN"} 1`,
			`circuit_breaker_state_info{agent="c",state="HALF_OPEN"} 1`)
	}
	if n := strings.Count(scrape(t, m), "circuit_breaker_state_info{"); n != 3 {
		t.Errorf("%d states of three agents", n)
	}
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
	m.Forget("b")
	if text := scrape(t, m); strings.Contains(text, `agent="b"`) {
		t.Error(text)
	}
	now, err = now.Add(time.Second), errors.New("away")
	text := scrape(t, m)
	wantLines(t, text, "circuit_breaker_state_errors_total 1")
	if strings.Contains(text, "circuit_breaker_state{") || strings.Contains(text, "circuit_breaker_state_info{") {
		t.Errorf("old states are shown as new:\n%s", text)
	}
}

// An agent is forgotten at once, though the store that a scrape asks does not answer, and is not in that answer.
func TestStates_ForgetDoesNotWaitForARead(t *testing.T) {
	t.Parallel()
	asked, answer := make(chan struct{}), make(chan struct{})
	m := bound(1000, breaker.Source{States: func(context.Context) (map[string]breaker.State, error) {
		close(asked)
		<-answer
		return map[string]breaker.State{"a": breaker.Open, "b": breaker.Open}, nil
	}})
	text := make(chan string)
	go func() { text <- scrape(t, m) }()
	<-asked
	m.Forget("a") // would wait for ever
	close(answer)
	if text := <-text; strings.Contains(text, `agent="a"`) || !strings.Contains(text, `circuit_breaker_state{agent="b"} 1`) {
		t.Error(text)
	}
}

func TestLabels_AgentsBeyondTheMostShareOne(t *testing.T) {
	t.Parallel()
	m := bound(2, breaker.Source{States: func(context.Context) (map[string]breaker.State, error) {
		return map[string]breaker.State{"a": breaker.Closed, "b": breaker.Closed, "c": breaker.Closed, "d": breaker.Closed}, nil
	}})
	call := func(agent string) {
		m.Settled(agent, breaker.Outcome{Kind: breaker.Success}, breaker.Report{Counted: true})
	}
	for _, a := range []string{"a", "b", "c", "d", "a"} {
		call(a)
	}
	m.Refused("c", &breaker.OpenError{Agent: "c", Reason: breaker.ReasonShedding})
	wantLines(t, scrape(t, m), `circuit_breaker_calls_total{agent="a",result="success"} 2`, `circuit_breaker_calls_total{agent="b",result="success"} 1`,
		`circuit_breaker_calls_total{agent="_other",result="success"} 2`, `circuit_breaker_rejections_total{agent="_other",reason="shedding"} 1`,
		`circuit_breaker_state{agent="a"} 0`, `circuit_breaker_state{agent="_other"} 0`,
		`circuit_breaker_state_info{agent="a",state="CLOSED"} 1`)
	m.Forget("a")
	call("c")
	text := scrape(t, m)
	wantLines(t, text, `circuit_breaker_calls_total{agent="c",result="success"} 1`, `circuit_breaker_state{agent="c"} 0`)
	if strings.Contains(text, `calls_total{agent="a"`) {
		t.Error(text)
	}
}

func TestForget_WhileCountingLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	m := bound(4, breaker.Source{})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 200 {
				agent := fmt.Sprint("agent-", (i+j)%8)
				m.Settled(agent, breaker.Outcome{Kind: breaker.Failure}, breaker.Report{Counted: true})
				m.Forget(agent)
			}
		})
	}
	wg.Wait()
	for i := range 8 {
		m.Forget(fmt.Sprint("agent-", i))
	}
	if text := scrape(t, m); strings.Contains(text, `agent="agent-`) {
		t.Error(text)
	}
}
