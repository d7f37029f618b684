package backup

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"slices"
)

const (
	maxLine   = 4 << 20 // bytes of a record; the largest of ours, a workflow or a long history, has 100 KiB
	maxFooter = 4 << 10 // bytes of the footer's member
	maxText   = 8 << 30 // bytes of all lines: what a hundred thousand agents need, ten times over
)

// Reader reads a backup, and verifies it on the way.
type Reader struct {
	Header Header
	Footer Footer // once Next has returned io.EOF

	in    *hashedReader
	zip   *gzip.Reader
	lines *bufio.Scanner
	seen  Footer
}

// NewReader reads the header. The error wraps [ErrNewer] or [ErrBroken], or is r's.
func NewReader(r io.Reader) (*Reader, error) {
	out := &Reader{in: &hashedReader{in: bufio.NewReader(r), sum: sha256.New()}, seen: Footer{Records: map[Section]int{}}}
	var err error
	if out.zip, err = gzip.NewReader(out.in); err != nil {
		return nil, out.broken("it is no gzip file", err)
	}
	out.zip.Multistream(false)
	out.lines = bufio.NewScanner(io.LimitReader(out.zip, maxText))
	out.lines.Buffer(make([]byte, 0, 64<<10), maxLine+1)
	line, err := out.line()
	if err != nil {
		return nil, out.broken("it ends before its header", err)
	}
	switch err := json.Unmarshal(line, &out.Header); {
	case err != nil, out.Header.Format < 1:
		return nil, fmt.Errorf("%w: its first line is not that of a backup of breakerd", ErrBroken)
	case out.Header.Format > format:
		if _, err := io.Copy(io.Discard, io.LimitReader(out.zip, maxText)); err != nil {
			return nil, out.broken("it cannot be unpacked", err)
		}
		return nil, fmt.Errorf("%w: %d, and this version (it is of breakerd %.64q) reads up to %d",
			ErrNewer, out.Header.Format, out.Header.Version, format)
	}
	return out, nil
}

// broken wraps an error of reading: one of the underlying reader is not the file's fault.
func (r *Reader) broken(what string, err error) error {
	if r.in.err != nil {
		return r.in.err
	}
	if err == nil || errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: %s", ErrBroken, what)
	}
	return fmt.Errorf("%w: %s: %w", ErrBroken, what, err)
}

// line reads one line; io.EOF: there is none.
func (r *Reader) line() ([]byte, error) {
	if !r.lines.Scan() {
		if err := r.lines.Err(); err != nil {
			return nil, err
		}
		return nil, io.EOF
	}
	r.seen.Lines++
	return r.lines.Bytes(), nil
}

// Next reads the next record. io.EOF: there is none, and the whole file is as it was written. What Next returned before
// that is not certain yet. Any other error wraps [ErrBroken], or is the underlying reader's.
func (r *Reader) Next() (rec Record, err error) {
	line, err := r.line()
	if errors.Is(err, io.EOF) {
		if err := r.end(); err != nil {
			return rec, err
		}
		return rec, io.EOF
	}
	if err != nil {
		return rec, r.broken("it cannot be unpacked, or ends early", err)
	}
	if err := json.Unmarshal(line, &rec); err != nil {
		return rec, r.broken(fmt.Sprintf("line %d is no record", r.seen.Lines), err)
	}
	if rec.Section != Policy && !slices.Contains(Sections(), rec.Section) {
		return rec, fmt.Errorf("%w: line %d has the section %.64q, which format %d does not have",
			ErrBroken, r.seen.Lines, rec.Section, r.Header.Format)
	}
	r.seen.Records[rec.Section]++
	return rec, nil
}

// end reads the footer, and compares it with what was read.
func (r *Reader) end() error {
	if n, err := r.zip.Read(make([]byte, 1)); n > 0 || !errors.Is(err, io.EOF) {
		return r.broken("it has too many lines", err)
	}
	r.seen.SHA256 = r.in.hex()
	member, err := io.ReadAll(io.LimitReader(r.in, maxFooter))
	if err != nil {
		return r.broken("it has no footer", err)
	}
	if len(member) == 0 {
		return fmt.Errorf("%w: it has no footer: its end is missing", ErrBroken)
	}
	footer, err := readFooter(member)
	if err != nil {
		return fmt.Errorf("%w: its footer is damaged, or its end is missing", ErrBroken)
	}
	switch {
	case footer.SHA256 != r.seen.SHA256:
		return fmt.Errorf("%w: its SHA-256 is %s, and its footer says %.64s", ErrBroken, r.seen.SHA256, footer.SHA256)
	case footer.Lines != r.seen.Lines, !maps.Equal(footer.Records, r.seen.Records):
		return fmt.Errorf("%w: it has %d lines, and its footer says %d, or other sections", ErrBroken,
			r.seen.Lines, footer.Lines)
	}
	r.Footer = footer
	return nil
}

// readFooter reads the footer's member, which has one form only.
func readFooter(member []byte) (f Footer, err error) {
	z, err := gzip.NewReader(bytes.NewReader(member))
	if err != nil {
		return f, err
	}
	if err = json.NewDecoder(z).Decode(&f); err != nil {
		return f, err
	}
	if again, err := f.member(); err != nil || !bytes.Equal(again, member) {
		return f, ErrBroken
	}
	return f, nil
}

// Verify reads a whole backup. If each is not nil, it is called with every record; its error ends the reading.
func Verify(in io.Reader, each func(Record) error) (Header, Footer, error) {
	r, err := NewReader(in)
	if err != nil {
		return Header{}, Footer{}, err
	}
	for {
		rec, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			return r.Header, r.Footer, nil
		case err == nil && each != nil:
			err = each(rec)
		}
		if err != nil {
			return r.Header, Footer{}, err
		}
	}
}

// hashedReader hashes what is read of it. It gives single bytes, so that package gzip reads no byte beyond a member.
type hashedReader struct {
	in   *bufio.Reader
	sum  hash.Hash
	some []byte // read, and not hashed yet
	err  error  // of the underlying reader, but io.EOF
}

func (r *hashedReader) note(p []byte, err error) {
	if r.some = append(r.some, p...); len(r.some) >= 32<<10 {
		r.flush()
	}
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
}

func (r *hashedReader) flush() {
	_, _ = r.sum.Write(r.some) // never fails
	r.some = r.some[:0]
}

func (r *hashedReader) Read(p []byte) (int, error) {
	n, err := r.in.Read(p)
	r.note(p[:n], err)
	return n, err
}

func (r *hashedReader) ReadByte() (byte, error) {
	b, err := r.in.ReadByte()
	if err == nil {
		r.some = append(r.some, b)
		if len(r.some) >= 32<<10 {
			r.flush()
		}
		return b, nil
	}
	r.note(nil, err)
	return b, err
}

// hex is the SHA-256 of all that was read.
func (r *hashedReader) hex() string {
	r.flush()
	return hex.EncodeToString(r.sum.Sum(nil))
}
