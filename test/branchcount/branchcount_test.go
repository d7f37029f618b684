package main

import (
	"slices"
	"strings"
	"testing"
)

const source = `package p

// f decides [B6].
func f(a bool) int {
	if a { // [B7]
		return 1
	}
	return 2
}
`

func exampleFunctions() []function {
	return []function{{file: "step.go", name: "f", clauses: "[B6] [B7]", from: 4, to: 9, source: strings.Split(source, "\n")}}
}

func TestTable_ComplainsOfRareBranch(t *testing.T) {
	t.Parallel()
	profile := `mode: atomic
x.org/p/step.go:4.20,5.7 1 200
x.org/p/step.go:5.7,7.3 1 60
x.org/p/step.go:5.7,7.3 1 39
x.org/p/step.go:8.2,8.10 1 100
x.org/p/other.go:1.1,2.2 1 0
`
	blocks, err := readProfile(strings.NewReader(profile))
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	complaints := table(&out, exampleFunctions(), blocks, nil)
	want := []string{"step.go:5-7 [B6] [B7] was taken 99 times, not 100: f | { // [B7]"}
	if !slices.Equal(complaints, want) {
		t.Errorf("got %q, want %q", complaints, want)
	}
	if got := strings.Count(out.String(), "step.go:"); got != 3 {
		t.Errorf("%d branches in the table, want 3:\n%s", got, out.String())
	}
}

func TestTable_ComplainsOfStaleAllowance(t *testing.T) {
	t.Parallel()
	allowed, err := readAllowed("# comment\nf | return 2 | a reason\nf | gone | a reason\n")
	if err != nil {
		t.Fatal(err)
	}
	blocks := []block{{file: "step.go", line: 8, col: 2, toLine: 8, end: 10, hits: 100}}
	complaints := table(&strings.Builder{}, exampleFunctions(), blocks, allowed)
	if len(complaints) != 2 || !strings.Contains(complaints[0], "remove it") || !strings.Contains(complaints[1], "does not exist") {
		t.Errorf("got %q", complaints)
	}
}

func TestAllowed_NeedsReason(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"f | return 2", "f | return 2 | ", "f"} {
		if _, err := readAllowed(text); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

func TestProfile_RefusesOneWithoutCounts(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"mode: set\n", "mode: atomic\nnonsense\n", "mode: atomic\na/b.go:x 1 2\n"} {
		if _, err := readProfile(strings.NewReader(text)); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

func TestFunctions_FindsStep(t *testing.T) {
	t.Parallel()
	functions, err := readFunctions("../../pkg/breaker/machine")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range functions {
		if f.name == "Step" && f.clauses != "" {
			return
		}
	}
	t.Error("no Step that cites a clause among the functions")
}
