package redisstore

import (
	"cmp"
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

// Config is how a Store uses its client. The zero value is usable.
type Config struct {
	Prefix    string        // of all keys; "" means circuit_breaker
	MaxAgents int           // MAX_AGENTS: of so many agents the names of the keys are cached; 0 means 100,000
	TTL       time.Duration // REDIS_TTL_SECONDS [B25]; 0 means one hour
	History   int           // HISTORY_MINUTES: how far :history goes back, up to 1440; 0 keeps none
	Timeout   time.Duration // REDIS_TIMEOUT_MS: no operation takes longer, retries included; 0 means DefaultTimeout
	// OnRetry gets the error of a call that cannot have run, before it is sent again. nil: nobody. It must be quick.
	OnRetry func(err error)
}

// Store is a breaker.Store on Redis. It is safe for concurrent use.
type Store struct {
	client   redis.UniversalClient
	keys     Keys
	scripts  map[string]script
	ttl      time.Duration
	timeout  time.Duration
	onRetry  func(err error)
	history  int64 // minutes
	dispatch *dispatcher
	agents   *agents
	replicas atomic.Int64
	policies sync.Map // breaker.Params -> *packedPolicy
	packs    atomic.Int64
	nowMs    func() string // "" in production: the server's clock. Only tests of this package can set it, and
	shifted  bool          // that an operation brings its own ShiftMs.
}

var _ breaker.Store = (*Store)(nil)

// New makes a Store on a client. cluster says that the client's server is a Redis Cluster.
func New(client redis.UniversalClient, cluster bool, c Config) (*Store, error) {
	scripts, err := loadScripts()
	if err != nil {
		return nil, err
	}
	c.Prefix = cmp.Or(c.Prefix, "circuit_breaker")
	if strings.ContainsAny(c.Prefix, "{}* ?[]\\\r\n\x00") {
		return nil, fmt.Errorf("key prefix %q: braces, blanks and glob characters are not allowed", c.Prefix)
	}
	c.TTL = cmp.Or(max(c.TTL, 0), time.Hour)
	c.Timeout = cmp.Or(max(c.Timeout, 0), DefaultTimeout)
	if c.OnRetry == nil {
		c.OnRetry = func(error) {}
	}
	s := &Store{
		onRetry: c.OnRetry,
		client:  client, keys: Keys{Prefix: c.Prefix, Cluster: cluster}, scripts: scripts, ttl: c.TTL,
		timeout: c.Timeout, history: int64(min(max(c.History, 0), 1440)), nowMs: func() string { return "" },
	}
	s.agents = newAgents(s.keys, cmp.Or(max(c.MaxAgents, 0), 100_000))
	s.dispatch = newDispatcher(maxRoundTrips, s.send, c.Timeout)
	return s, nil
}

// Keys names this store's keys. It is for authors of what reads or writes beside a Store.
func (s *Store) Keys() Keys { return s.keys }

// SetReplicas says how many replicas are up, for minimum_reporters [B23]; 0: unknown.
func (s *Store) SetReplicas(n int) { s.replicas.Store(int64(n)) }

// Ping asks whether scripts may write what takes memory and, on a Cluster, whether every master is up: with that a
// store that was down is up again. Its key lives a millisecond. The error is a [*SettingsError] where that says more.
func (s *Store) Ping(ctx context.Context) error {
	if cc, ok := s.client.(*redis.ClusterClient); ok {
		err := cc.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error { return c.Ping(ctx).Err() })
		if err != nil {
			return fmt.Errorf("ping: %w", advise(err))
		}
	}
	err := s.client.Eval(ctx, "return redis.call('SET', KEYS[1], '1', 'PX', 1)", []string{s.keys.ping()}).Err()
	if err != nil {
		return fmt.Errorf("ping: %w", advise(err))
	}
	return nil
}

// Apply carries out op, in a round trip that concurrent callers share. Acquires of one plainly closed agent that are
// sent at once share the answer, and successes in one epoch are joined into one record.
func (s *Store) Apply(ctx context.Context, agent string, p breaker.Policy, op machine.Op) (machine.Result, error) {
	until := s.dispatch.limit.context()
	r, _, err := s.dispatch.do(ctx, until, s.callOf(agent, &p, &op))
	if err != nil && cannotHaveRun(err) {
		r, err = s.applyAgain(ctx, until, err, agent, p, op)
	}
	if err != nil {
		return machine.Result{}, WrapError(op.Verb, agent, err)
	}
	if s.keys.Cluster && len(r.Events) > 0 {
		s.writeFleet(ctx, agent, r)
	}
	return r, nil
}

// params is a policy as the scripts follow it here.
func (s *Store) params(p *breaker.Policy, replicas int64) machine.Params {
	out := p.Params(s.ttl, int(replicas))
	out.HistoryMinutes = s.history
	return out
}

// applyAgain is not part of Apply, because what its function captures is allocated.
func (s *Store) applyAgain(
	ctx, until context.Context, last error, agent string, p breaker.Policy, op machine.Op,
) (r machine.Result, err error) {
	err = s.retry(ctx, until, last, func(ctx context.Context) (err error) {
		r, _, err = s.dispatch.do(ctx, until, s.callOf(agent, &p, &op))
		return err
	})
	return r, err
}

// Lengths of the replies after which the short form will do: {ok, closed, epoch} to an acquire, {ok, closed, epoch,
// now} to a record.
const (
	plainReply = 3
	calmReply  = 4
)

// callOf is op as it is sent.
func (s *Store) callOf(agent string, p *breaker.Policy, op *machine.Op) *call {
	c := s.dispatch.newCall()
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
			c.hint, c.shortReply = &e.hints.acquire, plainReply
		}
	case op.Verb == machine.VerbRecord && op.ReportID != "":
		c.keys = append(slices.Clip(e.keys), s.keys.Report(agent, op.ReportID))
	case op.Verb == machine.VerbReplay:
		c.keys = append(slices.Clip(e.keys), s.keys.Replay(agent, op.Token))
	case op.Verb == machine.VerbRecord && op.Epoch != "" && op.Token == "" &&
		sum.Successes > 0 && sum.Failures+sum.Slow == 0:
		c.share = shareRecord
		if !p.Disabled && !s.keys.Cluster {
			c.hint, c.shortReply = &e.hints.record, calmReply
		}
	}
	return c
}

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
	op := machine.Op{Verb: machine.VerbInspect, Draw: machine.ZeroEpoch[1:]}
	after, _ := machine.Step(p, machine.Load(raw), op, now)
	v := breaker.View{Snapshot: after, NowMs: now}
	for _, line := range raw.Log {
		if e, ok := machine.ParseEvent(line); ok {
			v.Log = append(v.Log, e)
		}
	}
	return v
}

// retry repeats try, whose last error says that nothing has run, while its errors say so and until is not near.
func (s *Store) retry(ctx, until context.Context, last error, try func(context.Context) error) error {
	deadline, _ := until.Deadline()
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = 5*time.Millisecond, 50*time.Millisecond
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		if time.Until(deadline) < s.timeout/10 { // too late to tell a try that was not sent from one that was
			return struct{}{}, backoff.Permanent(last)
		}
		s.onRetry(last)
		if last = try(ctx); last != nil && !cannotHaveRun(last) {
			return struct{}{}, backoff.Permanent(last)
		}
		return struct{}{}, last
	}, backoff.WithBackOff(pause), backoff.WithMaxElapsedTime(0))
	if err != nil && last != nil { // the deadline's error would hide that nothing has run
		return last
	}
	return err
}

// script runs a script that is not one of the machine's.
func (s *Store) script(ctx context.Context, verb string, keys []string, args []any) (reply []any, err error) {
	until := s.dispatch.limit.context()
	try := func(ctx context.Context) (err error) {
		c := s.dispatch.newCall()
		c.script, c.args = s.scripts[verb], args
		for _, k := range keys {
			c.keys = append(c.keys, k)
		}
		_, reply, err = s.dispatch.do(ctx, until, c)
		return err
	}
	if err = try(ctx); err != nil && cannotHaveRun(err) {
		err = s.retry(ctx, until, err, try)
	}
	return reply, err
}

// refusals are how error replies begin that Redis gives before it runs anything.
func refusals() []string {
	return []string{
		"NOSCRIPT", "READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS",
		"ERR max number of clients",
	}
}

// cannotHaveRun says that a command may be sent again without being carried out twice.
func cannotHaveRun(err error) bool {
	_, notConnected := errors.AsType[*dialError](err)
	return notConnected || slices.ContainsFunc(refusals(), func(r string) bool { return redis.HasErrorPrefix(err, r) })
}

// WrapError makes a [breaker.StoreError] of an error of a Conn's client. It is Unknown unless it says that the command
// has not run. It is for authors of what stands beside a Store.
func WrapError(verb machine.Verb, agent string, err error) error {
	var refused redis.Error
	unknown := !cannotHaveRun(err) && !errors.As(err, &refused) && !errors.Is(err, errNotSent)
	return &breaker.StoreError{Verb: verb, Agent: agent, Err: err, Unknown: unknown}
}
