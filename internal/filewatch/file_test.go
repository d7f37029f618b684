package filewatch_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/internal/filewatch"
)

// text is what a file holds, and what was taken of it.
type text struct {
	mu    sync.Mutex // of what Follow reads meanwhile
	held  string
	err   error
	taken []string
}

func (x *text) file(settle bool) *filewatch.File {
	return &filewatch.File{
		Path: "f", Most: 100, Settle: settle,
		Read: func(string, int64, filewatch.Sight) ([]byte, filewatch.Sight, error) {
			x.mu.Lock()
			defer x.mu.Unlock()
			return []byte(x.held), filewatch.Sight{}, x.err
		},
		Take: func(data []byte) error {
			if string(data) == "bad" {
				return errors.New("it is bad")
			}
			x.taken = append(x.taken, string(data))
			return nil
		},
	}
}

// look wants whether a look has taken a text, and whether there is a problem then.
func look(t *testing.T, f *filewatch.File, want, problem bool) {
	t.Helper()
	took, err := f.Look()
	if took != want || (err != nil) != problem || (f.Problem() != nil) != problem {
		t.Errorf("took %v, %v, problem %v", took, err, f.Problem())
	}
}

func TestFile_KeepsTheLastGoodOne(t *testing.T) {
	t.Parallel()
	x := &text{held: "one"}
	f := x.file(false)
	look(t, f, true, false)
	look(t, f, false, false)
	x.held = "bad"
	look(t, f, false, true)
	look(t, f, false, true)
	x.held = "one"
	look(t, f, true, false) // the same again, after a bad one
	x.err = os.ErrNotExist
	look(t, f, false, true)
	x.err, x.held = nil, "two"
	look(t, f, true, false)
	if want := []string{"one", "two"}; !slices.Equal(x.taken, want) {
		t.Errorf("taken %q", x.taken)
	}
}

func TestFile_SettlesBeforeATextCounts(t *testing.T) {
	t.Parallel()
	x := &text{held: "one"}
	f := x.file(true)
	look(t, f, true, false) // at the start there is none to keep
	for _, half := range []string{"t", "tw", "two"} {
		x.held = half
		look(t, f, false, false)
	}
	look(t, f, true, false)
	x.held = "bad"
	look(t, f, false, false)
	look(t, f, false, true)
	x.held = "two"
	look(t, f, true, false)
	if want := []string{"one", "two"}; !slices.Equal(x.taken, want) {
		t.Errorf("taken %q", x.taken)
	}
}

// A text that was read once counts at the next look though the file has not changed since.
func TestFile_SettlesWithoutAnotherChange(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f")
	write(t, path, "one", time.Hour)
	var taken []string
	f := filewatch.File{Path: path, Most: 100, Settle: true, Take: func(data []byte) error {
		taken = append(taken, string(data))
		return nil
	}}
	look(t, &f, true, false)
	write(t, path, "two", time.Minute)
	look(t, &f, false, false)
	look(t, &f, true, false)
	look(t, &f, false, false)
	if want := []string{"one", "two"}; !slices.Equal(taken, want) {
		t.Errorf("taken %q", taken)
	}
}

func TestFile_FollowSaysEachProblemOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := &text{held: "one"}
		f := x.file(false)
		look(t, f, true, false)
		ctx, cancel := context.WithCancel(t.Context())
		var said []bool
		go f.Follow(ctx, time.Second, func(err error) { said = append(said, err == nil) })
		for _, held := range []string{"one", "bad", "two", "two"} {
			x.mu.Lock()
			x.held = held
			x.mu.Unlock()
			time.Sleep(3*time.Second + time.Millisecond)
		}
		cancel()
		synctest.Wait()
		if want := []bool{false, true}; !slices.Equal(said, want) {
			t.Errorf("said %v", said)
		}
	})
}
