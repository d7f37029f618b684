package redisstore_test

import (
	"bytes"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// fault is what a proxy does with a reply: the server has carried out the command by then.
type fault int

const (
	pass  fault = iota
	lose        // the reply never arrives, nor what follows it on this connection
	cut         // the connection ends in order in place of the reply
	reset       // the connection is reset in place of the reply
	tear        // half of the reply arrives before the connection ends
)

// proxy stands between clients and a server. Its methods may be called concurrently.
type proxy struct {
	addr  string
	delay atomic.Int64 // of each reply, a time.Duration

	mu    sync.Mutex
	fault func(request []byte) fault
	conns []net.Conn
}

// startProxy starts a proxy in front of the server at addr. t ends it.
func startProxy(t *testing.T, addr string) *proxy {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: l.Addr().String()}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", addr)
			if err != nil {
				_ = client.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, client, server)
			p.mu.Unlock()
			wg.Go(func() { p.serve(client, server) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.cutAll()
		wg.Wait()
	})
	return p
}

// meet lets f decide on each reply from now on. nil: all pass.
func (p *proxy) meet(f func(request []byte) fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = f
}

// once lets the first reply to a script meet f.
func (p *proxy) once(f fault) {
	var once sync.Once
	p.meet(func(request []byte) fault {
		got := pass
		if bytes.Contains(request, []byte("evalsha")) {
			once.Do(func() { got = f })
		}
		return got
	})
}

// cutAll cuts all connections.
func (p *proxy) cutAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}

func (p *proxy) serve(client, server net.Conn) {
	var request atomic.Pointer[[]byte] // what was last sent
	var wg sync.WaitGroup
	wg.Go(func() {
		defer func() { _ = server.Close() }()
		buf := make([]byte, 1<<20)
		for {
			n, err := client.Read(buf)
			if err != nil {
				return
			}
			sent := bytes.Clone(buf[:n])
			request.Store(&sent)
			if _, err := server.Write(sent); err != nil {
				return
			}
		}
	})
	defer wg.Wait()
	defer func() { _ = client.Close() }()
	buf := make([]byte, 1<<20)
	for {
		n, err := server.Read(buf)
		if err != nil {
			return
		}
		p.mu.Lock()
		f := p.fault
		p.mu.Unlock()
		verdict := pass
		if sent := request.Load(); f != nil && sent != nil {
			verdict = f(*sent)
		}
		switch verdict {
		case lose:
			_, _ = io.Copy(io.Discard, server)
			return
		case cut:
			return
		case reset:
			_ = client.(*net.TCPConn).SetLinger(0)
			return
		case tear:
			_, _ = client.Write(buf[:n/2])
			return
		case pass:
		}
		if d := time.Duration(p.delay.Load()); d > 0 {
			<-time.After(d)
		}
		if _, err := client.Write(buf[:n]); err != nil {
			return
		}
	}
}
