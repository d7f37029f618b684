//go:build docker

package stack_test

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/breakerd/breakerd/internal/testkit"
)

// running returns the running containers: bridge 1, breakerd 1, and so on.
func (s *stack) running() []string {
	s.t.Helper()
	return strings.Split(s.docker("ps", "--filter", "label=com.docker.compose.project="+s.project, "--format",
		`{{.Label "com.docker.compose.service"}} {{.Label "com.docker.compose.container-number"}}`), "\n")
}

// answers checks that every running bridge, and breakerd if it runs, answer as before. healthyStatus is the status of
// a call of a healthy agent.
func (f *fleet) answers(degraded bool, healthyStatus int) {
	f.t.Helper()
	running := f.running()
	for n := 1; n <= bridges; n++ {
		if !slices.Contains(running, "bridge "+strconv.Itoa(n)) {
			continue
		}
		f.through(n, "HealthyAgent").want(healthyStatus)
		f.through(n, "FailingAgent").refused("open", degraded)
		f.execute(n).refused("open", degraded)
		f.call(http.MethodGet, f.bridge(n), "/readyz", "").want(http.StatusOK)
	}
	if slices.Contains(running, "breakerd 1") {
		f.acquire("FailingAgent").refused("open", degraded)
		f.acquire("GoodAgent").want(http.StatusOK)
	}
}

func TestFleet_AnswersWhenAnyContainerIsKilled(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	for range 5 {
		f.through(1, "FailingAgent").want(http.StatusInternalServerError)
	}
	f.answers(false, http.StatusOK)
	epoch := f.breaker("FailingAgent").get("epoch")

	for _, c := range []struct {
		service       string
		n             int
		healthyStatus int // while it is down
	}{
		{"bridge", 1, http.StatusOK}, // its calls opened the breaker
		{"breakerd", 1, http.StatusOK},
		{"demo-agent", 1, http.StatusBadGateway},
	} {
		f.kill(c.service, c.n)
		f.answers(false, c.healthyStatus)
		f.start(c.service, c.n)
		f.awaitHealthy(c.service)
		f.answers(false, http.StatusOK)
	}

	f.kill("redis", 1)
	f.answers(true, http.StatusOK)
	f.start("redis", 1)
	f.awaitHealthy("redis")
	for n := 1; n <= bridges; n++ {
		testkit.Eventually(t, "the bridges to find Redis", stepTimeout, func() error { return f.execute(n).refusal("open", false) })
	}
	f.awaitDegraded(false)
	f.answers(false, http.StatusOK)
	if after := f.breaker("FailingAgent").get("epoch"); after != epoch {
		t.Errorf("epoch %v, was %v: the open breaker is not the one from before", after, epoch)
	}
	if got := f.exec("redis", "redis-cli", "GET", "circuit_breaker:FailingAgent:state"); got != "open" {
		t.Errorf("redis-cli says %q, want open", got)
	}
}
