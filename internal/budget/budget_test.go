package budget_test

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"github.com/breakerd/breakerd/internal/budget"
)

func TestShare_TakesNoMoreThanThereIs(t *testing.T) {
	t.Parallel()
	b := budget.New(100)
	one, other := b.Open(), b.Open()
	if err := errors.Join(one.Take(60), other.Take(40)); err != nil {
		t.Fatal(err)
	}
	if err := other.Take(1); !errors.Is(err, budget.ErrExhausted) || b.Taken() != 100 {
		t.Errorf("%v, %d taken", err, b.Taken())
	}
	one.Free()
	if err := other.Take(60); err != nil || b.Taken() != 100 {
		t.Errorf("%v, %d taken", err, b.Taken())
	}
	one.Free()
	if b.Taken() != 100 {
		t.Errorf("given back twice: %d", b.Taken())
	}
	other.Hold()
	other.Free()
	if b.Taken() != 100 {
		t.Errorf("given back while it is held: %d", b.Taken())
	}
	other.Free()
	if b.Taken() != 0 {
		t.Errorf("%d taken", b.Taken())
	}
}

func TestShare_ReadAllTakesWhileItReads(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("0123456789", 20_000)
	b := budget.New(int64(3 * len(text)))
	s := b.Open()
	got, err := s.ReadAll(iotest.HalfReader(strings.NewReader(text)))
	if err != nil || string(got) != text || b.Taken() != int64(cap(got)) || cap(got) > 2*len(text) {
		t.Errorf("%d bytes of capacity %d, %d taken, %v", len(got), cap(got), b.Taken(), err)
	}
	s.Free()
	read := &countingReader{Reader: strings.NewReader(text)}
	small := budget.New(50_000).Open()
	if _, err := small.ReadAll(read); !errors.Is(err, budget.ErrExhausted) || read.n > 50_000 {
		t.Errorf("%v after %d bytes", err, read.n)
	}
	broken := errors.New("broken")
	got, err = b.Open().ReadAll(io.MultiReader(strings.NewReader("half"), iotest.ErrReader(broken)))
	if !errors.Is(err, broken) || string(got) != "half" {
		t.Errorf("%q, %v", got, err)
	}
	for _, unbounded := range []*budget.Share{nil, (*budget.Budget)(nil).Open()} {
		if got, err := unbounded.ReadAll(strings.NewReader(text)); err != nil || string(got) != text || unbounded.Take(1<<40) != nil {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		unbounded.Hold()
		unbounded.Give(1)
		unbounded.Free()
	}
}

type countingReader struct {
	io.Reader
	n int
}

func (r *countingReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.n += n
	return n, err
}

func TestBudget_ShortageFreesWhatCanBeDoneWithout(t *testing.T) {
	t.Parallel()
	b := budget.New(100)
	var spare []*budget.Share
	b.OnShortage(func(n int64) bool {
		freed := false
		for ; n > 0 && len(spare) > 0; n -= 10 {
			spare[0].Free()
			spare, freed = spare[1:], true
		}
		return freed
	})
	for range 9 {
		s := b.Open()
		if err := s.Take(10); err != nil {
			t.Fatal(err)
		}
		spare = append(spare, s)
	}
	s := b.Open()
	if err := s.Take(101); !errors.Is(err, budget.ErrExhausted) || len(spare) != 9 {
		t.Errorf("%v: %d left, although nothing would have helped", err, len(spare))
	}
	if err := s.Take(35); err != nil || len(spare) != 6 {
		t.Errorf("%v, %d left", err, len(spare))
	}
	if err := s.Take(65); err != nil || len(spare) != 0 || b.Taken() != 100 {
		t.Errorf("%v, %d left, %d taken", err, len(spare), b.Taken())
	}
	if err := s.Take(1); !errors.Is(err, budget.ErrExhausted) {
		t.Error(err)
	}
}

// A model: whatever is taken, given, held and freed, the budget knows it to the byte, and is whole in the end.
func TestBudget_IsWholeInTheEnd(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.IntRange(0, 20_000).Draw(t, "most")
		b := budget.New(int64(most))
		type held struct {
			share   *budget.Share
			bytes   int
			buf     []byte
			holders int
		}
		var all []*held
		taken := func() (n int) {
			for _, h := range all {
				n += h.bytes + cap(h.buf)
			}
			return n
		}
		for range rapid.IntRange(1, 80).Draw(t, "operations") {
			if len(all) == 0 || rapid.IntRange(0, 5).Draw(t, "what") == 0 {
				all = append(all, &held{share: b.Open(), holders: 1})
			}
			i := rapid.IntRange(0, len(all)-1).Draw(t, "share")
			h, n := all[i], rapid.IntRange(0, 5000).Draw(t, "bytes")
			switch rapid.IntRange(0, 4).Draw(t, "operation") {
			case 0:
				fits := taken()+n <= most
				if err := h.share.Take(n); (err == nil) != fits {
					t.Fatalf("%d of %d taken, %d more: %v", taken(), most, n, err)
				} else if fits {
					h.bytes += n
				}
			case 1:
				before := bytes.Clone(h.buf)
				buf, err := h.share.Append(h.buf, make([]byte, n))
				if want := slices.Concat(before, make([]byte, n)); err == nil && !bytes.Equal(buf, want) || err != nil && !bytes.Equal(buf, before) {
					t.Fatalf("%v: %d bytes", err, len(buf))
				}
				h.buf = buf
			case 2:
				n = min(n, h.bytes)
				h.share.Give(n)
				h.bytes -= n
			case 3:
				h.share.Hold()
				h.holders++
			case 4:
				h.share.Free()
				if h.holders--; h.holders == 0 {
					all = append(all[:i], all[i+1:]...)
				}
			}
			if b.Taken() != int64(taken()) || taken() > most {
				t.Fatalf("%d taken, want %d of %d", b.Taken(), taken(), most)
			}
		}
		for _, h := range all {
			for range h.holders {
				h.share.Free()
			}
		}
		if b.Taken() != 0 {
			t.Fatalf("%d bytes were not given back", b.Taken())
		}
	})
}

func TestBudget_IsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	const most = 100_000
	b := budget.New(most)
	var inUse, failed atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 500 {
				s := b.Open()
				text, err := s.ReadAll(strings.NewReader(strings.Repeat("x", 20_000)))
				if n := inUse.Add(int64(cap(text))); n > most {
					t.Errorf("%d bytes at once", n)
				}
				if err != nil {
					failed.Add(1)
				}
				inUse.Add(-int64(cap(text)))
				s.Free()
			}
		})
	}
	wg.Wait()
	if b.Taken() != 0 {
		t.Errorf("%d bytes were not given back; %d failed", b.Taken(), failed.Load())
	}
}
