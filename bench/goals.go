package main

import "fmt"

// goal is a figure and the bound that it should keep.
type goal struct {
	what    string
	got     float64
	want    float64
	atLeast bool // else: at most
	unit    string
}

func (b *bench) atLeast(what string, ratio, want float64) {
	b.aim(goal{what, ratio, want, true, "×"})
}

func (b *bench) atMost(what string, got, want float64, unit string) {
	b.aim(goal{what, got, want, false, unit})
}

func (b *bench) aim(g goal) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.goals = append(b.goals, g)
}

func (g goal) reached() bool {
	if g.atLeast {
		return g.got >= g.want
	}
	return g.got <= g.want
}

func goalTable(goals []goal) string {
	t := newTable("what", "goal", "measured", "")
	for _, g := range goals {
		sign, verdict := "≤", "reached"
		if g.atLeast {
			sign = "≥"
		}
		if !g.reached() {
			verdict = "**missed**"
		}
		t.row(g.what, fmt.Sprintf("%s %v%s", sign, g.want, g.unit), fmt.Sprintf("%s%s", digits(g.got), g.unit), verdict)
	}
	return t.String()
}
