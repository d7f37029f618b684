package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// block is one basic block of a coverage profile.
type block struct {
	file                   string // its base name
	line, col, toLine, end int
	hits                   int64
}

// readProfile reads the blocks of a coverage profile, by position. It adds up the counts of a block that occurs twice.
func readProfile(r io.Reader) ([]block, error) {
	at := map[block]int64{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var b block
		text := lines.Text()
		switch text {
		case "", "mode: atomic", "mode: count":
			continue
		case "mode: set":
			return nil, errors.New("the profile does not count: use -covermode=atomic")
		}
		name, position, _ := strings.Cut(text, ":")
		b.file = path.Base(name)
		var statements int
		var hits int64
		_, err := fmt.Sscanf(position, "%d.%d,%d.%d %d %d", &b.line, &b.col, &b.toLine, &b.end, &statements, &hits)
		if err != nil {
			return nil, fmt.Errorf("not a line of a coverage profile: %q: %w", text, err)
		}
		at[b] += hits
	}
	blocks := make([]block, 0, len(at))
	for b, hits := range at {
		b.hits = hits
		blocks = append(blocks, b)
	}
	slices.SortFunc(blocks, func(a, b block) int {
		return slices.Compare([]int{a.line, a.col, a.toLine, a.end}, []int{b.line, b.col, b.toLine, b.end})
	})
	return blocks, lines.Err()
}
