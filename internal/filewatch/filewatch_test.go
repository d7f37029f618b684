package filewatch_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/filewatch"
)

// write makes a file that was last changed some time ago.
func write(t *testing.T, path, text string, ago time.Duration) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(-ago).Truncate(time.Second)
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

// read wants a text, "" for a file that is as it was seen before.
func read(t *testing.T, path string, before filewatch.Sight, want string) filewatch.Sight {
	t.Helper()
	text, now, err := filewatch.Read(path, 10, before)
	if err != nil || string(text) != want || (text == nil) != (want == "") {
		t.Errorf("%s: got %q, %v, want %q", path, text, err, want)
	}
	return now
}

func TestRead_OnlyWhatMayHaveChanged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	one, two, link := filepath.Join(dir, "one"), filepath.Join(dir, "two"), filepath.Join(dir, "link")
	write(t, one, "a", time.Hour)
	write(t, two, "b", time.Hour)
	seen := read(t, one, filewatch.Sight{}, "a")
	seen = read(t, one, seen, "")
	for target, want := range map[string]string{one: "", two: "b"} {
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
		read(t, link, seen, want)
		if err := os.Remove(link); err != nil {
			t.Fatal(err)
		}
	}
	write(t, one, "longer", time.Hour)
	seen = read(t, one, seen, "longer")
	write(t, one, "longed", time.Minute) // another time
	seen = read(t, one, seen, "longed")
	write(t, one, "young", 0)
	seen = read(t, one, seen, "young")
	read(t, one, seen, "young") // another change might show the same time
}

func TestRead_RefusesWhatIsNoFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "none"): "no such file or directory",
		dir:                        "is a directory (Docker makes one when the file to mount is missing)",
		pipe:                       "is not a regular file",
	} {
		if _, now, err := filewatch.Read(path, 10, filewatch.Sight{}); err == nil || !strings.Contains(err.Error(), want) ||
			!strings.Contains(err.Error(), path) || now != (filewatch.Sight{}) {
			t.Errorf("%s: got %v, want %s", path, err, want)
		}
	}
}

func TestRead_IsBounded(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "long")
	write(t, path, strings.Repeat("x", 100), 0)
	read(t, path, filewatch.Sight{}, strings.Repeat("x", 11))
}
