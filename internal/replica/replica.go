// Package replica makes a process a replica of the fleet: its breakers are those of all replicas, in one Redis.
// breakerd, bridge and every Go program that joins by package fleet are made of it.
//
// Beside the breakers themselves a replica follows overrides and the agent registry, is counted by its heartbeat, keeps
// the index of agents, answers from memory while Redis is down, replays then what it counted, and puts protected holds
// back into a Redis that has lost its data. Without Redis it is one process on a store of its own.
package replica

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/breakerd/breakerd/internal/config"
	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/internal/policycache"
	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/internal/registry"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breakerlog"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// Options are the settings of a replica, and what its program adds.
type Options struct {
	config.Replica

	Program  string // as others are told of it
	Version  string
	Logger   *slog.Logger
	Store    breaker.Store // in place of Redis, for this process alone; nil: RedisURL
	Embedded func(listen string) (redisstore.Engine, error)

	Listen       []string                                                        // host:port of the program's listeners
	Certificates func() (own *x509.Certificate, authorities []*x509.Certificate) // of the listeners; nil: none

	PerAgent      func(agent string) breaker.Policy // in place of Policy, below all other layers; nil: none
	Classify      func(context.Context, breaker.CallInfo) breaker.Outcome
	Observer      breaker.Observer     // nil: none
	OnStateChange func(breaker.Change) // of all replicas, in order, once each; nil: nobody

	// TimesCalls: the program says by NoteCall how long calls took. It knows when their answers ended, while the
	// durations of their outcomes end with the first data [B8].
	TimesCalls bool
}

// Replica is one process of the fleet. Its fields are set by New, in this order, each built on those above it; those of
// Redis are nil if Options.Store is set.
type Replica struct {
	o   Options
	log *slog.Logger
	ID  string

	Conn     *redisstore.Conn
	Store    *redisstore.Store
	Docs     *redisdocs.Docs
	Fallback *breaker.Fallback

	Registry *registry.Registry
	Policies *policycache.Cache
	Manager  *breaker.Manager
	own      *ownOverrides // without Redis

	observers []breaker.Observer
	panicked  sync.Map // of names of functions of the user's, see guard

	index      *index
	quarantine *quarantine
	evidence   *evidence
	edges      *edges // nil: without Redis
	durations  *durations
	changes    *changes
	fleetFull  atomic.Bool  // all replicas together track MaxAgents
	heard      func()       // see OnHeard
	returned   atomic.Int64 // leases that nobody held and that were given back
	saying     sync.Mutex   // held while this replica makes a report and sends it: none takes the place of a newer one
	watch      *bornWatch
	holds      *holds
	resets     *resets
	gate       *gate
	actions    *actions
	storeCalls storeCalls
	usage      usage
	started    time.Time

	identifying sync.Mutex                // see identify
	downSince   atomic.Pointer[time.Time] // when the fallback last became degraded; nil: it never was

	tasks  sync.WaitGroup
	cancel context.CancelFunc // of tasks; nil: they have not started
}

// Log returns the log of the replica.
func (r *Replica) Log() *slog.Logger { return r.log }

// New builds a replica. Redis need not be up. Nothing runs before Start.
func New(ctx context.Context, o Options) (*Replica, error) {
	o.Program = cmp.Or(o.Program, filepath.Base(os.Args[0]))
	r := &Replica{o: o, log: o.Logger, ID: cmp.Or(o.ReplicaID, newID()), started: time.Now()}
	if o.Store == nil {
		if err := r.openStore(ctx); err != nil {
			return nil, err
		}
	}
	if err := r.build(); err != nil {
		_ = r.Stop(ctx, false) // nothing was sent
		return nil, err
	}
	r.log.Info("Initialized CircuitBreakerManager", "replica", r.ID, "enabled", !o.Policy.Disabled,
		"redis", r.display(), "version", o.Version)
	return r, nil
}

// display names the store for a log.
func (r *Replica) display() string {
	if r.Conn == nil {
		return "none: breakers are in this process's memory"
	}
	return r.Conn.Display
}

// openStore opens the connection to Redis, and what stands on it alone.
func (r *Replica) openStore(ctx context.Context) (err error) {
	o := &r.o
	r.Conn, err = redisstore.Open(ctx, o.RedisURL.Reveal(), redisstore.Options{
		Timeout: o.RedisTimeout, Username: o.RedisUsername, Password: o.RedisPassword.Reveal(),
		SentinelPassword: o.RedisSentinelPassword.Reveal(), PasswordFile: o.RedisPasswordFile,
		SentinelPasswordFile: o.RedisSentinelPasswordFile, Embedded: o.Embedded, Logger: r.log,
	})
	if err != nil {
		return fmt.Errorf("REDIS_URL: %w", err)
	}
	r.Store, err = redisstore.New(r.Conn.Client, r.Conn.Cluster, redisstore.Config{
		Prefix: o.KeyPrefix, MaxAgents: o.MaxAgents, TTL: o.RedisTTL, Timeout: o.RedisTimeout,
		History: o.HistoryMinutes, OnRetry: func(err error) { r.log.Debug("store call sent again", "error", err) },
		OnReturn: func(string) { r.returned.Add(1) },
		OnEvent:  r.lateEvent,
	})
	if err != nil {
		return errors.Join(err, r.Conn.Close())
	}
	r.Docs = redisdocs.New(r.Store, r.Conn.Client, redisdocs.Config{MaxAgents: o.MaxAgents, Timeout: o.RedisTimeout})
	r.watch = &bornWatch{
		read: r.Store.Born, renew: r.Store.Renew, log: r.log,
		heartbeats: func(ctx context.Context) (own, newest int64, err error) { return r.Docs.LastHeartbeats(ctx, r.ID) },
		lost:       func(was, is string, since time.Time) { r.resets.notice(was, is, since) },
	}
	r.Fallback = breaker.NewFallback(breaker.FallbackOptions{
		Store: loggedStore{r.Store, &r.storeCalls, r.log}, Ping: r.Store.Ping, Born: r.watch.born,
		OnChange: r.degradedChanged, MaxAgents: o.MaxAgents, Logger: r.log,
	})
	return nil
}

// lateEvent notifies of an event of the store's whose caller has gone, or that is of no operation of the machine.
func (r *Replica) lateEvent(agent string, e breaker.Event) {
	for _, o := range r.observers {
		r.guard("Observer.Event", func() { o.Event(agent, e, false) })
	}
}

// guard calls a function of the user's, and recovers its panic. It logs the first one of each name: PerAgent is called
// for each agent, again and again.
func (r *Replica) guard(name string, f func()) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		if _, before := r.panicked.LoadOrStore(name, true); !before {
			r.log.Error("panic recovered: later ones of this function are not logged", "function", name,
				"panic", fmt.Sprintf("%.500v", v))
		}
	}()
	f()
}

func (r *Replica) build() (err error) {
	o := &r.o
	files := registry.Options{
		Path: o.AgentsFile, Default: o.Policy, Origins: o.Origins, Logger: r.log,
		Timeout: o.RedisTimeout, MaxAgents: o.MaxAgents,
	}
	layers := policycache.Options{
		Default: o.Policy, Base: r.base(), Origins: o.Origins, Logger: r.log, MaxAgents: o.MaxAgents,
		Timeout: o.RedisTimeout, Registry: func(agent string) *policy.Override { return r.Registry.Override(agent) },
	}
	b := breaker.Options{
		Store: o.Store, Policy: o.Policy, Disabled: o.Policy.Disabled, Reporter: r.ID, Logger: r.log, Classify: o.Classify,
		FlushInterval: o.FlushInterval, MaxStaleness: o.MaxStaleness, MaxAgents: o.MaxAgents, Tracking: r.tracking(),
		PerAgent: func(ctx context.Context, agent string) breaker.Policy { return r.Policies.Policy(ctx, agent) },
		Look:     func(ctx context.Context, agent string) breaker.Policy { return r.Policies.Look(ctx, agent) },
	}
	if o.Observer != nil {
		r.observers = append(r.observers, o.Observer)
	}
	r.observers = append(r.observers, breakerlog.New(r.log, breakerlog.Options{}))
	if r.Docs == nil {
		r.own = newOwnOverrides()
		layers.Source, layers.Idle = r.own, usedLately // the cache is the only list of agents
	} else {
		r.index = newIndex(r.Docs, o.MaxAgents, r.Important, r.log)
		r.quarantine, r.edges = newQuarantine(r.Docs, r.ID), newEdges(r.Docs)
		files.Profiles, files.StoreDown, files.OnError = r.Docs, r.Fallback.Degraded, r.Fallback.Report
		layers.Source, layers.StoreDown, layers.OnError = r.Docs, r.Fallback.Degraded, r.Fallback.Report
		layers.OnNew = r.index.note
		b.Store, b.OnCall = r.Fallback, r.edges.note
		r.evidence, r.durations = newEvidence(r), newDurations(r)
		r.observers = append(r.observers, r.quarantine, r.evidence, r.durations)
	}
	if o.OnStateChange != nil {
		r.changes = newChanges(r)
		r.observers = append(r.observers, r.changes)
	}
	if r.Registry, err = registry.New(files); err != nil {
		return fmt.Errorf("AGENTS_FILE: %w", err)
	}
	r.Policies = policycache.New(layers)
	b.Observer = breaker.Observers(r.observers...)
	if r.Manager, err = breaker.NewManager(b); err != nil {
		return err
	}
	if r.Docs != nil {
		r.gate, r.holds = newGate(r), newHolds(r)
		r.resets, r.actions = newResets(r), newActions(r) // resets has what is above
	}
	r.bind()
	return nil
}

// bind gives the Observer what it may read.
func (r *Replica) bind() {
	o, reads := r.o.Observer.(breaker.SourceObserver)
	if !reads {
		return
	}
	s := r.Manager.Source()
	s.States = r.States
	if r.Docs != nil {
		s.LeasesReturned, s.StoreResets = r.returned.Load, r.resets.noticed.Load
	}
	r.guard("Observer.Bind", func() { o.Bind(s) })
}

// base is Options.PerAgent; after a panic the agent has Options.Policy.
func (r *Replica) base() func(agent string) breaker.Policy {
	if r.o.PerAgent == nil {
		return nil
	}
	return func(agent string) breaker.Policy {
		p := r.o.Policy
		r.guard("PerAgent", func() { p = r.o.PerAgent(agent) })
		return p
	}
}

// newID is the name of the machine and eight random digits: two replicas on one machine differ.
func newID() string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "replica"
	}
	host = strings.Map(func(r rune) rune {
		if breaker.ValidWord(string(r)) {
			return r
		}
		return '-'
	}, host)
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	return host[:min(len(host), 50)] + "-" + hex.EncodeToString(b[:])
}

// degradedChanged is called by the fallback at each change.
func (r *Replica) degradedChanged(degraded bool, cause error) {
	if degraded {
		r.downSince.Store(new(time.Now()))
		r.holds.doubt()
		withCause(r.log, cause).Error("Redis is down: answering from this replica's memory",
			"event", "circuit_breaker.degraded", "redis", r.Conn.Display)
		return
	}
	msg := "Redis is up again: the fleet's state holds"
	if since := r.downSince.Load(); since != nil && r.resets.noticedSince(*since) {
		msg = "Redis is up again, without the data that it had"
	}
	r.log.Warn(msg, "event", "circuit_breaker.recovered", "redis", r.Conn.Display)
	r.holds.restart()
}

// withCause logs why Redis cannot be used, with the word that runbooks search the log for. Where Redis answers and
// refuses our settings, which has an advice of its own, it leaves the word out.
func withCause(log *slog.Logger, cause error) *slog.Logger {
	log = log.With("error", cause)
	if _, is := errors.AsType[*redisstore.SettingsError](cause); is {
		return log
	}
	return log.With("error_type", "ConnectionError")
}

// Start begins the background tasks; more are those of the program. They end with Stop.
func (r *Replica) Start(ctx context.Context, more ...func(context.Context)) {
	ctx, r.cancel = context.WithCancel(context.WithoutCancel(ctx))
	tasks := []func(context.Context){
		func(ctx context.Context) { r.Registry.Run(ctx, r.Policies.Rebase) }, r.Policies.Run,
	}
	if r.changes != nil {
		tasks = append(tasks, r.changes.run)
	}
	if r.Docs != nil {
		tasks = append(tasks,
			func(ctx context.Context) { r.index.run(ctx, r.Policies.InUse) },
			r.quarantine.run, r.evidence.run, r.edges.run, r.durations.run, r.trackIndexed, r.heartbeat, r.listen,
			r.holds.run, r.resets.run, r.gate.run, r.actions.run,
		)
	}
	for _, task := range append(tasks, more...) {
		r.tasks.Go(func() { task(ctx) })
	}
}

// Following waits until Options.OnStateChange is told of every transition that comes, or ctx ends.
func (r *Replica) Following(ctx context.Context) {
	if r.changes == nil {
		return
	}
	select {
	case <-r.changes.began:
	case <-ctx.Done():
	}
}

// Check asks whether Redis answers, and whether it takes our settings, and logs what it says against them. The error is
// a [*redisstore.SettingsError] if Redis answers and refuses, another one if it does not answer.
func (r *Replica) Check(ctx context.Context) error {
	warnings, err := r.Conn.Check(ctx)
	for _, w := range warnings {
		r.log.Warn("redis", "redis", r.Conn.Display, "warning", w)
	}
	return err
}

// Greet logs what Check finds. A replica starts in any case: the fallback answers, and a password may be corrected on
// either side.
func (r *Replica) Greet(ctx context.Context) {
	log := r.log.With("redis", r.Conn.Display)
	err := r.Check(ctx)
	if settings, is := errors.AsType[*redisstore.SettingsError](err); is {
		log.Error("Redis answers, but refuses these settings", "advice", settings.Advice, "error", settings.Err)
		return
	}
	if err != nil {
		withCause(log, err).Error("Redis does not answer: is it running, and is REDIS_URL right?")
		return
	}
	born, err := r.watch.born(ctx)
	if err != nil {
		log.Warn("the identity of Redis' data could not be read", "error", err)
	}
	log.Info("CircuitBreakerManager initialized with Redis connection", "born", born)
}

// endGrace is how long Stop waits for the tasks after its ctx has ended. None but one that is in a function of the
// user's takes as long.
const endGrace = 2 * time.Second

// awaitTasks waits until the tasks have ended. It leaves one behind that is in a function of the user's which does not
// return.
func (r *Replica) awaitTasks(ctx context.Context) {
	ended := make(chan struct{})
	go func() {
		r.tasks.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return
	case <-ctx.Done():
	}
	select {
	case <-ended:
	case <-time.After(endGrace):
		r.log.Error("closed, but a function has not returned: OnStateChange or PerAgent")
	}
}

// Stop sends what cached mode has not sent yet, ends the background tasks and closes everything. It returns once all
// has ended, or endGrace after ctx, and what was not sent before ctx ended is its error. An orderly stop also logs
// the figures of each agent, and ends the heartbeat, so that no trip waits for this replica any more [B23].
func (r *Replica) Stop(ctx context.Context, orderly bool) (unsent error) {
	if r.Manager != nil {
		if unsent = r.Manager.Close(ctx); unsent != nil {
			r.log.Error("outcomes were not sent", "agents", r.Manager.Backlog().Agents, "error", unsent)
		}
	}
	if orderly {
		r.logStats(ctx)
	}
	if r.cancel != nil {
		r.cancel()
		r.awaitTasks(ctx)
	}
	if r.Docs == nil {
		return unsent
	}
	if orderly {
		if err := r.Docs.EndHeartbeat(ctx, r.ID); err != nil {
			r.log.Debug("heartbeat not ended: this replica counts for some seconds more", "error", err)
		} else {
			r.announce(ctx, redisstore.EventReplicaLeft)
		}
	}
	r.Fallback.Close()
	r.Store.Close()
	if err := r.Conn.Close(); err != nil {
		r.log.Debug("redis client not closed cleanly", "error", err)
	}
	return unsent
}
