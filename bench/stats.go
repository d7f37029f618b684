package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// percentile is the least value that so large a share of the values does not exceed, 0 if there are none.
func percentile(values []float64, share float64) float64 {
	if len(values) == 0 {
		return 0
	}
	v := slices.Sorted(slices.Values(values))
	return v[max(0, int(math.Ceil(share*float64(len(v))))-1)]
}

func median(values []float64) float64 { return percentile(values, 0.5) }

// each returns one figure of every item.
func each[T any](items []T, figure func(T) float64) []float64 {
	out := make([]float64, len(items))
	for i, item := range items {
		out[i] = figure(item)
	}
	return out
}

// mid is the median of one figure.
func mid[T any](items []T, figure func(T) float64) float64 { return median(each(items, figure)) }

// ratios divides a figure of ours by theirs of the same round.
func ratios[T any](ours, theirs []T, figure func(T) float64) []float64 {
	out := make([]float64, min(len(ours), len(theirs)))
	for i := range out {
		out[i] = figure(ours[i]) / figure(theirs[i])
	}
	return out
}

// span is the least and the greatest value.
func span(values []float64, format string) string {
	if len(values) == 0 {
		return ""
	}
	return fmt.Sprintf(format+" to "+format, slices.Min(values), slices.Max(values))
}

// spread is the span of ratios, "" for those of the baseline to itself.
func spread(ratios []float64) string {
	if slices.Min(ratios) == slices.Max(ratios) && len(ratios) > 1 {
		return ""
	}
	return span(ratios, "%.2f")
}

// callers counts goroutines in words.
func callers(n int) string {
	if n == 1 {
		return "1 caller"
	}
	return fmt.Sprintf("%d callers", n)
}

// table is a table in Markdown.
type table struct {
	b strings.Builder
}

func newTable(heads ...string) *table {
	t := &table{}
	t.row(heads...)
	t.b.WriteString(strings.Repeat("|---", len(heads)) + "|\n")
	return t
}

func (t *table) row(cells ...string) {
	t.b.WriteString("| " + strings.Join(cells, " | ") + " |\n")
}

func (t *table) String() string { return t.b.String() }

// count writes a number without decimals, its thousands separated.
func count(v float64) string {
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// nanos writes a time with about three digits, in the unit that fits.
func nanos(ns float64) string {
	for _, u := range []struct {
		name string
		ns   float64
	}{{"s", 1e9}, {"ms", 1e6}, {"µs", 1e3}} {
		if ns >= u.ns {
			return digits(ns/u.ns) + " " + u.name
		}
	}
	return digits(ns) + " ns"
}

func digits(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
