package lastgood_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/breakerd/breakerd/internal/lastgood"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// source answers each name with text, after delay. It notes the names that were read.
type source struct {
	mu    sync.Mutex
	text  string
	err   error
	delay time.Duration
	down  bool
	reads []string
	lasts []string
}

func (s *source) set(text string, err error, delay time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text, s.err, s.delay = text, err, delay
}

func (s *source) read(ctx context.Context, name, last string) (string, error) {
	s.mu.Lock()
	s.reads, s.lasts = append(s.reads, name), append(s.lasts, last)
	text, err, delay := s.text, s.err, s.delay
	s.mu.Unlock()
	select {
	case <-time.After(delay):
		return text, err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func (s *source) isDown(string) error {
	if s.down {
		return errors.New("down")
	}
	return nil
}

// cache holds three entries, fresh for a second.
func (s *source) cache() *lastgood.Cache[string] {
	return lastgood.New(lastgood.Options[string]{
		Read: s.read, Fresh: time.Second, Down: s.isDown, Max: 3, Expendable: func(v string) bool { return v == "" },
	})
}

// get returns the value of a or the error, and how long it took.
func get(ctx context.Context, c *lastgood.Cache[string]) (got string, took time.Duration) {
	begun := time.Now()
	a, err := c.Get(ctx, "a")
	switch {
	case a == nil:
		return err.Error(), time.Since(begun)
	case err != nil:
		return fmt.Sprintf("%s and %v", a.Value, err), time.Since(begun)
	}
	return a.Value, time.Since(begun)
}

func want(t *testing.T, c *lastgood.Cache[string], text string, took time.Duration) {
	t.Helper()
	if got, waited := get(t.Context(), c); got != text || waited != took {
		t.Errorf("got %q after %v, want %q after %v", got, waited, text, took)
	}
}

func (s *source) wantReads(t *testing.T, n int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.reads) != n {
		t.Errorf("%d reads, want %d", len(s.reads), n)
	}
}

const delay = 100 * time.Millisecond

func TestGet_CallersShareOneRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &source{text: "one", delay: delay}
		c := s.cache()
		leaving, leave := context.WithCancel(t.Context())
		time.AfterFunc(delay/2, leave)
		var wg sync.WaitGroup
		wg.Go(func() { // begins the read and leaves
			if got, took := get(leaving, c); got != `wait for "a": context canceled` || took != delay/2 {
				t.Errorf("got %q after %v", got, took)
			}
		})
		synctest.Wait()
		for range 10 {
			wg.Go(func() { want(t, c, "one", delay) })
		}
		wg.Wait()
		s.wantReads(t, 1)
	})
}

func TestGet_ReadThatHasJustEndedIsNotRepeated(t *testing.T) {
	t.Parallel()
	s := &source{text: "one"}
	var c *lastgood.Cache[string]
	other := true
	c = lastgood.New(lastgood.Options[string]{Read: s.read, Max: 3, Down: func(string) error {
		if other { // another caller's read ends after this one has looked into the cache
			other = false
			_, _ = c.Get(t.Context(), "a")
		}
		return nil
	}})
	if a, err := c.Get(t.Context(), "a"); err != nil || a.Value != "one" {
		t.Errorf("got %+v, %v", a, err)
	}
	s.wantReads(t, 1)
}

func TestGet_AnswerIsFreshForATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &source{text: "one", delay: delay}
		c := s.cache()
		want(t, c, "one", delay)
		s.set("two", nil, delay)
		<-time.After(time.Second - delay - 1) // fresh since the read began
		want(t, c, "one", 0)
		<-time.After(1)
		want(t, c, "two", delay)
		s.wantReads(t, 2)
		if s.lasts[0] != "" || s.lasts[1] != "one" {
			t.Errorf("Read got %q as the cached values", s.lasts)
		}
	})
}

func TestGet_FreshOfZeroLastsUntilInvalidate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &source{text: "one"}
		c := lastgood.New(lastgood.Options[string]{Read: s.read, Max: 3})
		want(t, c, "one", 0)
		s.set("two", nil, 0)
		<-time.After(1000 * time.Hour)
		want(t, c, "one", 0)
		c.Invalidate("a")
		want(t, c, "two", 0)
	})
}

func TestGet_LastGoodAnswerServesAFailingSource(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &source{text: "one"}
		c := s.cache()
		want(t, c, "one", 0)
		s.set("", errors.New("cut"), delay)
		<-time.After(time.Second)
		want(t, c, "one", delay) // finds out
		for range 3 {
			<-time.After(time.Second)
			want(t, c, "one", 0) // the read goes on behind
			synctest.Wait()
		}
		s.set("two", nil, delay)
		<-time.After(time.Second)
		want(t, c, "one", 0)
		<-time.After(delay)
		synctest.Wait()
		want(t, c, "two", 0)
		s.wantReads(t, 6)
	})
}

func TestGet_FailureIsFreshToo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &source{err: errors.New("cut"), delay: delay}
		c := s.cache()
		want(t, c, "cut", delay)
		want(t, c, "cut", 0)
		s.wantReads(t, 1)
		s.set("one", nil, 0)
		<-time.After(time.Second)
		want(t, c, "one", 0)
	})
}

func TestGet_SourceThatIsDownIsNotRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &source{text: "one", down: true}
		c := s.cache()
		want(t, c, "down", 0)
		s.down = false
		want(t, c, "one", 0)
		s.down = true
		<-time.After(time.Hour)
		want(t, c, "one", 0)
		s.wantReads(t, 1)
	})
}

func TestGet_CallerThatLeavesGetsTheLastGoodAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &source{text: "one"}
		c := s.cache()
		want(t, c, "one", 0)
		s.set("two", nil, delay)
		<-time.After(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if got, took := get(ctx, c); got != "one" || took != time.Millisecond {
			t.Errorf("got %q after %v", got, took)
		}
		want(t, c, "two", delay-time.Millisecond)
	})
}

// A write during a read: the read does not count, and who waits for it gets what was written or reads again.
func TestRead_DoesNotUndoAWrite(t *testing.T) {
	t.Parallel()
	for name, write := range map[string]func(c *lastgood.Cache[string], a *lastgood.Answer[string]) (want string){
		"Put": func(c *lastgood.Cache[string], _ *lastgood.Answer[string]) string { c.Put("a", "put"); return "put" },
		"Put twice": func(c *lastgood.Cache[string], _ *lastgood.Answer[string]) string {
			c.Put("a", "x")
			c.Put("a", "old")
			return "old"
		},
		"Invalidate": func(c *lastgood.Cache[string], _ *lastgood.Answer[string]) string { c.Invalidate("a"); return "new" },
		"Put then Invalidate": func(c *lastgood.Cache[string], _ *lastgood.Answer[string]) string {
			c.Put("a", "put")
			c.Invalidate("a")
			return "new"
		},
		"Replace": func(c *lastgood.Cache[string], a *lastgood.Answer[string]) string {
			if a == nil || !c.Replace(a, "replaced") {
				c.Put("a", "replaced")
			}
			return "replaced"
		},
		"Refresh": func(c *lastgood.Cache[string], _ *lastgood.Answer[string]) string {
			_, _ = c.Refresh(context.Background(), "a")
			return "new"
		},
	} {
		for _, cached := range []bool{true, false} {
			t.Run(fmt.Sprint(name, " cached ", cached), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					s := &source{text: "old"}
					c := s.cache()
					if cached {
						want(t, c, "old", 0)
						<-time.After(time.Second)
					}
					s.set("old", nil, delay)
					text := make(chan string, 1)
					go func() { got, _ := get(t.Context(), c); text <- got }()
					synctest.Wait()
					s.set("new", nil, 0)
					w := write(c, c.Peek("a"))
					if got := <-text; got != w {
						t.Errorf("who waits got %q, want %q", got, w)
					}
					<-time.After(delay)
					want(t, c, w, 0)
				})
			})
		}
	}
}

func TestRefresh_ReadsWhateverIsCached(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &source{text: "one", down: true}
		c := s.cache()
		for i, text := range []string{"one", "two"} {
			s.set(text, nil, 0)
			if a, err := c.Refresh(t.Context(), "a"); err != nil || a.Value != text || a != c.Peek("a") {
				t.Errorf("%d: got %+v, %v", i, a, err)
			}
		}
		s.set("", errors.New("cut"), 0)
		if a, err := c.Refresh(t.Context(), "a"); err == nil || a.Value != "two" {
			t.Errorf("got %+v, %v", a, err)
		}
		if a, err := c.Refresh(t.Context(), "b"); err == nil || a != nil {
			t.Errorf("got %+v, %v", a, err)
		}
		want(t, c, "two", 0) // the failure is this caller's alone
	})
}

func TestReplace_ComparesWithTheCache(t *testing.T) {
	t.Parallel()
	c := (&source{}).cache()
	c.Put("a", "one")
	one := c.Peek("a")
	if !c.Replace(one, "two") || c.Replace(one, "three") || c.Peek("a").Value != "two" {
		t.Errorf("got %q", c.Peek("a").Value)
	}
	two := c.Peek("a")
	c.Delete("a")
	if !c.Replace(two, "three") || c.Peek("a") != nil {
		t.Errorf("a deleted entry came back: %+v", c.Peek("a"))
	}
}

func TestDelete_ReadInProgressDoesNotBringItBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &source{text: "one", delay: delay}
		c := s.cache()
		var wg sync.WaitGroup
		wg.Go(func() { want(t, c, "one", delay) })
		synctest.Wait()
		c.Delete("a")
		wg.Wait()
		if a := c.Peek("a"); a != nil {
			t.Errorf("got %+v", a)
		}
	})
}

func names(c *lastgood.Cache[string]) string {
	var out []string
	for _, a := range c.Entries() {
		out = append(out, a.Name)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func TestCache_EvictsExpendableThenLeastRecentlyUsed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &source{text: "x"}
		c := s.cache()
		for _, step := range []struct{ name, text, left string }{
			{"a", "x", "a"}, {"b", "", "a b"}, {"c", "x", "a b c"}, {"d", "x", "a c d"}, {"a", "x", "a c d"}, {"e", "x", "a d e"}, {"f", "", "a e f"}, {"g", "", "a e g"},
		} {
			<-time.After(time.Millisecond)
			if s.set(step.text, nil, 0); c.Peek(step.name) == nil {
				c.Put(step.name, step.text)
			} else if _, err := c.Get(t.Context(), step.name); err != nil {
				t.Error(err)
			}
			if got := names(c); got != step.left {
				t.Errorf("after %s: %s, want %s", step.name, got, step.left)
			}
		}
		used := c.Peek("g").Used()
		<-time.After(time.Millisecond)
		if !used.Equal(c.Peek("g").Used()) || time.Since(used) != time.Millisecond {
			t.Errorf("used %v ago", time.Since(used))
		}
	})
}

func TestCache_SizesAreBounded(t *testing.T) {
	t.Parallel()
	c := lastgood.New(lastgood.Options[string]{Max: 10, Size: func(v string) int { return len(v) }})
	size := func() (n int) {
		for _, a := range c.Entries() {
			n += len(a.Value)
		}
		return n
	}
	for i := range 1000 {
		name := strconv.Itoa(rand.IntN(5))
		switch rand.IntN(4) {
		case 0:
			c.Delete(name)
		case 1:
			c.Invalidate(name)
		default:
			c.Put(name, strings.Repeat("x", rand.IntN(11)))
		}
		if n := size(); n > 10 {
			t.Fatalf("after %d writes: %d bytes", i, n)
		}
	}
	for _, a := range c.Entries() {
		c.Delete(a.Name)
	}
	for i := range 20 {
		c.Put(strconv.Itoa(i), "x")
	}
	if got := len(c.Entries()); got != 10 {
		t.Errorf("%d entries of 1 byte, want 10: the sum is wrong", got)
	}
}

// The source counts up. Whoever asks after an Invalidate or a Put never gets an older number.
func TestCache_ConcurrentReadsDoNotUndoWrites(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	truth := map[string]int{}
	read := func(_ context.Context, name string, _ int) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return truth[name], nil
	}
	c := lastgood.New(lastgood.Options[int]{Read: read, Fresh: time.Hour, Max: 1000})
	var wg sync.WaitGroup
	for w := range 8 {
		name := strconv.Itoa(w % 2)
		wg.Go(func() {
			for i := range 1000 {
				mu.Lock()
				truth[name]++
				least := truth[name]
				if i%5 == 0 {
					c.Put(name, least)
				}
				mu.Unlock()
				if i%5 != 0 {
					c.Invalidate(name)
				}
				if i%3 == 0 {
					_, _ = c.Refresh(t.Context(), name)
				}
				if a, err := c.Get(t.Context(), name); err != nil || a.Value < least {
					t.Errorf("got %+v, %v, want %d or more", a, err, least)
				}
			}
		})
	}
	wg.Wait()
	for name, n := range truth {
		if a, err := c.Get(t.Context(), name); err != nil || a.Value != n {
			t.Errorf("got %+v, %v, want %d", a, err, n)
		}
	}
}
