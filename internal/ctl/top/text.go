package top

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/charmbracelet/lipgloss"
)

// cut shortens a line to the screen.
func (s *screen) cut(line string) string {
	if utf8.RuneCountInString(line) <= s.width {
		return line
	}
	return string([]rune(line)[:max(s.width-1, 0)]) + "…"
}

// pad makes a cell as wide as its column.
func pad(cell string, width int) string {
	n := utf8.RuneCountInString(cell)
	if n > width {
		return string([]rune(cell)[:width-1]) + "…"
	}
	return cell + strings.Repeat(" ", width-n)
}

// span is a duration in one unit and its next one.
func span(d time.Duration, none bool) string {
	switch d = max(d, 0); {
	case none:
		return "-"
	case d >= 48*time.Hour:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%ds", d/time.Second)
}

func bold(line string) string { return lipgloss.NewStyle().Bold(true).Render(line) }

// colour shows a state, on a terminal that has colours; NO_COLOR has none.
func colour(state, line string) string {
	switch state {
	case "OPEN":
		return lipgloss.NewStyle().Foreground(lipgloss.Color("1")).Render(line)
	case "HALF_OPEN":
		return lipgloss.NewStyle().Foreground(lipgloss.Color("3")).Render(line)
	}
	return line
}
