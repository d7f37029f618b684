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
	MaxAgents int           // MAX_AGENTS: how many agents have the names of their keys cached; 0 means 100,000
	TTL       time.Duration // REDIS_TTL_SECONDS [B25]; 0 means one hour
	History   int           // HISTORY_MINUTES: how far :history goes back, up to 1440; 0 keeps none
	Timeout   time.Duration // REDIS_TIMEOUT_MS: bounds an operation, all steps and retries; 0 means DefaultTimeout
	// OnRetry gets the error of a call before it is sent again. nil: nobody. It must be quick.
	OnRetry func(err error)
	// OnReturn is called for each lease that was given to a caller who had gone, or whose answer was lost, and that is
	// given back now [B12]. nil: nobody. It must be quick.
	OnReturn func(agent string)
	// OnEvent is called for each event of [Store.Configure] and [Store.Forget], and for each event of an operation whose
	// caller had gone when the answer came, in place of the
	// Result's Events. nil: nobody. It must be quick.
	OnEvent func(agent string, e breaker.Event)
}

// Store is a breaker.Store on Redis. It is safe for concurrent use. Close ends what it does in the background.
type Store struct {
	client   redis.UniversalClient
	keys     Keys
	scripts  map[string]script
	ttl      time.Duration
	timeout  time.Duration
	onRetry  func(err error)
	onReturn func(agent string)
	onEvent  func(agent string, e breaker.Event)
	orphans  orphans
	history  int64 // minutes
	dispatch *dispatcher
	agents   *agents
	replicas atomic.Int64
	policies sync.Map // breaker.Params -> *packedPolicy
	packs    atomic.Int64
	nowMs    func() string // "" in production: the server's clock. Only tests of this package can set it, and
	shifted  bool          // that an operation brings its own ShiftMs and UselessAfterMs.
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
	if c.OnReturn == nil {
		c.OnReturn = func(string) {}
	}
	if c.OnEvent == nil {
		c.OnEvent = func(string, breaker.Event) {}
	}
	s := &Store{
		onRetry: c.OnRetry, onReturn: c.OnReturn, onEvent: c.OnEvent,
		client: client, keys: Keys{Prefix: c.Prefix, Cluster: cluster}, scripts: scripts, ttl: c.TTL,
		timeout: c.Timeout, history: int64(min(max(c.History, 0), 1440)), nowMs: func() string { return "" },
	}
	s.agents = newAgents(s.keys, cmp.Or(max(c.MaxAgents, 0), 100_000))
	s.dispatch = newDispatcher(maxRoundTrips, s.send, c.Timeout)
	s.dispatch.gone = s.gone
	s.orphans.closing = make(chan struct{})
	return s, nil
}

// Keys names this store's keys. It is for authors of what reads or writes beside a Store.
func (s *Store) Keys() Keys { return s.keys }

// SetReplicas says how many replicas are up, for minimum_reporters [B23]; 0: unknown, which counts as one. It is for
// authors of replicas: package fleet calls it.
func (s *Store) SetReplicas(n int) { s.replicas.Store(int64(n)) }

// Ping returns nil if the store is up, for breaker.FallbackOptions: if a script can write a key, which lives a
// millisecond, and on a Cluster every master answers. A server that only answers, but is full or a read-only replica,
// is not up. The error wraps a [*SettingsError] if no waiting helps.
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

// Apply carries out op, in a round trip that concurrent callers share. Acquires of one agent that are sent at once
// share an answer that gives no lease, and successes in one epoch are joined into one record.
func (s *Store) Apply(ctx context.Context, agent string, p breaker.Policy, op machine.Op) (machine.Result, error) {
	until, e := s.dispatch.limit.context(), s.agents.of(agent)
	if op.Verb == machine.VerbAcquire && !s.shifted {
		op.UselessAfterMs = e.clock.at(givesUp(ctx, until))
	}
	r, err := s.ask(ctx, until, e, &p, &op)
	if op.Verb == machine.VerbAcquire && (err != nil || r.LeaseMs > 0 || r.Code == machine.CodeExpired) {
		return s.lease(ctx, until, e, p, op, r, err)
	}
	return s.finish(ctx, op.Verb, agent, r, err)
}

// ask sends an operation, again where that is harmless.
func (s *Store) ask(
	ctx, until context.Context, e *entry, p *breaker.Policy, op *machine.Op,
) (machine.Result, error) {
	r, _, err := s.dispatch.do(ctx, until, s.callOf(e, p, op))
	if err != nil {
		return s.askAgain(ctx, until, err, e, *p, *op)
	}
	return r, nil
}

// askAgain is not part of ask, because what its function captures is allocated.
func (s *Store) askAgain(
	ctx, until context.Context, last error, e *entry, p breaker.Policy, op machine.Op,
) (r machine.Result, err error) {
	err = s.again(ctx, until, last, idempotent(&op), func(ctx context.Context) (err error) {
		c := s.callOf(e, &p, &op)
		if wasCut(last) { // its token may have a lease, which another's answer does not tell
			c.sendAlone()
		}
		r, _, err = s.dispatch.do(ctx, until, c)
		return err
	})
	r.Repeated = wasCut(last)
	return r, err
}

// finish makes the answer of an operation. An error may stand beside events.
func (s *Store) finish(
	ctx context.Context, verb machine.Verb, agent string, r machine.Result, err error,
) (machine.Result, error) {
	if s.keys.Cluster && len(r.Events) > 0 {
		s.writeFleet(context.WithoutCancel(ctx), agent, r) // what has happened, also if the caller has gone
	}
	if err != nil {
		return machine.Result{Events: r.Events}, WrapError(verb, agent, err)
	}
	return r, nil
}

// params is a policy as the scripts follow it here.
func (s *Store) params(p *breaker.Policy, replicas int64) machine.Params {
	out := p.WithDefaults().Params(s.ttl, int(replicas)) // a Manager has filled them in; others may not have
	out.HistoryMinutes = s.history
	return out
}

// Lengths of the replies after which the short form will do: {ok, closed, epoch} to an acquire, {ok, closed, epoch,
// now} to a record.
const (
	plainReply = 3
	calmReply  = 4
)

// callOf is op as it is sent.
func (s *Store) callOf(e *entry, p *breaker.Policy, op *machine.Op) *call {
	c := s.dispatch.newCall()
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
		c.keys = append(slices.Clip(e.keys), s.keys.Report(e.agent, op.ReportID))
	case op.Verb == machine.VerbForce && op.Force.ID != "":
		c.keys = append(slices.Clip(e.keys), s.keys.Action(e.agent, op.Force.ID))
	case op.Verb == machine.VerbReplay:
		c.keys = append(slices.Clip(e.keys), s.keys.Replay(e.agent, op.Token))
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
	raw, now, err := s.read(ctx, agent)
	if err != nil {
		return breaker.View{}, err
	}
	return look(raw, now, s.params(&p, s.replicas.Load())), nil
}

// read reads all keys of an agent's machine at one moment, and the clock.
func (s *Store) read(ctx context.Context, agent string) (raw machine.Raw, nowMs int64, err error) {
	reply, err := s.script(ctx, "inspect", s.keys.Machine(agent), []any{s.nowMs()})
	if err != nil {
		return raw, 0, WrapError("inspect", agent, err)
	}
	if raw, nowMs, err = parseRaw(reply); err != nil {
		return raw, 0, WrapError("inspect", agent, unreadable(err))
	}
	return raw, nowMs, nil
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

// again sends a call again, whose last error is given: as often as its errors say that it cannot have run; and once, if
// that is idempotent, when the connection was cut.
func (s *Store) again(ctx, until context.Context, last error, idempotent bool, try func(context.Context) error) error {
	if cannotHaveRun(last) {
		return s.retry(ctx, until, last, try)
	}
	if !idempotent || !wasCut(last) || ctx.Err() != nil || s.late(until) {
		return last
	}
	s.onRetry(last)
	err := try(ctx)
	if err != nil && cannotHaveRun(err) {
		err = s.retry(ctx, until, err, try)
	}
	if err != nil && !errors.Is(last, errNotRun) {
		return resentError{err}
	}
	return err
}

// late says that until is so near that a try which was sent could not be told from one that was not.
func (s *Store) late(until context.Context) bool {
	deadline, _ := until.Deadline()
	return time.Until(deadline) < s.timeout/10
}

// retry repeats try, whose last error says that nothing has run, while its errors say so and until is not near.
func (s *Store) retry(ctx, until context.Context, last error, try func(context.Context) error) error {
	deadline, _ := until.Deadline()
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = 5*time.Millisecond, 50*time.Millisecond
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		if s.late(until) {
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
	if err = try(ctx); err != nil {
		err = s.again(ctx, until, err, verb == "inspect", try)
	}
	return reply, err
}
