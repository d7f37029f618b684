package fleet

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/breakerd/breakerd/internal/replica"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// Fleet is this process as a replica of a fleet. It is safe for concurrent use. Its zero value is not usable.
type Fleet struct {
	replica *replica.Replica
	close   sync.Once
	closed  error
}

// joinTimeout bounds how long Join waits for Redis.
const joinTimeout = 3 * time.Second

// Join joins the fleet whose breakers are in the Redis at url, in one of the forms of [redisstore.Open]. "" makes a
// fleet of this process alone, in memory, and logs that.
//
// An error means that url or Options are wrong, or that Redis answers and refuses: a wrong password, a server that is
// too old or of another kind (a [*redisstore.SettingsError]). A Redis that is away is not an error unless
// Options.RequireStore is set: this replica answers from its memory until Redis is back. Join waits for Redis three
// seconds at most, and no longer than ctx. A Fleet must be closed.
func Join(ctx context.Context, url string, o Options) (*Fleet, error) {
	ro, err := o.replica(url)
	if err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	if url == "" {
		ro.Store = breaker.NewMemory(nil, ro.MaxAgents)
		f, err := alone(ro)
		if err == nil {
			f.replica.Log().Warn("no Redis: breakers are in this process's memory, shared with nobody and lost when it ends")
		}
		return f, err
	}
	redisstore.SetClientLogger(ro.Logger)
	r, err := replica.New(ctx, ro)
	if err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	if err := start(ctx, r, o.RequireStore); err != nil {
		_ = r.Stop(ctx, false) // it has sent nothing
		return nil, fmt.Errorf("fleet: %w", err)
	}
	return &Fleet{replica: r}, nil
}

// start starts a replica, and returns why Redis cannot be joined.
func start(ctx context.Context, r *replica.Replica, required bool) error {
	own, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	err := r.Check(own)
	if ended := contextError(ctx); ended != nil {
		return ended
	}
	if _, refuses := errors.AsType[*redisstore.SettingsError](err); refuses || required && err != nil {
		return err
	}
	r.Start(ctx)
	if err != nil {
		r.Log().Error("Redis does not answer: this replica answers from its memory until it does", "error", err)
		return nil
	}
	r.Following(own)
	return nil
}

// contextError is ctx.Err(), a moment earlier: a connection has the deadline of ctx, and may meet it before ctx does.
func contextError(ctx context.Context) error {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= 0 {
		return context.DeadlineExceeded
	}
	return ctx.Err()
}

// New makes a fleet of this process alone, on a store of one's own. The error names what is wrong with store or o, of
// which RequireStore and Embedded have no meaning here.
func New(store breaker.Store, o Options) (*Fleet, error) {
	ro, err := o.replica("")
	if err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	if ro.Store = store; store == nil {
		return nil, fmt.Errorf("fleet: store: %w", breaker.ErrUnset)
	}
	return alone(ro)
}

// alone makes a fleet of one process.
func alone(ro replica.Options) (*Fleet, error) {
	r, err := replica.New(context.Background(), ro)
	if err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	r.Start(context.Background())
	r.Following(context.Background())
	return &Fleet{replica: r}, nil
}

// Manager returns the Manager, for what takes one: package breakerhttp, and [breaker.Call]. Close closes it. The zero
// Fleet has none.
func (f *Fleet) Manager() *breaker.Manager {
	if f == nil || f.replica == nil {
		return nil
	}
	return f.replica.Manager
}

// ID returns this replica's name.
func (f *Fleet) ID() string {
	if f.Manager() == nil {
		return ""
	}
	return f.replica.ID
}

// Do is [breaker.Manager.Do].
func (f *Fleet) Do(ctx context.Context, agent string, fn func(context.Context) error) error {
	return f.Manager().Do(ctx, agent, fn)
}

// Acquire is [breaker.Manager.Acquire].
func (f *Fleet) Acquire(ctx context.Context, agent string) (breaker.Permit, error) {
	return f.Manager().Acquire(ctx, agent)
}

// Agent is [breaker.Manager.Agent].
func (f *Fleet) Agent(name string) (*breaker.Agent, error) { return f.Manager().Agent(name) }

// Record is [breaker.Manager.Record].
func (f *Fleet) Record(ctx context.Context, agent string, o breaker.Outcome) (breaker.Report, error) {
	return f.Manager().Record(ctx, agent, o)
}

// Wait is [breaker.Manager.Wait]: it returns when a call may be tried.
func (f *Fleet) Wait(ctx context.Context, agent string) error { return f.Manager().Wait(ctx, agent) }

// Inspect is [breaker.Manager.Inspect].
func (f *Fleet) Inspect(ctx context.Context, agent string) (breaker.View, breaker.Policy, error) {
	return f.Manager().Inspect(ctx, agent)
}

// State returns the state of an agent's breaker now; that of an agent that nobody has called is closed. The error is as
// for Inspect.
func (f *Fleet) State(ctx context.Context, agent string) (breaker.State, error) {
	v, _, err := f.Inspect(ctx, agent)
	return v.State, err
}

// List returns the state of the breaker of each agent that the fleet knows: those that were called within 30 days, or
// are registered or overridden. It has an edit of the keys by hand after at most 10 seconds. Without Redis it is those
// that this process has used within a day. The error is the context's or a [*breaker.StoreError]; then the map has what
// was read.
func (f *Fleet) List(ctx context.Context) (map[string]breaker.State, error) {
	if f.Manager() == nil {
		return nil, f.unset()
	}
	return f.replica.States(ctx)
}

// Open is [breaker.Manager.Open]: it holds an agent's breaker open, for all replicas.
func (f *Fleet) Open(ctx context.Context, agent string, h breaker.Hold) error {
	return f.Manager().Open(ctx, agent, h)
}

// Reset is [breaker.Manager.Reset]: it lets an agent's breaker begin anew, for all replicas.
func (f *Fleet) Reset(ctx context.Context, agent string, r breaker.Reset) error {
	return f.Manager().Reset(ctx, agent, r)
}

// Release is [breaker.Manager.Release]: it ends the hold of an agent's breaker, for all replicas.
func (f *Fleet) Release(ctx context.Context, agent string, r breaker.Release) error {
	return f.Manager().Release(ctx, agent, r)
}

// Configure replaces an agent's override, for all replicas, by the fields of p that are not zero; if there are none, it
// removes it. Another replica follows within a second. The error is [breaker.ErrBadName], a [*breaker.PolicyError] if
// the agent's policy would not be valid, the context's or a [*breaker.StoreError].
func (f *Fleet) Configure(ctx context.Context, agent string, p breaker.Policy) error {
	if f.Manager() == nil {
		return f.unset()
	}
	return f.replica.Configure(ctx, agent, p, f.replica.ID)
}

// Close sends the outcomes that were not sent yet, logs the figures of each agent, and leaves the fleet. It returns
// once all has ended, which takes no longer than ctx and a few seconds: an OnStateChange or PerAgent that does not
// return by then is left behind, and logged. The error says that outcomes were not sent. Further calls return the
// same. No call is to be made with the Fleet any more: it would be answered from this process's memory and its outcome
// lost, and Wait returns [breaker.ErrManagerClosed].
func (f *Fleet) Close(ctx context.Context) error {
	if f.Manager() == nil {
		return f.unset()
	}
	f.close.Do(func() { f.closed = f.replica.Stop(ctx, true) })
	return f.closed
}

func (f *Fleet) unset() error { return fmt.Errorf("Fleet: %w", breaker.ErrUnset) }
