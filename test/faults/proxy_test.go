package faults

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/internal/testkit"
)

// faultKind is what a proxy does to its connections.
type faultKind string

const (
	pass      faultKind = "pass"
	delay     faultKind = "delay every reply"
	drop      faultKind = "lose a reply, and all that follows on its connection"
	cut       faultKind = "reset the connection in place of a reply"
	half      faultKind = "half a reply, then a reset"
	split     faultKind = "each byte by itself"
	blackHole faultKind = "nothing arrives"
	halfDead  faultKind = "nothing arrives, on every other connection"
	refuse    faultKind = "connection refused"
)

// fault is a kind with its measure. The command of a reply that is lost, cut or halved has run.
type fault struct {
	kind  faultKind
	every int64         // drop, cut, half: each so-manyth reply, counted over all connections
	delay time.Duration // of delay
}

// proxy stands between a client and Redis. Its fault can be changed at any time. A connection of which it has swallowed
// something stays dead: TCP loses nothing in the middle.
type proxy struct {
	addr, target string

	fault   atomic.Pointer[fault]
	replies atomic.Int64
	hits    atomic.Int64 // replies that drop, cut or half has met

	mu       sync.Mutex
	listener net.Listener // nil: refuse
	links    map[*link]struct{}
	accepted int
	closed   bool
	wg       sync.WaitGroup
}

// link is one connection through the proxy.
type link struct {
	p              *proxy
	client, server *net.TCPConn
	even           bool
	dead           atomic.Bool
}

func startProxy(t testing.TB, target string) *proxy {
	t.Helper()
	p := &proxy{target: target, links: map[*link]struct{}{}}
	p.fault.Store(&fault{kind: pass})
	if err := p.listen("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	return p
}

func (p *proxy) url() string { return "redis://" + p.addr + "/0" }

func (p *proxy) listen(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listener, p.addr = l, l.Addr().String()
	p.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.serve(c.(*net.TCPConn)) })
		}
	})
	return nil
}

// set changes the fault.
func (p *proxy) set(t testing.TB, f fault) {
	t.Helper()
	before := p.fault.Swap(&f)
	switch {
	case f.kind == refuse:
		p.stopListening()
		p.resetAll()
	case before.kind == refuse:
		testkit.Eventually(t, "the port of the proxy", 10*time.Second, func() error { return p.listen(p.addr) })
	}
}

func (p *proxy) stopListening() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		_ = p.listener.Close()
		p.listener = nil
	}
}

// resetAll resets every connection.
func (p *proxy) resetAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.reset()
	}
}

func (p *proxy) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.stopListening()
	p.resetAll()
	p.wg.Wait()
}

// serve carries one connection until either end closes it.
func (p *proxy) serve(client *net.TCPConn) {
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		_ = client.SetLinger(0)
		_ = client.Close()
		return
	}
	l := &link{p: p, client: client, server: server.(*net.TCPConn)}
	defer l.close()
	p.mu.Lock()
	p.accepted++
	l.even = p.accepted%2 == 0
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.links[l] = struct{}{}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.links, l)
	}()
	p.wg.Go(l.sendCommands)
	l.sendReplies()
}

func (l *link) close() {
	_ = l.client.Close()
	_ = l.server.Close()
}

// reset has the client meet a reset, not an end.
func (l *link) reset() {
	_ = l.client.SetLinger(0)
	l.close()
}

// swallowed reports whether what arrives now goes nowhere.
func (l *link) swallowed(f *fault) bool {
	if f.kind == blackHole || f.kind == halfDead && l.even {
		l.dead.Store(true)
	}
	return l.dead.Load()
}

func (l *link) sendCommands() {
	defer l.close()
	b := make([]byte, 64<<10)
	for {
		n, err := l.client.Read(b)
		if err != nil {
			return
		}
		if l.swallowed(l.p.fault.Load()) {
			continue
		}
		if _, err := l.server.Write(b[:n]); err != nil {
			return
		}
	}
}

// delayedReply is a reply on its way.
type delayedReply struct {
	raw   []byte
	due   time.Time
	split bool
}

// sendReplies returns when a side has closed the connection.
func (l *link) sendReplies() {
	waiting := make(chan delayedReply, 4096)
	l.p.wg.Go(func() { l.write(waiting) })
	defer close(waiting)
	in := bufio.NewReader(l.server)
	for {
		raw, outOfBand, err := readReply(in)
		if err != nil {
			return
		}
		f := l.p.fault.Load()
		if l.swallowed(f) {
			continue
		}
		if !outOfBand && f.every > 0 && l.p.replies.Add(1)%f.every == 0 {
			l.p.hits.Add(1)
			switch f.kind {
			case drop:
				l.dead.Store(true)
				continue
			case half:
				_, _ = l.client.Write(raw[:len(raw)/2])
				time.Sleep(time.Millisecond) // a reset may overtake what was sent at the same moment
			}
			l.reset()
			return
		}
		waiting <- delayedReply{raw, time.Now().Add(f.delay), f.kind == split}
	}
}

// write sends replies when they are due.
func (l *link) write(waiting <-chan delayedReply) {
	defer l.close()
	for r := range waiting {
		time.Sleep(time.Until(r.due))
		size := len(r.raw)
		if r.split {
			size = 1
		}
		for len(r.raw) > 0 {
			if _, err := l.client.Write(r.raw[:size]); err != nil {
				l.close()
				for range waiting { // until the reader has ended
				}
				return
			}
			r.raw = r.raw[size:]
			size = min(size, len(r.raw))
		}
	}
}

// Each fault is what it says, and Redis has run the commands of lost replies.
func TestProxy_DoesWhatItSays(t *testing.T) {
	t.Parallel()
	server := testkit.Start(t)
	truth := server.Client(t)
	ctx := context.Background()
	connect := func(p *proxy) *redis.Client {
		return redis.NewClient(&redis.Options{
			Addr: p.addr, MaxRetries: -1, DialerRetries: 1, ReadTimeout: 500 * time.Millisecond,
			DialTimeout: 5 * time.Second, DisableIdentity: true, Protocol: 2, PoolSize: 1,
		})
	}
	for _, c := range []struct {
		fault    fault
		asked    int // INCRs, one after the other
		answered func(n int) bool
		counted  func(n int64) bool
		within   time.Duration
	}{
		{fault{kind: pass}, 20, all, twenty, 5 * time.Second},
		{fault{kind: delay, delay: 20 * time.Millisecond}, 20, all, twenty, 5 * time.Second},
		{fault{kind: split}, 20, all, twenty, 5 * time.Second},
		{fault{kind: drop, every: 5}, 20, some, twenty, 20 * time.Second},
		{fault{kind: cut, every: 5}, 20, some, twenty, 20 * time.Second},
		{fault{kind: half, every: 5}, 20, some, twenty, 20 * time.Second},
		{fault{kind: blackHole}, 3, none, nothing, 20 * time.Second},
		{fault{kind: refuse}, 20, none, nothing, 5 * time.Second},
		{fault{kind: halfDead}, 20, some, func(n int64) bool { return n > 0 && n < 20 }, 20 * time.Second},
	} {
		p := startProxy(t, server.Addr)
		client := connect(p)
		if err := client.Set(ctx, "n", 0, 0).Err(); err != nil { // a connection that exists when the fault begins
			t.Fatal(err)
		}
		p.set(t, c.fault)
		begin, answered := time.Now(), 0
		for range c.asked {
			asked := client
			if c.fault.kind == halfDead { // a connection for each
				asked = connect(p)
			}
			if asked.Incr(ctx, "n").Err() == nil {
				answered++
			}
			if asked != client {
				_ = asked.Close()
			}
		}
		took := time.Since(begin)
		counted, err := truth.Get(ctx, "n").Int64()
		if err != nil || !c.answered(answered) || !c.counted(counted) || took > c.within {
			t.Errorf("%s: %d of %d answered, %d counted (%v), in %v", c.fault.kind, answered, c.asked, counted, err, took)
		}
		p.set(t, fault{kind: pass})
		testkit.Eventually(t, "the proxy to pass again", 5*time.Second, func() error { return client.Ping(ctx).Err() })
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	}
}

func all(answered int) bool      { return answered == 20 }
func some(answered int) bool     { return answered > 5 && answered < 20 }
func none(answered int) bool     { return answered == 0 }
func twenty(counted int64) bool  { return counted == 20 }
func nothing(counted int64) bool { return counted == 0 }

func TestProxy_EndsItsConnectionsWithRedis(t *testing.T) {
	t.Parallel()
	server := testkit.Start(t)
	p := startProxy(t, server.Addr)
	c, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, "PING\r\n"); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(c)
	if got, _, err := readReply(in); err != nil || string(got) != "+PONG\r\n" {
		t.Fatalf("%q, %v", got, err)
	}
	server.Kill()
	if _, _, err := readReply(in); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("after Redis was killed: %v", err)
	}
}
