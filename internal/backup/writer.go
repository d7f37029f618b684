package backup

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
)

// Writer writes a backup. Without [Writer.Close] the file has no footer, and no reader takes it.
type Writer struct {
	raw    *hashedWriter
	zip    *gzip.Writer
	footer Footer
}

// hashedWriter hashes what it has written.
type hashedWriter struct {
	io.Writer

	sum hash.Hash
}

func (w *hashedWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	_, _ = w.sum.Write(p[:n]) // never fails
	return n, err
}

// NewWriter writes the header. It sets its Format.
func NewWriter(w io.Writer, h Header) (*Writer, error) {
	raw := &hashedWriter{w, sha256.New()}
	zip, err := gzip.NewWriterLevel(raw, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	out := &Writer{raw: raw, zip: zip, footer: Footer{Records: map[Section]int{}}}
	h.Format = format
	return out, out.line(h)
}

func (w *Writer) line(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(text) > maxLine {
		return fmt.Errorf("a record of %d bytes: want at most %d", len(text), maxLine)
	}
	w.footer.Lines++
	_, err = w.zip.Write(append(text, '\n'))
	return err
}

// Write writes one record.
func (w *Writer) Write(r Record) error {
	w.footer.Records[r.Section]++
	return w.line(r)
}

// Flush hands all that was written to the underlying writer.
func (w *Writer) Flush() error { return w.zip.Flush() }

// Close writes the footer. It does not close the underlying writer.
func (w *Writer) Close() error {
	if err := w.zip.Close(); err != nil {
		return err
	}
	w.footer.SHA256 = hex.EncodeToString(w.raw.sum.Sum(nil))
	member, err := w.footer.member()
	if err == nil {
		_, err = w.raw.Writer.Write(member)
	}
	return err
}

// footerHeader is the header of the footer's gzip member, and the first byte of its only block: the last one, stored.
const footerHeader = "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff" + "\x01"

// member is the footer as a gzip member. It has one form only, whatever a library does, so that a changed byte in it is
// noticed.
func (f *Footer) member() ([]byte, error) {
	text, err := json.Marshal(f)
	if err != nil {
		return nil, err
	}
	text = append(text, '\n')
	size := uint16(len(text)) //nolint:gosec // nine sections and a sum have some hundred bytes
	var out bytes.Buffer
	out.WriteString(footerHeader)
	out.Write(binary.LittleEndian.AppendUint16(nil, size))
	out.Write(binary.LittleEndian.AppendUint16(nil, ^size))
	out.Write(text)
	out.Write(binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE(text)))
	out.Write(binary.LittleEndian.AppendUint32(nil, uint32(size)))
	return out.Bytes(), nil
}
