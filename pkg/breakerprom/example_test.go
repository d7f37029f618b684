package breakerprom_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breakerprom"
)

// Example counts the calls of a Manager of one's own. A fleet binds the Collector by itself.
func Example() {
	c := breakerprom.New(breakerprom.Options{})
	registry := prometheus.NewRegistry() // or prometheus.DefaultRegisterer
	registry.MustRegister(c)
	m, err := breaker.NewManager(breaker.Options{
		Store: breaker.NewMemory(nil, 0), Observer: c, Policy: breaker.Policy{FailureThreshold: 1},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	c.Bind(m.Source())

	ctx := context.Background()
	for range 2 { // the second call is refused
		_ = m.Do(ctx, "payments", func(context.Context) error { return errors.New("no answer") })
	}
	show(registry, "calls_total", "rejections_total", "transitions_total", "outcomes_taken_total", "untracked_calls_total")
	// Output:
	// circuit_breaker_calls_total{agent="payments",result="failure"} 1
	// circuit_breaker_outcomes_taken_total 1
	// circuit_breaker_rejections_total{agent="payments",reason="open"} 1
	// circuit_breaker_transitions_total{agent="payments",from="closed",to="open"} 1
	// circuit_breaker_untracked_calls_total 0
}

// A Source that knows the states of all agents, as a fleet's, shows them twice: as a number, and as a label.
func ExampleCollector_Bind() {
	c := breakerprom.New(breakerprom.Options{MaxAgents: 1})
	c.Bind(breaker.Source{States: func(context.Context) (map[string]breaker.State, error) {
		return map[string]breaker.State{"payments": breaker.Open, "search": breaker.Closed, "translate": breaker.HalfOpen}, nil
	}})
	registry := prometheus.NewRegistry()
	registry.MustRegister(c)
	show(registry, "state{", "state_info{")
	// Output:
	// circuit_breaker_state{agent="_other"} 2
	// circuit_breaker_state{agent="payments"} 1
	// circuit_breaker_state_info{agent="_other",state="HALF_OPEN"} 1
	// circuit_breaker_state_info{agent="payments",state="OPEN"} 1
}

// A metric of the program's own has series for the agents that the Collector has series for.
func ExampleCollector_Share() {
	took := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "circuit_breaker_example_seconds", Help: "How long an agent took.", Buckets: []float64{1},
	}, []string{"agent"})
	c := breakerprom.New(breakerprom.Options{MaxAgents: 1})
	c.Share(took.MetricVec)
	for _, agent := range []string{"payments", "search", "payments"} {
		c.With(agent, false, func(label string) { took.WithLabelValues(label).Observe(0.5) })
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(c, took)
	show(registry, "example_seconds_count")
	// Output:
	// circuit_breaker_example_seconds_count{agent="_other"} 1
	// circuit_breaker_example_seconds_count{agent="payments"} 2
}

// show prints the metrics that begin so.
func show(registry *prometheus.Registry, names ...string) {
	w := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for line := range strings.Lines(w.Body.String()) {
		for _, name := range names {
			if strings.HasPrefix(line, "circuit_breaker_"+name) {
				fmt.Print(line)
			}
		}
	}
}

// TestPackage_AloneLinksPrometheus asks for the packages that a program links with each public package.
func TestPackage_AloneLinksPrometheus(t *testing.T) {
	t.Parallel()
	list := exec.CommandContext(t.Context(), "go", "list", "-f", `{{.ImportPath}} {{join .Deps " "}}`, "../...")
	packages, err := list.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, packages)
	}
	public := 0
	for line := range bytes.Lines(packages) {
		name, deps, _ := bytes.Cut(line, []byte(" "))
		own := bytes.HasSuffix(name, []byte("/pkg/breakerprom"))
		if got := bytes.Contains(deps, []byte("github.com/prometheus/")); got != own {
			t.Errorf("%s links prometheus: %v", name, got)
		}
		if own && bytes.Contains(deps, []byte("go-redis")) {
			t.Errorf("%s links go-redis", name)
		}
		public++
	}
	if public < 5 {
		t.Errorf("%d packages:\n%s", public, packages)
	}
}

// A Collector that is joined with other Observers is bound, and quiet, with them.
func TestCollector_JoinedWithOthers(t *testing.T) {
	t.Parallel()
	c := breakerprom.New(breakerprom.Options{})
	all := breaker.Observers(breaker.NopObserver{}, c)
	all.(breaker.SourceObserver).Bind(breaker.Source{Degraded: func() bool { return true }})
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if len(families) != 1 || families[0].GetName() != "circuit_breaker_degraded" {
		t.Errorf("%v, want what the Source knows alone", families)
	}
	if breaker.Observers(c, c).(breaker.QuietObserver).Quiet() != true || all.(breaker.QuietObserver).Quiet() {
		t.Error("several are quiet if each is")
	}
}
