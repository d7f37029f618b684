package logging_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/internal/logging"
)

// writerFunc is a writer that a test scripts.
type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// line is one log line, or the notice of lines that are missing.
type line struct {
	Level string `json:"level"`
	Msg   string `json:"msg"`
	N     int    `json:"n"`
	Count int    `json:"count"`
}

// check wants every line to be whole, and in order: line i has the number i, and a notice counts the lines that are
// missing where it stands, n in all. It returns how many are missing.
func check(t *testing.T, text string, n int) (missing int) {
	t.Helper()
	next := 0
	for text := range strings.Lines(text) {
		var l line
		if err := json.Unmarshal([]byte(text), &l); err != nil || !strings.HasSuffix(text, "\n") {
			t.Fatalf("a torn line: %q", text)
		}
		switch {
		case l.Msg == "log lines dropped" && l.Level == "WARN" && l.Count > 0:
			next += l.Count
			missing += l.Count
		case l.Msg != "line" || l.N != next:
			t.Fatalf("%q where line %d belongs", text, next)
		default:
			next++
		}
	}
	if next != n {
		t.Fatalf("%d of %d lines are there or accounted for", next, n)
	}
	return missing
}

// logTo logs n lines and returns the longest time that one of them took.
func logTo(l *slog.Logger, from, n int) (slowest time.Duration) {
	for i := range n {
		begin := time.Now()
		l.Info("line", "n", from+i, "text", "0123456789012345678901234567890123456789")
		slowest = max(slowest, time.Since(begin))
	}
	return slowest
}

// moby 31540, containerd 9342, supercronic 36: a reader that stops holds every caller that logs.
func TestQueue_ReaderThatStopsHoldsNobody(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"json", "text", "auto"} {
		synctest.Test(t, func(t *testing.T) {
			resume := make(chan struct{})
			var out bytes.Buffer
			q := logging.NewQueue(writerFunc(func(p []byte) (int, error) {
				<-resume
				return out.Write(p)
			}))
			l := q.Logger(slog.LevelError, format) // the notice is written at any level
			l.Error("the first")
			synctest.Wait()
			begin := time.Now()
			for range 6000 {
				l.Error("more", "text", strings.Repeat("x", 300))
			}
			if time.Since(begin) != 0 || q.Dropped() == 0 {
				t.Errorf("%s: waited %v, dropped %d", format, time.Since(begin), q.Dropped())
			}
			q.Close(time.Second)
			if took := time.Since(begin); took != time.Second {
				t.Errorf("%s: Close took %v", format, took)
			}
			l.Error("after the end")
			dropped := q.Dropped()
			close(resume)
			synctest.Wait()
			lines := strings.Count(out.String(), "\n")
			if total := int64(lines-1) + dropped; total != 6002 || !strings.Contains(out.String(), "log lines dropped") {
				t.Errorf("%s: %d lines, %d dropped", format, lines, dropped)
			}
		})
	}
}

func TestQueue_SaysHowManyLinesAreMissingWhereTheyAre(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		turn := make(chan struct{})
		q := logging.NewQueue(writerFunc(func(p []byte) (int, error) {
			<-turn
			return out.Write(p)
		}))
		l, n := q.Logger(slog.LevelInfo, "json"), 0
		for range 3 { // the reader stops, and goes on
			for range 6000 {
				l.Info("line", "n", n, "text", strings.Repeat("x", 300))
				n++
			}
			l.Info("line", "n", n, "text", strings.Repeat("x", 5000)) // finds no room where a shorter one might
			n++
			for done := false; !done; {
				select {
				case turn <- struct{}{}:
					synctest.Wait()
				case <-time.After(time.Second):
					done = true
				}
			}
			logTo(l, n, 10)
			n += 10
		}
		close(turn)
		q.Close(time.Minute)
		if missing := check(t, out.String(), n); missing == 0 || int64(missing) != q.Dropped() {
			t.Errorf("%d are missing, %d dropped", missing, q.Dropped())
		}
	})
}

// moby 19728: a pipe whose reader has gone. Others: a full disk, a descriptor that is closed, one that others made
// non-blocking. Each fails after any number of bytes.
func TestQueue_ErrorsTearNoLineAndAreCounted(t *testing.T) {
	t.Parallel()
	for _, err := range []error{syscall.EPIPE, syscall.ENOSPC, os.ErrClosed, syscall.EAGAIN, syscall.EIO, io.ErrShortWrite, syscall.EDQUOT} {
		for seed := range uint64(4) {
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				var tries int
				var mended atomic.Bool
				draw := rand.New(rand.NewPCG(seed, 1))
				q := logging.NewQueue(writerFunc(func(p []byte) (int, error) {
					tries++
					if mended.Load() || seed%2 == 0 && draw.IntN(2) == 0 { // else it never comes to an end
						return out.Write(p)
					}
					n, _ := out.Write(p[:draw.IntN(len(p))])
					return n, err
				}))
				l, n, took := q.Logger(slog.LevelInfo, "json"), 0, time.Duration(0)
				lines := rand.New(rand.NewPCG(seed, 2))
				for range 50 {
					some := lines.IntN(100)
					took = max(took, logTo(l, n, some))
					n += some
					time.Sleep(time.Duration(lines.IntN(3000)) * time.Millisecond)
				}
				mended.Store(true)
				time.Sleep(time.Second)
				logTo(l, n, 1)
				q.Close(time.Minute)
				busy := errors.Is(err, syscall.EAGAIN)
				missing := check(t, out.String(), n+1)
				if int64(missing) != q.Dropped() || busy != (missing == 0) || took != 0 {
					t.Errorf("%v: %d are missing, %d dropped; a line took %v", err, missing, q.Dropped(), took)
				}
				if !busy && tries > 200 { // of 150 seconds
					t.Errorf("%v: %d tries", err, tries)
				}
			})
		}
	}
}

// A pipe takes at most PIPE_BUF bytes whole or not at all, and two processes may share one.
func TestQueue_WritesWholeLinesOfAtMostAPipesBuffer(t *testing.T) {
	t.Parallel()
	var writes [][]byte
	q := logging.NewQueue(writerFunc(func(p []byte) (int, error) {
		writes = append(writes, bytes.Clone(p))
		return len(p), nil
	}))
	l := q.Logger(slog.LevelInfo, "json")
	for n := range 2000 {
		l.Info("line", "n", n, "text", strings.Repeat("x", n*7919%6000))
	}
	q.Close(time.Minute)
	check(t, string(bytes.Join(writes, nil)), 2000)
	for _, w := range writes {
		if !bytes.HasSuffix(w, []byte("\n")) || len(w) > 4096 && bytes.Count(w, []byte("\n")) > 1 {
			t.Errorf("a write of %d bytes, %d lines", len(w), bytes.Count(w, []byte("\n")))
		}
	}
}

func TestQueue_CloseWritesWhatIsLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		q := logging.NewQueue(writerFunc(func(p []byte) (int, error) {
			time.Sleep(10 * time.Millisecond) // a slow reader
			return out.Write(p)
		}))
		fmt.Fprintln(q, "tester: bad configuration:")
		fmt.Fprint(q, "without an end")
		q.Close(time.Second)
		q.Close(time.Second)
		fmt.Fprintln(q, "after the end")
		if out.String() != "tester: bad configuration:\nwithout an end" || q.Dropped() != 1 {
			t.Errorf("%q, %d dropped", out.String(), q.Dropped())
		}
	})
}

// A pipe that broke does not delay the end: Close tries once more, at once.
func TestQueue_CloseDoesNotWaitForTheNextTry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		q := logging.NewQueue(writerFunc(func([]byte) (int, error) {
			tries++
			return 0, syscall.EPIPE
		}))
		fmt.Fprintln(q, "one")
		synctest.Wait()
		fmt.Fprintln(q, "two")
		begin := time.Now()
		q.Close(time.Minute)
		if took := time.Since(begin); took != 0 || tries != 2 || q.Dropped() != 2 {
			t.Errorf("Close took %v; %d tries, %d dropped", took, tries, q.Dropped())
		}
	})
}

func TestQueue_RealPipes(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	q := logging.NewQueue(w)
	l := q.Logger(slog.LevelInfo, "auto")
	var wg sync.WaitGroup
	for range 8 { // nobody reads
		wg.Go(func() {
			for range 10_000 {
				l.Info("unread", "text", strings.Repeat("x", 200))
			}
		})
	}
	wg.Wait()
	read := make(chan int)
	go func() {
		in, n := bufio.NewScanner(r), 0
		for in.Scan() {
			var got line
			if err := json.Unmarshal(in.Bytes(), &got); err != nil {
				t.Errorf("a torn line: %q", in.Bytes())
			}
			n += max(1, got.Count) // a notice counts for those that it counts
		}
		read <- n
	}()
	q.Close(20 * time.Second)
	_ = w.Close()
	if n := <-read; n != 80_000 || q.Dropped() == 0 {
		t.Errorf("%d lines are accounted for, %d dropped", n, q.Dropped())
	}
	_ = r.Close()
}

// What a line costs the caller: direct, as before there was a queue, and through it.
func BenchmarkLine(b *testing.B) {
	for _, into := range []string{"null", "pipe"} {
		var w *os.File
		var err error
		if into == "null" {
			w, err = os.OpenFile(os.DevNull, os.O_WRONLY, 0)
		} else {
			var r *os.File
			r, w, err = os.Pipe()
			go func() { _, _ = io.Copy(io.Discard, r) }()
		}
		if err != nil {
			b.Fatal(err)
		}
		q := logging.NewQueue(w)
		for name, l := range map[string]*slog.Logger{
			"direct": slog.New(slog.NewJSONHandler(w, nil)).With("component", "Circuit Breaker"), "queue": q.Logger(slog.LevelInfo, "json"),
		} {
			b.Run(into+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					l.Info("request", "method", "POST", "path", "/v1/circuit_breakers/agent/acquire", "agent", "agent", "status", 200, "duration_seconds", 0.00012)
				}
			})
		}
		b.Logf("%s: %d dropped", into, q.Dropped())
		q.Close(time.Minute)
		_ = w.Close()
	}
}
