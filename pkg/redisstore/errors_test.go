package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// open opens a connection and a Store on it.
func open(t *testing.T, url string, timeout time.Duration) (*redisstore.Conn, *redisstore.Store) {
	t.Helper()
	conn, err := redisstore.Open(t.Context(), url, redisstore.Options{Timeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	store, err := redisstore.New(conn.Client, conn.Cluster, redisstore.Config{Timeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	return conn, store
}

// storeError is an error as a caller of a Store gets it.
func storeError(t *testing.T, err error) *breaker.StoreError {
	t.Helper()
	var e *breaker.StoreError
	if !errors.As(err, &e) && !errors.As(redisstore.WrapError("test", "a", err), &e) {
		t.Fatalf("%v is no StoreError", err)
	}
	return e
}

// badRecord makes record.lua fail, in every state and on every engine: a reporter is one word.
func badRecord() machine.Op {
	return machine.Op{
		Verb: machine.VerbRecord, Draw: machine.ZeroEpoch[1:], Reporter: "host 1",
		Summary: machine.Summary{Failures: 1, Lead: 1, Trail: 1, MaxRun: 1},
	}
}

// TestStoreError_RefusedIsAnAnswerToThisOperation (litellm PR 35273, cerberus 2900): one agent's script error is not
// the store's absence.
func TestStoreError_RefusedIsAnAnswerToThisOperation(t *testing.T) {
	t.Parallel()
	mini := miniredis.RunT(t)
	for name, addr := range map[string]string{"miniredis": mini.Addr(), "redis": testkit.Start(t).Addr} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			conn, store := open(t, "redis://"+addr, 5*time.Second)
			client := conn.Client
			_, err := store.Apply(ctx, "bad", breaker.DefaultPolicy(), badRecord())
			if e := storeError(t, err); !e.Refused || e.Unknown || e.Cut {
				t.Errorf("a script error: %+v", e)
			}
			if err := client.Set(ctx, "text", "x", 0).Err(); err != nil {
				t.Fatal(err)
			}
			for what, err := range map[string]error{
				"a wrong type":              client.HGet(ctx, "text", "f").Err(),
				"a wrong type to write":     client.LPush(ctx, "text", "f").Err(),
				"a wrong type in a script":  client.Eval(ctx, "return redis.call('HGET', KEYS[1], 'f')", []string{"text"}).Err(),
				"no number":                 client.Incr(ctx, "text").Err(),
				"an unknown command":        client.Do(ctx, "NOSUCH").Err(),
				"too few arguments":         client.Do(ctx, "HGET", "text").Err(),
				"an unknown name":           client.Eval(ctx, "return nosuch()", nil).Err(),
				"a sum of nothing":          client.Eval(ctx, "return 1 + nil", nil).Err(),
				"a raised text":             client.Eval(ctx, "error('boom')", nil).Err(),
				"an unknown command inside": client.Eval(ctx, "return redis.call('NOSUCH')", nil).Err(),
				"no script":                 client.Eval(ctx, "return (", nil).Err(),
			} {
				if e := storeError(t, err); !e.Refused || e.Unknown || e.Cut {
					t.Errorf("%s: refused %v, unknown %v, cut %v: %v", what, e.Refused, e.Unknown, e.Cut, err)
				}
			}
		})
	}
}

// TestStoreError_ADeniedKeyOrCommandIsRefused: an ACL denies a key of one agent, or a command that one verb calls.
func TestStoreError_ADeniedKeyOrCommandIsRefused(t *testing.T) {
	t.Parallel()
	server := testkit.Start(t)
	for user, rule := range map[string]string{
		"key":     "~circuit_breaker:good:* ~circuit_breaker:[nsa]* &* +@all",
		"command": "~* &* +@all -hincrby",
		"script":  "~* &* +@all -eval -evalsha",
	} {
		args := []any{"ACL", "SETUSER", user, "on", ">pw"}
		for word := range strings.FieldsSeq(rule) {
			args = append(args, word)
		}
		if err := server.Client(t).Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(err)
		}
		_, store := open(t, "redis://"+user+":pw@"+server.Addr, 5*time.Second)
		var e *breaker.StoreError
		_, err := store.Apply(t.Context(), "bad", breaker.DefaultPolicy(), withDraw(record(1, 0)))
		if !errors.As(err, &e) || !e.Refused || e.Unknown || e.Cut {
			t.Errorf("%s: %+v (%v)", user, e, err)
		}
		if user != "key" {
			continue
		}
		if _, err := store.Apply(t.Context(), "good", breaker.DefaultPolicy(), withDraw(record(1, 0))); err != nil {
			t.Errorf("another agent: %v", err)
		}
	}
}

// withDraw is op with a draw.
func withDraw(op machine.Op) machine.Op {
	op.Draw = machine.ZeroEpoch[1:]
	return op
}

// TestStoreError_AStateOfTheServerIsTheStores: what every operation is answered then.
func TestStoreError_AStateOfTheServerIsTheStores(t *testing.T) {
	t.Parallel()
	set := func(name, value string) func(context.Context, *redis.Client) error {
		return func(ctx context.Context, c *redis.Client) error { return c.ConfigSet(ctx, name, value).Err() }
	}
	dir := t.TempDir()
	if err := os.Mkdir(dir+"/taken", 0o700); err != nil { // a directory in the place of a file
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		do   func(context.Context, *redis.Client) error
		want string
	}{
		"no memory":      {nil, set("maxmemory", "1"), "OOM"},
		"no replica":     {nil, set("min-replicas-to-write", "1"), "NOREPLICAS"},
		"a replica":      {nil, func(ctx context.Context, c *redis.Client) error { return c.ReplicaOf(ctx, "127.0.0.1", "1").Err() }, "READONLY"},
		"a lone replica": {[]string{"--replica-serve-stale-data", "no", "--replicaof", "127.0.0.1 1"}, nil, "MASTERDOWN"},
		"no disk":        {[]string{"--save", "3600 1", "--enable-protected-configs", "yes"}, func(ctx context.Context, c *redis.Client) error { return failSave(ctx, t, c, dir) }, "MISCONF"},
		"no slots":       {[]string{"--cluster-enabled", "yes"}, nil, "CLUSTERDOWN"},
		"a long script":  {[]string{"--busy-reply-threshold", "1"}, func(_ context.Context, c *redis.Client) error { return runForever(t, c) }, "BUSY"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testkit.Start(t, c.args...)
			_, store := open(t, "redis://"+server.Addr, time.Second)
			_, _ = store.Apply(t.Context(), "a", breaker.DefaultPolicy(), withDraw(record(0, 1))) // the script is loaded
			if c.do != nil {
				if err := c.do(t.Context(), server.Client(t)); err != nil {
					t.Fatal(err)
				}
			}
			_, err := store.Apply(t.Context(), "a", breaker.DefaultPolicy(), withDraw(record(0, 1)))
			var e *breaker.StoreError
			if !errors.As(err, &e) || e.Refused || e.Unknown || e.Cut || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%+v: %v", e, err)
			}
		})
	}
}

// failSave lets the server's next snapshot fail: a directory is in the place of the file.
func failSave(ctx context.Context, t *testing.T, c *redis.Client, dir string) error {
	for _, err := range []error{
		c.ConfigSet(ctx, "dir", dir).Err(), c.ConfigSet(ctx, "dbfilename", "taken").Err(), c.BgSave(ctx).Err(),
	} {
		if err != nil {
			return err
		}
	}
	testkit.Eventually(t, "a failed snapshot", 10*time.Second, func() error {
		if info := c.Info(ctx, "persistence").Val(); !strings.Contains(info, "rdb_last_bgsave_status:err") {
			return errors.New(info)
		}
		return nil
	})
	return nil
}

// runForever returns when a script of another connection is running.
func runForever(t *testing.T, c *redis.Client) error {
	ctx := context.WithoutCancel(t.Context())
	other := redis.NewClient(&redis.Options{Addr: c.Options().Addr, MaxRetries: -1, ReadTimeout: time.Minute})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = other.Eval(ctx, "while true do end", nil).Err()
	}()
	t.Cleanup(func() {
		_ = c.ScriptKill(ctx).Err()
		<-done
		_ = other.Close()
	})
	testkit.Eventually(t, "a busy server", 10*time.Second, func() error {
		if err := c.Ping(ctx).Err(); err == nil || !strings.Contains(err.Error(), "BUSY") {
			return fmt.Errorf("PING: %w", err)
		}
		return nil
	})
	return nil
}

// TestStoreError_AnAnswerToAConnectionSaysWhatToChange: no operation got as far as the server's keys.
func TestStoreError_AnAnswerToAConnectionSaysWhatToChange(t *testing.T) {
	t.Parallel()
	locked, free := testkit.Start(t, "--requirepass", "pw"), testkit.Start(t)
	node := testkit.Start(t, "--cluster-enabled", "yes")
	for user, rule := range map[string]string{"noselect": "-select", "nothing": "-@all"} {
		if err := free.Client(t).Do(t.Context(), "ACL", "SETUSER", user, "on", ">pw", "~*", "&*", "+@all", rule).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for url, want := range map[string]string{
		"redis://:wrong@" + locked.Addr:           "REDIS_PASSWORD",
		"redis://app:pw@" + locked.Addr:           "REDIS_USERNAME",
		"redis://" + locked.Addr:                  "set REDIS_PASSWORD",
		"redis://" + free.Addr + "/99":            "take a lower number",
		"redis://" + node.Addr + "/1":             "redis+cluster://",
		"redis+cluster://" + free.Addr:            "redis://",
		"redis://noselect:pw@" + free.Addr + "/1": "number 0",
	} {
		_, store := open(t, url, time.Second)
		_, err := store.Apply(t.Context(), "a", breaker.DefaultPolicy(), withDraw(record(0, 1)))
		var e *breaker.StoreError
		var settings *redisstore.SettingsError
		if !errors.As(err, &e) || e.Refused || e.Cut || !errors.As(e.Err, &settings) || !strings.Contains(settings.Advice, want) {
			t.Errorf("%s: %+v: %v", url, e, err)
		}
	}
	_, store := open(t, "redis://nothing:pw@"+free.Addr, time.Second)
	_, err := store.Apply(t.Context(), "a", breaker.DefaultPolicy(), withDraw(record(0, 1)))
	if e := storeError(t, err); !e.Refused {
		t.Errorf("a user who may do nothing: %+v", e)
	}
}

// TestStoreError_CutIsABrokenConnection, whatever broke it; neither a time-out nor a connection that did not come about.
func TestStoreError_CutIsABrokenConnection(t *testing.T) {
	t.Parallel()
	server := testkit.Start(t)
	for name, c := range map[string]struct {
		fault fault
		cut   bool
	}{"cut": {cut, true}, "reset": {reset, true}, "torn": {tear, true}, "lost": {lose, false}} {
		p := startProxy(t, server.Addr)
		_, store := open(t, "redis://"+p.addr, time.Second)
		if _, err := store.Apply(t.Context(), name, breaker.DefaultPolicy(), withDraw(record(0, 1))); err != nil {
			t.Fatal(err)
		}
		p.once(c.fault)
		_, err := store.Apply(t.Context(), name, breaker.DefaultPolicy(), withDraw(record(0, 1)))
		var e *breaker.StoreError
		if !errors.As(err, &e) || e.Cut != c.cut || !e.Unknown || e.Refused {
			t.Errorf("%s: %+v: %v", name, e, err)
		}
		v, err := store.Inspect(t.Context(), name, breaker.DefaultPolicy())
		if err != nil || v.Failures != 2 {
			t.Errorf("%s: %d failures, want 2: a plain record is not sent again (%v)", name, v.Failures, err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	_, store := open(t, "redis://"+l.Addr().String(), 200*time.Millisecond)
	_, err = store.Apply(t.Context(), "a", breaker.DefaultPolicy(), withDraw(record(0, 1)))
	if e := storeError(t, err); e.Cut || e.Unknown || e.Refused {
		t.Errorf("no connection: %+v", e)
	}
}

// TestApply_ATokenIsSentAgainOverANewConnection: what a second execution does not change.
func TestApply_ATokenIsSentAgainOverANewConnection(t *testing.T) {
	t.Parallel()
	server := testkit.Start(t)
	for name, f := range map[string]fault{"cut": cut, "reset": reset, "torn": tear} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startProxy(t, server.Addr)
			_, store := open(t, "redis://"+p.addr, 5*time.Second)
			d := &driver{t: t, store: store, policy: breaker.DefaultPolicy(), agent: name}
			d.record(1, 0)
			reported := record(0, 1)
			reported.ReportID = "id"
			p.once(f)
			d.apply(reported)
			if n := d.see().Failures; n != 1 {
				t.Errorf("%d failures, want 1", n)
			}
			batch := machine.Op{Verb: machine.VerbReplay, Epoch: machine.ZeroEpoch, Token: "00000000000000aa", Batch: []machine.Bucket{
				{StartMs: time.Now().UnixMilli(), Counts: machine.Counts{Failures: 1}},
			}}
			p.once(f)
			if r := d.apply(batch); r.Counted != 1 {
				t.Errorf("replay: %+v", r)
			}
			if n := d.see().Failures; n != 2 {
				t.Errorf("%d failures, want 2", n)
			}
			p.once(f)
			if n := d.see().Failures; n != 2 {
				t.Errorf("%d failures, want 2", n)
			}
			d.apply(machine.Op{Verb: machine.VerbForce, Force: breaker.Force{Target: breaker.ResetHalfOpen, Actor: "test"}})
			p.once(f)
			r := d.apply(machine.Op{Verb: machine.VerbAcquire, Token: "00000000000000bb"})
			if n := len(d.see().Leases); n != 1 {
				t.Errorf("%d leases, want 1", n)
			}
			p.once(f)
			renewed := d.apply(machine.Op{Verb: machine.VerbRenew, Token: "00000000000000bb", Epoch: r.Epoch})
			if r.LeaseMs == 0 || renewed.Code != machine.CodeOK {
				t.Errorf("acquire: %+v, renew: %+v", r, renewed)
			}
		})
	}
}
