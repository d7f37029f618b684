package redisstore

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// heldServer is a server for a dispatcher. It answers each round trip when the test opens the gate.
type heldServer struct {
	mu    sync.Mutex
	sent  [][]string // the tokens of each
	gate  chan struct{}
	reply []any
}

func (w *heldServer) send(ctx context.Context, in *roundTrip) {
	var tokens []string
	for _, c := range in.calls {
		tokens = append(tokens, c.op.Token)
	}
	w.mu.Lock()
	w.sent = append(w.sent, tokens)
	reply := w.reply
	w.mu.Unlock()
	select {
	case <-w.gate:
	case <-ctx.Done():
		for _, c := range in.calls {
			c.fail(ctx.Err())
		}
		return
	}
	for _, c := range in.calls {
		c.result, c.err = parseReply(reply)
	}
}

// acquire is an acquire of an agent with a token.
func (d *dispatcher) acquire(e *entry, token string) *call {
	c := d.newCall()
	c.agent, c.op, c.share = e, machine.Op{Verb: machine.VerbAcquire, Token: token}, shareAcquire
	return c
}

func TestDispatcher_ACancelledCallersTokenIsNotSent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &heldServer{gate: make(chan struct{}), reply: []any{"ok", "half_open", "e", int64(1)}}
		d, e := newDispatcher(1, w.send, time.Second), new(entry)
		until, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var wg sync.WaitGroup
		start := func(ctx context.Context, token string, want error) {
			wg.Go(func() {
				if _, _, err := d.do(ctx, until, d.acquire(e, token)); !errors.Is(err, want) {
					t.Errorf("%s: %v, want %v", token, err, want)
				}
			})
			synctest.Wait()
		}
		leaving, leave := context.WithCancel(t.Context())
		start(t.Context(), "only", nil) // the only round trip is in progress
		start(leaving, "first", errNotRun)
		start(t.Context(), "second", nil)
		leave()
		synctest.Wait()
		close(w.gate)
		wg.Wait()
		for _, tokens := range w.sent {
			if slices.Contains(tokens, "first") {
				t.Error("a lease was asked for with the token of a cancelled caller")
			}
		}
		if len(w.sent) != 2 || w.sent[1][0] != "second" {
			t.Errorf("%d round trips, the second is not the second caller's own", len(w.sent))
		}
	})
}

func TestDispatcher_ASecondTryKeepsTheDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &heldServer{gate: make(chan struct{}), reply: []any{"ok", "half_open", "e", int64(1)}}
		d, e := newDispatcher(1, w.send, 250*time.Millisecond), new(entry)
		until, cancel := context.WithTimeout(t.Context(), 250*time.Millisecond)
		defer cancel()
		var wg sync.WaitGroup
		begin := time.Now()
		for range 3 { // one is sent at once, two share a call whose answer only one of them can have
			wg.Go(func() {
				_, _, _ = d.do(t.Context(), until, d.acquire(e, "t"))
				if took := time.Since(begin); took > 250*time.Millisecond {
					t.Errorf("a caller waited %v", took)
				}
			})
			synctest.Wait()
		}
		<-time.After(200 * time.Millisecond)
		w.gate <- struct{}{}
		synctest.Wait()
		w.gate <- struct{}{} // the shared round trip is answered, then the server hangs
		wg.Wait()
	})
}

func TestApply_ARefusedConnectionIsNotUnknown(t *testing.T) {
	t.Parallel()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	conn, err := Open(t.Context(), "redis://"+addr+"/0", Options{Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	var retried []error
	s, err := New(conn.Client, false, Config{Timeout: time.Second, OnRetry: func(err error) { retried = append(retried, err) }})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Apply(t.Context(), "a", breaker.DefaultPolicy(), machine.Op{Verb: machine.VerbRecord, Draw: machine.ZeroEpoch[1:]})
	var failed *breaker.StoreError
	if !errors.As(err, &failed) || failed.Unknown {
		t.Errorf("%v, want a StoreError that is not Unknown", err)
	}
	if len(retried) == 0 || !errors.Is(retried[0], syscall.ECONNREFUSED) {
		t.Errorf("sent again after %v", retried)
	}
}
