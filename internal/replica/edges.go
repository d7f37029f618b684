package replica

import (
	"context"
	"sync"
	"time"

	"github.com/breakerd/breakerd/internal/redisdocs"
)

const (
	edgesEvery = time.Second      // new edges are written so often
	edgeAgain  = time.Minute      // one that is still used is written again
	edgeIdle   = 10 * time.Minute // one that is not used is forgotten here
	edgesHere  = 4096             // of more, new ones are not noted
)

// edges are the calls between agents that this replica has seen, and has written to Redis or will.
type edges struct {
	docs *redisdocs.Docs

	mu    sync.Mutex
	known map[redisdocs.Edge]edgeTimes
}

type edgeTimes struct{ used, written time.Time }

func newEdges(docs *redisdocs.Docs) *edges {
	return &edges{docs: docs, known: map[redisdocs.Edge]edgeTimes{}}
}

// note never waits for Redis.
func (e *edges) note(parent, agent string) {
	one, now := redisdocs.Edge{Parent: parent, Agent: agent}, time.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	t, ok := e.known[one]
	if !ok && len(e.known) >= edgesHere {
		return
	}
	t.used = now
	e.known[one] = t
}

// due are the edges that are to be written, and forgets those that are not used any more.
func (e *edges) due(now time.Time) (due []redisdocs.Edge) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for one, t := range e.known {
		switch {
		case now.Sub(t.used) > edgeIdle:
			delete(e.known, one)
		case t.used.After(t.written) && now.Sub(t.written) >= edgeAgain:
			due = append(due, one)
		}
	}
	return due
}

// flush writes the edges that are due. Those that Redis does not take stay due.
func (e *edges) flush(ctx context.Context) {
	now := time.Now()
	due := e.due(now)
	if len(due) == 0 || e.docs.PutEdges(ctx, due) != nil { // the store reports its own health
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, one := range due {
		if t, ok := e.known[one]; ok {
			t.written = now
			e.known[one] = t
		}
	}
}

func (e *edges) run(ctx context.Context) {
	tick := time.NewTicker(edgesEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			e.flush(ctx)
		}
	}
}

// Edges lists which calls between agents were seen within a day, by any replica. It writes those of this one first.
func (r *Replica) Edges(ctx context.Context) ([]redisdocs.Edge, error) {
	r.edges.flush(ctx)
	return r.Docs.Edges(ctx)
}
