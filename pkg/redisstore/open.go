package redisstore

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/breakerd/breakerd/internal/tlsfile"
)

// DefaultTimeout is REDIS_TIMEOUT_MS when it is not set.
const DefaultTimeout = 250 * time.Millisecond

const (
	// sentinelDialFactor is how many time-outs a dial through Sentinel gets: go-redis asks the sentinel it knows, asks it
	// once more under a lock, asks all of them, and then dials the master. If one time-out bounded all of it, two equal
	// deadlines would race for whether a sentinel that hangs is given up. A caller does not wait so long: its own context
	// ends the wait.
	sentinelDialFactor = 4

	// clusterRedirects bounds how often the cluster client follows MOVED and ASK, and sends again a command without
	// NoRetry.
	clusterRedirects = 3
)

// Options completes a URL. The zero value is usable, but for embedded://.
type Options struct {
	// Timeout bounds each step of the client: dialling, writing, reading, waiting for a free connection. A whole
	// operation of a Store is bounded by Config.Timeout; usually both are the same. 0 means DefaultTimeout.
	Timeout time.Duration

	// Username, Password and SentinelPassword, where not empty, replace those of the URL.
	Username, Password, SentinelPassword string

	// PasswordFile and SentinelPasswordFile, where not empty, are files that hold these passwords. Each new connection
	// reads them, so that a password may be changed. While one cannot be read, its last good content stays.
	PasswordFile, SentinelPasswordFile string

	// Embedded starts the server that embedded:// names: set it to Start of package embedded, below this one. Other URLs
	// do not need it.
	Embedded func(listen string) (Engine, error)

	// Logger gets what happens besides the calls: TLS files re-read, an embedded server in use. nil means none.
	Logger *slog.Logger
}

// Engine is a server in this process. It is for authors of engines; a program sets [Options].Embedded.
type Engine interface {
	// Dial connects to the server, whatever the address. It fails after Close.
	Dial(ctx context.Context, network, addr string) (net.Conn, error)
	// Addr is the address at which the server listens, "" if it does not.
	Addr() string
	// Close ends the server and its connections.
	Close()
}

// Conn is a client and what belongs to it. Its fields must not be changed. Its methods may be called concurrently.
//
// The client sends a command once: MaxRetries is off, because a command that timed out may have run. Only a cluster
// client sends a command again, up to three times, unless the command's NoRetry method forbids it.
type Conn struct {
	Client   redis.UniversalClient
	Cluster  bool   // the server is a Redis Cluster: a script's keys need one slot
	Embedded bool   // the server is in this process, and keeps nothing
	Sentinel bool   // the server is the master that Sentinels name
	Display  string // the URL for a log: no secrets

	tls       *tlsfile.Source // nil: no TLS
	timeout   time.Duration   // Options.Timeout
	engine    Engine          // nil unless Embedded
	closeOnce sync.Once
	closeErr  error
}

// dialError says that no connection came about. The command whose error it is was not sent, and may be sent again.
type dialError struct {
	Addr string // as it was asked for; behind Sentinel the master's name
	Err  error
}

func (e *dialError) Error() string { return fmt.Sprintf("connect to redis %s: %v", e.Addr, e.Err) }

// Unwrap returns a slice because go-redis takes one layer off the errors of its handshake with errors.Unwrap, which
// leaves this form alone.
func (e *dialError) Unwrap() []error { return []error{e.Err} }

// Open validates rawURL and o and builds the client. It does not connect: a Redis that is down is met by the first
// command, and by Check. Errors never hold a password. The caller owns the Conn and must Close it.
func Open(ctx context.Context, rawURL string, o Options) (*Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("open redis: %w", err)
	}
	if o.Timeout < 0 {
		return nil, errors.New("open redis: the time-out must not be negative")
	}
	t, err := parseURL(rawURL)
	if err != nil {
		return nil, err
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	c := &Conn{timeout: o.Timeout, Display: t.String(), Cluster: t.kind == urlCluster, Embedded: t.kind == urlEmbedded}
	if c.Embedded {
		err = c.start(ctx, &t, o)
	} else {
		err = c.complete(&t, o)
	}
	if err != nil {
		return nil, fmt.Errorf("redis url %q: %w", c.Display, err)
	}
	c.connect(t, o)
	return c, nil
}

// start starts the embedded server, and sets what reaches it.
func (c *Conn) start(ctx context.Context, t *target, o Options) (err error) {
	if o.Embedded == nil {
		return errors.New("this program has no embedded Redis; to have one, import " +
			"github.com/breakerd/breakerd/pkg/redisstore/embedded and set redisstore.Options{Embedded: embedded.Start}")
	}
	if c.engine, err = o.Embedded(strings.Join(t.opt.Addrs, "")); err != nil {
		return err
	}
	c.Display = "embedded://" + c.engine.Addr()
	t.opt.Addrs, t.opt.Dialer = []string{"embedded"}, c.engine.Dial
	o.Logger.WarnContext(ctx, "embedded store in use: state is not shared with other processes and is lost at exit; "+
		"set REDIS_URL for a fleet", "listener", c.engine.Addr())
	return nil
}

// Certificates are that which this side shows to Redis, nil if none, and those of the authorities that it trusts, none
// if these are the system's. The files are read for it. It is for authors of replicas.
func (c *Conn) Certificates() (own *x509.Certificate, authorities []*x509.Certificate) {
	return c.tls.Held()
}

// complete adds what Options says beside the URL.
func (c *Conn) complete(t *target, o Options) (err error) {
	u := &t.opt
	u.Username, u.Password = cmp.Or(o.Username, u.Username), cmp.Or(o.Password, u.Password)
	u.SentinelPassword = cmp.Or(o.SentinelPassword, u.SentinelPassword)
	if err := o.readPasswords(u); err != nil {
		return err
	}
	// go-redis does not authenticate without a password: it would silently be the default user.
	switch {
	case u.Username != "" && u.Password == "":
		return errors.New("a user without a password (a password alone is written :password@host)")
	case u.SentinelUsername != "" && u.SentinelPassword == "":
		return errors.New("sentinel_username without sentinel_password")
	}
	if t.tls != nil {
		d, err := newTLSDialer(t.tls, o.Timeout, o.Logger)
		if err != nil {
			return err
		}
		u.Dialer, c.tls = d.dial, d.source
	}
	return nil
}

// connect builds the client.
func (c *Conn) connect(t target, o Options) {
	u := t.opt
	u.Protocol = 2 // to which go-redis falls back where an ACL denies HELLO: so replies have the same shape everywhere
	u.MaxRetries, u.DialerRetries, u.MaxRedirects = -1, 1, clusterRedirects
	u.DialTimeout, u.ReadTimeout, u.WriteTimeout, u.PoolTimeout = o.Timeout, o.Timeout, o.Timeout, o.Timeout
	u.ContextTimeoutEnabled, u.DisableIdentity = true, true
	// Each handshake would have a command more, which Redis 7 refuses and counts as an error.
	u.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	switch t.kind {
	case urlCluster:
		client := redis.NewClusterClient(u.Cluster())
		client.OnNewNode(func(node *redis.Client) { node.AddHook(dialHook{}) })
		c.Client = client
	case urlSentinel:
		u.DialTimeout = sentinelDialFactor * o.Timeout
		c.Client, c.Sentinel = redis.NewFailoverClient(u.Failover()), true
		c.Client.AddHook(dialHook{name: u.MasterName})
	case urlSingle, urlUnix, urlEmbedded:
		c.Client = redis.NewClient(u.Simple())
		c.Client.AddHook(dialHook{})
	}
}

// Close closes the client and an embedded server. Later calls return the result of the first.
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

// dialHook makes dialErrors of the errors of dialling, go-redis's own included.
type dialHook struct{ name string }

func (h dialHook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := next(ctx, network, addr)
		if err != nil {
			if h.name != "" {
				addr = h.name
			}
			return nil, &dialError{Addr: addr, Err: err}
		}
		return conn, nil
	}
}

func (h dialHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (h dialHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
