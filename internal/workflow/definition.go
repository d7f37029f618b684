// Package workflow runs workflows: steps that call agents, in the order of their dependencies. A Library holds the
// definitions, those of a directory and those made through the API; an Engine executes them; a Store keeps the results.
package workflow

import (
	"bytes"
	"encoding/json"
	"errors"
	"time"
)

// Bounds of a definition.
const (
	MaxDefinition  = 1 << 20           // bytes of its JSON
	MaxKept        = 64 << 10          // bytes of one in Redis, without blanks
	maxSteps       = 256               // steps
	MinTimeout     = time.Millisecond  // the least timeout_seconds, of a step or an execution
	MaxTimeout     = time.Hour         // the most
	DefaultTimeout = 600 * time.Second // of an execution whose definition has none
)

// Errors of the library and of the store of executions, for errors.Is. A bad definition is a [*DefinitionError].
var (
	// ErrUnknown: there is no workflow, or no execution, of that id.
	ErrUnknown = errors.New("unknown id")
	// ErrInDirectory: a file of WORKFLOWS_DIR holds the workflow, so the API cannot change it.
	ErrInDirectory = errors.New("the workflow stands in a file of WORKFLOWS_DIR: change it there")
	// ErrFull: Redis holds as many workflows as it may.
	ErrFull = errors.New("too many workflows are kept: delete some first")
)

// Origin is where a definition came from.
type Origin string

// The origins.
const (
	FromFile Origin = "file" // a file of WORKFLOWS_DIR
	FromAPI  Origin = "api"  // the API; it is in Redis
)

// Definition is one workflow, in JSON as [ParseDefinition] reads it. ParseDefinition makes valid ones, which never
// change and may be shared.
type Definition struct {
	ID          string          `json:"workflow_id"` // 1 to 128 of A-Z a-z 0-9 . _ : @ -, first a letter or digit
	Name        string          `json:"name,omitempty"`
	Description string          `json:"description,omitempty"`
	Timeout     Seconds         `json:"timeout_seconds,omitempty"` // of an execution; 0: DefaultTimeout
	Steps       map[string]Step `json:"steps"`                     // by id
	Origin      Origin          `json:"-"`                         // set by the Library
}

// Step is one call of an agent.
type Step struct {
	ID    string `json:"id"` // 1 to 64 of A-Z a-z 0-9 . _ : @ -
	Agent string `json:"agent_name"`
	// Input is of string, bool, nil, json.Number, []any and map[string]any. A string that begins with "$." is a
	// reference; "$$." at its beginning is a literal "$.".
	Input     map[string]any `json:"input_mapping"`
	DependsOn []string       `json:"depends_on,omitempty"`      // besides those whose output Input refers to
	Path      string         `json:"path,omitempty"`            // below the agent's address, begins with "/"; "": the address
	Timeout   Seconds        `json:"timeout_seconds,omitempty"` // of the call; 0: the agent's own
	OnFailure OnFailure      `json:"on_failure,omitempty"`      // "": FailExecution
	// Defaults are values, as in Input, for references of Input that find nothing, by the references' texts. In them a
	// string is no reference; "$$." at its beginning is a literal "$." here too.
	Defaults map[string]any `json:"defaults,omitempty"`

	refs map[string]reference // of Input, by their text; nil: ParseDefinition did not make the step
}

// OnFailure is what a step that fails or is refused does to its execution.
type OnFailure string

// The values of OnFailure.
const (
	FailExecution     OnFailure = "fail"     // it stops
	ContinueExecution OnFailure = "continue" // it goes on, and the steps that wait for this one run
)

// Seconds is a duration that JSON shows as a number of seconds.
type Seconds time.Duration

// MarshalJSON implements [json.Marshaler].
func (s Seconds) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(s).Seconds()) }

// MaxDuration bounds an execution.
func (d Definition) MaxDuration() time.Duration {
	if d.Timeout <= 0 {
		return DefaultTimeout
	}
	return time.Duration(d.Timeout)
}

// encode is json.Marshal without escapes for <, > and &.
func encode(v any) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}
