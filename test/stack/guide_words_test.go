package stack_test

import (
	"strings"
	"testing"

	"github.com/breakerd/breakerd/test/runbook"
)

// TestGuide_WhatIsLeftOutOrRunOtherwiseIsKnown compares the commands of the guide that are left out or run otherwise
// with a list, so that a change to them is made here too.
func TestGuide_WhatIsLeftOutOrRunOtherwiseIsKnown(t *testing.T) {
	t.Parallel()
	want := `left out: pip install redis==5.0.1
left out: pip install -r requirements.txt
left out: docker run -d \
CIRCUIT_BREAKER_TIMEOUT_SECONDS=60 -> CIRCUIT_BREAKER_TIMEOUT_SECONDS=10
left out: REDIS_URL=redis://redis-sentinel-1:26379,redis-sentinel-2:26379,redis-sentinel-3:26379/mymaster
left out: docker run -d \
sleep 60 -> sleep 10
docker exec bridge redis-cli -u $REDIS_URL PING -> docker exec bridge sh -c 'redis-cli -u $REDIS_URL PING'
docker exec bridge ping redis -> docker exec bridge ping -c 1 redis
left out: redis://localhost:6379/0
redis-cli KEYS "circuit_breaker:*:state" -> docker exec redis redis-cli KEYS "circuit_breaker:*:state"
redis-cli KEYS "circuit_breaker:*:calls" -> docker exec redis redis-cli KEYS "circuit_breaker:*:calls"
redis-cli KEYS "circuit_breaker:*:open_timestamp" -> docker exec redis redis-cli KEYS "circuit_breaker:*:open_timestamp"
docker-compose logs -f bridge | grep "Circuit breaker OPENED" -> for s in 3 10 30; do timeout $s docker-compose logs -f bridge | grep "Circuit breaker OPENED" && break; done
docker-compose logs -f bridge | grep "Circuit breaker transitioned to CLOSED" -> ` +
		`for s in 3 10 30; do timeout $s docker-compose logs -f bridge | grep "Circuit breaker transitioned to CLOSED" && break; done
docker-compose logs -f bridge | grep "CircuitBreakerOpenError" -> for s in 3 10 30; do timeout $s docker-compose logs -f bridge | grep "CircuitBreakerOpenError" && break; done
left out: docker run -d \
left out: REDIS_URL=redis://:your-strong-password@redis:6379/0
left out: REDIS_URL=rediss://redis:6380/0`
	var got []string
	asWritten := 0
	for _, st := range runbook.Parse(t, "deployment-guide.txt") {
		first, _, _ := strings.Cut(st.Command, "\n")
		switch {
		case (st.Instead == "") != (st.Because == ""), !st.Doc && st.Instead+st.LeftOut != "":
			t.Errorf("line %d: a command of the guide that is run otherwise, and why, go together", st.Line)
		case st.LeftOut != "":
			got = append(got, "left out: "+first)
		case st.Instead != "":
			got = append(got, first+" -> "+st.Instead)
		case st.Doc:
			asWritten++
		}
	}
	if text := strings.Join(got, "\n"); text != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
	if asWritten != 32 {
		t.Errorf("%d commands of the guide are run as it has them, want 32", asWritten)
	}
}
