// Package filewatch tells, without reading it, whether a file may have changed.
package filewatch

import (
	"io/fs"
	"os"
	"time"
)

// settled is how long a file must have stood still before its time of change tells the next change apart: one that is written twice
// within the grain of its file system's clock shows the same time and, maybe, the same size.
const settled = 2 * time.Second

// Sight is what is seen of a file without reading it. The zero Sight is of no file.
type Sight struct {
	info fs.FileInfo
	at   time.Time
}

// Look sees through symbolic links, so that one that was turned elsewhere is another file. Who reads the file looks first: what changes
// meanwhile is seen by the next look.
func Look(path string) (Sight, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Sight{}, err
	}
	return Sight{info, time.Now()}, nil
}

// Regular says whether it is a file that can be read to its end, not a pipe or a directory.
func (s Sight) Regular() bool { return s.info != nil && s.info.Mode().IsRegular() }

// Same says whether the file is surely the one that was seen before, with the same text.
func (s Sight) Same(before Sight) bool {
	return s.info != nil && before.info != nil && os.SameFile(s.info, before.info) && s.info.Size() == before.info.Size() &&
		s.info.ModTime().Equal(before.info.ModTime()) && before.at.Sub(before.info.ModTime()).Abs() > settled
}
