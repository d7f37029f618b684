// Package registry holds where each agent is and how it is called: the agents of a file (agents.json), which is read
// again when it changes, and those that were registered through the API, whose documents are in Redis. The file wins.
package registry

import (
	"errors"
	"maps"
	"net/url"
	"time"

	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/pkg/breakerhttp"
)

// DefaultTimeout is the time-out of an agent that has none of its own.
const DefaultTimeout = 60 * time.Second

// MaxTimeout bounds an agent's time-out.
const MaxTimeout = time.Hour

// Errors of a Registry, for errors.Is. Besides these, a store that is down is a [breaker.ErrStoreUnavailable], and a
// bad registration is [*Faults].
var (
	// ErrUnknown: the agent is registered neither in the file nor through the API.
	ErrUnknown = errors.New("agent is not registered")
	// ErrInFile: the agent is in the file, so the API cannot change it.
	ErrInFile = errors.New("agent is registered in the file, which the API does not change")
	// ErrConflict: others changed the registration at each attempt. It can be tried again.
	ErrConflict = errors.New("others keep changing the registration")
)

// Origin is where an agent is registered.
type Origin string

// The origins.
const (
	FromFile Origin = "file"
	FromAPI  Origin = "api"
)

// Agent is one registration. Its maps and pointers are shared and never change.
type Agent struct {
	Name            string
	URL             *url.URL         // http or https, absolute, no user, query or fragment; nil: a policy without address
	Config          *policy.Override // circuit_breaker_config, also if given as {} or null; nil: not given
	Contact         string
	Labels          map[string]string          // nil: none
	Timeout         time.Duration              // for the header, and each read of the body; default: DefaultTimeout
	Classify        breakerhttp.BodyClassifier // default: StatusOnly
	ClassifyObserve breakerhttp.BodyClassifier // its verdicts are only counted; "": none
	Statuses        breakerhttp.Statuses
	FirstToken      time.Duration // for the first data of an answer's body; 0: no bound of its own
	IdleTimeout     time.Duration // how long an unused connection is kept; default: DefaultIdleTimeout
	Count           Count
	Origin          Origin
}

// Form is an Agent as JSON, in the file and in the API. The origin in a file is ignored.
type Form struct {
	Name           string                     `json:"name"`
	URL            string                     `json:"url,omitempty"`
	Config         *policy.Override           `json:"circuit_breaker_config,omitempty"`
	Contact        string                     `json:"contact,omitempty"`
	Labels         map[string]string          `json:"labels,omitempty"`
	TimeoutSeconds float64                    `json:"timeout_seconds"`
	Classify       breakerhttp.BodyClassifier `json:"classify"`
	Calls
	Origin Origin `json:"origin,omitempty"`
}

// Form returns the agent as JSON.
func (a Agent) Form() Form {
	f := Form{
		Name: a.Name, Config: a.Config, Contact: a.Contact, Labels: maps.Clone(a.Labels), Classify: a.Classify,
		Calls: a.calls(), Origin: a.Origin, TimeoutSeconds: inSeconds(a.Timeout),
	}
	if a.URL != nil {
		f.URL = a.URL.String()
	}
	return f
}
