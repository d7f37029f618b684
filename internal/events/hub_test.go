package events_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/events"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// fake is a stream in memory.
type fake struct {
	mu      sync.Mutex
	entries []events.Entry
	reads   int
}

func (f *fake) Entries(_ context.Context, _ events.Stream, from, to events.ID, n int) ([]events.Entry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads++
	all := slices.DeleteFunc(slices.Clone(f.entries), func(e events.Entry) bool {
		return e.ID.Compare(from) < 0 || e.ID.Compare(to) > 0
	})
	return all[:min(len(all), n)], nil
}

func (f *fake) add(ids ...uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range ids {
		f.entries = append(f.entries, events.Entry{ID: events.ID{Ms: id}, Agent: "a", Event: breaker.Event{Kind: "opened"}})
	}
}

func (f *fake) set(ids ...uint64) {
	other := &fake{}
	other.add(ids...)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.entries = other.entries
}

func run(t *testing.T, f *fake, most int) *events.Hub {
	t.Helper()
	h := events.NewHub(f, most)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		h.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return h
}

// hear says what a listener hears until it has heard so many entries or a reset.
func hear(t *testing.T, l *events.Listener, n int) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var out strings.Builder
	for n > 0 {
		read, reset, err := l.Next(ctx)
		if err != nil {
			t.Fatalf("%s, then %v", out.String(), err)
		}
		if reset != nil {
			return out.String() + "reset " + reset.At.String()
		}
		for _, e := range read {
			fmt.Fprint(&out, e.ID.Ms, " ")
		}
		n -= len(read)
	}
	return out.String()
}

func listen(t *testing.T, h *events.Hub, after uint64) (*events.Listener, string) {
	t.Helper()
	var id *events.ID
	if after > 0 {
		id = &events.ID{Ms: after}
	}
	l, at, reset, err := h.Listen(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	if reset != nil {
		return l, "reset " + reset.At.String()
	}
	return l, at.String()
}

func TestHub_ListenersHearEachEntryOnce(t *testing.T) {
	t.Parallel()
	f := &fake{}
	f.add(1, 2, 3)
	h := run(t, f, 10)
	live, at := listen(t, h, 0)
	if at != "3-0" {
		t.Errorf("the stream ends at %s", at)
	}
	f.add(4) // which this replica has not heard of yet
	later, at := listen(t, h, 4)
	if at != "4-0" {
		t.Errorf("a listener from another replica: %s", at)
	}
	early, _ := listen(t, h, 1)
	f.add(5, 6)
	h.Wake()
	for l, want := range map[*events.Listener]string{live: "4 5 6 ", later: "5 6 ", early: "2 3 4 5 6 "} {
		if got := hear(t, l, len(want)/2); got != want {
			t.Errorf("heard %q, want %q", got, want)
		}
	}
}

func TestHub_ResetsWhereAGapCannotBeExcluded(t *testing.T) {
	t.Parallel()
	f := &fake{}
	f.add(11, 12, 13)
	h := run(t, f, 10)
	for _, after := range []uint64{5, 10, 14, 1 << 40} {
		if _, at := listen(t, h, after); at != "reset 13-0" {
			t.Errorf("after %d: %s", after, at)
		}
	}
	for what, change := range map[string]func(){
		"an older copy": func() { f.set(11, 12) }, "lost": func() { f.set() }, "another one": func() { f.set(21, 22) },
	} {
		f.set(11, 12, 13)
		h := run(t, f, 10)
		l, _ := listen(t, h, 0)
		change()
		h.Wake()
		if got := hear(t, l, 1); got[:6] != "reset " {
			t.Errorf("%s: heard %q", what, got)
		}
		f.add(31)
		h.Wake()
		if got := hear(t, l, 1); !strings.HasSuffix(got, "31 ") {
			t.Errorf("%s, then: heard %q", what, got)
		}
	}
}

// TestHub_SlowListenerIsReset when the entry that it would hear next has left the Hub, which holds a bounded number.
func TestHub_SlowListenerIsReset(t *testing.T) {
	t.Parallel()
	f := &fake{}
	f.add(1)
	h := run(t, f, 2)
	slow, _ := listen(t, h, 0)
	fast, _ := listen(t, h, 0)
	if _, _, _, err := h.Listen(t.Context(), nil); !errors.Is(err, events.ErrTooMany) {
		t.Errorf("a third of 2: %v", err)
	}
	next := uint64(2)
	for range 15 {
		for range 1000 {
			f.add(next)
			next++
		}
		h.Wake()
		hear(t, fast, 1000)
	}
	if got := hear(t, slow, 1); got != fmt.Sprintf("reset %d-0", next-1) {
		t.Errorf("heard %.50q", got)
	}
}

// TestHub_ReadsOnceForAll: so many listeners cause no more reads than one.
func TestHub_ReadsOnceForAll(t *testing.T) {
	t.Parallel()
	f := &fake{}
	f.add(1)
	h := run(t, f, 100)
	time.Sleep(10 * time.Millisecond)
	if f.reads != 0 {
		t.Errorf("%d reads without a listener", f.reads)
	}
	var all []*events.Listener
	for range 50 {
		l, _ := listen(t, h, 0)
		all = append(all, l)
	}
	f.mu.Lock()
	before := f.reads
	f.mu.Unlock()
	f.add(2)
	h.Wake()
	for _, l := range all {
		hear(t, l, 1)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := f.reads - before; n > 3 {
		t.Errorf("%d reads for one entry", n)
	}
}

func TestParseID_ReadsWhatStringWrites(t *testing.T) {
	t.Parallel()
	for _, id := range []events.ID{{}, {Ms: 1, Seq: 2}, events.Last()} {
		if got, ok := events.ParseID(id.String()); !ok || got != id {
			t.Errorf("%s: %s %v", id, got, ok)
		}
		if id != events.Last() && id.Next().Before() != id {
			t.Errorf("%s: %s", id, id.Next().Before())
		}
	}
	for _, text := range []string{"", "-", "1", "1-", "-1", "+1-1", "1-+1", "0x1-1", "1-1-1", " 1-1", "1-1\n", "99999999999999999999-1"} {
		if _, ok := events.ParseID(text); ok {
			t.Errorf("%q is taken", text)
		}
	}
}
