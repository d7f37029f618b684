// Package budget bounds the bytes that a process holds for a purpose, however many requests hold them. What is read is
// taken from the budget before it is allocated, so that a request fails in place of the process.
package budget

import (
	"errors"
	"io"
	"sync/atomic"
)

// ErrExhausted is the error of a share that can have no more.
var ErrExhausted = errors.New("the memory budget is exhausted")

// Budget is a number of bytes. A nil Budget has no bound. It is safe for concurrent use.
type Budget struct {
	most    int64
	taken   atomic.Int64
	reclaim func(bytes int64) (freed bool)
}

// New makes a Budget of so many bytes.
func New(most int64) *Budget { return &Budget{most: most} }

// OnShortage sets what is called when so many bytes are missing: reclaim frees shares that can be done without, and
// reports whether it freed any. Set it before the first share is opened. Several goroutines may call it at once.
func (b *Budget) OnShortage(reclaim func(bytes int64) (freed bool)) {
	if b != nil {
		b.reclaim = reclaim
	}
}

// Taken returns how many bytes are taken.
func (b *Budget) Taken() int64 {
	if b == nil {
		return 0
	}
	return b.taken.Load()
}

// Open opens a share that has taken nothing yet, for one holder.
func (b *Budget) Open() *Share {
	s := &Share{of: b}
	s.holders.Store(1)
	return s
}

func (b *Budget) take(n int64) bool {
	for {
		taken := b.taken.Load()
		switch missing := taken + n - b.most; {
		case missing <= 0:
			if b.taken.CompareAndSwap(taken, taken+n) {
				return true
			}
		case n > b.most || b.reclaim == nil || !b.reclaim(missing):
			return false
		}
	}
}

// Share is what was taken from a Budget for one thing. Its methods but Hold and Free are for one goroutine at a time. A
// nil Share has no bound.
type Share struct {
	of      *Budget
	taken   atomic.Int64
	holders atomic.Int32
}

// Take takes n bytes more, or fails with [ErrExhausted] and takes none.
func (s *Share) Take(n int) error {
	if s == nil || s.of == nil {
		return nil
	}
	if !s.of.take(int64(n)) {
		return ErrExhausted
	}
	s.taken.Add(int64(n))
	return nil
}

// Give gives back n of the bytes that were taken.
func (s *Share) Give(n int) {
	if s != nil && s.of != nil {
		s.taken.Add(int64(-n))
		s.of.taken.Add(int64(-n))
	}
}

// Hold adds a holder, who calls Free too. It is for somebody who holds the share already.
func (s *Share) Hold() {
	if s != nil {
		s.holders.Add(1)
	}
}

// Free ends one holder's use. The last one gives back all that was taken; what is taken later is not given back.
func (s *Share) Free() {
	if s != nil && s.of != nil && s.holders.Add(-1) == 0 {
		s.of.taken.Add(-s.taken.Swap(0))
	}
}

// leastBuffer is the capacity of a buffer's first allocation.
const leastBuffer = 512

// Append appends to a buffer that began as nil, and takes its capacity. After an error the buffer is as it was.
func (s *Share) Append(buf, more []byte) ([]byte, error) {
	buf, err := s.grow(buf, len(more))
	if err != nil {
		return buf, err
	}
	return append(buf, more...), nil
}

// ReadAll is [io.ReadAll], and takes each part before it is read. Beside an error it returns what it has read.
func (s *Share) ReadAll(r io.Reader) (buf []byte, err error) {
	for {
		if buf, err = s.grow(buf, 1); err != nil {
			return buf, err
		}
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err != nil {
			if err == io.EOF {
				err = nil
			}
			return buf, err
		}
	}
}

// grow makes room for n more bytes. The old buffer counts until it has been copied.
func (s *Share) grow(buf []byte, n int) ([]byte, error) {
	if len(buf)+n <= cap(buf) {
		return buf, nil
	}
	most := max(len(buf)+n, cap(buf)+cap(buf)/2, leastBuffer)
	if err := s.Take(most); err != nil {
		return buf, err
	}
	grown := append(make([]byte, 0, most), buf...)
	s.Give(cap(buf))
	return grown, nil
}
