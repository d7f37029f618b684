package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// Config says how a Store uses its connection. The zero value is usable.
type Config struct {
	Prefix    string        // of all keys; "" means circuit_breaker
	MaxAgents int           // agents in the index, MAX_AGENTS; 0 means 100,000
	TTL       time.Duration // REDIS_TTL_SECONDS; 0 means one hour [B25]
	History   int           // HISTORY_MINUTES, up to 1440: how far :history goes back; 0 keeps none
	Timeout   time.Duration // no operation waits longer, retries included; 0 means DefaultTimeout
	// RoundTrips is how many round trips of this process run at once; what comes meanwhile shares the next. 0 means 2, above
	// which more stopped helping (docs/performance.md).
	RoundTrips int
}

// Store is a breaker.Store on Redis. It is safe for concurrent use.
type Store struct {
	client    redis.UniversalClient
	keys      Keys
	events    any // the channel's name
	scripts   map[string]script
	ttl       time.Duration
	maxAgents int
	timeout   time.Duration
	dispatch  *dispatcher
	agents    *agents
	known     atomic.Pointer[knownPolicy] // the one that was packed last
	replicas  atomic.Int64
	policies  sync.Map // breaker.Params -> *packedPolicy
	packs     atomic.Int64
	history   int64         // minutes
	nowMs     func() string // "" in production: the server's clock. Only tests of this package can set it, and
	shifted   bool          // that an operation brings its own ShiftMs.
}

var _ breaker.Store = (*Store)(nil)

// New makes a Store on a client. cluster says that it speaks to a Redis Cluster.
func New(client redis.UniversalClient, cluster bool, c Config) (*Store, error) {
	scripts, err := loadScripts()
	if err != nil {
		return nil, err
	}
	if c.Prefix == "" {
		c.Prefix = "circuit_breaker"
	}
	if strings.ContainsAny(c.Prefix, "{}* ?[]\\\r\n\x00") {
		return nil, fmt.Errorf("key prefix %q: braces, blanks and glob characters are not allowed", c.Prefix)
	}
	if c.TTL <= 0 {
		c.TTL = time.Hour
	}
	if c.Timeout <= 0 {
		c.Timeout = DefaultTimeout
	}
	if c.RoundTrips <= 0 {
		c.RoundTrips = 2
	}
	if c.MaxAgents <= 0 {
		c.MaxAgents = 100_000
	}
	s := &Store{
		maxAgents: c.MaxAgents,
		client:    client, keys: Keys{Prefix: c.Prefix, Cluster: cluster}, scripts: scripts, ttl: c.TTL,
		timeout: c.Timeout, history: int64(min(max(c.History, 0), 1440)), nowMs: func() string { return "" },
	}
	s.events, s.agents = s.keys.Events(), newAgents(s.keys, c.MaxAgents)
	s.dispatch = newDispatcher(c.RoundTrips, s.send, c.Timeout)
	return s, nil
}

// Keys is how this store names its keys.
func (s *Store) Keys() Keys { return s.keys }

// SetReplicas tells how many replicas are alive, for minimum_reporters [B23]; 0: unknown.
func (s *Store) SetReplicas(n int) { s.replicas.Store(int64(n)) }

// Ping asks whether scripts may write what takes memory and, on a Cluster, whether every master is up: with that a store that was
// down is up again. Its key lives a millisecond. The error is a [*SettingsError] where that says more.
func (s *Store) Ping(ctx context.Context) error {
	if cc, ok := s.client.(*redis.ClusterClient); ok {
		err := cc.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error { return c.Ping(ctx).Err() })
		if err != nil {
			return fmt.Errorf("ping: %w", advise(err))
		}
	}
	err := s.client.Eval(ctx, "return redis.call('SET', KEYS[1], '1', 'PX', 1)", []string{s.keys.Prefix + ":ping"}).Err()
	if err != nil {
		return fmt.Errorf("ping: %w", advise(err))
	}
	return nil
}

// Apply runs op's script, or reads what says that a breaker is plainly closed: one round trip, shared with concurrent callers.
// Those who ask for leave to call one plainly closed agent at the same time share the answer, and successes of one epoch that
// wait for the same trip are joined into one record.
func (s *Store) Apply(ctx context.Context, agent string, p breaker.Policy, op machine.Op) (machine.Result, error) {
	until := s.dispatch.limit.context()
	r, _, err := s.dispatch.do(ctx, until, s.call(agent, &p, &op))
	if err != nil && cannotHaveRun(err) {
		r, err = s.applyAgain(ctx, until, err, agent, p, op)
	}
	if err != nil {
		return machine.Result{}, WrapError(op.Verb, agent, err)
	}
	if s.keys.Cluster && len(r.Events) > 0 {
		s.tell(ctx, agent, r)
	}
	return r, nil
}

// params is a policy as the scripts follow it here.
func (s *Store) params(p *breaker.Policy, replicas int64) machine.Params {
	out := p.Params(s.ttl, int(replicas))
	out.HistoryMinutes = s.history
	return out
}

// applyAgain is apart from Apply, for what its function captures is allocated.
func (s *Store) applyAgain(ctx, until context.Context, last error, agent string, p breaker.Policy, op machine.Op) (r machine.Result, err error) {
	err = s.again(ctx, until, last, func(ctx context.Context) (err error) {
		r, _, err = s.dispatch.do(ctx, until, s.call(agent, &p, &op))
		return err
	})
	return r, err
}

// call is op as it is sent.
func (s *Store) call(agent string, p *breaker.Policy, op *machine.Op) *call {
	c := s.dispatch.call()
	e := s.agents.of(agent)
	c.script, c.agent, c.keys, c.op = s.scripts[string(op.Verb)], e, e.keys, *op
	c.policy = s.packedFor(e, p)
	if s.shifted {
		c.policy = c.policy.shifted(op.ShiftMs)
	}
	sum := &op.Summary
	switch {
	case op.Verb == machine.VerbAcquire:
		c.share = shareAcquire
		if !p.Disabled {
			c.hint, c.short = &e.hints.closed, plainReply
		}
	case op.Verb == machine.VerbRecord && op.ReportID != "":
		c.keys = append(slices.Clip(e.keys), s.keys.Report(agent, op.ReportID))
	case op.Verb == machine.VerbReplay:
		c.keys = append(slices.Clip(e.keys), s.keys.Replay(agent, op.Token))
	case op.Verb == machine.VerbRecord && op.Epoch != "" && op.Token == "" && sum.Successes > 0 && sum.Failures+sum.Slow == 0:
		c.share = shareRecord
		if !p.Disabled && !s.keys.Cluster {
			c.hint, c.short = &e.hints.calm, calmReply
		}
	}
	return c
}

// plainReply is the length of the short answer to an acquire: ok, closed, epoch.
const plainReply = 3

// calmReply is the length of the shortest answer to a record: ok, closed, epoch, now.
const calmReply = 4

// Inspect reads the keys and advances them in memory; nothing is saved [B11].
func (s *Store) Inspect(ctx context.Context, agent string, p breaker.Policy) (breaker.View, error) {
	reply, err := s.script(ctx, "inspect", s.keys.Machine(agent), []any{s.nowMs()})
	if err != nil {
		return breaker.View{}, WrapError("inspect", agent, err)
	}
	raw, now, err := parseRaw(reply)
	if err != nil {
		return breaker.View{}, WrapError("inspect", agent, err)
	}
	return look(raw, now, s.params(&p, s.replicas.Load())), nil
}

func look(raw machine.Raw, now int64, p machine.Params) breaker.View {
	after, _ := machine.Step(p, machine.Load(raw), machine.Op{Verb: machine.VerbInspect, Draw: machine.ZeroEpoch[1:]}, now)
	v := breaker.View{Snapshot: after, NowMs: now}
	for _, line := range raw.Log {
		if e, ok := machine.ParseEvent(line); ok {
			v.Log = append(v.Log, e)
		}
	}
	return v
}

// again repeats try, of which last is the error so far, while that says that nothing has run, and until is not near.
func (s *Store) again(ctx, until context.Context, last error, try func(context.Context) error) error {
	deadline, _ := until.Deadline()
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	retry := backoff.NewExponentialBackOff()
	retry.InitialInterval, retry.MaxInterval = 5*time.Millisecond, 50*time.Millisecond
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		if time.Until(deadline) < s.timeout/10 { // too late to tell a try that was not sent from one that was
			return struct{}{}, backoff.Permanent(last)
		}
		if last = try(ctx); last != nil && !cannotHaveRun(last) {
			return struct{}{}, backoff.Permanent(last)
		}
		return struct{}{}, last
	}, backoff.WithBackOff(retry), backoff.WithMaxElapsedTime(0))
	if err != nil && last != nil { // the deadline would hide that nothing has run
		return last
	}
	return err
}

// script runs one of the scripts that nobody shares.
func (s *Store) script(ctx context.Context, verb string, keys []string, args []any) (reply []any, err error) {
	until := s.dispatch.limit.context()
	try := func(ctx context.Context) (err error) {
		c := s.dispatch.call()
		c.script, c.args = s.scripts[verb], args
		for _, k := range keys {
			c.keys = append(c.keys, k)
		}
		_, reply, err = s.dispatch.do(ctx, until, c)
		return err
	}
	if err = try(ctx); err != nil && cannotHaveRun(err) {
		err = s.again(ctx, until, err, try)
	}
	return reply, err
}

// refusals are the beginnings of error replies that Redis gives before it runs anything.
func refusals() []string {
	return []string{"NOSCRIPT", "READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS", "ERR max number of clients"}
}

// cannotHaveRun says that a command may be sent again without being carried out twice.
func cannotHaveRun(err error) bool {
	if _, ok := errors.AsType[*DialError](err); ok {
		return true
	}
	for _, r := range refusals() {
		if redis.HasErrorPrefix(err, r) {
			return true
		}
	}
	return false
}

// WrapError makes a [breaker.StoreError] of an error of a Conn's client. It is Unknown unless it says that the command has not run.
// It is for authors of what stands beside a Store.
func WrapError(verb machine.Verb, agent string, err error) error {
	var reply redis.Error
	return &breaker.StoreError{Verb: verb, Agent: agent, Err: err, Unknown: !cannotHaveRun(err) && !errors.As(err, &reply) &&
		!errors.Is(err, errNotSent)}
}
