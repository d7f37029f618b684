package registry

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/breakerd/breakerd/internal/filewatch"
	"github.com/breakerd/breakerd/internal/lastgood"
	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// Options configures a Registry.
type Options struct {
	Path      string            // of the agents file; "": none
	Default   breaker.Policy    // what an agent's circuit_breaker_config is laid over
	Origins   map[string]string // of Default's fields, as in policycache.Options
	Profiles  Profiles          // the agents registered through the API; nil: there are none, and none can be
	Logger    *slog.Logger      // nil: silent
	Timeout   time.Duration     // of a read of one agent's documents; 0: 250 ms
	Every     time.Duration     // between polls of the file; 0: 1 s
	MaxAgents int               // agents of the file, and names cached of the API; 0: 100,000
	StoreDown func() bool       // whether Redis is known to be down, so that nobody waits for it; nil: never
	OnError   func(err error)   // receives the error of a read that Redis did not answer in time; nil: nobody
}

// Status is the state of the file.
type Status struct {
	Path     string    // "": there is none
	Agents   int       // in force
	LoadedAt time.Time // when what is in force was read
	Digest   string    // of its text; "": there is none
	Problem  error     // why the file as it is now is not in force; nil: it is
}

// Registry holds the agents of the file and of the API. It is safe for concurrent use.
type Registry struct {
	o    Options
	file atomic.Pointer[agentsFile]
	api  *lastgood.Cache[registration]

	watched  filewatch.File
	changing chan struct{} // has an element while a registration is changed
}

// New reads the file. It fails if the file is bad, with [*Faults] if its text is: there is no last good one yet.
func New(o Options) (*Registry, error) {
	o.Timeout = cmp.Or(o.Timeout, 250*time.Millisecond)
	o.Every = cmp.Or(o.Every, time.Second)
	o.MaxAgents = cmp.Or(o.MaxAgents, 100_000)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.StoreDown == nil {
		o.StoreDown = func() bool { return false }
	}
	if o.OnError == nil {
		o.OnError = func(error) {}
	}
	if err := o.Default.Validate(); err != nil {
		return nil, fmt.Errorf("registry: Options.Default: %w", err)
	}
	r := &Registry{o: o, changing: make(chan struct{}, 1)}
	r.watched = filewatch.File{Path: o.Path, Most: maxFile, Take: r.take}
	r.api = r.newCache()
	r.file.Store(&agentsFile{loaded: time.Now()})
	if o.Path != "" {
		if _, err := r.watched.Look(); err != nil {
			return nil, fmt.Errorf("agent registry: %w", err)
		}
	}
	return r, nil
}

// Run polls the file until ctx ends, and calls onChange after each good change. A bad edit, or the file's absence,
// leaves the last good one in force. It is called once.
func (r *Registry) Run(ctx context.Context, onChange func()) {
	if r.o.Path == "" {
		return
	}
	last := r.file.Load()
	r.watched.Follow(ctx, r.o.Every, func(err error) {
		if err != nil {
			r.o.Logger.Error("Agent registry not taken, the last good one stays",
				"event", "circuit_breaker.registry_bad", "path", r.o.Path, "error", err)
			return
		}
		now := r.file.Load()
		added, changed, removed := now.changes(last)
		last = now
		r.o.Logger.Info("Agent registry loaded", "event", "circuit_breaker.registry_loaded", "path", r.o.Path,
			"agents", len(now.agents), "added", added, "changed", changed, "removed", removed)
		onChange()
	})
}

// take puts the text of the file in force, if it is good.
func (r *Registry) take(text []byte) error {
	agents, err := parseFile(r.o.Path, text, r.o.Default, r.o.Origins, r.o.MaxAgents)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(text)
	file := newFile(agents, r.file.Load())
	file.digest = hex.EncodeToString(sum[:8])
	r.file.Store(file)
	return nil
}

// Status returns the state of the file. It does not wait for a read.
func (r *Registry) Status() Status {
	f := r.file.Load()
	return Status{
		Path: r.o.Path, Agents: len(f.agents), LoadedAt: f.loaded, Digest: f.digest, Problem: r.watched.Problem(),
	}
}

// Override returns the circuit_breaker_config that the file gives the agent, a layer for [policycache.Cache]; nil:
// none. The pointer stays the same until the config changes.
func (r *Registry) Override(agent string) *policy.Override {
	if o := r.file.Load().agents[agent].Config; o != nil && *o != (policy.Override{}) {
		return o
	}
	return nil
}

// ParseAgent is [ParseAgent] over this registry's default policy.
func (r *Registry) ParseAgent(name string, body []byte) (Agent, error) {
	return ParseAgent(name, body, r.o.Default, r.o.Origins)
}
