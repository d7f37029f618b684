package breakerhttp

import (
	"bufio"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"iter"
	"net/http"
	"strings"
)

// acceptEncoding narrows the Accept-Encoding of a request to the codings whose content the classifier can read. h is
// changed in place, unless it has none: without it, agents do not compress, or Base decompresses.
func (c BodyClassifier) acceptEncoding(h http.Header) {
	if !c.readsText() || len(h["Accept-Encoding"]) == 0 {
		return
	}
	var kept []string
	for _, element := range list(h, "Accept-Encoding") {
		coding, weight, _ := strings.Cut(element, ";")
		switch coding = strings.ToLower(strings.TrimSpace(coding)); {
		case coding == "gzip", coding == "x-gzip", coding == "deflate", coding == "identity",
			coding == "*" && isZero(weight): // what is not named is refused
			kept = append(kept, element)
		}
	}
	if kept == nil {
		kept = []string{"identity"}
	}
	h.Set("Accept-Encoding", strings.Join(kept, ", "))
}

// isZero says that a weight is q=0.
func isZero(weight string) bool {
	value, ok := strings.CutPrefix(strings.ReplaceAll(strings.ToLower(weight), " ", ""), "q=0")
	return ok && strings.Trim(value, ".0") == ""
}

// contentCoding is the coding of a body; "" if it has none.
func contentCoding(h http.Header) string {
	if len(h["Content-Encoding"]) == 0 {
		return ""
	}
	var codings []string
	for _, coding := range list(h, "Content-Encoding") {
		if coding = strings.ToLower(coding); coding != "identity" {
			codings = append(codings, coding)
		}
	}
	return strings.Join(codings, ",")
}

const (
	maxRatio   = 64      // bounds what a byte may become
	freeOutput = 1 << 20 // may come in any ratio
)

var errRatio = errors.New("breakerhttp: the body grows too much when it is decompressed")

// decoder reads a compressed body through as it passes. The readers of package compress pull what they read, so they
// run as a coroutine, which waits whenever it wants more than has passed.
type decoder struct {
	open func(*decoder) (io.Reader, error)
	lex  func(part []byte) (data bool)

	in           []byte
	taken, given int64 // bytes, compressed and not
	data         bool  // of what came out of the last part
	last         bool  // no more comes
	over         bool  // the content has ended
	broken       bool  // the content is bad, or grows too much

	yield  func(struct{}) bool
	resume func() (struct{}, bool) // nil: nothing has passed
	stop   func()
}

// newDecoder decodes into lex; nil if it does not know the coding.
func newDecoder(coding string, lex func([]byte) bool) *decoder {
	d := &decoder{lex: lex, stop: func() {}}
	switch coding {
	case "gzip", "x-gzip":
		d.open = gunzip
	case "deflate":
		d.open = inflate
	default:
		return nil
	}
	return d
}

// gunzip reads the first member of a gzip file.
func gunzip(d *decoder) (io.Reader, error) {
	z, err := gzip.NewReader(d)
	if err == nil {
		z.Multistream(false) // else it returns the end of a member only when the next one has begun
	}
	return z, err
}

// inflate reads deflate with the wrapper of zlib, as it should be, or without, as some servers send it.
func inflate(d *decoder) (io.Reader, error) {
	b := bufio.NewReaderSize(d, 16)
	head, err := b.Peek(2)
	if err != nil {
		return nil, err
	}
	if head[0]&0x0f == 8 && (int(head[0])<<8|int(head[1]))%31 == 0 {
		return zlib.NewReader(b)
	}
	return flate.NewReader(b), nil
}

// read decodes as much as has passed.
func (d *decoder) read(part []byte) (data bool) {
	if d.over {
		return true
	}
	if d.resume == nil {
		d.resume, d.stop = iter.Pull(d.run)
	}
	d.in, d.data = part, false
	d.taken += int64(len(part))
	if _, waits := d.resume(); !waits {
		d.over = true
	}
	d.in = nil
	return d.data
}

// finish decodes what is left, and ends the coroutine.
func (d *decoder) finish() {
	d.last = true
	if d.resume != nil && !d.over {
		d.resume()
	}
	d.stop()
}

// run is the coroutine.
func (d *decoder) run(yield func(struct{}) bool) {
	d.yield = yield
	z, err := d.open(d)
	if err == nil {
		err = d.copy(z)
	}
	d.broken = !d.last && !errors.Is(err, io.EOF)
}

func (d *decoder) copy(z io.Reader) error {
	out := make([]byte, 4<<10)
	for {
		n, err := z.Read(out)
		if n > 0 && d.lex(out[:n]) {
			d.data = true
		}
		if d.given += int64(n); d.given > freeOutput+maxRatio*d.taken {
			return errRatio
		}
		if z, ok := z.(*gzip.Reader); ok && errors.Is(err, io.EOF) && d.wait() {
			err = z.Reset(d)
			z.Multistream(false)
		}
		if err != nil {
			return err
		}
	}
}

// wait waits for more; false if there is none.
func (d *decoder) wait() bool {
	for len(d.in) == 0 {
		if d.last || !d.yield(struct{}{}) {
			d.last = true
			return false
		}
	}
	return true
}

// Read implements io.Reader for the reader that decodes.
func (d *decoder) Read(p []byte) (n int, err error) {
	if !d.wait() {
		return 0, io.EOF
	}
	n = copy(p, d.in)
	d.in = d.in[n:]
	return n, nil
}

// ReadByte implements io.ByteReader: the readers of package compress buffer what has no such method.
func (d *decoder) ReadByte() (byte, error) {
	if !d.wait() {
		return 0, io.EOF
	}
	b := d.in[0]
	d.in = d.in[1:]
	return b, nil
}
