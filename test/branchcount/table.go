package main

import (
	_ "embed"
	"fmt"
	"io"
	"strings"
)

// enough is how often histories must go through a branch.
const enough = 100

//go:embed allowed.txt
var allowedText string

// readAllowed reads "function | first line of the block | reason" lines; the line "*" stands for the whole function.
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

// table prints every branch with its clauses and its count, and returns what is wrong.
func table(w io.Writer, functions []function, blocks []block, allowed map[string]bool) (wrong []string) {
	unused := map[string]bool{}
	for k := range allowed {
		unused[k] = true
	}
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
					wrong = append(wrong, fmt.Sprintf("%s was reached %d times: strike it from allowed.txt: %s", where, b.hits, key))
				}
			case b.hits < enough:
				note = "  TOO SELDOM"
				wrong = append(wrong, fmt.Sprintf("%s %s was reached %d times, not %d: %s", where, f.clauses, b.hits, enough, key))
			}
			fmt.Fprintf(w, "%-24s %-16s %-22s %12d%s\n", f.clauses, f.name, where, b.hits, note)
		}
	}
	fmt.Fprintf(w, "%d branches, each reached at least %d times but %d\n", branches, enough, excused)
	for k := range unused {
		wrong = append(wrong, "allowed.txt names a branch that does not exist: "+k)
	}
	if branches == 0 {
		wrong = append(wrong, "the profile holds no branch of the machine")
	}
	return wrong
}

// firstLine is the text with which a block begins: what follows its opening brace or, where nothing does, the next line.
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
