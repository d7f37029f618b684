package app

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/internal/config"
	"github.com/breakerd/breakerd/internal/daemon"
	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// onEachEngine runs a test on miniredis and on a real server.
func onEachEngine(t *testing.T, test func(t *testing.T, url string)) {
	t.Helper()
	t.Run("miniredis", func(t *testing.T) {
		t.Parallel()
		m := miniredis.NewMiniRedis()
		m.ClockTTL(true)
		if err := m.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(m.Close)
		test(t, "redis://"+m.Addr()+"/0")
	})
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		test(t, testkit.Start(t).URL())
	})
}

// onEachEngineAndCluster is onEachEngine, and runs the test on a Redis Cluster too.
func onEachEngineAndCluster(t *testing.T, test func(t *testing.T, url string)) {
	t.Helper()
	onEachEngine(t, test)
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		if testing.Short() {
			t.Skip("make quick leaves the Cluster out")
		}
		test(t, testkit.StartCluster(t).URL())
	})
}

// served is a program in this process.
type served struct {
	*service

	url string
	out *testkit.Buffer
}

func serveBreakerd(t *testing.T, redisURL string, env ...string) *served {
	t.Helper()
	return serveProgram(t, buildBreakerd, redisURL, env...)
}

func serveProgram(
	t *testing.T, build func(*service, func(context.Context) error) (parts, error), redisURL string, env ...string,
) *served {
	t.Helper()
	cfg, err := config.Load(append([]string{"REDIS_URL=" + redisURL, "REDIS_TIMEOUT_MS=1000"}, env...))
	if err != nil {
		t.Fatal(err)
	}
	d := &served{out: new(testkit.Buffer)}
	host := daemon.Host{
		Log:          slog.New(slog.NewJSONHandler(d.out, nil)),
		Ready:        func(context.Context) error { return nil },
		LinesDropped: func() int64 { return 0 },
	}
	if d.service, err = newService(t.Context(), program{name: "breakerd"}, cfg, host); err != nil {
		t.Fatal(err)
	}
	p, err := build(d.service, host.Ready)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(p.listeners[0].Handler)
	d.url = server.URL
	d.Start(t.Context(), append(p.tasks, d.Greet)...)
	t.Cleanup(func() {
		d.stop(true) // which ends the streams
		server.Close()
		if t.Failed() {
			t.Logf("%s said:\n%s", d.ID, d.out)
		}
	})
	return d
}

// do sends a request, and reads the answer's JSON.
func (d *served) do(t *testing.T, method, path, body string, header ...string) (status int, out map[string]any) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, d.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	_ = json.Unmarshal(text, &out) // a 204 has none
	return res.StatusCode, out
}

// heard is what a client of GET /v1/events keeps, as EventSource does.
type heard struct {
	id     string // of the last event, or of the place after it
	events []string
	resets int
}

// follow reads from one replica until it has so many events more, and leaves.
func (h *heard) follow(t *testing.T, url string, more int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	if h.id != "" {
		r.Header.Set("Last-Event-ID", h.id)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	id, data, reset := "", "", false
	for lines := bufio.NewScanner(res.Body); more > 0; {
		if !lines.Scan() {
			t.Fatalf("the stream ended: %d, %v", res.StatusCode, lines.Err())
		}
		switch line := lines.Text(); {
		case line == "":
			if id != "" {
				h.id = id
			}
			if reset {
				h.resets++
			} else if data != "" {
				h.events = append(h.events, id)
				more--
			}
			id, data, reset = "", "", false
		case strings.HasPrefix(line, "id: "):
			id = line[4:]
		case strings.HasPrefix(line, "data: "):
			data = line[6:]
		case line == "event: reset":
			reset = true
		}
	}
}

// TestStream_ClientThatMovesBetweenReplicasMissesNothing: 100 moves among three replicas, while holds come and go at all
// of them. What the client has heard is what the stream has: no gap, nothing twice, no reset.
func TestStream_ClientThatMovesBetweenReplicasMissesNothing(t *testing.T) {
	t.Parallel()
	onEachEngineAndCluster(t, func(t *testing.T, url string) {
		var replicas []*served
		for range 3 {
			replicas = append(replicas, serveBreakerd(t, url))
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for i := 0; ctx.Err() == nil; i++ {
				f := breaker.Force{Target: breaker.HoldOpen, Reason: "load", Actor: "test"}
				if i/3%2 == 1 {
					f.Target = breaker.ResetClosed
				}
				_, _ = replicas[i%3].Manager.Force(ctx, fmt.Sprintf("agent-%d", i%3), f)
				time.Sleep(time.Millisecond)
			}
		}()
		var client heard
		for move := range 100 {
			client.follow(t, replicas[move%3].url, 1+move%7)
		}
		cancel()
		<-ended
		var want []string
		for cursor := ""; ; {
			_, page := replicas[0].do(t, "GET", "/v1/admin/events?since=2020-01-01T00:00:00Z"+cursor, "")
			list, _ := page["events"].([]any)
			for _, e := range list {
				fields, _ := e.(map[string]any)
				id, _ := fields["id"].(string)
				want = append(want, id)
			}
			next, more := page["next_cursor"].(string)
			if !more {
				break
			}
			cursor = "&cursor=" + next
		}
		text, all := strings.Join(client.events, " "), strings.Join(want, " ")
		if client.resets != 0 || len(client.events) < 390 || !strings.Contains(all, text) {
			t.Errorf("%d events, %d resets of %d in the stream", len(client.events), client.resets, len(want))
		}
	})
}

// TestSummary_NamesWhoWasNotCalledForADay the one called longest ago first, ten at most.
func TestSummary_NamesWhoWasNotCalledForADay(t *testing.T) {
	t.Parallel()
	onEachEngineAndCluster(t, func(t *testing.T, url string) {
		d := serveBreakerd(t, url)
		now, err := d.Docs.ClockMs(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		idle := []string{}
		seen := []redis.Z{{Score: float64(now/1000 - 23*3600), Member: "called"}}
		for i := range 12 {
			name := fmt.Sprintf("idle-%02d", i)
			seen = append(seen, redis.Z{Score: float64(now/1000 - 25*3600 + int64(i)), Member: name})
			idle = append(idle, name)
		}
		if err := d.Conn.Client.ZAdd(t.Context(), d.Store.Keys().Agents(), seen...).Err(); err != nil {
			t.Fatal(err)
		}
		d.do(t, "POST", "/v1/admin/circuit_breakers/banned/open", `{"reason":"x"}`)
		status, got := d.do(t, "GET", "/v1/admin/summary", "")
		want := fmt.Sprint(map[string]any{"count": 12, "names": idle[:10]})
		if status != 200 || fmt.Sprint(got["idle"]) != want || fmt.Sprint(got["agents"]) != "14" {
			t.Errorf("%d, %v agents, idle %v, want %s", status, got["agents"], got["idle"], want)
		}
	})
}
