package filewatch_test

import (
	"os"
	"path/filepath"
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

func look(t *testing.T, path string) filewatch.Sight {
	t.Helper()
	s, err := filewatch.Look(path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAFileIsTheSameWhenNothingTellsItApart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	one, two, link := filepath.Join(dir, "one"), filepath.Join(dir, "two"), filepath.Join(dir, "link")
	write(t, one, "a", time.Hour)
	write(t, two, "b", time.Hour)
	before := look(t, one)
	if !look(t, one).Same(before) || before.Same(filewatch.Sight{}) || (filewatch.Sight{}).Same(before) || !before.Regular() {
		t.Error("nothing changed")
	}
	for i, target := range []string{one, two} {
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
		if look(t, link).Same(before) != (i == 0) {
			t.Errorf("a link to %s", target)
		}
		if err := os.Remove(link); err != nil {
			t.Fatal(err)
		}
	}
	write(t, one, "longer", time.Hour)
	if look(t, one).Same(before) {
		t.Error("another size")
	}
	write(t, one, "c", time.Minute)
	if look(t, one).Same(before) {
		t.Error("another time")
	}
	write(t, one, "d", 0)
	if young := look(t, one); look(t, one).Same(young) {
		t.Error("a young file is believed")
	}
	if _, err := filewatch.Look(filepath.Join(dir, "none")); err == nil || look(t, dir).Regular() {
		t.Errorf("no file: %v", err)
	}
}
