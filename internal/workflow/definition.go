// Package workflow runs workflows: steps that call agents, in the order of their dependencies. It holds the definitions (those of
// a directory, and those made through the API), checks them before anything runs, and keeps what became of each execution.
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
	MaxKept        = 64 << 10          // bytes of one that is kept in Redis, without blanks
	MaxSteps       = 256               // steps
	MinTimeout     = time.Millisecond  // the shortest timeout_seconds, of a step or of the whole
	MaxTimeout     = time.Hour         // the longest
	DefaultTimeout = 600 * time.Second // of a whole execution that names none
)

// Errors of the library and of the store of executions; test with errors.Is. A bad definition is a *DefinitionError.
var (
	// ErrUnknown: no workflow, or no execution, has that id.
	ErrUnknown = errors.New("unknown id")
	// ErrInDirectory: a file of WORKFLOWS_DIR holds this workflow, so that the API cannot change it.
	ErrInDirectory = errors.New("the workflow stands in a file of WORKFLOWS_DIR: change it there")
	// ErrFull: Redis holds as many workflows as it may.
	ErrFull = errors.New("too many workflows are kept: delete some first")
)

// Origin says where a definition came from.
type Origin string

// The origins.
const (
	FromFile Origin = "file" // a file of WORKFLOWS_DIR
	FromAPI  Origin = "api"  // the API; kept in Redis
)

// Definition is one workflow. ParseDefinition makes valid ones; nobody changes one after that, so that it may be shared.
type Definition struct {
	ID          string // 1 to 128 of A-Z a-z 0-9 . _ : @ -, first a letter or digit
	Name        string // for people; may be empty
	Description string
	Steps       map[string]Step // by id
	Timeout     time.Duration   // of an execution; 0: DefaultTimeout
	Origin      Origin          // set by the Library; not part of the JSON
}

// Step is one call of an agent.
type Step struct {
	ID    string // 1 to 64 of A-Z a-z 0-9 . _ : @ -
	Agent string // agent_name
	// Input is input_mapping: string, bool, nil, json.Number, []any, map[string]any. A string that begins with "$." is a
	// reference, "$$." at its start stands for a literal "$.".
	Input     map[string]any
	DependsOn []string      // besides those whose output Input refers to
	Path      string        // below the agent's address, begins with "/"; "": the address itself
	Timeout   time.Duration // of the call; 0: the agent's own

	refs map[string]reference // those of Input, by their text; nil: the step was made by hand
}

// definitionJSON and stepJSON are how a definition is written; parse.go reads it, with more care than encoding/json has.
type definitionJSON struct {
	ID          string              `json:"workflow_id"`
	Name        string              `json:"name,omitempty"`
	Description string              `json:"description,omitempty"`
	Timeout     float64             `json:"timeout_seconds,omitempty"`
	Steps       map[string]stepJSON `json:"steps"`
}

type stepJSON struct {
	ID        string         `json:"id"`
	Agent     string         `json:"agent_name"`
	Input     map[string]any `json:"input_mapping"`
	DependsOn []string       `json:"depends_on,omitempty"`
	Path      string         `json:"path,omitempty"`
	Timeout   float64        `json:"timeout_seconds,omitempty"`
}

// MarshalJSON writes what ParseDefinition reads.
func (d Definition) MarshalJSON() ([]byte, error) {
	out := definitionJSON{
		ID: d.ID, Name: d.Name, Description: d.Description, Timeout: d.Timeout.Seconds(), Steps: map[string]stepJSON{},
	}
	for id, s := range d.Steps {
		input := s.Input
		if input == nil {
			input = map[string]any{}
		}
		out.Steps[id] = stepJSON{
			ID: s.ID, Agent: s.Agent, Input: input, DependsOn: s.DependsOn, Path: s.Path, Timeout: s.Timeout.Seconds(),
		}
	}
	return encode(out)
}

// encode is json.Marshal that leaves <, > and & as they are.
func encode(v any) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}
