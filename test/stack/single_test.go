//go:build docker

package stack_test

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
)

const agents = "/v1/circuit_breakers/"

// redisTimeout is REDIS_TIMEOUT_MS, so long that a busy machine does not degrade a replica.
const redisTimeout = "2000"

// single returns docker-compose.yml, where a breaker that has opened stays open for the rest of the test.
func single(t testing.TB) *stack {
	t.Helper()
	s := newStack(t, []string{"docker-compose.yml"})
	s.set("CIRCUIT_BREAKER_TIMEOUT_SECONDS", "600")
	s.set("REDIS_TIMEOUT_MS", redisTimeout)
	return s
}

// set sets a variable in .env.
func (s *stack) set(name, value string) {
	s.t.Helper()
	line := regexp.MustCompile("(?m)^" + name + "=.*$")
	s.rewrite(".env", func(before string) string {
		if !line.MatchString(before) {
			return before + name + "=" + value + "\n"
		}
		return line.ReplaceAllLiteralString(before, name+"="+value)
	})
}

// breakerd returns the address of breakerd, which changes with every start of the container.
func (s *stack) breakerd() string {
	s.t.Helper()
	return s.address("breakerd", 1, 18180)
}

func (s *stack) acquire(agent string) reply {
	s.t.Helper()
	return s.call(http.MethodPost, s.breakerd(), agents+agent+"/acquire", "")
}

// fails has breakerd admit calls of an agent and reports them as failed.
func (s *stack) fails(agent string, times int) {
	s.t.Helper()
	for range times {
		permit := s.acquire(agent).want(http.StatusOK).get("permit")
		body := fmt.Sprintf(`{"permit":%q,"outcome":"failure"}`, permit)
		s.call(http.MethodPost, s.breakerd(), agents+agent+"/report", body).want(http.StatusOK)
	}
}

// awaitDegraded waits until breakerd answers without Redis, or with it again.
func (s *stack) awaitDegraded(want bool) {
	s.t.Helper()
	testkit.Eventually(s.t, fmt.Sprintf("degraded: %v", want), time.Minute, func() error {
		if got := s.acquire("GoodAgent").want(http.StatusOK).get("degraded"); got != want {
			return fmt.Errorf("degraded: %v", got)
		}
		return nil
	})
}

func TestSingle_UsesDotEnvOfItsLastStart(t *testing.T) {
	t.Parallel()
	s := single(t)
	s.up("breakerd")
	s.fails("FailingAgent", 5)
	s.acquire("FailingAgent").want(http.StatusTooManyRequests)
	if got := s.exec("redis", "redis-cli", "GET", "circuit_breaker:FailingAgent:state"); got != "open" {
		t.Errorf("redis-cli says %q, want open", got)
	}
	if got := s.docker("inspect", "--format", "{{.HostConfig.MemoryReservation}} {{.HostConfig.CpuShares}}", s.container("redis", 1)); got != "67108864 1024" {
		t.Errorf("Redis has bytes and CPU shares reserved: %s", got)
	}

	s.set("CIRCUIT_BREAKER_FAILURE_THRESHOLD", "2")
	s.restart("breakerd")
	s.acquire("FailingAgent").want(http.StatusTooManyRequests)
	s.fails("OtherAgent", 2)
	s.acquire("OtherAgent").want(http.StatusTooManyRequests)
}

func TestSingle_AnswersWithoutRedis(t *testing.T) {
	t.Parallel()
	s := single(t)
	s.up("breakerd")
	s.fails("FailingAgent", 5)
	s.awaitDegraded(false)

	reconnect := s.disconnect("private", "breakerd", 1)
	s.awaitDegraded(true)
	s.acquire("FailingAgent").want(http.StatusTooManyRequests)
	reconnect()
	s.awaitDegraded(false)
	s.acquire("FailingAgent").want(http.StatusTooManyRequests)

	s.pause("redis", 1)
	s.awaitDegraded(true)
	s.unpause("redis", 1)
	s.awaitDegraded(false)
	for _, event := range []string{"circuit_breaker.degraded", "circuit_breaker.recovered"} {
		if n := strings.Count(s.logs("breakerd"), event); n != 2 {
			t.Errorf("the log has %q %d times, want 2", event, n)
		}
	}
}
