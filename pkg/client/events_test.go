package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/client"
)

// TestStream_OverKilledReplicas: three replicas are killed, stopped and started again in turn, eighteen ends in all,
// while holds come and go at those that live. What the client has heard is what the stream has: no gap, nothing twice,
// no reset.
func TestStream_OverKilledReplicas(t *testing.T) {
	t.Parallel()
	redis := testkit.Start(t).URL()
	var replicas []*replica
	var servers []string
	for range 3 {
		r := startReplica(t, redis)
		replicas, servers = append(replicas, r), append(servers, r.url())
	}
	writer, reader := newClient(t, servers...), newClient(t, servers...)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	first := must(writer.OpenCircuitBreaker(ctx, "first", client.HoldRequest{Reason: "load"}))(t)
	seen := must(writer.ListFleetEvents(ctx, client.EventQuery{Agent: first.AgentID}))(t)

	var heard []string
	var count atomic.Int64
	ended := make(chan error, 1)
	go func() {
		for item, err := range reader.StreamEvents(ctx, client.StreamQuery{After: seen.Events[0].ID}) {
			if err != nil || item.Reset != "" {
				ended <- fmt.Errorf("reset %q: %w", item.Reset, err)
				return
			}
			heard = append(heard, item.ID)
			count.Add(1)
			if item.AgentID == "last" {
				ended <- nil
				return
			}
		}
	}()
	write := func(n int) {
		for i := range n {
			// One that got no answer may have been done: the stream is what counts.
			_, err := writer.OpenCircuitBreaker(ctx, fmt.Sprintf("agent-%d", i%3), client.HoldRequest{Reason: "load", Force: true})
			if err != nil && !errors.Is(err, client.ErrUnknown) && !errors.Is(err, breaker.ErrStoreUnavailable) {
				t.Error(err)
			}
		}
	}
	for turn := range 18 {
		r := replicas[turn%3]
		write(5)
		before := count.Load()
		signal := syscall.SIGKILL
		if turn%6 >= 3 {
			signal = syscall.SIGTERM
		}
		r.end(t, signal)
		testkit.Eventually(t, "the reader to go on elsewhere", 30*time.Second, func() error {
			if write(1); count.Load() < before+5 {
				return fmt.Errorf("it has heard %d events, and before the end %d", count.Load(), before)
			}
			return nil
		})
		r.start(t)
	}
	must(writer.OpenCircuitBreaker(ctx, "last", client.HoldRequest{Reason: "load"}))(t)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	var all []string
	for e, err := range writer.AllFleetEvents(ctx, client.EventQuery{Since: seen.Events[0].ID}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e.ID)
	}
	if len(heard) < 180 || !slices.Equal(heard, all[:min(len(heard), len(all))]) {
		t.Errorf("%d events are heard of %d in the stream, and they differ", len(heard), len(all))
	}
}

func TestStream_SaysWhereEventsMayBeMissing(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, redis string) {
		c := breakerdOn(t, redis)
		must(c.OpenCircuitBreaker(t.Context(), "a", client.HoldRequest{Reason: "fraud"}))(t)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		var got []client.StreamItem
		for item, err := range c.StreamEvents(ctx, client.StreamQuery{After: "1-1", Kinds: []string{"manual_open"}}) {
			if err != nil {
				t.Fatal(err)
			}
			if got = append(got, item); len(got) == 2 {
				break
			}
			must(c.OpenCircuitBreaker(ctx, "b", client.HoldRequest{Reason: "fraud"}))(t)
		}
		if got[0].Reset == "" || got[0].AgentID != "" || got[0].ID == "" || got[1].AgentID != "b" || got[1].Reset != "" {
			t.Errorf("%+v", got)
		}
	})
}

func TestStream_EndsWithAnErrorWhereNoServerWillEverAnswer(t *testing.T) {
	t.Parallel()
	c := breakerdOn(t, "embedded://")
	full := newServer(t, refuse(problem.TooManyStreams, "1"))
	for name, run := range map[string]struct {
		c    *client.Client
		q    client.StreamQuery
		want func(error) bool
	}{
		"a bad id": {c, client.StreamQuery{After: "yesterday"}, func(err error) bool {
			e, _ := errors.AsType[*client.Error](err)
			return e != nil && e.Status == http.StatusUnprocessableEntity && e.Fields[0].Location == "header.Last-Event-ID"
		}},
		"nobody": {newClient(t, "http://127.0.0.1:1"), client.StreamQuery{}, func(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }},
		"full": {newClient(t, full.url), client.StreamQuery{}, func(err error) bool {
			e, _ := errors.AsType[*client.Error](err)
			return e != nil && e.Code == "too_many_streams" && full.got.Load() == 3
		}},
	} {
		n := 0
		for item, err := range run.c.StreamEvents(t.Context(), run.q) {
			if n++; !run.want(err) || n > 1 {
				t.Errorf("%s: %+v %v", name, item, err)
			}
		}
		if n != 1 {
			t.Errorf("%s: %d items", name, n)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	for _, err := range c.StreamEvents(ctx, client.StreamQuery{After: "1-1"}) {
		if n++; n == 1 {
			cancel()
		} else if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	if n != 2 {
		t.Errorf("%d items, want the reset and the end", n)
	}
}

// TestStream_CutAnywhere: the stream of a server that ends after each byte in turn, in the end of which the client is
// where it was: nothing twice, nothing left out.
func TestStream_CutAnywhere(t *testing.T) {
	t.Parallel()
	const events = 3
	text := func(after int) string {
		var b strings.Builder
		fmt.Fprintf(&b, ":\nid: %d-0\n\n", after)
		for i := after + 1; i <= events; i++ {
			fmt.Fprintf(&b, "id: %d-0\ndata: {\"id\":\"%d-0\",\"agent_id\":\"a\",\"event\":\"opened\",\"reason\":\"r\"}\n\n:\nid: %d-0\n\n", i, i, i)
		}
		return b.String() + "event: of a newer server\ndata: x\n\n"
	}
	var all sync.WaitGroup
	defer all.Wait()
	cutAt := func(at int) {
		var connections atomic.Int64
		s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
			var after int
			_, _ = fmt.Sscanf(r.Header.Get("Last-Event-ID"), "%d-0", &after)
			whole := text(after)
			w.Header().Set("Content-Type", "text/event-stream")
			if connections.Add(1) == 1 {
				_, _ = io.WriteString(w, whole[:at])
				_ = http.NewResponseController(w).Flush()
				panic(http.ErrAbortHandler)
			}
			_, _ = io.WriteString(w, whole)
		})
		var got []string
		for item, err := range newClient(t, s.url).StreamEvents(t.Context(), client.StreamQuery{}) {
			if got = append(got, item.ID); err != nil || len(got) == events {
				break
			}
		}
		if !slices.Equal(got, []string{"1-0", "2-0", "3-0"}) {
			t.Errorf("cut after %d bytes: %v", at, got)
		}
	}
	for at := range len(text(0)) {
		all.Go(func() { cutAt(at) })
	}
}

func TestStream_RefusesWhatItCannotRead(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"longer than": "id: 1-0\ndata: " + strings.Repeat("x", 2<<20) + "\n\n",
		"cannot be":   "id: 1-0\ndata: {\"id\":7}\n\n",
	} {
		s := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, text)
		})
		for _, err := range newClient(t, s.url).StreamEvents(t.Context(), client.StreamQuery{}) {
			if err == nil || !strings.Contains(err.Error(), name) || s.got.Load() != 1 {
				t.Errorf("%v, after %d connections", err, s.got.Load())
			}
		}
	}
}
