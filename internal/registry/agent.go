// Package registry says where each agent is and how it is to be called: agents of a file (agents.json), which is read again when it
// changes, merged with those that were registered through the API, whose documents are kept in Redis. The file always wins.
package registry

import (
	"errors"
	"maps"
	"net/url"
	"slices"
	"time"

	"github.com/breakerd/breakerd/internal/policy"
)

// DefaultTimeout is the time-out of an agent that gives none.
const DefaultTimeout = 60 * time.Second

// MaxTimeout bounds an agent's time-out.
const MaxTimeout = time.Hour

// Errors of a Registry; test with errors.Is. A store that is away is an error that is breaker.ErrStoreUnavailable, what is wrong with
// a registration is a *Faults.
var (
	// ErrUnknown: neither the file nor the API has registered the agent.
	ErrUnknown = errors.New("agent is not registered")
	// ErrInFile: the agent stands in the file, so the API cannot change it.
	ErrInFile = errors.New("agent is registered in the file, which the API does not change")
	// ErrConflict: others kept changing the registration, so that a change of ours found no moment. It can be tried again.
	ErrConflict = errors.New("others keep changing the registration")
)

// Classify says how an answer of the agent is told from a failure.
type Classify string

// The classifiers: the HTTP status alone; also an "error" of JSON-RPC in the body; also a result of MCP with "isError": true.
const (
	ByStatus  Classify = "status"
	ByJSONRPC Classify = "jsonrpc"
	ByMCP     Classify = "mcp"
)

// Origin says who registered an agent.
type Origin string

// The origins.
const (
	FromFile Origin = "file"
	FromAPI  Origin = "api"
)

// Agent is one registration. Its maps and pointers are shared: nobody changes them.
type Agent struct {
	Name       string
	URL        *url.URL        // nil: a policy without an address; else http or https, absolute, without user, query and fragment
	Config     policy.Override // circuit_breaker_config
	Configured bool            // circuit_breaker_config was given, if only as {} or null
	Contact    string
	Labels     map[string]string // nil: none
	Timeout    time.Duration     // for the response header, and between two reads of its body; DefaultTimeout where none was given
	Classify   Classify          // ByStatus where none was given
	Origin     Origin
}

// Form is an Agent as JSON shows it, in the file and in the API. The file may hold what Form gives; origin is not believed.
type Form struct {
	Name           string            `json:"name"`
	URL            string            `json:"url,omitempty"`
	Config         *policy.Override  `json:"circuit_breaker_config,omitempty"`
	Contact        string            `json:"contact,omitempty"`
	Labels         map[string]string `json:"labels,omitempty"`
	TimeoutSeconds float64           `json:"timeout_seconds"`
	Classify       Classify          `json:"classify"`
	Origin         Origin            `json:"origin,omitempty"`
}

// Form is the agent as JSON shows it.
func (a Agent) Form() Form {
	f := Form{
		Name: a.Name, Contact: a.Contact, Labels: maps.Clone(a.Labels), Classify: a.Classify, Origin: a.Origin,
		TimeoutSeconds: float64(a.Timeout) / float64(time.Second), // divided, as the policy's are: 0.3 s is again 0.3
	}
	if a.URL != nil {
		f.URL = a.URL.String()
	}
	if a.Configured || a.Config != (policy.Override{}) {
		f.Config = new(a.Config)
	}
	return f
}

// classifiers lists what classify may be.
func classifiers() []Classify { return []Classify{ByStatus, ByJSONRPC, ByMCP} }

func (c Classify) valid() bool { return slices.Contains(classifiers(), c) }
