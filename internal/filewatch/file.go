package filewatch

import (
	"context"
	"crypto/sha256"
	"sync/atomic"
	"time"
)

// File keeps the last good version of a file in force. A bad edit, or the file's absence, is its Problem, and changes
// nothing else. Look and Follow may not run at once; Problem may be called at any time.
type File struct {
	Path string
	Most int64 // bytes; of a longer file Take gets one more
	// Take judges a text, and puts it in force if it is good. A bad one is judged again at each look: what it names may
	// have changed.
	Take func(text []byte) error
	// Settle has a text count once it was read by two looks, but for the first: of a file that is being written the
	// beginning may be good by itself.
	Settle bool
	Read   func(path string, most int64, before Sight) ([]byte, Sight, error) // nil: [Read]

	problem atomic.Pointer[error]

	seen    Sight
	taken   bool
	sum     [sha256.Size]byte // of the text in force, once one is taken
	pending []byte            // was read by one look
}

// Problem is why the file as it is now is not in force; nil: it is. It does not wait for a read.
func (f *File) Problem() error {
	if p := f.problem.Load(); p != nil {
		return *p
	}
	return nil
}

// Look reads the file if it may have changed. took reports that another text is in force now, or the same again after a
// bad one. The error is Problem.
func (f *File) Look() (took bool, err error) {
	read := f.Read
	if read == nil {
		read = Read
	}
	text, seen, err := read(f.Path, f.Most, f.seen)
	f.seen = seen
	switch {
	case err != nil:
		return false, f.bad(err)
	case text == nil && f.pending == nil:
		return false, f.Problem()
	case text == nil:
		text = f.pending
	}
	sum := sha256.Sum256(text)
	same := f.taken && sum == f.sum
	if f.Settle && f.taken && !same && (f.pending == nil || sum != sha256.Sum256(f.pending)) {
		f.pending = text
		return false, f.Problem()
	}
	f.pending = nil
	if same {
		return f.problem.Swap(nil) != nil, nil
	}
	if err := f.Take(text); err != nil {
		return false, f.bad(err)
	}
	f.sum, f.taken = sum, true
	f.problem.Store(nil)
	return true, nil
}

// bad keeps a problem. The next look reads the file whatever it looks like: a permission that is given back does not
// show.
func (f *File) bad(err error) error {
	f.seen = Sight{}
	f.problem.Store(&err)
	return err
}

// Follow looks every so often, until ctx ends, and says what a look has changed: another text is in force, err is nil;
// or there is a problem that there was not before.
func (f *File) Follow(ctx context.Context, every time.Duration, changed func(err error)) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		had := f.Problem()
		took, err := f.Look()
		if took || err != nil && (had == nil || had.Error() != err.Error()) {
			changed(err)
		}
	}
}
