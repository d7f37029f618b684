package ctl

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"go.yaml.in/yaml/v3"
)

// Output formats.
const (
	formatTable = "table"
	formatWide  = "wide"
	formatJSON  = "json"
	formatYAML  = "yaml"
	formatName  = "name"
	formatJSONL = "jsonl"
)

func formats() []string {
	return []string{formatTable, formatWide, formatJSON, formatYAML, formatName, formatJSONL}
}

// output is what a command found, for every format.
type output struct {
	value any      // of json and yaml
	lines []any    // of jsonl, one a line; nil: value
	names []string // of name; nil: there are none to print

	head []string   // of table; a column whose name begins with + is shown by wide alone
	rows [][]string // of table

	text func(w io.Writer) // of table where head is nil
}

func (c *cli) print(o output) error {
	switch c.format {
	case formatJSON:
		out := json.NewEncoder(c.Out)
		out.SetEscapeHTML(false)
		out.SetIndent("", "  ")
		return out.Encode(o.value)
	case formatYAML:
		return printYAML(c.Out, o.value)
	case formatJSONL:
		out := json.NewEncoder(c.Out)
		out.SetEscapeHTML(false)
		if o.lines == nil {
			return out.Encode(o.value)
		}
		for _, line := range o.lines {
			if err := out.Encode(line); err != nil {
				return err
			}
		}
		return nil
	case formatName:
		if o.names == nil {
			return usagef("-o table|json|yaml", "this has no names to print")
		}
		for _, name := range o.names {
			if _, err := fmt.Fprintln(c.Out, name); err != nil {
				return err
			}
		}
		return nil
	}
	if o.head == nil {
		o.text(c.Out)
		return nil
	}
	return c.printTable(o.head, o.rows)
}

// printYAML prints what JSON would, in its order of fields.
func printYAML(w io.Writer, value any) error {
	body, err := json.Marshal(value)
	if err != nil {
		return err
	}
	var node yaml.Node // JSON is YAML
	if err := yaml.Unmarshal(body, &node); err != nil {
		return err
	}
	block(&node)
	out := yaml.NewEncoder(w)
	out.SetIndent(2)
	return out.Encode(&node)
}

// block has a document that was read from JSON written as YAML is.
func block(node *yaml.Node) {
	node.Style = 0
	for _, child := range node.Content {
		block(child)
	}
}

// printTable aligns columns. A head is not printed over nothing.
func (c *cli) printTable(head []string, rows [][]string) error {
	var shown []int
	for i, name := range head {
		if !strings.HasPrefix(name, "+") || c.format == formatWide {
			shown = append(shown, i)
		}
	}
	if len(rows) == 0 {
		return nil
	}
	t := table.NewWriter()
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "   "
	style.Format.Header = text.FormatDefault
	t.SetStyle(style)
	pick := func(cells []string) table.Row {
		row := make(table.Row, 0, len(shown))
		for _, i := range shown {
			row = append(row, c.coloured(strings.TrimPrefix(cells[i], "+")))
		}
		return row
	}
	t.AppendHeader(pick(head))
	for _, row := range rows {
		t.AppendRow(pick(row))
	}
	var out bytes.Buffer
	for line := range strings.Lines(t.Render() + "\n") {
		out.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	_, err := c.Out.Write(out.Bytes())
	return err
}

// coloured colours a state, if a person reads, and has nothing against it.
func (c *cli) coloured(cell string) string {
	var colour text.Color
	switch cell { // words that stand alone
	case "OPEN", "gone", "failed", "CRITICAL", "EXPIRED":
		colour = text.FgRed
	case "HALF_OPEN", "suspect", "degraded", "WARNING":
		colour = text.FgYellow
	case "CLOSED", "alive":
		colour = text.FgGreen
	default:
		return cell
	}
	if c.env["NO_COLOR"] != "" || c.env["TERM"] == "dumb" || !isTerminal(c.Out) {
		return cell
	}
	return text.Escape(cell, colour.EscapeSeq())
}

// ago says how long ago a moment was, or "-".
func ago(now, at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return length(now.Sub(at)) + " ago"
}

// until says how far a moment is, or "-".
func until(now, at time.Time) string {
	switch {
	case at.IsZero():
		return "-"
	case !at.After(now):
		return "now"
	}
	return "in " + length(at.Sub(now))
}

// length is a duration in its two greatest units.
func length(d time.Duration) string {
	const day = 24 * time.Hour
	switch d = max(d, 0); {
	case d >= 2*day:
		return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%ds", d/time.Second)
}
