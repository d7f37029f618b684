// Package backup is the format of backups: what a file holds, how it is written, read and verified. It knows neither
// Redis nor HTTP.
//
// A file is two gzip members, so zcat shows all of it. The first holds one JSON object a line: a [Header], then
// [Record]s in any order. The second holds one line, the [Footer], stored without compression, so it has one form only.
// The footer's SHA-256 is that of all bytes of the file before the footer's member: a changed byte anywhere is noticed,
// and so is a file that ends early.
package backup

import (
	"encoding/json"
	"errors"
)

// format is the version of the format that this package writes, and the newest that it reads.
const format = 1

// What is wrong with a file. Each error of a [Reader] that is no error of the underlying reader wraps one of these.
var (
	ErrBroken = errors.New("the backup is broken")
	ErrNewer  = errors.New("the backup is of a newer format")
)

// Section is a kind of records.
type Section string

// The sections. Policy, and of the registry what a file says, are for people: nothing restores them.
const (
	Policy    Section = "policy"    // the defaults of the replica that wrote the file
	Gate      Section = "gate"      // the fleet's gate
	Workflows Section = "workflows" // those made through the API
	Registry  Section = "registry"  // the agents that are known
	Overrides Section = "overrides" // agents' policy overrides
	Profiles  Section = "profiles"  // agents' contact, url and labels
	Holds     Section = "holds"     // breakers under an operator's hold
	Breakers  Section = "breakers"  // the other breakers
	Audit     Section = "audit"     // what people did
)

// Sections are those that can be restored, in the order in which they are shown.
func Sections() []Section {
	return []Section{Gate, Overrides, Profiles, Holds, Breakers, Workflows, Registry, Audit}
}

// Header is the first line.
type Header struct {
	Format  int    `json:"breakerd_backup"` // the format
	Version string `json:"version"`         // of breakerd
	Prefix  string `json:"prefix"`          // of the keys
	TakenMs int64  `json:"taken_ms"`        // when it was begun, by Redis' clock
	TakenAt string `json:"taken_at"`        // the same for people
	Born    string `json:"born"`            // the identity of Redis' data
	Replica string `json:"replica"`         // who wrote it
	Agents  int    `json:"agents"`          // in the index when it was begun: about so many will follow
}

// Record is one line between header and footer.
type Record struct {
	Section Section `json:"section"`
	Name    string  `json:"name,omitempty"` // an agent, a workflow's id, the id of an entry of the audit

	// Text is a document as Redis keeps it, or the line of an event.
	Text string `json:"text,omitempty"`
	// Entry is what lists show of a workflow.
	Entry string `json:"entry,omitempty"`
	// Agent is whose breaker an entry of the audit is about; "-": none's.
	Agent string `json:"agent,omitempty"`
	// Fields are the gate's.
	Fields map[string]string `json:"fields,omitempty"`
	// SeenS is when an agent was last seen, Unix seconds; 0: the index does not say.
	SeenS int64 `json:"seen_s,omitempty"`
	// File is what the agent registry's file says of an agent; Values are the defaults of a policy.
	File   json.RawMessage `json:"file,omitempty"`
	Values json.RawMessage `json:"values,omitempty"`

	Breaker *Breaker `json:"breaker,omitempty"`
}

// Breaker is what the keys of one breaker hold, each as its type: texts, hashes and a list. A value that is no UTF-8 is
// left out: no version writes it.
type Breaker struct {
	State         string            `json:"state,omitempty"`
	OpenTimestamp string            `json:"open_timestamp,omitempty"`
	Control       map[string]string `json:"control,omitempty"`
	Calls         map[string]string `json:"calls,omitempty"`
	Probes        map[string]string `json:"probes,omitempty"` // leases, which nobody holds any more: not restored
	Log           []string          `json:"log,omitempty"`    // newest first
	History       map[string]string `json:"history,omitempty"`
}

// Present says that the keys hold a breaker.
func (b *Breaker) Present() bool { return b.State != "" || len(b.Control) > 0 }

// Held says that an operator holds it.
func (b *Breaker) Held() bool { return b.Control["hold"] != "" }

// Footer is the last line.
type Footer struct {
	Records map[Section]int `json:"records"`
	Lines   int             `json:"lines"` // with the header's, without the footer's
	SHA256  string          `json:"sha256"`
}
