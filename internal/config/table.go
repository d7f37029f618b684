package config

import (
	"fmt"
	"strings"
)

// Table is the Markdown table of every variable that docs/configuration.md has between <!-- config:begin --> and
// <!-- config:end -->.
func Table() string {
	var b strings.Builder
	b.WriteString("| Variable | Default | Allowed | Meaning | More |\n|---|---|---|---|---|\n")
	for _, v := range documented() {
		def := ""
		if v.def != "" {
			def = "`" + v.def + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", v.name, def, cell(v.allowed()), cell(v.doc), more(v.clause))
	}
	return b.String()
}

// more links to a clause of the machine, or to a heading of the documents.
func more(clause string) string {
	page, heading, _ := strings.Cut(clause, "#")
	switch {
	case clause == "":
		return ""
	case strings.HasPrefix(clause, "B"):
		return "[" + clause + "](architecture.md#clauses)"
	case page == "":
		return "[here](#" + heading + ")"
	}
	return "[" + strings.TrimSuffix(page, ".md") + "](" + clause + ")"
}

// cell escapes what would end a cell of the table, or begin italics.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "*", `\*`).Replace(text)
}

// Example is .env.example: an ENV_FILE with every variable at its default.
func Example() string {
	var b strings.Builder
	b.WriteString("# Every variable at its default. What differs goes into .env; an empty value counts as not set.\n" +
		"# ENV_FILE=.env makes the programs read it; a $ is a $, nothing is expanded.\n")
	for _, v := range documented() {
		fmt.Fprintf(&b, "\n# %s (%s)\n%s=%s\n", v.doc, v.allowed(), v.name, v.def)
	}
	return b.String()
}

// documented lists every variable, each secret followed by its _FILE twin.
func documented() []variable {
	var list []variable
	for _, v := range variables() {
		list = append(list, v)
		if v.secret {
			list = append(list, variable{
				name: v.name + "_FILE", check: "text the path of a file", clause: v.clause,
				doc: "file that holds " + v.name + " instead; its final newline does not count",
			})
		}
	}
	return list
}
