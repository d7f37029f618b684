package redisstore_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// workerURL in the environment turns this test binary into one replica of the fleet test.
const workerURL = "BREAKER_TEST_WORKER_REDIS"

// workerMode is the consistency of such a replica, workerCalls how many of a goroutine's calls are admitted.
const (
	workerMode  = "BREAKER_TEST_WORKER_CONSISTENCY"
	workerCalls = "BREAKER_TEST_WORKER_CALLS"
)

func TestMain(m *testing.M) {
	if url := os.Getenv(workerURL); url != "" {
		os.Exit(runWorker(url))
	}
	// go-redis looks for a dead server once a second, and stops only at the first look after Close.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

// fleetPolicy turns over quickly: many openings and rounds in a short time.
func fleetPolicy(context.Context, string) breaker.Policy {
	p := breaker.DefaultPolicy()
	p.Consistency = breaker.Consistency(os.Getenv(workerMode))
	p.Timeout, p.HalfOpenMaxCalls, p.HalfOpenSuccessThreshold, p.FailureThreshold = 10*time.Millisecond, 5, 3, 8
	return p
}

// tally is what one replica saw.
type tally struct {
	Sent     int64            `json:"sent"`
	Counted  int64            `json:"counted"`
	Late     int64            `json:"late"`
	Ignored  int64            `json:"ignored"`
	Unknown  int64            `json:"unknown"`
	Refused  int64            `json:"refused"`
	Probes   map[string]int64 `json:"probes"`   // epoch -> leases given
	Returned map[string]int64 `json:"returned"` // epoch -> leases given back by ignored outcomes
	Errors   []string         `json:"errors"`
}

const (
	fleetProcesses  = 8
	fleetGoroutines = 50
)

// TestFleet_EightReplicasShareOneBreaker: 8 processes of 50 goroutines on one agent of a real Redis. No round admits
// more probes than half_open_max_calls, each epoch has one transition, and every outcome is accounted for, to the unit.
func TestFleet_EightReplicasShareOneBreaker(t *testing.T) {
	t.Parallel()
	keepOneBreaker(t, breaker.Strict)
}

func TestFleet_EightCachedReplicasShareOneBreaker(t *testing.T) {
	t.Parallel()
	keepOneBreaker(t, breaker.Cached)
}

func keepOneBreaker(t *testing.T, mode breaker.Consistency) {
	t.Helper()
	server := testkit.Start(t)
	client := server.Client(t)
	events := client.Subscribe(t.Context(), "circuit_breaker:events")
	defer func() { _ = events.Close() }()
	if _, err := events.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	in := events.Channel(redis.WithChannelSize(100_000))
	total := runFleet(t, server.URL(), mode)
	store, err := redisstore.New(client, false, redisstore.Config{Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	// A transition that is due is carried out, or the view would be ahead of what was published.
	_, err = store.Apply(t.Context(), "shared", fleetPolicy(t.Context(), ""), machine.Op{Verb: machine.VerbAcquire, Draw: machine.ZeroEpoch[1:], Token: machine.ZeroEpoch})
	if err != nil {
		t.Fatal(err)
	}
	v, err := store.Inspect(t.Context(), "shared", fleetPolicy(t.Context(), ""))
	if err != nil {
		t.Fatal(err)
	}
	if total.Sent != total.Counted+total.Late+total.Ignored+total.Unknown {
		t.Errorf("sent %d = counted %d + late %d + ignored %d + unknown %d does not hold", total.Sent, total.Counted, total.Late, total.Ignored, total.Unknown)
	}
	if got := v.Successes + v.Failures; got != total.Counted {
		t.Errorf("Redis counted %d outcomes, the replicas were answered %d", got, total.Counted)
	}
	for epoch, n := range total.Probes {
		if n-total.Returned[epoch] > 5 {
			t.Errorf("round %s gave %d probes and got %d back unused: more than 5", epoch, n, total.Returned[epoch])
		}
	}
	seen := oneTransitionAnEpoch(t, in, v)
	t.Logf("%d sent, %d refused, %d rounds, %d transitions, %d late", total.Sent, total.Refused, len(total.Probes), seen, total.Late)
	if len(total.Probes) < redisstore.Rounds(10, 3) {
		t.Errorf("only %d rounds: the test did not test", len(total.Probes))
	}
}

// oneTransitionAnEpoch reads the channel until the last transition and checks that they form one chain.
func oneTransitionAnEpoch(t *testing.T, in <-chan *redis.Message, v breaker.View) int {
	t.Helper()
	epochs, at := map[string]bool{}, breaker.Closed
	for int64(len(epochs)) < v.Transitions {
		select {
		case m := <-in:
			e, ok := machine.ParseEvent(m.Payload[len("shared "):])
			if !ok {
				t.Fatalf("channel carries %q", m.Payload)
			}
			if epochs[e.Epoch] {
				t.Errorf("epoch %s has two transitions", e.Epoch)
			}
			if e.From != at {
				t.Errorf("%s: from %s, but the breaker was %s", e, e.From, at)
			}
			epochs[e.Epoch], at = true, e.To
		case <-time.After(10 * time.Second):
			t.Fatalf("%d transitions published of %d", len(epochs), v.Transitions)
		}
	}
	return len(epochs)
}

func runFleet(t *testing.T, url string, mode breaker.Consistency) tally {
	t.Helper()
	total := tally{Probes: map[string]int64{}, Returned: map[string]int64{}}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range fleetProcesses {
		wg.Go(func() {
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), workerURL+"="+url, workerMode+"="+string(mode),
				workerCalls+"="+strconv.Itoa(redisstore.Rounds(60, 15)))
			var out, errs bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &errs
			err := cmd.Run()
			var one tally
			if err == nil {
				err = json.Unmarshal(out.Bytes(), &one)
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil || len(one.Errors) > 0 {
				t.Errorf("replica: %v %v\n%s", err, one.Errors, errs.String())
				return
			}
			total.add(one)
		})
	}
	wg.Wait()
	return total
}

func (t *tally) add(o tally) {
	t.Sent += o.Sent
	t.Counted += o.Counted
	t.Late += o.Late
	t.Ignored += o.Ignored
	t.Unknown += o.Unknown
	t.Refused += o.Refused
	for k, n := range o.Probes {
		t.Probes[k] += n
	}
	for k, n := range o.Returned {
		t.Returned[k] += n
	}
}

// runWorker is one replica: it prints its tally.
func runWorker(url string) int {
	conn, err := redisstore.Open(context.Background(), url, redisstore.Options{Timeout: 20 * time.Second})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = conn.Close() }()
	store, err := redisstore.New(conn.Client, false, redisstore.Config{Timeout: 20 * time.Second})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	total := tally{Probes: map[string]int64{}, Returned: map[string]int64{}}
	var mu sync.Mutex
	m, err := breaker.NewManager(breaker.Options{Store: store, PerAgent: fleetPolicy, Observer: flushed{mu: &mu, total: &total}})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var wg sync.WaitGroup
	for range fleetGoroutines {
		wg.Go(func() {
			calls, _ := strconv.Atoi(os.Getenv(workerCalls)) // without calls there are no rounds
			if os.Getenv(workerMode) == string(breaker.Cached) {
				calls *= 4
			}
			for range calls {
				oneCall(m, &mu, &total)
			}
		})
	}
	wg.Wait()
	if err := m.Close(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	text, err := json.Marshal(total)
	if err == nil {
		_, err = os.Stdout.Write(text)
	}
	if err != nil {
		return 1
	}
	return 0
}

// flushed accounts for what cached mode sends.
type flushed struct {
	breaker.NopObserver

	mu    *sync.Mutex
	total *tally
}

func (f flushed) Flushed(_ string, s machine.Summary, r breaker.Report) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case r.Counted:
		f.total.Counted += s.Calls()
	case r.Why == machine.CodeLate:
		f.total.Late += s.Calls()
	case r.Why == breaker.CodeUnknown:
		f.total.Unknown += s.Calls()
	default:
		f.total.Errors = append(f.total.Errors, "unexpected: "+string(r.Why))
	}
}

// oneCall waits out refusals as a client should, then makes one call whose outcome is drawn.
func oneCall(m *breaker.Manager, mu *sync.Mutex, total *tally) {
	ctx := context.Background()
	p, err := m.Acquire(ctx, "shared")
	var refused *breaker.OpenError
	for errors.As(err, &refused) {
		mu.Lock()
		total.Refused++
		mu.Unlock()
		<-time.After(min(refused.RetryAfter(), 10*time.Millisecond))
		p, err = m.Acquire(ctx, "shared")
	}
	var r breaker.Report
	kind := drawn()
	if os.Getenv(workerMode) == string(breaker.Cached) {
		<-time.After(5 * time.Millisecond) // or all would be over before the breaker has opened twice
	}
	if err == nil {
		r, err = p.Report(ctx, breaker.Outcome{Kind: kind})
	}
	mu.Lock()
	defer mu.Unlock()
	if err != nil {
		total.Errors = append(total.Errors, err.Error())
		return
	}
	total.Sent++
	if p.State() == breaker.HalfOpen {
		total.Probes[p.Epoch()]++
	}
	switch {
	case r.Pending: // Flushed accounts for it
	case r.Counted:
		total.Counted++
	case r.Why == machine.CodeLate:
		total.Late++
	case r.Why == machine.CodeIgnored:
		total.Ignored++
		if p.State() == breaker.HalfOpen {
			total.Returned[p.Epoch()]++
		}
	case r.Why == breaker.CodeUnknown:
		total.Unknown++
	default:
		total.Errors = append(total.Errors, "unexpected: "+string(r.Why))
	}
}

func drawn() breaker.OutcomeKind {
	switch n := rand.IntN(100); {
	case n < 35:
		return breaker.Failure
	case n < 45:
		return breaker.Ignored
	default:
		return breaker.Success
	}
}
