package redisstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// DefaultTimeout is REDIS_TIMEOUT_MS when it is not set.
const DefaultTimeout = 250 * time.Millisecond

const (
	// sentinelDialFactor is how many time-outs a dial through Sentinel gets:
	// go-redis asks the sentinel it knows, asks it once more under a lock, asks
	// all of them, and then dials the master. With a single time-out for all of
	// it, two equal deadlines would race for whether a sentinel that hangs is
	// given up. A caller does not wait so long: its own context ends the wait.
	sentinelDialFactor = 4

	// clusterRedirects bounds how often the cluster client follows MOVED and
	// ASK. It is also how often it sends again a command that has not NoRetry.
	clusterRedirects = 3
)

// Options completes a URL. The zero value is usable.
type Options struct {
	// Timeout bounds each of dialling, writing, reading and waiting for a free
	// connection. 0 means DefaultTimeout.
	Timeout time.Duration

	// Username, Password and SentinelPassword, where not empty, replace what
	// the URL says (REDIS_PASSWORD_FILE and its like).
	Username, Password, SentinelPassword string

	// PoolSize is the number of connections, per node in a cluster. 0 means
	// go-redis's default.
	PoolSize int

	// Embedded starts the Redis that embedded:// names: embedded.Start, of the package embedded below this one. Other URLs do
	// not need it.
	Embedded func(listen string) (Engine, error)

	// Logger gets what happens besides the calls: certificates re-read, an
	// embedded store in use. nil means none.
	Logger *slog.Logger
}

// Engine is a Redis in this process. It is for authors of engines: a program hands one over with [Options].Embedded.
type Engine interface {
	// Dial connects to it, whatever the address. It fails after Close.
	Dial(ctx context.Context, network, addr string) (net.Conn, error)
	// Addr is the address at which it listens, "" if it does not.
	Addr() string
	// Close ends it and its connections.
	Close()
}

// Conn is a client and what belongs to it. Its fields must not be changed.
// Its methods may be called concurrently.
//
// The client sends a command once: MaxRetries is off, for a command that timed
// out may have run. Only a cluster client still sends again, up to three times,
// commands whose NoRetry method does not forbid it.
type Conn struct {
	Client   redis.UniversalClient
	Cluster  bool   // Redis Cluster: a script's keys need one slot
	Embedded bool   // the server is in this process, and keeps nothing
	Display  string // the URL with every secret hidden

	engine    Engine // nil for a real server
	closeOnce sync.Once
	closeErr  error
}

// DialError says that no connection came about, so that the command it is
// returned for was never sent and may be sent again.
type DialError struct {
	Addr string // as it was asked for; behind Sentinel the master's name
	Err  error
}

func (e *DialError) Error() string { return fmt.Sprintf("connect to redis %s: %v", e.Addr, e.Err) }

// Unwrap returns a slice because go-redis takes one layer off the errors of its
// handshake by errors.Unwrap, which lets this form alone.
func (e *DialError) Unwrap() []error { return []error{e.Err} }

// Open validates rawURL and o and builds the client. It does not connect: a
// Redis that is away is met by the first command, and Check. Errors never hold
// a password. The caller owns the Conn and must Close it.
func Open(ctx context.Context, rawURL string, o Options) (*Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("open redis: %w", err)
	}
	t, err := parseURL(rawURL)
	if err != nil {
		return nil, err
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Conn{Display: Redact(rawURL), Cluster: t.kind == urlCluster}
	if err := c.build(ctx, t, o); err != nil {
		return nil, fmt.Errorf("redis url %q: %w", c.Display, err)
	}
	return c, nil
}

// override applies what Options says beside the URL.
func (o *Options) override(t *redisTarget) error {
	if o.Timeout < 0 || o.PoolSize < 0 {
		return errors.New("the time-out and the pool size must not be negative")
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	for _, f := range []struct {
		to   *string
		from string
	}{{&t.user, o.Username}, {&t.password, o.Password}, {&t.sentinelPassword, o.SentinelPassword}} {
		if f.from != "" {
			*f.to = f.from
		}
	}
	// go-redis does not authenticate without a password: it would silently be
	// the default user.
	switch {
	case t.user != "" && t.password == "":
		return errors.New("a user without a password (a password alone is written :password@host)")
	case t.sentinelUser != "" && t.sentinelPassword == "":
		return errors.New("sentinel_username without sentinel_password")
	}
	return nil
}

func (c *Conn) build(ctx context.Context, t redisTarget, o Options) error {
	if t.kind == urlEmbedded {
		o.Username, o.Password, o.SentinelPassword = "", "", ""
	}
	if err := o.override(&t); err != nil {
		return err
	}
	var dial dialFunc
	if t.tls {
		d, err := newTLSDialer(t.tlsFiles, o.Timeout, o.Logger)
		if err != nil {
			return err
		}
		dial = d.dial
	}
	switch t.kind {
	case urlEmbedded:
		return c.buildEmbedded(ctx, t, o)
	case urlSentinel:
		client := redis.NewFailoverClient(sentinelOptions(t, o, dial))
		client.AddHook(dialHook{name: t.master})
		c.Client = client
	case urlCluster:
		client := redis.NewClusterClient(clusterOptions(t, o, dial))
		client.OnNewNode(func(node *redis.Client) { node.AddHook(dialHook{}) })
		c.Client = client
	default:
		c.Client = newSingleClient(singleOptions(t, o, dial))
	}
	return nil
}

func (c *Conn) buildEmbedded(ctx context.Context, t redisTarget, o Options) (err error) {
	if o.Embedded == nil {
		return errors.New("this program has no embedded Redis; to have one, import " +
			"github.com/breakerd/breakerd/pkg/redisstore/embedded and set redisstore.Options{Embedded: embedded.Start}")
	}
	listen := ""
	if len(t.addrs) > 0 {
		listen = t.addrs[0]
	}
	if c.engine, err = o.Embedded(listen); err != nil {
		return err
	}
	c.Embedded, c.Display = true, "embedded://"+c.engine.Addr()
	t.addrs = []string{"embedded"}
	c.Client = newSingleClient(singleOptions(t, o, c.engine.Dial))
	o.Logger.WarnContext(ctx, "embedded store in use: state is not shared with other processes and is lost at exit; "+
		"set REDIS_URL for a fleet", "listener", c.engine.Addr())
	return nil
}

// Close closes the client and an embedded server. Only the first call does
// something; later ones return its result.
func (c *Conn) Close() error {
	c.closeOnce.Do(func() {
		if err := c.Client.Close(); err != nil {
			c.closeErr = fmt.Errorf("close redis %s: %w", c.Display, err)
		}
		if c.engine != nil {
			c.engine.Close()
		}
	})
	return c.closeErr
}

type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

func newSingleClient(opt *redis.Options) *redis.Client {
	client := redis.NewClient(opt)
	client.AddHook(dialHook{})
	return client
}

// dialHook marks the errors of dialling, go-redis's own included.
type dialHook struct{ name string }

func (h dialHook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := next(ctx, network, addr)
		if err != nil {
			if h.name != "" {
				addr = h.name
			}
			return nil, &DialError{Addr: addr, Err: err}
		}
		return conn, nil
	}
}

func (h dialHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (h dialHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// noMaintNotifications spares each handshake a command that Redis 7 refuses
// and counts as an error.
func noMaintNotifications() *maintnotifications.Config {
	return &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}

// The options below speak RESP2: where an ACL denies HELLO go-redis falls back
// to it anyway, so that replies have the same shape everywhere.

func singleOptions(t redisTarget, o Options, dial dialFunc) *redis.Options {
	network := "tcp"
	if t.kind == urlUnix {
		network = "unix"
	}
	return &redis.Options{
		Network: network, Addr: t.addrs[0], Username: t.user, Password: t.password, DB: t.db,
		Dialer: dial, Protocol: 2, MaxRetries: -1, DialerRetries: 1, PoolSize: o.PoolSize,
		DialTimeout: o.Timeout, ReadTimeout: o.Timeout, WriteTimeout: o.Timeout, PoolTimeout: o.Timeout,
		ContextTimeoutEnabled: true, DisableIdentity: true, MaintNotificationsConfig: noMaintNotifications(),
	}
}

func sentinelOptions(t redisTarget, o Options, dial dialFunc) *redis.FailoverOptions {
	return &redis.FailoverOptions{
		MasterName: t.master, SentinelAddrs: t.addrs,
		SentinelUsername: t.sentinelUser, SentinelPassword: t.sentinelPassword,
		Username: t.user, Password: t.password, DB: t.db,
		Dialer: dial, Protocol: 2, MaxRetries: -1, DialerRetries: 1, PoolSize: o.PoolSize,
		DialTimeout: sentinelDialFactor * o.Timeout,
		ReadTimeout: o.Timeout, WriteTimeout: o.Timeout, PoolTimeout: o.Timeout,
		ContextTimeoutEnabled: true, DisableIdentity: true,
	}
}

func clusterOptions(t redisTarget, o Options, dial dialFunc) *redis.ClusterOptions {
	return &redis.ClusterOptions{
		Addrs: t.addrs, Username: t.user, Password: t.password, MaxRedirects: clusterRedirects,
		Dialer: dial, Protocol: 2, MaxRetries: -1, DialerRetries: 1, PoolSize: o.PoolSize,
		DialTimeout: o.Timeout, ReadTimeout: o.Timeout, WriteTimeout: o.Timeout, PoolTimeout: o.Timeout,
		ContextTimeoutEnabled: true, DisableIdentity: true, MaintNotificationsConfig: noMaintNotifications(),
	}
}
