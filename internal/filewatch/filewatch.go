// Package filewatch reads a file when it may have changed. It polls, for that works on every file system and mount,
// with a replaced file, a ConfigMap's symbolic links and an edit in place alike; notifications do not.
package filewatch

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// settled is how old a file must be before its time of change tells the next change apart. A file that is written twice
// within the resolution of its file system's clock has the same time and, maybe, the same size.
const settled = 2 * time.Second

// Sight is a file as Read saw it. The zero Sight is of no file.
type Sight struct {
	info fs.FileInfo
	at   time.Time
}

// Read returns the text of a regular file, or nil if it is certainly what was seen before. Of a file that is longer
// than most bytes it returns one byte more. Symbolic links are followed: a link that leads elsewhere is another file.
func Read(path string, most int64, before Sight) (text []byte, now Sight, err error) {
	// What changes between Stat and the read is seen by the next Stat.
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, Sight{}, err
	case info.IsDir():
		return nil, Sight{}, fmt.Errorf("%s is a directory (Docker makes one when the file to mount is missing)", path)
	case !info.Mode().IsRegular(): // to read a pipe is to wait for its writer
		return nil, Sight{}, fmt.Errorf("%s is not a regular file", path)
	}
	now = Sight{info, time.Now()}
	if now.same(before) {
		return nil, now, nil
	}
	f, err := os.Open(path) //nolint:gosec // the operator names the path
	if err != nil {
		return nil, Sight{}, err
	}
	defer func() { _ = f.Close() }()
	text, err = io.ReadAll(io.LimitReader(f, most+1))
	return text, now, err
}

func (s Sight) same(before Sight) bool {
	return before.info != nil && os.SameFile(s.info, before.info) && s.info.Size() == before.info.Size() &&
		s.info.ModTime().Equal(before.info.ModTime()) && before.at.Sub(before.info.ModTime()).Abs() > settled
}
