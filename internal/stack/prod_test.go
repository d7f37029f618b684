//go:build docker

package stack_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/redistest"
)

// production is docker-compose.prod.yml, with a password of its own; its Sentinels lose patience after a second.
func production(t testing.TB, override ...string) *stack {
	t.Helper()
	s := newStack(t, append([]string{"docker-compose.prod.yml"}, override...), "SENTINEL_DOWN_AFTER_MS=1000")
	s.set("CIRCUIT_BREAKER_TIMEOUT_SECONDS", "600")
	s.script("deploy/redis/make-password")
	return s
}

// cli runs redis-cli in a container of the production stack.
func (s *stack) cli(service, arguments string) string {
	s.t.Helper()
	tls := ""
	if len(s.files) > 1 {
		tls = "--tls --cacert /run/tls/ca.crt "
	}
	return s.exec(service, "sh", "-c", "REDISCLI_AUTH=$(cat /run/secrets/redis_password) redis-cli "+tls+arguments)
}

// master is the service whose Redis the Sentinels call master.
func (s *stack) master() string {
	s.t.Helper()
	host, _, _ := strings.Cut(s.cli("redis-sentinel-1", "-p 26379 sentinel get-master-addr-by-name mymaster"), "\n")
	return host
}

// surviveMaster kills the master, and wants the open breaker to stay open on the next one, which the old one then follows.
func (s *stack) surviveMaster() {
	s.t.Helper()
	s.up("breakerd")
	s.fails("FailingAgent", 5)
	s.awaitDegraded(false)
	old := s.master()
	s.kill(old, 1)
	redistest.Eventually(s.t, "another master", time.Minute, func() error {
		if s.master() == old {
			return fmt.Errorf("still %s", old)
		}
		return nil
	})
	s.awaitDegraded(false)
	s.acquire("FailingAgent").want(http.StatusTooManyRequests)
	if got := s.cli(s.master(), "GET circuit_breaker:FailingAgent:state"); got != "open" {
		s.t.Errorf("the new master says %q, want open", got)
	}
	s.start(old, 1)
	redistest.Eventually(s.t, "the old master to follow the new one", time.Minute, func() error {
		if info := s.cli(old, "info replication"); !strings.Contains(info, "role:slave") || !strings.Contains(info, "master_link_status:up") {
			return fmt.Errorf("%s", info)
		}
		return nil
	})
}

// After a failover the compose file still names the old master; what the Sentinels know must win.
func TestProductionStackOutlivesItsMasterAndComesUpAsItWentDown(t *testing.T) {
	t.Parallel()
	s := production(t)
	s.surviveMaster()
	before := s.master()
	s.compose("down")
	s.up("breakerd")
	if after := s.master(); after != before {
		t.Errorf("master %s, was %s", after, before)
	}
	s.awaitDegraded(false)
	s.acquire("FailingAgent").want(http.StatusTooManyRequests)
}

func TestProductionStackOutlivesItsMasterByTLS(t *testing.T) {
	t.Parallel()
	s := production(t, "docker-compose.prod-tls.yml")
	s.script("deploy/tls/make-certs")
	s.surviveMaster()
}
