package main

import (
	"fmt"
	"html"
	"io"
	"math"
)

// series is one way to guard a call, under its name in the plot.
type series string

const (
	failsafeByCount      series = "failsafe-go, by count"
	failsafeByRate       series = "failsafe-go, by rate"
	gobreakerExecute     series = "gobreaker"
	memoryPair           series = "breakerd, Memory store"
	cachedHandle         series = "breakerd, cached, by handle"
	cachedMany           series = "breakerd, cached, many agents"
	cachedDo             series = "breakerd, cached, Do"
	cachedFleetDo        series = "breakerd, cached, Do of a Fleet"
	cachedDoSlow         series = "breakerd, cached, Do with durations"
	strictPair           series = "breakerd, strict"
	strictFleetPair      series = "breakerd, strict, of a Fleet"
	trivialPair          series = "two trivial EVALSHA"
	gobreakerDistributed series = "gobreaker Distributed"
)

// bar is one figure: nanoseconds of wall clock for one call, with so many goroutines.
type bar struct {
	who        series
	goroutines int
	ns         float64
}

func (b *bench) bar(who series, goroutines int, ns float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bars = append(b.bars, bar{who, goroutines, ns})
}

// plotGroup is the series under one heading.
type plotGroup struct {
	heading string
	who     []series
}

func plotGroups() []plotGroup {
	return []plotGroup{
		{"Counts stay in one process", []series{failsafeByCount, failsafeByRate, gobreakerExecute}},
		{
			"Counts are shared by the fleet, through Redis",
			[]series{cachedHandle, cachedDo, strictPair, gobreakerDistributed},
		},
	}
}

// Sizes of the plot, in pixels.
const (
	plotWidth = 860
	plotLeft  = 236 // where bars begin
	plotRight = 776 // where the axis ends
	plotTop   = 92
	barHeight = 13
	rowHeight = 2*barHeight + 12
	groupHead = 30
)

// decade0 and decade1 are the ends of the axis, as powers of ten of nanoseconds.
const decade0, decade1 = 0, 7

func plotX(ns float64) float64 {
	share := (math.Log10(max(ns, 1)) - decade0) / (decade1 - decade0)
	return plotLeft + min(share, 1)*(plotRight-plotLeft)
}

// halo separates text from the lines behind it.
const halo = ` paint-order="stroke" stroke="#ffffff" stroke-width="4"`

// draw writes the plot as SVG, on a light background of its own, so that it can be read on dark pages too.
func draw(w io.Writer, bars []bar) {
	groups := plotGroups()
	height := plotTop + 34
	for _, g := range groups {
		height += groupHead + rowHeight*len(g.who)
	}
	fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img"
  font-family="'Segoe UI', Helvetica, Arial, sans-serif" font-size="13" fill="#1f2328">
<title>What one guarded call costs</title>
<desc>Nanoseconds of wall clock a call on a logarithmic scale, for breakerd and its peers, with one caller and with
64.</desc>
<rect x="0.5" y="0.5" width="%d" height="%d" rx="8" fill="#ffffff" stroke="#d0d7de"/>
<text x="20" y="32" font-size="19" font-weight="600">What one guarded call costs</text>
<text x="20" y="53" fill="#57606a">Asking for leave and reporting the outcome, wall clock a call. Shorter is better;
every line is ten times the last.</text>
`, plotWidth, height, plotWidth, height, plotWidth-1, height-1)
	drawKey(w)
	drawAxis(w, height-30)
	y := plotTop
	for _, g := range groups {
		fmt.Fprintf(w, `<text x="20" y="%d" font-weight="600"%s>%s</text>`+"\n", y+19, halo, html.EscapeString(g.heading))
		y += groupHead
		for _, who := range g.who {
			drawRow(w, y, who, bars)
			y += rowHeight
		}
	}
	fmt.Fprintln(w, "</svg>")
}

// shades are the colours of a series, for one caller and for many.
func shades(who series) (one, many string) {
	switch who {
	case cachedHandle, cachedDo, strictPair:
		return "#0b57d0", "#8ab4f8"
	default:
		return "#6e7781", "#c2c9d0"
	}
}

func drawKey(w io.Writer) {
	const y = 66
	for i, key := range []struct{ fill, text string }{
		{"#0b57d0", "breakerd, 1 caller"},
		{"#8ab4f8", "breakerd, 64 callers"},
		{"#6e7781", "peer, 1 caller"},
		{"#c2c9d0", "peer, 64 callers"},
	} {
		x := 20 + 180*i
		fmt.Fprintf(w, `<rect x="%d" y="%d" width="12" height="12" fill="%s"/><text x="%d" y="%d">%s</text>`+"\n",
			x, y, key.fill, x+18, y+11, key.text)
	}
}

func drawAxis(w io.Writer, bottom int) {
	for d := decade0; d <= decade1; d++ {
		ns := math.Pow10(d)
		x := plotX(ns)
		fmt.Fprintf(w, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#e1e4e8"/>`+
			`<text x="%.1f" y="%d" text-anchor="middle" fill="#57606a">%s</text>`+"\n",
			x, plotTop+4, x, bottom, x, bottom+18, tick(d))
	}
}

func tick(decade int) string {
	unit := []string{"ns", "µs", "ms"}[decade/3]
	return fmt.Sprintf("%.0f %s", math.Pow10(decade%3), unit)
}

func drawRow(w io.Writer, y int, who series, bars []bar) {
	fmt.Fprintf(w, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n",
		plotLeft-10, y+barHeight+5, html.EscapeString(string(who)))
	one, many := shades(who)
	for i, line := range []struct {
		goroutines int
		fill       string
	}{{1, one}, {64, many}} {
		for _, b := range bars {
			if b.who != who || b.goroutines != line.goroutines {
				continue
			}
			top := y + i*(barHeight+1)
			end := plotX(b.ns)
			fmt.Fprintf(w, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`+
				`<text x="%.1f" y="%d" font-size="12"%s>%s</text>`+"\n",
				plotLeft, top, end-plotLeft, barHeight, line.fill, end+6, top+barHeight-3, halo, nanos(b.ns))
		}
	}
}
