package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
)

// Three replicas on one Redis; the one that sends is killed twice, and stopped once until another has its lease. Each
// event reaches the receiver at least once, in order, and never two at a time.
func TestWebhooks_SenderIsKilledTwiceAndStoppedOnce(t *testing.T) {
	t.Parallel()
	const agents, rounds = 20, 20
	var mu sync.Mutex
	var got []string
	busy := 0
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		if busy++; busy > 1 {
			t.Errorf("%d messages at a time", busy)
		}
		mu.Unlock()
		time.Sleep(20 * time.Millisecond) // long enough that there is always something to send
		mu.Lock()
		defer mu.Unlock()
		busy--
		got = append(got, r.Header.Get("X-Event-Id"))
	}))
	t.Cleanup(receiver.Close)
	taken := func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(got)
	}
	file := filepath.Join(t.TempDir(), "webhooks.yaml")
	if err := os.WriteFile(file, []byte("- {name: pager, url: '"+receiver.URL+"/?SECRET'}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	server := testkit.Start(t)
	replicas := map[string]*daemon{}
	for _, id := range []string{"a", "b", "c"} {
		replicas[id] = start(t, "REDIS_URL="+server.URL(), "REPLICA_ID="+id, "WEBHOOKS_FILE="+file)
	}
	sender := func(not string) (is string) {
		t.Helper()
		testkit.Eventually(t, "a sender", 30*time.Second, func() error {
			holder := redisCLI(t, server, "HGET", "circuit_breaker:webhook.pager", "holder")
			if is, _, _ = strings.Cut(holder, " "); is == "" || is == not {
				return fmt.Errorf("it is %q", is)
			}
			return nil
		})
		return is
	}
	await := func(n int) {
		t.Helper()
		testkit.Eventually(t, fmt.Sprint(n, " messages"), 60*time.Second, func() error {
			if have := len(taken()); have < n {
				return fmt.Errorf("%d", have)
			}
			return nil
		})
	}
	sender("")
	for i := range agents * rounds {
		verb, body := "open", `{"reason":"round","timeout_seconds":3600}`
		if i/agents%2 == 1 {
			verb, body = "reset", `{"reason":"round","target_state":"CLOSED"}`
		}
		replicas["a"].call(http.MethodPost, fmt.Sprintf("/v1/admin/circuit_breakers/agent-%d/%s", i%agents, verb), body).want(http.StatusOK)
	}
	for n, end := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGKILL} {
		await(50 + 100*n)
		is := sender("")
		replicas[is].signal(end)
		sender(is)
		if end == syscall.SIGSTOP {
			await(len(taken()) + 5)
			replicas[is].Signal(syscall.SIGCONT)
		}
	}
	await(agents * rounds)
	alive := replicas[sender("")]
	testkit.Eventually(t, "the end", 30*time.Second, func() error {
		r := alive.call(http.MethodGet, "/v1/admin/webhooks", "").want(http.StatusOK)
		if !strings.Contains(string(r.body), `"lag_events":0,`) {
			return errors.New(string(r.body))
		}
		return nil
	})
	var page struct {
		Events []struct {
			ID string `json:"id"`
		} `json:"events"`
	}
	all := alive.call(http.MethodGet, "/v1/admin/events?since=2020-01-01T00:00:00Z&kind=manual_open,manual_reset", "").want(http.StatusOK)
	if err := json.Unmarshal(all.body, &page); err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, e := range page.Events {
		want = append(want, e.ID)
	}
	have := taken()
	if once := slices.Compact(slices.Clone(have)); len(want) != agents*rounds || !slices.Equal(once, want) {
		t.Errorf("%d messages of %d events: got\n%q, want\n%q", len(have), len(want), once, want)
	}
	if len(have) > len(want)+3 {
		t.Errorf("%d messages of %d events", len(have), len(want))
	}
	for id, d := range replicas {
		if strings.Contains(d.Stderr(), "SECRET") {
			t.Errorf("%s shows a secret", id)
		}
	}
}
