package workflow

import "github.com/breakerd/breakerd/internal/jsondoc"

// maxFaults bounds how much a hopeless definition can make us say.
const maxFaults = 20

// Fault is one thing that is wrong with a definition.
type Fault = jsondoc.Fault

// DefinitionError is all that is wrong with a definition, in the order of its text, at most 20 faults.
type DefinitionError = jsondoc.Faults
