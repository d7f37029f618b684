package logging

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// capacity bounds the lines that wait, in bytes. As many again may be on their way out.
	capacity = 1 << 20
	// atomicWrite is PIPE_BUF of Linux: a pipe takes so much whole or not at all. Lines of several processes that share
	// one are not mixed, and the end of the process tears none.
	atomicWrite = 4 << 10

	retryFailed = time.Second           // after a write failed: a broken pipe stays broken, a full disk may not
	retryBusy   = 10 * time.Millisecond // after EAGAIN: another process made the shared pipe or terminal non-blocking
)

// Queue is an [io.Writer] of whole lines whose callers never wait: neither for a reader that is slow, has stopped or
// has gone, nor for a disk. One goroutine writes. Lines that find no room, or cannot be written, are dropped and
// counted; the log says how many, where they are missing.
type Queue struct {
	out     io.Writer
	dropped atomic.Int64
	closing chan struct{} // closed by Close
	done    chan struct{} // closed when run has ended

	mu      sync.Mutex
	more    sync.Cond
	lines   []byte // that wait
	skipped int    // lines that found no room behind these
	closed  bool
	notice  func(dropped int) []byte // the line that says so; nil: there is no form for it yet

	// Of run alone.
	part   []byte // of the lines on their way out: what goes in one write, or the rest of a torn line
	torn   bool   // a write ended inside a line
	unsaid int    // dropped lines that no notice counted yet
}

// NewQueue begins to write to out.
func NewQueue(out io.Writer) *Queue {
	q := &Queue{out: out, closing: make(chan struct{}), done: make(chan struct{})}
	q.more.L = &q.mu
	go q.run()
	return q
}

// Logger makes a logger of component "Circuit Breaker" that writes to q. format is auto (colours on a terminal, JSON
// elsewhere), text or json.
func (q *Queue) Logger(level slog.Level, format string) *slog.Logger {
	onto := func(w io.Writer) *slog.Logger { return newLogger(w, level, format, Terminal(q.out)) }
	q.mu.Lock()
	defer q.mu.Unlock()
	q.notice = func(dropped int) []byte {
		var line bytes.Buffer
		r := slog.NewRecord(time.Now(), slog.LevelWarn, "log lines dropped", 0)
		r.AddAttrs(slog.Int("count", dropped))
		_ = onto(&line).Handler().Handle(context.Background(), r) // at LOG_LEVEL=error too; a buffer takes all
		return line.Bytes()
	}
	return onto(q)
}

// Write takes whole lines. It never waits, and never fails.
func (q *Queue) Write(p []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	// Once a line was skipped, those behind it are too: the notice then stands where all of them are missing.
	if q.closed || q.skipped > 0 || len(q.lines)+len(p) > capacity {
		n := count(p)
		q.skipped += n
		q.dropped.Add(int64(n))
	} else {
		q.lines = append(q.lines, p...)
	}
	q.more.Signal()
	return len(p), nil
}

// Dropped is how many lines were dropped so far.
func (q *Queue) Dropped() int64 { return q.dropped.Load() }

// Close waits until what was written before has gone out, or for that long. What comes later is dropped.
func (q *Queue) Close(most time.Duration) {
	q.mu.Lock()
	if !q.closed {
		q.closed = true
		close(q.closing)
	}
	q.more.Signal()
	q.mu.Unlock()
	bound := time.NewTimer(most)
	defer bound.Stop()
	select {
	case <-q.done:
	case <-bound.C:
	}
}

// run writes until Close.
func (q *Queue) run() {
	defer close(q.done)
	var lines []byte
	for open := true; open; {
		var skipped int
		lines, skipped, open = q.take(lines[:0])
		lost, err := count(lines), q.announce()
		if err == nil {
			lost, err = q.write(lines)
		}
		q.dropped.Add(int64(lost))
		q.unsaid += lost + skipped
		if err == nil {
			err = q.announce()
		}
		if err != nil {
			select {
			case <-q.closing:
			case <-time.After(retryFailed):
			}
		}
	}
}

// take waits for lines, and leaves an empty buffer in their place.
func (q *Queue) take(empty []byte) (lines []byte, skipped int, open bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.lines) == 0 && q.skipped == 0 && !q.closed {
		q.more.Wait()
	}
	lines, skipped = q.lines, q.skipped
	q.lines, q.skipped = empty, 0
	return lines, skipped, !q.closed
}

// announce writes how many lines are missing here.
func (q *Queue) announce() error {
	q.mu.Lock()
	notice := q.notice
	q.mu.Unlock()
	if q.unsaid == 0 || notice == nil {
		return nil
	}
	lost, err := q.write(notice(q.unsaid))
	if lost == 0 { // it is out, or the rest of it will be
		q.unsaid = 0
	}
	return err
}

// write writes lines, and counts those that an error lost. The rest of a line that it tore goes out before the next.
func (q *Queue) write(lines []byte) (lost int, err error) {
	for len(q.part)+len(lines) > 0 {
		if len(q.part) == 0 {
			q.part, lines = cut(lines)
		}
		n, err := q.out.Write(q.part)
		if n > 0 {
			q.torn = q.part[n-1] != '\n'
			q.part = q.part[n:]
		}
		if errors.Is(err, syscall.EAGAIN) {
			time.Sleep(retryBusy)
		} else if err != nil {
			rest := 0
			if q.torn {
				rest = bytes.IndexByte(q.part, '\n') + 1
			}
			lost = count(q.part[rest:]) + count(lines)
			q.part = bytes.Clone(q.part[:rest])
			return lost, err
		}
	}
	return 0, nil
}

func count(lines []byte) int { return bytes.Count(lines, []byte{'\n'}) }

// cut splits off what goes in one write: whole lines.
func cut(lines []byte) (first, rest []byte) {
	end := len(lines)
	if end > atomicWrite {
		end = bytes.LastIndexByte(lines[:atomicWrite], '\n') + 1
	}
	if end == 0 { // the first line is longer
		end = bytes.IndexByte(lines, '\n') + 1
	}
	if end == 0 {
		end = len(lines)
	}
	return lines[:end], lines[end:]
}
