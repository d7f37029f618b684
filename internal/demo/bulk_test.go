package demo

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// pattern is a body, size bytes long, in which a lost or moved byte shows. It can be read, and compared with what is written to it.
type pattern struct {
	block    []byte
	at, size int
	atEnd    func() // called when all is read or written
}

func newPattern(size int, atEnd func()) *pattern {
	block := make([]byte, 65537) // a prime: no buffer's size divides it
	for i := range block {
		block[i] = byte(i*7 + i>>8)
	}
	return &pattern{block: block, size: size, atEnd: atEnd}
}

// next is what comes next, at most n bytes.
func (p *pattern) next(n int) []byte {
	from := p.at % len(p.block)
	part := p.block[from:min(from+n, len(p.block), from+p.size-p.at)]
	if p.at += len(part); p.at == p.size && len(part) > 0 {
		p.atEnd()
	}
	return part
}

func (p *pattern) Read(to []byte) (int, error) {
	part := p.next(len(to))
	if len(part) == 0 {
		return 0, io.EOF
	}
	return copy(to, part), nil
}

func (p *pattern) Write(b []byte) (n int, err error) {
	for n < len(b) {
		part := p.next(len(b) - n)
		if len(part) == 0 || !bytes.Equal(part, b[n:n+len(part)]) {
			return n, fmt.Errorf("not what was sent, before byte %d", p.at)
		}
		n += len(part)
	}
	return n, nil
}

// heap is how many bytes the whole process holds, agent and client.
func heap() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// peak is the most that was held at any look since before.
type peak struct {
	mu           sync.Mutex // the client sends in one goroutine, and receives in another
	before, most int
}

func (p *peak) look() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.most = max(p.most, heap()-p.before)
}

// It runs alone, because it counts the whole process's memory, when all has been sent, when half of the answer
// has come, and when all has.
func TestLargeBodiesTakeConstantMemory(t *testing.T) { //nolint:paralleltest // see above
	const size, most = 32_000_000, 8_000_000
	p := start(t)
	for name, client := range map[string]*http.Client{"HTTP/1.1": p.client, "h2c": p.h2c} {
		for _, c := range []struct {
			method, path string
			send, come   int
		}{
			{"POST", "/Bulk/echo", size, size},
			{"GET", "/Bulk/bytes/32000000", 0, size},
			{"POST", "/Bulk/x", size, 0},
			{"POST", "/FailingAgent/echo", size, 0},
		} {
			held := &peak{before: heap()}
			var body io.Reader = http.NoBody
			if c.send > 0 {
				body = newPattern(c.send, held.look)
			}
			res, err := client.Do(p.request(c.method, c.path, body, "Content-Type", "image/x-pattern"))
			if err != nil {
				t.Fatal(err)
			}
			var to io.Writer = newPattern(c.come, held.look)
			if c.send != c.come {
				to = io.Discard
			}
			begun, err := io.CopyN(to, res.Body, int64(c.come/2))
			held.look()
			n, err2 := io.Copy(to, res.Body)
			_ = res.Body.Close()
			if err = errors.Join(err, err2); err != nil || c.come > 0 && begun+n != int64(c.come) {
				t.Errorf("%s over %s: %d bytes: %v", c.path, name, begun+n, err)
			}
			if c.send == size && c.come == size && (res.Trailer.Get(bodyBytes) != "32000000" || res.Header.Get("Content-Type") != "image/x-pattern") {
				t.Errorf("%s over %s: %v %v", c.path, name, res.Header, res.Trailer)
			}
			if held.most > most {
				t.Errorf("%s over %s: %d bytes held", c.path, name, held.most)
			}
		}
	}
}

func TestEchoSendsEachPartBeforeTheNextComes(t *testing.T) {
	t.Parallel()
	p := start(t)
	for _, client := range []*http.Client{p.client, p.h2c} {
		body, in := io.Pipe()
		go func() { _, _ = io.WriteString(in, "first") }()
		res, err := client.Do(p.request("POST", "/A/echo", body))
		if err != nil {
			t.Fatal(err)
		}
		back := make([]byte, 5)
		if _, err := io.ReadFull(res.Body, back); err != nil || string(back) != "first" {
			t.Fatalf("%q %v", back, err)
		}
		go func() { _, _ = io.WriteString(in, "other"); _ = in.Close() }()
		if rest, err := io.ReadAll(res.Body); err != nil || string(rest) != "other" {
			t.Errorf("%q %v", rest, err)
		}
		_ = res.Body.Close()
		if res.Trailer.Get(bodyBytes) != "10" || res.Header.Get("Content-Type") != "application/octet-stream" {
			t.Errorf("%v %v", res.Header, res.Trailer)
		}
	}
}

func TestEchoGivesTrailersBack(t *testing.T) {
	t.Parallel()
	p := start(t)
	for _, client := range []*http.Client{p.client, p.h2c} {
		req := p.request("PUT", "/A/echo", io.MultiReader(strings.NewReader("x"))) // of unknown length: else HTTP/1.1 has no trailers
		req.Trailer = http.Header{"X-Checksum": {"abc"}}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil || string(text) != "x" || res.Trailer.Get("X-Checksum") != "abc" || res.Trailer.Get(bodyBytes) != "1" {
			t.Errorf("%s: %q %v %v", res.Proto, text, err, res.Trailer)
		}
	}
}

func TestEchoIsCutWhenTheRequestBreaks(t *testing.T) {
	t.Parallel()
	p := start(t)
	conn := p.dial()
	_, _ = io.WriteString(conn, "POST /A/echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	_, _ = io.WriteString(conn, "no chunk\r\n")
	if text, err := io.ReadAll(res.Body); err == nil || string(text) != "abc" {
		t.Errorf("%q ended well: %v", text, err)
	}
}

func TestClientThatAsksFirstIsToldToContinue(t *testing.T) {
	t.Parallel()
	p := start(t)
	for _, path := range []string{"/A/echo", "/A/x"} {
		conn := p.dial()
		_, _ = io.WriteString(conn, "POST "+path+" HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
		lines := bufio.NewReader(conn)
		if line, err := lines.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
			t.Fatalf("%s: %q %v", path, line, err)
		}
		_, _ = lines.ReadString('\n')
		_, _ = io.WriteString(conn, "abc")
		res, err := http.ReadResponse(lines, nil)
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("%s: %v %v", path, res, err)
		}
		if text, err := io.ReadAll(res.Body); err != nil || !strings.Contains(string(text), "abc") {
			t.Errorf("%s: %q %v", path, text, err)
		}
		_ = res.Body.Close()
	}
}

func TestBytesAreAsManyAsWereAsked(t *testing.T) {
	t.Parallel()
	p := start(t)
	for path, size := range map[string]int{"0": 0, "1": 1, "32768": 32768, "100001": 100001} {
		if g := p.do("GET", "/A/bytes/"+path, "").want(200); len(g.text) != size {
			t.Errorf("%s: %d bytes", path, len(g.text))
		}
	}
	if g := p.do("HEAD", "/A/bytes/1099511627776", "").want(200); g.header.Get("Content-Length") != "1099511627776" {
		t.Errorf("%v", g.header)
	}
	for _, bad := range []string{"", "-1", "1.5", "x", "1099511627777", "99999999999999999999", "1/2"} {
		p.do("GET", "/A/bytes/"+bad, "").wantProblem(422, codeInvalidValue)
	}
	p.do("POST", "/A/bytes/5", "").want(200, `path="/bytes/5"`)
	p.do("GET", "/A/echo", "").want(200, `path="/echo"`)
}
