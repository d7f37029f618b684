package backup_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/breakerd/breakerd/internal/backup"
)

func sample(t *testing.T, n int) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := backup.NewWriter(&out, backup.Header{Version: "v1.2.3", Prefix: "circuit_breaker", TakenMs: 1770800400000, Born: "ab"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		b := &backup.Breaker{State: "open", Control: map[string]string{"epoch": fmt.Sprintf("%016x", rand.Uint64())}, Log: []string{"a <b> & ä"}}
		if err := w.Write(backup.Record{Section: backup.Breakers, Name: fmt.Sprint("agent-", i), Breaker: b}); err != nil {
			t.Fatal(err)
		}
		if i%10 == 0 {
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestBackup_ReadsWhatWasWritten(t *testing.T) {
	t.Parallel()
	text := sample(t, 25)
	var names []string
	h, f, err := backup.Verify(iotest.OneByteReader(bytes.NewReader(text)), func(r backup.Record) error {
		names = append(names, r.Name+" "+r.Breaker.Log[0])
		return nil
	})
	if err != nil || h.Version != "v1.2.3" || f.Lines != 26 || f.Records[backup.Breakers] != 25 || len(names) != 25 || names[24] != "agent-24 a <b> & ä" {
		t.Errorf("%+v %+v %v %q", h, f, err, names)
	}
	z, err := gzip.NewReader(bytes.NewReader(text)) // as zcat reads it
	if err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(z)
	if lines := strings.Count(string(all), "\n"); err != nil || lines != 27 || !strings.HasPrefix(string(all), `{"breakerd_backup":1,`) {
		t.Errorf("%d lines, %v", lines, err)
	}
}

// Each single bit of a small file counts, the header's and the footer's of gzip too; and each end that is missing.
func TestBackup_NoticesEachChangedBitAndEachCut(t *testing.T) {
	t.Parallel()
	text := sample(t, 1)
	for at := range text {
		for bit := range 8 {
			bad := bytes.Clone(text)
			bad[at] ^= 1 << bit
			if _, _, err := backup.Verify(bytes.NewReader(bad), nil); !errors.Is(err, backup.ErrBroken) && !errors.Is(err, backup.ErrNewer) {
				t.Fatalf("byte %d of %d, bit %d: %v", at, len(text), bit, err)
			}
		}
		if _, _, err := backup.Verify(bytes.NewReader(text[:at]), nil); !errors.Is(err, backup.ErrBroken) {
			t.Fatalf("cut after %d of %d bytes: %v", at, len(text), err)
		}
	}
	if _, _, err := backup.Verify(bytes.NewReader(append(bytes.Clone(text), 0)), nil); !errors.Is(err, backup.ErrBroken) {
		t.Errorf("one byte more: %v", err)
	}
	if _, _, err := backup.Verify(bytes.NewReader(append(bytes.Clone(text), text...)), nil); !errors.Is(err, backup.ErrBroken) {
		t.Errorf("twice: %v", err)
	}
}

func TestBackup_NoticesAChangedByteInALargeFile(t *testing.T) {
	t.Parallel()
	text := sample(t, 2000)
	for range 50 {
		at := rand.IntN(len(text))
		bad := bytes.Clone(text)
		bad[at] ^= byte(1 + rand.IntN(255))
		if _, _, err := backup.Verify(bytes.NewReader(bad), nil); !errors.Is(err, backup.ErrBroken) {
			t.Fatalf("byte %d of %d: %v", at, len(text), err)
		}
		if _, _, err := backup.Verify(bytes.NewReader(text[:at]), nil); !errors.Is(err, backup.ErrBroken) {
			t.Fatalf("cut after %d of %d bytes: %v", at, len(text), err)
		}
	}
}

// file makes a file of these lines, without a footer.
func file(t *testing.T, lines ...string) *bytes.Buffer {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, err := io.WriteString(z, strings.Join(lines, "\n"))
	if err = errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	return &out
}

func TestBackup_RefusesWhatIsNoneOfItsOwn(t *testing.T) {
	t.Parallel()
	header := `{"breakerd_backup":1}`
	for name, c := range map[string]struct {
		in   io.Reader
		want error
		text string
	}{
		"nothing":              {strings.NewReader(""), backup.ErrBroken, "no gzip"},
		"another file":         {strings.NewReader("REDIS0010"), backup.ErrBroken, "no gzip"},
		"another gzip file":    {file(t, "hello"), backup.ErrBroken, "first line"},
		"another JSON file":    {file(t, `{"a":1}`), backup.ErrBroken, "first line"},
		"empty":                {file(t), backup.ErrBroken, "before its header"},
		"newer":                {file(t, `{"breakerd_backup":2,"version":"v9"}`, `{"what":1}`), backup.ErrNewer, `"v9"`},
		"no footer":            {file(t, header), backup.ErrBroken, "its end is missing"},
		"no record":            {file(t, header, "[]"), backup.ErrBroken, "line 2"},
		"unknown section":      {file(t, header, `{"section":"x"}`), backup.ErrBroken, `"x"`},
		"a line without end":   {file(t, header, strings.Repeat("x", 5<<20)), backup.ErrBroken, "too long"},
		"a header without end": {file(t, strings.Repeat(" ", 5<<20)), backup.ErrBroken, "too long"},
	} {
		_, _, err := backup.Verify(c.in, nil)
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want %v with %s", name, err, c.want, c.text)
		}
	}
}

var errGone = errors.New("gone")

// An error of the disk, or of the network, is not the file's fault.
func TestBackup_PassesOnErrorsOfReading(t *testing.T) {
	t.Parallel()
	text := sample(t, 100)
	for _, n := range []int{0, 5, len(text) / 2, len(text) - 1} {
		in := io.MultiReader(bytes.NewReader(text[:n]), iotest.ErrReader(errGone))
		if _, _, err := backup.Verify(in, nil); !errors.Is(err, errGone) || errors.Is(err, backup.ErrBroken) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
	if _, _, err := backup.Verify(bytes.NewReader(text), func(backup.Record) error { return errGone }); !errors.Is(err, errGone) {
		t.Errorf("of the caller: %v", err)
	}
}
