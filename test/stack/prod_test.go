//go:build docker

package stack_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
)

// production returns docker-compose.prod.yml with a password of its own. Its Sentinels call a master down after a
// second.
func production(t testing.TB, override ...string) *stack {
	t.Helper()
	s := newStack(t, append([]string{"docker-compose.prod.yml"}, override...), "SENTINEL_DOWN_AFTER_MS=1000")
	s.set("CIRCUIT_BREAKER_TIMEOUT_SECONDS", "600")
	s.script("deploy/redis/make-password")
	return s
}

// cli runs redis-cli in a container of the production stack. It must succeed.
func (s *stack) cli(service, arguments string) string {
	s.t.Helper()
	out, err := s.tryCli(service, arguments)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

func (s *stack) tryCli(service, arguments string) (string, error) {
	s.t.Helper()
	tls := ""
	if slices.Contains(s.files, "docker-compose.prod-tls.yml") {
		tls = "--tls --cacert /run/tls/ca.crt "
	}
	script := "REDISCLI_AUTH=$(cat /run/secrets/redis_password) redis-cli " + tls + arguments
	out, err := run(s.t.Context(), s.dir, nil, "docker", "exec", s.container(service, 1), "sh", "-c", script)
	return strings.TrimSpace(out), err
}

// master returns the service whose Redis the Sentinels call master.
func (s *stack) master() string {
	s.t.Helper()
	host, _, _ := strings.Cut(s.cli("redis-sentinel-1", "-p 26379 sentinel get-master-addr-by-name mymaster"), "\n")
	return host
}

func (s *stack) awaitMasterOtherThan(old string) {
	s.t.Helper()
	testkit.Eventually(s.t, "another master", time.Minute, func() error {
		if s.master() == old {
			return fmt.Errorf("still %s", old)
		}
		return nil
	})
}

// awaitFollowing waits until a former master replicates the new one.
func (s *stack) awaitFollowing(old string) {
	s.t.Helper()
	testkit.Eventually(s.t, "the old master to follow the new one", time.Minute, func() error {
		info, err := s.tryCli(old, "info replication")
		if err == nil && (!strings.Contains(info, "role:slave") || !strings.Contains(info, "master_link_status:up")) {
			err = errors.New(info)
		}
		return err
	})
}

func TestProduction_SurvivesFailoverWithTLS(t *testing.T) {
	t.Parallel()
	s := production(t, "docker-compose.prod-tls.yml")
	s.set("REDIS_TIMEOUT_MS", redisTimeout)
	s.script("deploy/tls/make-certs")
	s.up("breakerd")
	s.fails("FailingAgent", 5)
	s.awaitDegraded(false)
	old := s.master()
	s.kill(old, 1)
	s.awaitMasterOtherThan(old)
	s.awaitDegraded(false)
	s.acquire("FailingAgent").want(http.StatusTooManyRequests)
	if got := s.cli(s.master(), "GET circuit_breaker:FailingAgent:state"); got != "open" {
		t.Errorf("the new master says %q, want open", got)
	}
	s.start(old, 1)
	s.awaitFollowing(old)
	s.isolateMaster()
}

// isolateMaster disconnects the master. It must soon refuse writes, since they would be lost when it replicates the
// next master.
func (s *stack) isolateMaster() {
	s.t.Helper()
	old := s.master()
	reconnect := s.disconnect("private", old, 1)
	begin, accepted := time.Now(), 0
	testkit.Eventually(s.t, "an isolated master to refuse writes", time.Minute, func() error {
		if said := s.cli(old, "SET isolated yes"); !strings.HasPrefix(said, "NOREPLICAS") {
			accepted++
			return fmt.Errorf("it says %q", said)
		}
		return nil
	})
	took := time.Since(begin)
	s.t.Logf("the isolated master refused writes after %v; it had accepted %d", took.Round(time.Millisecond), accepted)
	if took > 15*time.Second { // min-replicas-max-lag is 2, in whole seconds; the rest is for a busy machine
		s.t.Errorf("the isolated master accepted writes for %v", took)
	}
	s.awaitMasterOtherThan(old)
	s.awaitDegraded(false)
	s.acquire("FailingAgent").want(http.StatusTooManyRequests)
	reconnect()
	s.awaitFollowing(old)
	if said := s.cli(old, "EXISTS isolated"); said != "0" {
		s.t.Errorf("EXISTS of a write to the isolated master: %s, want 0", said)
	}
	s.acquire("FailingAgent").want(http.StatusTooManyRequests)
}
