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

// running are the containers that are: bridge 1, breakerd 1, and so on.
func (s *stack) running() []string {
	s.t.Helper()
	return strings.Split(s.docker("ps", "--filter", "label=com.docker.compose.project="+s.project, "--format",
		`{{.Label "com.docker.compose.service"}} {{.Label "com.docker.compose.container-number"}}`), "\n")
}

// goesOn wants every bridge that runs, and breakerd if it does, to answer as ever. wellStatus is what calls of a healthy agent get.
func (f *fleet) goesOn(degraded bool, wellStatus int) {
	f.t.Helper()
	running := f.running()
	for n := 1; n <= bridges; n++ {
		if !slices.Contains(running, "bridge "+strconv.Itoa(n)) {
			continue
		}
		f.through(n, "HealthyAgent").want(wellStatus)
		f.through(n, "FailingAgent").stopped("open", degraded)
		f.execute(n).stopped("open", degraded)
		f.call(http.MethodGet, f.bridge(n), "/readyz", "").want(http.StatusOK)
	}
	if slices.Contains(running, "breakerd 1") {
		f.acquire("FailingAgent").stopped("open", degraded)
		f.acquire("GoodAgent").want(http.StatusOK)
	}
}

func TestAnyContainerMayBeKilledAndTheRestGoesOn(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	for range 5 {
		f.through(1, "FailingAgent").want(http.StatusInternalServerError)
	}
	f.goesOn(false, http.StatusOK)
	epoch := f.breaker("FailingAgent").get("epoch")

	for _, c := range []struct {
		service    string
		n          int
		wellStatus int // meanwhile
	}{
		{"bridge", 1, http.StatusOK}, // which has opened the breaker
		{"breakerd", 1, http.StatusOK},
		{"demo-agent", 1, http.StatusBadGateway},
	} {
		f.kill(c.service, c.n)
		f.goesOn(false, c.wellStatus)
		f.start(c.service, c.n)
		f.awaitHealthy(c.service)
		f.goesOn(false, http.StatusOK)
	}

	f.kill("redis", 1)
	f.goesOn(true, http.StatusOK)
	f.start("redis", 1)
	f.awaitHealthy("redis")
	for n := 1; n <= bridges; n++ {
		testkit.Eventually(t, "the bridges to find Redis", stepTimeout, func() error { return f.execute(n).refusal("open", false) })
	}
	f.awaitDegraded(false)
	f.goesOn(false, http.StatusOK)
	if after := f.breaker("FailingAgent").get("epoch"); after != epoch {
		t.Errorf("epoch %v, was %v: the open breaker is not the one from before", after, epoch)
	}
	if got := f.exec("redis", "redis-cli", "GET", "circuit_breaker:FailingAgent:state"); got != "open" {
		t.Errorf("redis-cli says %q, want open", got)
	}
}
