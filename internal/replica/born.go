package replica

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// bornWatch reads the identity of Redis' data, and notices that Redis has lost what it held: by FLUSHALL, by a restart
// without persistence, by a failover to an empty replica. An older copy of the data has the same identity, and former
// heartbeats of this replica: it gets another identity, so that all replicas notice.
type bornWatch struct {
	read       func(ctx context.Context) (string, error)
	renew      func(ctx context.Context, former string) (string, error)
	heartbeats func(ctx context.Context) (own, newest int64, err error) // in ms, see redisdocs.LastHeartbeats
	log        *slog.Logger
	// lost is called once for each loss that is noticed. since is when the former data was last there.
	lost func(was, is string, since time.Time)

	told atomic.Pointer[string] // last, for who must not wait for mu

	mu       sync.Mutex // held while Redis is asked, so that answers come in order
	identity string     // since the last loss; "": Redis has not told yet
	last     string     // what Redis has told last: a Cluster can gain masters, which is no loss
	lastAt   time.Time
	beat     int64 // the last heartbeat that Redis has taken from this replica, in ms
	unread   bool  // Redis was asked last in vain: it may come back with an older copy of its data
}

// identityTimeout bounds the answer to who Redis' data is: two round trips, on a Cluster some more.
const identityTimeout = time.Second

// olderCopy is how much older than it was a heartbeat must be. A failover may lose a second or two, which is no loss of
// data: the limit is above the pause between heartbeats and that.
const olderCopy = 5 * time.Second

// born returns the identity of Redis' data. It is what [breaker.FallbackOptions] takes.
func (w *bornWatch) born(ctx context.Context) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, identityTimeout)
	defer cancel()
	asked := time.Now()
	is, err := w.read(ctx)
	if err == nil {
		is, err = w.compareBeats(ctx, is)
	}
	w.unread = err != nil
	if err != nil {
		return "", err
	}
	was, since := w.last, w.lastAt
	w.last, w.lastAt = is, asked
	w.told.Store(&is)
	switch {
	case was == "":
		w.identity = is
	case lost(was, is):
		w.identity, w.beat = is, 0
		w.lost(was, is, since)
	}
	return w.identity, nil
}

// seen stands for the identity of the data that Redis told last; "": it has not told yet.
func (w *bornWatch) seen() string {
	told := w.told.Load()
	if told == nil {
		return ""
	}
	sum := sha256.Sum256([]byte(*told))
	return hex.EncodeToString(sum[:8])
}

// beaten sends a heartbeat, which returns its time. It sends none until the former one has been compared, for it would
// take the place of that: the only sign of an older copy.
func (w *bornWatch) beaten(heartbeat func() (ms int64, err error)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.unread {
		return
	}
	if ms, err := heartbeat(); err == nil {
		w.beat = ms
	}
}

// compareBeats returns the identity, which is a new one if the data is an older copy.
func (w *bornWatch) compareBeats(ctx context.Context, is string) (string, error) {
	own, newest, err := w.heartbeats(ctx)
	if err != nil {
		return "", err
	}
	former := own
	if own == 0 { // the copy may be from before this replica's start
		former = newest
	}
	back := time.Duration(w.beat-former) * time.Millisecond
	if is != w.last || w.beat == 0 || former == 0 || back <= olderCopy {
		return is, nil
	}
	w.log.Error("Redis holds an older copy of its data", "event", "circuit_breaker.store_older",
		"older_by", back.String())
	return w.renew(ctx, is)
}

// lost reports whether an identity of a former one is missing: on a Cluster each master has one, joined by commas.
func lost(was, is string) bool {
	now := strings.Split(is, ",")
	return slices.ContainsFunc(strings.Split(was, ","), func(id string) bool { return !slices.Contains(now, id) })
}

// identify tells the fallback the identity of Redis' data.
func (r *Replica) identify(ctx context.Context) error {
	r.identifying.Lock() // no older answer is told after a newer one
	defer r.identifying.Unlock()
	id, err := r.watch.born(ctx)
	if err != nil {
		r.holds.doubt()
		return err
	}
	r.Fallback.Identify(id)
	return nil
}
