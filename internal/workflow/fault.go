package workflow

import "github.com/breakerd/breakerd/internal/jsondoc"

// maxFaults bounds how much a hopeless definition can make us say.
const maxFaults = 20

// Fault is one thing that is wrong with a definition.
type Fault = jsondoc.Fault

// DefinitionError is all that is wrong with a definition, in the order of its text, at most 20 faults.
type DefinitionError = jsondoc.Faults

// clip makes foreign text fit for an error, an answer or a log line: short and printable.
func clip(text string, most int) string { return jsondoc.Clip(text, most) }

// quoted is foreign text in an error.
func quoted(text string) string { return jsondoc.Quote(text) }

// field is the path of an object's field.
func field(path, name string) string { return jsondoc.Field(path, name) }

// item is the path of an array's item.
func item(path string, i int) string { return jsondoc.Item(path, i) }
