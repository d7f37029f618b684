//go:build docker

package stack_test

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// steady is a workflow whose only step succeeds.
const steady = `{"workflow_id": "steady", "steps": {"only": {"id": "only", "agent_name": "HealthyAgent", "input_mapping": {"text": "test"}}}}`

const breakerd = "breakerd"

// traffic is the load of clients that call through every bridge and breakerd without a pause, and the answers they
// get. They make about a hundred calls a second: of HealthyAgent, which works, and of FailingAgent, whose breaker
// stays open. Reports of calls of Worker go to breakerd.
type traffic struct {
	*stack // with an HTTP client that keeps connections
	stop   context.CancelFunc
	group  sync.WaitGroup

	mu      sync.Mutex
	answers []answer
	wrong   []error // FailingAgent was called
	errs    []error // any other failure

	bridged      int // successes of HealthyAgent
	acknowledged int // outcomes of Worker that breakerd reported as counted in Redis
	unknown      int // outcomes of Worker that may be in Redis: it did not answer
	inMemory     int // outcomes of Worker that breakerd counted in its own memory
}

// answer is one answered call. Only refusals and the answers of breakerd say whether they were given without Redis.
type answer struct {
	by             string
	at             time.Time
	took           time.Duration
	says, degraded bool
}

// drive starts the traffic.
func (s *stack) drive(bridges int) *traffic {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	own := *s
	own.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}, Timeout: 30 * time.Second}
	tr := &traffic{stack: &own, stop: cancel}
	own.ports = map[string]string{}
	for n := 1; n <= bridges; n++ {
		address := s.bridge(n)
		for i := range 2 {
			tr.client(ctx, func(turn int) { tr.callBridge("bridge "+strconv.Itoa(n), address, turn+2*i) })
		}
	}
	address := s.breakerd()
	tr.client(ctx, func(turn int) { tr.callBreakerd(address, turn) })
	s.t.Cleanup(tr.end)
	return tr
}

// client starts a client that calls 25 times a second.
func (tr *traffic) client(ctx context.Context, call func(turn int)) {
	tr.group.Go(func() {
		pace := time.NewTicker(40 * time.Millisecond)
		defer pace.Stop()
		for turn := 0; ctx.Err() == nil; turn++ {
			call(turn)
			<-pace.C
		}
	})
}

// end ends the traffic and waits until all calls are answered.
func (tr *traffic) end() {
	tr.stop()
	tr.group.Wait()
	tr.stack.client.CloseIdleConnections()
}

func (tr *traffic) callBridge(by, address string, turn int) {
	switch turn % 4 {
	case 0:
		if _, ok := tr.ask(by, http.MethodGet, address, "/agents/HealthyAgent/", ""); ok {
			tr.count(&tr.bridged)
		}
	case 1:
		tr.refused(by, http.MethodGet, address, "/agents/FailingAgent/")
	case 2:
		if _, ok := tr.ask(by, http.MethodPost, address, "/api/v1/workflows/steady/execute", ""); ok {
			tr.count(&tr.bridged)
		}
	default:
		tr.refused(by, http.MethodPost, address, guide)
	}
}

func (tr *traffic) callBreakerd(address string, turn int) {
	if turn%4 == 0 {
		tr.refused(breakerd, http.MethodPost, address, agents+"FailingAgent/acquire")
		return
	}
	r, ok := tr.ask(breakerd, http.MethodPost, address, agents+"Worker/acquire", "")
	if !ok {
		return
	}
	body := fmt.Sprintf(`{"permit":%q,"outcome":"success"}`, r.get("permit"))
	if r, ok = tr.ask(breakerd, http.MethodPost, address, agents+"Worker/report", body); !ok {
		return
	}
	switch {
	case r.get("why") == "unknown":
		tr.count(&tr.unknown)
	case r.get("counted") == true && r.get("degraded") == true:
		tr.count(&tr.inMemory)
	case r.get("counted") == true:
		tr.count(&tr.acknowledged)
	}
}

func (tr *traffic) count(what *int) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	*what++
}

// refused makes a call that the breaker of FailingAgent must refuse.
func (tr *traffic) refused(by, method, address, path string) {
	r, err := tr.send(by, method, address, path, "", true)
	if err != nil {
		return
	}
	if err := r.refusal("open", r.get("degraded") == true); err != nil {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		tr.wrong = append(tr.wrong, err)
	}
}

// ask makes a call that must be admitted and must succeed.
func (tr *traffic) ask(by, method, address, path, body string) (reply, bool) {
	r, err := tr.send(by, method, address, path, body, by == breakerd)
	if err == nil && r.status != http.StatusOK {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		tr.errs = append(tr.errs, fmt.Errorf("%s of %s: status %d, want 200: %s", r.what, by, r.status, r.body))
		return r, false
	}
	return r, err == nil
}

// send makes a call and records its answer.
func (tr *traffic) send(by, method, address, path, body string, says bool) (reply, error) {
	begin := time.Now()
	r, err := tr.try(method, address, path, body)
	now := time.Now()
	degraded := err == nil && r.get("degraded") == true
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.answers = append(tr.answers, answer{by, now, now.Sub(begin), says && err == nil, degraded})
	if err != nil {
		tr.errs = append(tr.errs, err)
	}
	return r, err
}

func (tr *traffic) calls() int {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return len(tr.answers)
}

// outage is what the clients saw of an outage. An answer that does not say whether it was given without Redis counts
// as the last answer of the same replica that does.
type outage struct {
	over     time.Time // the first answer with Redis again, of the replica that was last
	degraded int
	slowest  time.Duration
	noticed  int // replicas that were degraded
	later    int // degraded answers of replicas that had used Redis again: the machine is too busy, or something is wrong
}

// outageSince returns the outage as seen in the answers since begin.
func (tr *traffic) outageSince(begin time.Time) outage {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	var o outage
	degraded, over := map[string]bool{}, map[string]bool{}
	for _, a := range tr.answers {
		if a.at.Before(begin) {
			continue
		}
		o.slowest = max(o.slowest, a.took)
		was := degraded[a.by]
		if a.says {
			degraded[a.by] = a.degraded
		}
		switch is := degraded[a.by]; {
		case is && over[a.by]:
			o.later++
		case is:
			if o.degraded++; !was {
				o.noticed++
			}
		case was:
			over[a.by], o.over = true, a.at
		}
	}
	return o
}
