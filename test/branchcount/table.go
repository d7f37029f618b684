package main

import (
	_ "embed"
	"fmt"
	"io"
	"maps"
	"strings"
)

// enough is how often the histories must take a branch.
const enough = 100

//go:embed allowed.txt
var allowedText string

// readAllowed reads lines of "function | first line of the block | reason". A first line "*" means the whole
// function.
func readAllowed(text string) (map[string]bool, error) {
	out := map[string]bool{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		cells := strings.Split(line, " | ")
		if len(cells) != 3 || cells[2] == "" {
			return nil, fmt.Errorf("allowed.txt: not \"function | first line of the block | reason\": %s", line)
		}
		out[cells[0]+" | "+cells[1]] = true
	}
	return out, nil
}

// table prints every branch with its clauses and its count. It complains of branches taken too rarely, and of
// allowances that are no longer needed.
func table(w io.Writer, functions []function, blocks []block, allowed map[string]bool) (complaints []string) {
	complain := func(format string, args ...any) { complaints = append(complaints, fmt.Sprintf(format, args...)) }
	unused := maps.Clone(allowed)
	branches, excused := 0, 0
	fmt.Fprintf(w, "%-24s %-16s %-22s %12s\n", "clauses", "function", "branch", "count")
	for _, f := range functions {
		for _, b := range blocks {
			if b.file != f.file || b.line < f.from || b.toLine > f.to {
				continue
			}
			branches++
			key := f.name + " | " + firstLine(f.source, b)
			if allowed[f.name+" | *"] {
				key = f.name + " | *"
			}
			where := fmt.Sprintf("%s:%d-%d", b.file, b.line, b.toLine)
			note := ""
			switch {
			case allowed[key]:
				delete(unused, key)
				note = "  allowed"
				excused++
				if b.hits >= enough {
					complain("%s was taken %d times: remove it from allowed.txt: %s", where, b.hits, key)
				}
			case b.hits < enough:
				note = "  TOO RARE"
				complain("%s %s was taken %d times, not %d: %s", where, f.clauses, b.hits, enough, key)
			}
			fmt.Fprintf(w, "%-24s %-16s %-22s %12d%s\n", f.clauses, f.name, where, b.hits, note)
		}
	}
	fmt.Fprintf(w, "%d branches, each taken at least %d times but %d\n", branches, enough, excused)
	for k := range unused {
		complain("allowed.txt names a branch that does not exist: %s", k)
	}
	if branches == 0 {
		complain("the profile has no branch of the machine")
	}
	return complaints
}

// firstLine is the first text of a block: what follows its opening brace or, where nothing does, the next line.
func firstLine(source []string, b block) string {
	text := strings.TrimSpace(source[b.line-1][b.col-1:])
	if text != "" && text != "{" && text != ":" {
		return text
	}
	if b.line < len(source) {
		return strings.TrimSpace(source[b.line])
	}
	return ""
}
