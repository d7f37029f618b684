package metrics

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breakerhttp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scrape returns the lines of circuit_breaker metrics.
func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	res := httptest.NewRecorder()
	m.Handler().ServeHTTP(res, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	text, err := io.ReadAll(res.Result().Body)
	if err != nil || res.Code != http.StatusOK {
		t.Fatal(res.Code, err)
	}
	return strings.Join(regexp.MustCompile(`(?m)^circuit_breaker.*$`).FindAllString(string(text), -1), "\n")
}

func wantLines(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, l := range lines {
		if !strings.Contains("\n"+text+"\n", "\n"+l+"\n") {
			t.Errorf("no line %s in\n%s", l, text)
		}
	}
}

func TestMetrics_CountDroppedLogLines(t *testing.T) {
	t.Parallel()
	m := New("1.2.3", 1000, nil)
	m.RegisterLog(func() int64 { return 7 })
	wantLines(t, scrape(t, m), `circuit_breaker_log_lines_dropped_total 7`)
}

func TestMetrics_MeasureCalls(t *testing.T) {
	t.Parallel()
	m := New("1.2.3", 1, nil)
	d := NewDurations(m)
	d.Took("a", 3*time.Millisecond, 1)
	d.Took("a", time.Second, 2)
	d.Took("b", time.Minute, 1)
	wantLines(t, scrape(t, m), `circuit_breaker_call_duration_seconds_count{agent="a"} 3`,
		`circuit_breaker_call_duration_seconds_sum{agent="a"} 2.003`, `circuit_breaker_call_duration_seconds_bucket{agent="a",le="0.005"} 1`,
		`circuit_breaker_call_duration_seconds_count{agent="_other"} 1`)
	m.Breakers.Forget("a")
	if strings.Contains(scrape(t, m), `agent="a"`) {
		t.Error("a deleted agent has series")
	}
}

func TestMetrics_CountWebhooks(t *testing.T) {
	t.Parallel()
	m := New("1.2.3", 1000, nil)
	count := CountWebhooks(m)
	count("pager", "sent", 1)
	count("pager", "sent", 1)
	count("pager", "dead", 1)
	wantLines(t, scrape(t, m), `circuit_breaker_webhook_messages_total{result="sent",webhook="pager"} 2`,
		`circuit_breaker_webhook_messages_total{result="dead",webhook="pager"} 1`)
}

func TestMetrics_ShowPoolAndRuntime(t *testing.T) {
	t.Parallel()
	m := New("1.2.3", 1000, nil)
	m.RegisterPool(func() *redis.PoolStats {
		return &redis.PoolStats{Hits: 5, Misses: 4, Timeouts: 3, TotalConns: 7, IdleConns: 2, StaleConns: 1}
	}, time.Second)
	wantLines(t, scrape(t, m), `circuit_breaker_redis_timeout_seconds 1`, `circuit_breaker_redis_connections{state="idle"} 2`, `circuit_breaker_redis_connections{state="busy"} 5`,
		`circuit_breaker_redis_pool_gets_total{result="hit"} 5`, `circuit_breaker_redis_pool_gets_total{result="miss"} 4`,
		`circuit_breaker_redis_pool_gets_total{result="timeout"} 3`, `circuit_breaker_redis_stale_connections_total 1`)
	names := map[string]bool{}
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		names[f.GetName()] = true
	}
	if !names["go_goroutines"] || !names["process_open_fds"] {
		t.Error(names)
	}
}

// What breakerprom counts and reads is in the registry, with and without a place for the agent.
func TestMetrics_HaveTheBreakers(t *testing.T) {
	t.Parallel()
	for maxAgents, label := range map[int]string{0: "_other", 1: "a"} {
		m := New("1.2.3", maxAgents, nil)
		m.Breakers.Bind(breaker.Source{
			States: func(context.Context) (map[string]breaker.State, error) {
				return map[string]breaker.State{"a": breaker.Open}, nil
			},
			Degraded:  func() bool { return true },
			Outcomes:  func() breaker.Outcomes { return breaker.Outcomes{Taken: 9} },
			Refusals:  func() breaker.Refusals { return breaker.Refusals{Agents: 2, Operations: 5} },
			Untracked: func() int64 { return 8 },
		})
		m.Breakers.Settled("a", breaker.Outcome{Kind: breaker.Failure}, breaker.Report{Counted: true})
		text := scrape(t, m)
		wantLines(t, text, `circuit_breaker_calls_total{agent="`+label+`",result="failure"} 1`,
			`circuit_breaker_state{agent="`+label+`"} 1`, `circuit_breaker_state_info{agent="`+label+`",state="OPEN"} 1`,
			`circuit_breaker_degraded 1`, `circuit_breaker_outcomes_taken_total 9`, `circuit_breaker_refused_agents 2`,
			`circuit_breaker_untracked_calls_total 8`)
		if !strings.Contains(text, `circuit_breaker_build_info{goversion="go1.`) {
			t.Error("no build info")
		}
		m.Breakers.Forget("a")
		if text := scrape(t, m); strings.Contains(text, `agent="a"`) {
			t.Error(text)
		}
	}
}

func TestBridge_SharesTheTableOfAgents(t *testing.T) {
	t.Parallel()
	m := New("1.2.3", 1, nil)
	b := NewBridge(m)
	b.Upstream(breakerhttp.Timing{Agent: "first", Outcome: breaker.Outcome{Kind: breaker.Success}, Status: 200})
	b.Upstream(breakerhttp.Timing{Agent: "second", Outcome: breaker.Outcome{Kind: breaker.Success}, Status: 200})
	lines := func() string {
		families, err := m.registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		for _, f := range families {
			if strings.HasPrefix(f.GetName(), "bridge_") {
				fmt.Fprintln(&text, f)
			}
		}
		return text.String()
	}
	if text := lines(); strings.Count(text, `"first"`) != 4 || strings.Count(text, `"_other"`) != 4 {
		t.Error(text)
	}
	b.Upstream(breakerhttp.Timing{
		Agent: "failing", Outcome: breaker.Outcome{Kind: breaker.Failure}, Late: "broken_stream",
		Shadow: &breaker.Outcome{Kind: breaker.Failure, Class: "incomplete_stream"},
	})
	if text := lines(); strings.Contains(text, `"first"`) || strings.Count(text, `"failing"`) != 6 ||
		!strings.Contains(text, `"none"`) || !strings.Contains(text, `"broken_stream"`) || !strings.Contains(text, `"incomplete_stream"`) {
		t.Error(text)
	}
}
