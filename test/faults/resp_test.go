package faults

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
)

// readReply returns the next whole reply of a server, in RESP2 or RESP3, as it stands on the wire. outOfBand says that
// it is a push, which answers no command.
func readReply(r *bufio.Reader) (raw []byte, outOfBand bool, err error) {
	raw, err = appendValue(nil, r)
	return raw, len(raw) > 0 && raw[0] == '>', err
}

// appendValue reads one value with all that it contains.
func appendValue(raw []byte, r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadBytes('\n')
	raw = append(raw, line...)
	if err != nil {
		return raw, err
	}
	if len(line) < 3 || !bytes.HasSuffix(line, []byte("\r\n")) {
		return raw, fmt.Errorf("no line of RESP: %q", line)
	}
	var inner int // values that follow
	switch line[0] {
	case '+', '-', ':', '_', '#', ',', '(':
		return raw, nil
	case '$', '=', '!':
		n, err := strconv.Atoi(string(line[1 : len(line)-2]))
		if err != nil || n < 0 { // -1: null
			return raw, err
		}
		text := make([]byte, n+len("\r\n"))
		_, err = io.ReadFull(r, text)
		return append(raw, text...), err
	case '*', '~', '>', '%', '|':
		if inner, err = strconv.Atoi(string(line[1 : len(line)-2])); err != nil {
			return raw, err
		}
		if line[0] == '%' || line[0] == '|' { // pairs
			inner *= 2
		}
		if line[0] == '|' { // attributes, which the value itself follows
			inner++
		}
	default:
		return raw, fmt.Errorf("no type of RESP: %q", line)
	}
	for ; inner > 0; inner-- {
		if raw, err = appendValue(raw, r); err != nil {
			return raw, err
		}
	}
	return raw, nil
}

func TestReply_IsReadWhole(t *testing.T) {
	t.Parallel()
	replies := []string{
		"+OK\r\n", "-ERR no\r\n", ":42\r\n", "_\r\n", "#t\r\n", ",1.5\r\n", "(123456789012345678901\r\n",
		"$5\r\nhe\r\no\r\n", "$0\r\n\r\n", "$-1\r\n", "=7\r\ntxt:abc\r\n", "!5\r\nERR x\r\n",
		"*0\r\n", "*-1\r\n", "*2\r\n$1\r\na\r\n*1\r\n:1\r\n", "~1\r\n+a\r\n", "%2\r\n+a\r\n:1\r\n+b\r\n*1\r\n:2\r\n",
		">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n", "|1\r\n+ttl\r\n:3\r\n$1\r\nv\r\n",
	}
	r := bufio.NewReader(iotest.OneByteReader(strings.NewReader(strings.Join(replies, ""))))
	for _, want := range replies {
		got, outOfBand, err := readReply(r)
		if err != nil || string(got) != want {
			t.Fatalf("%q: %v, want %q", got, err, want)
		}
		if outOfBand != strings.HasPrefix(want, ">") {
			t.Errorf("%q: out of band: %v", want, outOfBand)
		}
	}
	if _, _, err := readReply(r); !errors.Is(err, io.EOF) {
		t.Errorf("after the last reply: %v", err)
	}
}

func TestReply_RefusesWhatIsNoReply(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"hello\r\n", "\r\n", "$x\r\n", "*x\r\n", "$5\r\nab", "*2\r\n:1\r\n", ":1"} {
		if got, _, err := readReply(bufio.NewReader(strings.NewReader(text))); err == nil {
			t.Errorf("%q was read as %q", text, got)
		}
	}
}
