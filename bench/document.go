package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// document is the path of a Markdown file with markers, "" for none.
type document string

// replace puts each text between the markers of its name.
func (d document) replace(texts map[string]string) error {
	if d == "" {
		return nil
	}
	doc, err := os.ReadFile(string(d))
	if err != nil {
		return err
	}
	text := string(doc)
	for name, figures := range texts {
		if text, err = between(text, name, figures); err != nil {
			return fmt.Errorf("%s: %w", d, err)
		}
	}
	return os.WriteFile(string(d), []byte(text), 0o644) //nolint:gosec // a document that everybody reads
}

// between returns text with new figures between the markers of a name.
func between(text, name, figures string) (string, error) {
	begin, end := "<!-- "+name+":begin -->\n", "<!-- "+name+":end -->"
	before, rest, ok := strings.Cut(text, begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return "", fmt.Errorf("the markers of %s are missing", name)
	}
	return before + begin + "\n" + strings.TrimSpace(figures) + "\n\n" + end + after, nil
}

// plot draws the bars beside the document.
func (d document) plot(bars []bar) error {
	if d == "" {
		return nil
	}
	var svg bytes.Buffer
	draw(&svg, bars)
	path := strings.TrimSuffix(string(d), filepath.Ext(string(d))) + ".svg"
	return os.WriteFile(path, svg.Bytes(), 0o644) //nolint:gosec // as the document
}
