package daemon

import (
	"cmp"
	"container/list"
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/breakerd/breakerd/internal/framing"
	"github.com/breakerd/breakerd/internal/guard"
	"github.com/breakerd/breakerd/internal/problem"
)

const (
	// quiet is how long a connection must have been unused before it is closed to make room: a client that uses it again
	// and again does not find it closed.
	quiet = time.Second
	// extras are the connections beyond the bound that find out whether they ask for the health routes.
	extras = 16
	// looks bounds the search for an unused connection.
	looks = 64
	// firstRequest is how long the end waits for the first request of a connection that was just accepted.
	firstRequest = 2 * time.Second
	// pause is how long a line of the log about connections is not repeated.
	pause = 10 * time.Second

	moreFiles = "raise the limit of open files (ulimit -n, LimitNOFILE), or let callers share connections"
)

// room divides the open files that a process may have: in is for connections of callers, out for connections to agents
// on their behalf, if the program makes such calls. A quarter is left, 64 at least, for Redis, files and extras.
func room(files uint64, callsOut bool) (in, out int) {
	const most, least, few = 1 << 20, 8, 64
	n := int(min(files, most))
	n -= max(n/4, few)
	if callsOut {
		n /= 2
		out = max(n, least)
	}
	return max(n, least), out
}

// connections bounds the connections of all listeners of a program together. At the bound, the one that has been unused
// for longest makes room for a new one. If none is unused, the new one is an extra: it is answered on the health routes
// and told elsewhere that there is no room.
type connections struct {
	log          *slog.Logger
	most         int
	mostRequests int64
	count        func(reason string) // receives why a request was refused

	requests atomic.Int64 // under way, but those of the health routes

	full, failed pace

	mu       sync.Mutex
	all      map[net.Conn]*connection
	unused   list.List // of *connection, the longest unused first
	extra    list.List // of *connection, the oldest first
	stopping bool
}

// connection is one of a caller's.
type connection struct {
	net.Conn

	since  time.Time     // it is unused
	asked  bool          // a request has reached the handler
	unused *list.Element // nil: in use
	extra  *list.Element // nil: within the bound
}

// newConnections bounds connections, and requests that are under way; 0: to as many as connections.
func newConnections(log *slog.Logger, most, mostRequests int) *connections {
	return &connections{
		log: log, most: most, mostRequests: int64(cmp.Or(mostRequests, most)), count: func(string) {},
		all: map[net.Conn]*connection{},
	}
}

// listen bounds the connections of l.
func (all *connections) listen(l *framing.Listener) net.Listener {
	l.Closed = all.closed
	l.NotSpeaking = func(c net.Conn, err error) {
		all.log.Debug("TLS handshake failed", "remote", c.RemoteAddr().String(), "error", err)
	}
	return boundedListener{l, all}
}

type boundedListener struct {
	net.Listener

	all *connections
}

// Accept implements [net.Listener]. [http.Server] tries again after an error that passes, and logs it at level debug.
func (l boundedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.all.add(c)
		return c, nil
	}
	if passes, ok := err.(interface{ Temporary() bool }); ok && passes.Temporary() {
		if n := l.all.failed.due(time.Now()); n > 0 {
			l.all.log.Error("cannot accept connections: callers wait", "error", err, "times", n, "do", moreFiles)
		}
	}
	return nil, err
}

// add counts a new connection, and closes another if there is no room.
func (all *connections) add(c net.Conn) {
	now := time.Now()
	all.mu.Lock()
	one := &connection{Conn: c, since: now}
	one.unused = all.unused.PushBack(one)
	var last net.Conn
	if len(all.all)-all.extra.Len() >= all.most && !all.makeRoom(now) {
		if all.extra.Len() >= extras {
			last = all.oldestExtra()
		}
		one.extra = all.extra.PushBack(one)
	}
	all.all[c] = one
	all.mu.Unlock()
	if last != nil {
		_ = last.Close() // nobody reads from it any more
	}
}

// makeRoom closes the connection within the bound that has been unused for longest.
func (all *connections) makeRoom(now time.Time) bool {
	left := looks
	for e := all.unused.Front(); e != nil && left > 0; e = e.Next() {
		left--
		one := e.Value.(*connection) //nolint:errcheck,forcetypeassert // the list has no others
		if now.Sub(one.since) < quiet {
			break
		}
		if one.extra != nil || framing.Inside(one.Conn) {
			continue
		}
		all.forget(one)
		go func() { _ = one.Close() }() // which takes the lock
		all.tell(now)
		return true
	}
	all.tell(now)
	return false
}

func (all *connections) oldestExtra() net.Conn {
	one := all.extra.Front().Value.(*connection) //nolint:errcheck,forcetypeassert // the list has no others
	all.forget(one)
	return one.Conn
}

// forget takes a connection out of the count.
func (all *connections) forget(one *connection) {
	delete(all.all, one.Conn)
	all.use(one)
	if one.extra != nil {
		all.extra.Remove(one.extra)
		one.extra = nil
	}
}

func (all *connections) use(one *connection) {
	if one.unused != nil {
		all.unused.Remove(one.unused)
		one.unused = nil
	}
}

func (all *connections) tell(now time.Time) {
	if n := all.full.due(now); n > 0 {
		all.log.Warn("no room for more connections: unused ones are closed, others are refused",
			"connections", all.most, "times", n, "do", moreFiles)
	}
}

// closed is for [framing.Listener].
func (all *connections) closed(c net.Conn) {
	all.mu.Lock()
	defer all.mu.Unlock()
	if one := all.all[c]; one != nil {
		all.forget(one)
	}
}

// state is for [http.Server.ConnState].
func (all *connections) state(c net.Conn, s http.ConnState) {
	framing.ConnState(c, s)
	all.mu.Lock()
	defer all.mu.Unlock()
	one := all.all[c]
	if one == nil || s == http.StateNew { // as add has left it
		return
	}
	all.use(one)
	if s == http.StateIdle {
		one.since = time.Now()
		one.unused = all.unused.PushBack(one)
	}
}

type connectionKey struct{}

// context is for [http.Server.ConnContext].
func (*connections) context(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, c)
}

// leave has every later answer say that its connection ends. So clients change over to another replica while this one
// still answers; closing their connections would lose a request that is on its way.
func (all *connections) leave() {
	all.mu.Lock()
	defer all.mu.Unlock()
	all.stopping = true
}

// awaitFirst waits until every connection that was accepted lately has brought its first request, or has had the time
// for it: net/http closes without an answer those that bring it once [http.Server.Shutdown] has begun.
func (all *connections) awaitFirst(ctx context.Context) {
	t := time.NewTicker(5 * time.Millisecond)
	defer t.Stop()
	for all.firstDue(time.Now()) {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (all *connections) firstDue(now time.Time) bool {
	all.mu.Lock()
	defer all.mu.Unlock()
	for _, one := range all.all {
		if !one.asked && now.Sub(one.since) < firstRequest {
			return true
		}
	}
	return false
}

// judge reports whether the connection of a request ends with its answer, and whether the request is refused.
func (all *connections) judge(c net.Conn) (ends, refused bool) {
	now := time.Now()
	all.mu.Lock()
	defer all.mu.Unlock()
	within := len(all.all) - all.extra.Len()
	one := all.all[c]
	if one != nil {
		one.asked = true
	}
	if one != nil && one.extra != nil && (within < all.most || all.makeRoom(now)) {
		all.extra.Remove(one.extra)
		one.extra = nil
		within++
	}
	refused = one != nil && one.extra != nil
	// At the bound connections end with their answers, so that those who wait get their turn.
	return all.stopping || refused || within >= all.most && all.extra.Len() > 0, refused
}

// serve puts the bound before a handler, and shows it TLS.
func (all *connections) serve(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, _ := r.Context().Value(connectionKey{}).(net.Conn)
		r.TLS = secured(c)
		ends, refused := all.judge(c)
		if ends && r.Header.Get("Upgrade") == "" {
			w.Header().Set("Connection", "close") // over HTTP/2, net/http sends GOAWAY instead
		}
		if isHealth(r.URL.Path) {
			next.ServeHTTP(w, r)
			return
		}
		if refused {
			all.refuse(w, problem.New(problem.TooManyConnections,
				"%d connections are in use, and there is no room for more", all.most))
			return
		}
		defer all.requests.Add(-1)
		if all.requests.Add(1) > all.mostRequests {
			all.refuse(w, problem.New(problem.Overloaded,
				"%d requests are under way, and there is no room for more", all.mostRequests))
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (all *connections) refuse(w http.ResponseWriter, p *problem.Problem) {
	all.count(string(p.Code))
	guard.Refuse(w, p.With("Retry-After", "1"))
}

func isHealth(path string) bool {
	switch path {
	case "/livez", "/readyz", "/health", "/health/checks", "/metrics":
		return true
	}
	return false
}

// pace counts what happens, and lets a line of the log through once in a pause.
type pace struct {
	mu    sync.Mutex
	last  time.Time
	times int
}

// due returns how often it happened since the last line if another is due, else 0.
func (p *pace) due(now time.Time) (times int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.times++
	if !p.last.IsZero() && now.Sub(p.last) < pause {
		return 0
	}
	times, p.times, p.last = p.times, 0, now
	return times
}
