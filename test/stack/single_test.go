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

// patience is how long Redis has to answer, in ms: that the machine is busy is no reason to be degraded.
const patience = "2000"

// single is docker-compose.yml; what has opened stays open for the rest of the test.
func single(t testing.TB) *stack {
	t.Helper()
	s := newStack(t, []string{"docker-compose.yml"})
	s.set("CIRCUIT_BREAKER_TIMEOUT_SECONDS", "600")
	s.set("REDIS_TIMEOUT_MS", patience)
	return s
}

// set gives a variable in .env a value.
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

// breakerd is where this stack's breakerd listens; it moves with every start of the container.
func (s *stack) breakerd() string {
	s.t.Helper()
	return s.address("breakerd", 1, 18180)
}

func (s *stack) acquire(agent string) reply {
	s.t.Helper()
	return s.call(http.MethodPost, s.breakerd(), agents+agent+"/acquire", "")
}

// fails makes calls to an agent, by breakerd, that are admitted and fail.
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

func TestStackOpensBreakersByTheDotEnvOfItsLastStart(t *testing.T) {
	t.Parallel()
	s := single(t)
	s.up("breakerd")
	s.fails("FailingAgent", 5)
	s.acquire("FailingAgent").want(http.StatusTooManyRequests)
	if got := s.exec("redis", "redis-cli", "GET", "circuit_breaker:FailingAgent:state"); got != "open" {
		t.Errorf("redis-cli says %q, want open", got)
	}

	s.set("CIRCUIT_BREAKER_FAILURE_THRESHOLD", "2")
	s.restart("breakerd")
	s.acquire("FailingAgent").want(http.StatusTooManyRequests)
	s.fails("OtherAgent", 2)
	s.acquire("OtherAgent").want(http.StatusTooManyRequests)
}

func TestBreakerdAnswersWhileItsRedisIsOutOfReach(t *testing.T) {
	t.Parallel()
	s := single(t)
	s.up("breakerd")
	s.fails("FailingAgent", 5)
	s.awaitDegraded(false)

	mend := s.cut("private", "breakerd", 1)
	s.awaitDegraded(true)
	s.acquire("FailingAgent").want(http.StatusTooManyRequests)
	mend()
	s.awaitDegraded(false)
	s.acquire("FailingAgent").want(http.StatusTooManyRequests)

	s.pause("redis", 1)
	s.awaitDegraded(true)
	s.unpause("redis", 1)
	s.awaitDegraded(false)
	for _, line := range []string{"Redis is away", "Redis is back"} {
		if n := strings.Count(s.logs("breakerd"), line); n != 2 {
			t.Errorf("the log says %q %d times, want 2", line, n)
		}
	}
}
