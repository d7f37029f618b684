package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	dataPath  = "/v1/circuit_breakers/"
	adminPath = "/v1/admin/circuit_breakers/"

	callTimeout = 10 * time.Second // of an HTTP call: nothing may take so long
	roundMax    = 3                // CIRCUIT_BREAKER_HALF_OPEN_MAX_CALLS
	callRate    = 150              // calls a second; each is an acquire and a report
	callers     = 48
)

// The agents that are called. flappy is ill now and then, and recovers by itself.
const (
	steady = "steady"
	mixed  = "mixed" // one call in five fails
	flappy = "flappy"
	keyed  = "keyed" // each report has an Idempotency-Key, and many are sent twice
	bare   = "bare"  // outcomes without a permit
)

func agents() []string { return []string{steady, mixed, flappy, keyed, bare} }

// account is what the answers said of the outcomes of one agent.
type account struct {
	taken        int // reports that were answered
	acknowledged int // counted, and not degraded; in cached mode it may be on its way still
	waiting      int // counted by a replica without Redis
	unknown      int
	uncounted    int
	unanswered   int // reports to a replica that was being killed
}

// ledger is what the callers of one replica have seen. It shares nothing with the product.
type ledger struct {
	gone   *atomic.Bool // the replica is being ended: a call that breaks off is no fault
	lock   *sync.Mutex
	agents map[string]*account
	seen   map[string]int // answers by what they were
	slow   time.Duration  // the slowest answer
	slowAt string
	faults map[string]int
}

func newLedger() ledger {
	return ledger{
		gone: new(atomic.Bool), lock: new(sync.Mutex), agents: map[string]*account{}, seen: map[string]int{},
		faults: map[string]int{},
	}
}

// faultf records what must not happen.
func (l *ledger) faultf(format string, args ...any) {
	l.lock.Lock()
	defer l.lock.Unlock()
	l.faults[fmt.Sprintf(format, args...)]++
}

// of returns the account of an agent; the lock is held.
func (l *ledger) of(agent string) *account {
	a := l.agents[agent]
	if a == nil {
		a = &account{}
		l.agents[agent] = a
	}
	return a
}

// sum adds the accounts of all agents.
func (l *ledger) sum() (s account) {
	l.lock.Lock()
	defer l.lock.Unlock()
	for _, a := range l.agents {
		s.add(*a)
	}
	return s
}

func (a *account) add(b account) {
	a.taken += b.taken
	a.acknowledged += b.acknowledged
	a.waiting += b.waiting
	a.unknown += b.unknown
	a.uncounted += b.uncounted
	a.unanswered += b.unanswered
}

// answer has the fields of every verb's answer, and of a problem.
type answer struct {
	Status   int     `json:"status"`
	Code     string  `json:"code"`
	Reason   string  `json:"reason"`
	Permit   string  `json:"permit"`
	State    string  `json:"state"`
	Degraded bool    `json:"degraded"`
	Lease    float64 `json:"lease_seconds"`
	Counted  bool    `json:"counted"`
	Why      string  `json:"why"`
}

// load calls the replicas of a fleet until it is stopped.
type load struct {
	replicas [2]atomic.Pointer[replica]
	ill      atomic.Bool // flappy
	calls    atomic.Int64
	degraded atomic.Int64 // answers
	keys     atomic.Int64 // Idempotency-Keys that were used

	mu     sync.Mutex
	probes map[string]int // in flight, by agent and epoch
	most   int            // of those
	rounds map[string]int // counted outcomes of probes, by agent and epoch
}

func newLoad(a, b *replica) *load {
	l := &load{probes: map[string]int{}, rounds: map[string]int{}}
	l.replicas[0].Store(a)
	l.replicas[1].Store(b)
	return l
}

// run calls at callRate until ctx ends, and returns when every call has ended.
func (l *load) run(ctx context.Context) {
	var wg sync.WaitGroup
	work := make(chan int64)
	for range callers {
		wg.Go(func() {
			for i := range work {
				l.call(i)
			}
		})
	}
	for tick := time.NewTicker(time.Second / callRate); ; {
		select {
		case <-ctx.Done():
			tick.Stop()
			close(work)
			wg.Wait()
			return
		case <-tick.C:
		}
		select {
		case work <- l.calls.Add(1):
		case <-ctx.Done():
		}
	}
}

// flap makes flappy ill for 0.4 of every 1.8 seconds, until ctx ends. Then it is well.
func (l *load) flap(ctx context.Context) {
	defer l.ill.Store(false)
	for {
		l.ill.Store(true)
		if !pause(ctx, 400*time.Millisecond) {
			return
		}
		l.ill.Store(false)
		if !pause(ctx, 1400*time.Millisecond) {
			return
		}
	}
}

// call makes the i-th call.
func (l *load) call(i int64) {
	at := l.replicas[rand.IntN(2)].Load()
	to := at // of the report
	if rand.IntN(3) == 0 {
		to = l.replicas[rand.IntN(2)].Load()
	}
	switch agent := agents()[i%5]; {
	case agent == bare:
		l.report(to, agent, "", l.outcome(agent), "")
	case rand.IntN(10) == 0:
		l.batch(at, to)
	case agent == keyed:
		l.callKeyed(at, to, i)
	default:
		a, ok := l.acquire(at, agent, rand.IntN(7) == 0)
		if !ok {
			return
		}
		l.finish(to, agent, a, rand.IntN(4) == 0)
	}
}

// outcome is how a call of agent ends now.
func (l *load) outcome(agent string) string {
	if agent == mixed && rand.IntN(5) == 0 || agent == flappy && l.ill.Load() {
		return "failure"
	}
	if agent == mixed && rand.IntN(20) == 0 {
		return "ignored"
	}
	return "success"
}

// acquire asks for a permit, as a proxy does or as a program does. ok is false without one.
func (l *load) acquire(at *replica, agent string, gate bool) (a answer, ok bool) {
	if gate {
		a, ok = l.send(at, "gate", http.MethodGet, "/v1/gate/"+agent, "", "X-Breaker-Gate", "1")
	} else {
		a, ok = l.send(at, "acquire", http.MethodPost, dataPath+agent+"/acquire", "{}")
	}
	return a, ok && l.admitted(agent, a)
}

// admitted notes a permit. It returns false if there is none.
func (l *load) admitted(agent string, a answer) bool {
	if a.Status != http.StatusOK {
		return false
	}
	if key, probe := probeOf(agent, a); probe {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.probes[key]++
		l.most = max(l.most, l.probes[key])
	}
	return true
}

// probeOf names the round of a permit with a lease that Redis has given.
func probeOf(agent string, a answer) (round string, is bool) {
	fields := strings.Split(a.Permit, ".") // v1.<state>.<epoch>.<token>.<tag>
	if len(fields) != 5 || fields[1] != "half_open" || a.Degraded {
		return "", false
	}
	return agent + " " + fields[2], true
}

// finish makes the call, which is short, and reports it. Some probes last longer, and are renewed.
func (l *load) finish(to *replica, agent string, a answer, slow bool) {
	took := 2 * time.Millisecond
	_, probe := probeOf(agent, a)
	if probe && slow {
		time.Sleep(20 * time.Millisecond)
		l.send(to, "renew", http.MethodPost, dataPath+agent+"/renew", `{"permit":"`+a.Permit+`"}`)
	}
	time.Sleep(took)
	l.settling(agent, a)
	r, ok := l.report(to, agent, a.Permit, l.outcome(agent), "")
	if ok {
		l.settled(agent, a, r)
	}
}

// settling says that a probe is over: its lease may go as soon as the report is sent.
func (l *load) settling(agent string, a answer) {
	if key, probe := probeOf(agent, a); probe {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.probes[key]--
	}
}

// settled counts what Redis took of a round.
func (l *load) settled(agent string, a, r answer) {
	if key, probe := probeOf(agent, a); probe && r.Counted && !r.Degraded {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.rounds[key]++
	}
}

// callKeyed reports with an Idempotency-Key, and often once more, as a caller does that got no answer.
func (l *load) callKeyed(at, to *replica, i int64) {
	a, ok := l.acquire(at, keyed, false)
	if !ok {
		return
	}
	key := fmt.Sprintf("call-%d", i)
	l.keys.Add(1)
	l.settling(keyed, a)
	l.report(to, keyed, a.Permit, "success", key)
	if rand.IntN(3) > 0 {
		l.report(l.replicas[rand.IntN(2)].Load(), keyed, a.Permit, "success", key)
	}
}

// report sends one outcome; without a permit if that is "".
func (l *load) report(to *replica, agent, permit, outcome, key string) (answer, bool) {
	body := `{"outcome":"` + outcome + `","duration_ms":2`
	if permit != "" {
		body += `,"permit":"` + permit + `"`
	}
	var header []string
	if key != "" {
		header = []string{"Idempotency-Key", key}
	}
	a, ok := l.send(to, "report", http.MethodPost, dataPath+agent+"/report", body+"}", header...)
	to.reported(agent, a, ok)
	return a, ok
}

// reported enters the answer to a report.
func (l *ledger) reported(agent string, a answer, ok bool) {
	l.lock.Lock()
	defer l.lock.Unlock()
	of := l.of(agent)
	switch {
	case !ok:
		of.unanswered++
		return
	case a.Status != http.StatusOK: // which is a fault; the outcome may have been taken all the same
		of.unknown++
	case a.Counted && a.Degraded:
		of.waiting++
	case a.Counted:
		of.acknowledged++
	case a.Why == "unknown":
		of.unknown++
	default:
		of.uncounted++
	}
	of.taken++
}

// batch acquires three agents at once and reports at once.
func (l *load) batch(at, to *replica) {
	names := []string{steady, mixed, flappy}
	type op = map[string]any
	var ops []op
	for _, agent := range names {
		ops = append(ops, op{"op": "acquire", "agent": agent})
	}
	answers, ok := l.sendBatch(at, ops)
	if !ok {
		return
	}
	var reports []op
	var permits []answer
	for i, a := range answers {
		if l.admitted(names[i], a) {
			reports = append(reports, op{"op": "report", "agent": names[i], "permit": a.Permit, "outcome": l.outcome(names[i])})
			permits = append(permits, a)
			l.settling(names[i], a)
		}
	}
	if len(reports) == 0 {
		return
	}
	answers, ok = l.sendBatch(to, reports)
	for i, r := range reports {
		agent := r["agent"].(string)
		if !ok {
			to.reported(agent, answer{}, false)
			continue
		}
		to.reported(agent, answers[i], true)
		l.settled(agent, permits[i], answers[i])
	}
}

func (l *load) sendBatch(to *replica, ops []map[string]any) ([]answer, bool) {
	body, err := json.Marshal(map[string]any{"operations": ops})
	if err != nil {
		panic(err)
	}
	text, status, ok := to.exchange("batch", http.MethodPost, "/v1/batch", string(body))
	if !ok {
		return nil, false
	}
	var out struct {
		Results []answer `json:"results"`
	}
	if err := json.Unmarshal(text, &out); err != nil || status != http.StatusOK || len(out.Results) != len(ops) {
		to.faultf("a batch of %d was answered %d %s (%v)", len(ops), status, text, err)
		return nil, false
	}
	for i, a := range out.Results {
		l.judge(to, "batch "+ops[i]["op"].(string), a, nil)
	}
	return out.Results, true
}

// send makes one request. ok is false if it had no answer.
func (l *load) send(to *replica, op, method, path, body string, header ...string) (a answer, ok bool) {
	text, status, ok := to.exchange(op, method, path, body, header...)
	if !ok {
		return a, false
	}
	if err := json.Unmarshal(text, &a); err != nil {
		to.faultf("%s was answered %d with no JSON: %q", op, status, text)
	}
	a.Status = status
	l.judge(to, op, a, text)
	return a, true
}

// exchange makes one request, and measures it.
func (r *replica) exchange(op, method, path, body string, header ...string) (text []byte, status int, ok bool) {
	req, err := http.NewRequestWithContext(context.Background(), method, "http://"+r.addr+path, bytes.NewReader([]byte(body)))
	if err != nil {
		panic(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 1; i < len(header); i += 2 {
		req.Header.Set(header[i-1], header[i])
	}
	begin := time.Now()
	res, err := r.client.Do(req)
	if err == nil {
		status = res.StatusCode
		text, err = io.ReadAll(res.Body)
		_ = res.Body.Close()
	}
	took := time.Since(begin)
	if err != nil {
		if !r.gone.Load() {
			r.faultf("%s: %v", op, err)
		}
		return nil, 0, false
	}
	r.lock.Lock()
	defer r.lock.Unlock()
	if took > r.slow {
		r.slow, r.slowAt = took, op
	}
	return text, status, true
}

// judge counts an answer. Only a refusal may be no success; and a lease cannot be renewed without Redis.
func (l *load) judge(to *replica, op string, a answer, text []byte) {
	mark := ""
	if a.Degraded {
		mark = "degraded"
		l.degraded.Add(1)
	}
	words := []string{op, strconv.Itoa(a.Status), a.Code, a.Reason, a.Why, mark}
	what := strings.Join(slices.DeleteFunc(words, func(s string) bool { return s == "" }), " ")
	verb := strings.TrimPrefix(op, "batch ")
	good := a.Status == http.StatusOK
	switch verb {
	case "acquire", "gate":
		good = good || a.Status == http.StatusTooManyRequests && a.Code == "circuit_breaker_open"
	case "renew":
		good = good || a.Code == "lease_lost" || a.Code == "store_unavailable"
	}
	if !good {
		to.faultf("%s was answered with an error: %s %s", op, what, text)
	}
	to.lock.Lock()
	defer to.lock.Unlock()
	to.seen[what]++
}

// table is how many answers there were of each kind.
func (l *ledger) table() string {
	l.lock.Lock()
	defer l.lock.Unlock()
	var b strings.Builder
	for _, what := range slices.Sorted(maps.Keys(l.seen)) {
		fmt.Fprintf(&b, "    %6d %s\n", l.seen[what], what)
	}
	return b.String()
}
