//go:build nightly

package e2e

import (
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"reflect"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
)

// released is the last commit of 0.1.0. Whoever makes a release moves it there.
const released = "ba392794fa9474c67b5945620fdc783aee2ed02b"

// buildReleased builds breakerd as it was released, from git.
func buildReleased(t *testing.T) (binary string) {
	t.Helper()
	dir := t.TempDir()
	script := fmt.Sprintf(`set -e
		cd "$(git rev-parse --show-toplevel)"
		git archive --format=tar %s | tar -x -C %s
		cd %s && CGO_ENABLED=0 go build -buildvcs=false -o breakerd-released ./cmd/breakerd`, released, dir, dir)
	if out, err := exec.Command("bash", "-c", script).CombinedOutput(); err != nil {
		t.Fatalf("build %s (a clone with its whole history is needed): %v\n%s", released, err, out)
	}
	return filepath.Join(dir, "breakerd-released")
}

// TestUpgrade_TwoVersionsShareOneRedis while one replica after the other is upgraded, and rolled back, with calls going
// on: each phase is a fleet that agrees, and no call is refused, lost or counted twice.
func TestUpgrade_TwoVersionsShareOneRedis(t *testing.T) {
	t.Parallel()
	old := buildReleased(t)
	for _, mode := range []string{"strict", "cached"} {
		for name, binaries := range map[string][2]string{
			"upgrade": {old, breakerd.binary()}, "downgrade": {breakerd.binary(), old},
		} {
			t.Run(mode+"/"+name, func(t *testing.T) {
				t.Parallel()
				f := &rolled{t: t, url: testkit.Start(t).URL(), mode: mode}
				f.replace("a", binaries[0])
				f.replace("b", binaries[0])
				end := f.callGood()
				f.agrees("before")
				f.replace("a", binaries[1])
				f.agrees("one")
				f.replace("b", binaries[1])
				f.agrees("both")
				f.replace("b", binaries[0])
				f.agrees("back")
				calls := end()
				testkit.Eventually(t, "each call to be counted once", 20*time.Second, func() error {
					if got := f.of("a").show("good").get("totals.successes"); got != float64(calls) {
						return fmt.Errorf("%v successes, of %d calls", got, calls)
					}
					return nil
				})
				if calls < 100 {
					t.Errorf("only %d calls went on", calls)
				}
				for _, replica := range []string{"a", "b"} {
					f.of(replica).show("good").has("state", "CLOSED").has("totals.failures", 0.0)
				}
			})
		}
	}
}

// rolled is a fleet of two whose replicas are replaced.
type rolled struct {
	t         *testing.T
	url, mode string

	mu       sync.RWMutex // held for reading while a call is under way
	replicas map[string]*daemon
}

func (f *rolled) of(id string) *daemon { return f.replicas[id] }

// replace ends a replica as a platform does, once its calls have ended, and starts another one in its place.
func (f *rolled) replace(id, binary string) {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.replicas == nil {
		f.replicas = map[string]*daemon{}
	}
	if before := f.replicas[id]; before != nil {
		before.signal(syscall.SIGTERM)
		if code := before.ExitCode(); code != 0 {
			f.t.Errorf("%s ended with exit code %d", id, code)
		}
	}
	d := breakerd.launchBinary(f.t, []string{binary}, "REDIS_URL="+f.url, "REPLICA_ID="+id,
		"CIRCUIT_BREAKER_CONSISTENCY="+f.mode, "CIRCUIT_BREAKER_HALF_OPEN_MAX_CALLS=1")
	d.awaitListening()
	f.replicas[id] = d
}

// callGood calls an agent through both replicas until end is called, which tells how many calls there were.
func (f *rolled) callGood() (end func() (calls int64)) {
	var calls atomic.Int64
	var done sync.WaitGroup
	stop := make(chan struct{})
	for _, id := range []string{"a", "b"} {
		done.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(10 * time.Millisecond):
				}
				f.mu.RLock()
				d := f.replicas[id]
				err := callOnce(d, "good")
				f.mu.RUnlock()
				if err != nil {
					f.t.Errorf("a call at %s: %v", id, err)
					return
				}
				calls.Add(1)
			}
		})
	}
	return func() int64 {
		close(stop)
		done.Wait()
		return calls.Load()
	}
}

// callOnce makes a call that succeeds, and must be admitted and counted. Any goroutine may call it.
func callOnce(d *daemon, agent string) error {
	acquired, err := d.try(http.MethodPost, dataPath+agent+"/acquire", "")
	if err != nil || acquired.status != http.StatusOK {
		return fmt.Errorf("%d %s, %w", acquired.status, acquired.body, err)
	}
	reported, err := d.try(http.MethodPost, dataPath+agent+"/report", reportBody(acquired.text("permit"), "success"))
	if err != nil || reported.get("counted") != true {
		return fmt.Errorf("%d %s, %w", reported.status, reported.body, err)
	}
	return nil
}

// agrees goes through what replicas share, each step at one of them and seen at the other.
func (f *rolled) agrees(phase string) {
	t := f.t
	t.Helper()
	for _, way := range [][2]string{{"a", "b"}, {"b", "a"}} {
		here, there := f.of(way[0]), f.of(way[1])
		agent := phase + "-" + way[0]
		seen := func(what, path string, want any) {
			t.Helper()
			testkit.Eventually(t, agent+": "+what, 20*time.Second, func() error {
				if got := there.show(agent).get(path); got != want {
					return fmt.Errorf("%s is %v, want %v", path, got, want)
				}
				return nil
			})
		}
		// Failures of both open it.
		for i := range 5 {
			d := []*daemon{here, there}[i%2]
			d.call(http.MethodPost, dataPath+agent+"/report", `{"outcome":"failure"}`).want(http.StatusOK)
		}
		seen("open", "state", "OPEN")
		testkit.Eventually(t, agent+" to be refused at both", 20*time.Second, func() error {
			for _, d := range []*daemon{here, there} {
				if got := d.acquire(agent); got.status != http.StatusTooManyRequests {
					return fmt.Errorf("%d: %s", got.status, got.body)
				}
			}
			return nil
		})
		// One probe for both; its permit is good at the other.
		here.reset(agent, "HALF_OPEN")
		seen("half-open", "state", "HALF_OPEN")
		permit := here.acquire(agent).want(http.StatusOK).text("permit")
		there.acquire(agent).refused("HALF_OPEN", "probes_busy")
		there.report(agent, permit, "success").want(http.StatusOK).has("counted", true).has("state", "CLOSED")
		// A hold, its protection, and its end.
		here.call(http.MethodPost, adminPath+agent+"/open", `{"reason":"ban","protected":true}`).want(http.StatusOK)
		seen("held", "hold.protected", true)
		there.call(http.MethodPost, adminPath+agent+"/reset", `{"target_state":"CLOSED","reason":"x"}`).want(http.StatusConflict)
		there.call(http.MethodPost, adminPath+agent+"/reset", `{"target_state":"CLOSED","reason":"x","force":true}`).want(http.StatusOK)
		// A policy.
		here.override(agent, `{"failure_threshold":2}`)
		seen("overridden", "policy.failure_threshold.value", 2.0)
		// The gate: both obey, and say so. Its share is one that refuses none of the calls that go on.
		gate := here.call(http.MethodPut, fleetPath, `{"action":"shed","percentage":0.000001,"reason":"drill"}`).want(http.StatusOK)
		if got := fmt.Sprint(gate.get("acknowledged")); got != "[a b]" {
			t.Errorf("%s: the gate is acknowledged by %s: %s", agent, got, gate.body)
		}
		there.call(http.MethodDelete, fleetPath, "").want(http.StatusOK).has("action", "none")
		// What happened is told the same by both.
		if a, b := eventsOf(here, agent), eventsOf(there, agent); !reflect.DeepEqual(a, b) || len(a) < 5 {
			t.Errorf("%s: %v here, %v there", agent, a, b)
		}
	}
}

func eventsOf(d *daemon, agent string) []any {
	list, _ := d.call(http.MethodGet, adminPath+agent+"/events", "").want(http.StatusOK).get("events").([]any)
	return list
}
