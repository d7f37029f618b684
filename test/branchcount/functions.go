package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// machineFiles decide; the other files of the machine only name things.
func machineFiles() []string {
	return []string{
		"step.go", "transition.go", "acquire.go", "record.go", "force.go", "window.go", "load.go", "save.go", "summary.go",
		"fields.go",
	}
}

// function is one function of the machine, with the clauses that its comments cite.
type function struct {
	file     string
	name     string
	clauses  string
	from, to int      // lines
	source   []string // of the whole file
}

func readFunctions(dir string) ([]function, error) {
	var out []function
	for _, file := range machineFiles() {
		text, err := os.ReadFile(filepath.Join(dir, file)) //nolint:gosec // a file of this module
		if err != nil {
			return nil, err
		}
		fset := token.NewFileSet()
		parsed, err := parser.ParseFile(fset, file, text, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		source := strings.Split(string(text), "\n")
		for _, d := range parsed.Decls {
			if f, ok := d.(*ast.FuncDecl); ok {
				out = append(out, function{
					file: file, name: f.Name.Name, source: source,
					from: fset.Position(f.Pos()).Line, to: fset.Position(f.End()).Line,
					clauses: citations(parsed.Comments, f),
				})
			}
		}
	}
	return out, nil
}

// citations are the clauses in a function's comments, those inside it included: "[B3] [B12]–[B15]".
func citations(comments []*ast.CommentGroup, f *ast.FuncDecl) string {
	var out []string
	from := f.Pos()
	if f.Doc != nil {
		from = f.Doc.Pos()
	}
	for _, c := range comments {
		if from <= c.Pos() && c.End() <= f.End() {
			for _, citation := range regexp.MustCompile(`\[B\d+\](–\[B\d+\])?`).FindAllString(c.Text(), -1) {
				if !slices.Contains(out, citation) {
					out = append(out, citation)
				}
			}
		}
	}
	return strings.Join(out, " ")
}
