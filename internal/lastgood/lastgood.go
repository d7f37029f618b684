// Package lastgood caches the answers of a source that may be down, and serves the last good one meanwhile.
package lastgood

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
)

// Options configures a Cache. Read and Max are required.
type Options[V any] struct {
	// Read asks the source for the value of a name and bounds its own time. last is the cached value, or the zero V.
	Read func(ctx context.Context, name string, last V) (V, error)
	// Fresh is how long Get serves an answer, or the failure to get one, before it reads again. 0: until Invalidate.
	Fresh time.Duration
	// Down returns an error if the source is known to be down. Get does not read then. nil: it is never known.
	Down func(name string) error
	// Max bounds the sum of the sizes of all entries. Size is the size of one; nil: 1.
	Max  int
	Size func(V) int
	// Expendable reports whether a value is evicted before others. nil: none is.
	Expendable func(V) bool
}

// Cache holds an Answer for each name. It is safe for concurrent use.
//
// A read does not count if a write ([Cache.Put], [Cache.Invalidate], [Cache.Replace] or another read) came after its
// beginning: nobody knows which of the two the source answered first.
type Cache[V any] struct {
	o     Options[V]
	reads singleflight.Group // of Get, by name

	mu   sync.RWMutex // guards what follows
	of   map[string]*Answer[V]
	size int
}

// Answer is what the cache holds of one name. It never changes: a write replaces it.
type Answer[V any] struct {
	Name  string
	Value V

	good bool      // Value is an answer of the source
	err  error     // of the last read
	read time.Time // when the last read began; zero: the next Get reads
	used *atomic.Int64
}

// New makes a Cache.
func New[V any](o Options[V]) *Cache[V] {
	if o.Down == nil {
		o.Down = func(string) error { return nil }
	}
	if o.Size == nil {
		o.Size = func(V) int { return 1 }
	}
	if o.Expendable == nil {
		o.Expendable = func(V) bool { return false }
	}
	return &Cache[V]{o: o, of: map[string]*Answer[V]{}}
}

// Get returns a fresh answer. If it has to read, all who wait for the name share the read, which goes on when one of
// them leaves. Nobody waits for a source that is known to be down or failed the last read: then Get returns the last
// good answer. If there is none, the error is that of the last read, Down's or ctx's.
func (c *Cache[V]) Get(ctx context.Context, name string) (*Answer[V], error) {
	for {
		a := c.use(name)
		if c.Fresh(a) {
			return a.orError(nil)
		}
		if down := c.o.Down(name); down != nil {
			return a.orError(down)
		}
		read := c.reads.DoChan(name, func() (any, error) { return c.read(context.WithoutCancel(ctx), name), nil })
		if failing := a != nil && a.good && a.err != nil; failing {
			return a, nil
		}
		select {
		case <-ctx.Done():
			return a.orError(fmt.Errorf("wait for %q: %w", name, ctx.Err()))
		case done := <-read:
			if next, _ := done.Val.(*Answer[V]); next != nil {
				return next.orError(nil)
			}
		}
	}
}

// read asks the source unless another read has just ended. It returns nil if a write came between.
func (c *Cache[V]) read(ctx context.Context, name string) *Answer[V] {
	a := c.begin(name)
	if c.Fresh(a) {
		return a
	}
	next := a.next(name)
	v, err := c.o.Read(ctx, name, a.Value)
	if err == nil {
		next.answer(v)
	}
	next.err = err
	if !c.swap(a, next) {
		return nil
	}
	return next
}

// Refresh reads for this caller alone, fresh or not, down or not. With an error it returns the last good answer, nil if
// there is none.
func (c *Cache[V]) Refresh(ctx context.Context, name string) (*Answer[V], error) {
	a := c.use(name)
	next := a.next(name)
	v, err := c.o.Read(ctx, name, next.Value)
	if err != nil {
		return c.Peek(name), err
	}
	c.swap(a, next.answer(v))
	return next, nil
}

// Peek returns the last good answer, nil if there is none. It neither reads nor counts as use.
func (c *Cache[V]) Peek(name string) *Answer[V] {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if a := c.of[name]; a != nil && a.good {
		return a
	}
	return nil
}

// Entries returns all good answers.
func (c *Cache[V]) Entries() []*Answer[V] {
	c.mu.RLock()
	defer c.mu.RUnlock()
	out := make([]*Answer[V], 0, len(c.of))
	for _, a := range c.of {
		if a.good {
			out = append(out, a)
		}
	}
	return out
}

// Put stores what was written to the source.
func (c *Cache[V]) Put(name string, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.set(c.of[name].next(name).answer(v))
}

// Invalidate makes the next Get read. The last good answer stays for the time when the source is down.
func (c *Cache[V]) Invalidate(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a := c.of[name]; a != nil {
		next := *a
		next.read = time.Time{}
		c.set(&next)
		c.reads.Forget(name)
	}
}

// Replace puts v in the place of a. It returns false, and does nothing, if a write came between. An entry that was
// evicted or deleted stays so.
func (c *Cache[V]) Replace(a *Answer[V], v V) bool { return c.swap(a, a.next(a.Name).answer(v)) }

// Delete removes a name. A read in progress does not bring it back.
func (c *Cache[V]) Delete(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(name)
}

// Fresh reports whether Get would return a without a read.
func (c *Cache[V]) Fresh(a *Answer[V]) bool {
	return a != nil && !a.read.IsZero() && (c.o.Fresh == 0 || time.Since(a.read) < c.o.Fresh)
}

// Used returns when the name was last asked for, by Get or Refresh.
func (a *Answer[V]) Used() time.Time { return time.Unix(0, a.used.Load()) }

// next returns the successor of a, or, if a is nil, the first entry of the name.
func (a *Answer[V]) next(name string) *Answer[V] {
	out := &Answer[V]{Name: name, read: time.Now()}
	if a != nil {
		out.Value, out.good, out.used = a.Value, a.good, a.used
	} else {
		out.used = new(atomic.Int64)
		out.used.Store(out.read.UnixNano())
	}
	return out
}

func (a *Answer[V]) answer(v V) *Answer[V] {
	a.Value, a.good = v, true
	return a
}

func (a *Answer[V]) orError(none error) (*Answer[V], error) {
	switch {
	case a == nil:
		return nil, none
	case a.good:
		return a, nil
	case a.err != nil:
		return nil, a.err
	}
	return nil, none
}

// use returns the entry of a name, nil if there is none.
func (c *Cache[V]) use(name string) *Answer[V] {
	c.mu.RLock()
	a := c.of[name]
	c.mu.RUnlock()
	if a != nil {
		a.used.Store(time.Now().UnixNano())
	}
	return a
}

// begin returns the entry of a name, and makes one without an answer if there is none, so that a write during the read
// shows.
func (c *Cache[V]) begin(name string) *Answer[V] {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.of[name]
	if a == nil {
		a = a.next(name)
		a.read = time.Time{}
		c.set(a)
	}
	return a
}

// swap returns false if a write came between.
func (c *Cache[V]) swap(a, next *Answer[V]) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.of[next.Name]
	if now == a {
		c.set(next)
	}
	return now == a || now == nil
}

// set stores an entry and evicts others until all fit. The lock is held.
func (c *Cache[V]) set(a *Answer[V]) {
	c.remove(a.Name)
	size := c.o.Size(a.Value)
	for c.size+size > c.o.Max && len(c.of) > 0 {
		c.evict()
	}
	c.of[a.Name] = a
	c.size += size
}

func (c *Cache[V]) remove(name string) {
	if a := c.of[name]; a != nil {
		delete(c.of, name)
		c.size -= c.o.Size(a.Value)
	}
}

// evict removes one of a few entries: an expendable one before others, then the one that was not used for longest.
func (c *Cache[V]) evict() {
	var worst *Answer[V]
	n := 0
	for _, a := range c.of {
		if worst == nil || c.worse(a, worst) {
			worst = a
		}
		if n++; n == 8 {
			break
		}
	}
	c.remove(worst.Name)
}

func (c *Cache[V]) worse(a, b *Answer[V]) bool {
	if x, y := c.o.Expendable(a.Value), c.o.Expendable(b.Value); x != y {
		return x
	}
	return a.used.Load() < b.used.Load()
}
