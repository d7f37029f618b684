package embedded_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/breakerd/breakerd/pkg/redisstore"
	"github.com/breakerd/breakerd/pkg/redisstore/embedded"
)

// TestPackage_AloneLinksMiniredis asks for the packages that a program links with each of the two.
func TestPackage_AloneLinksMiniredis(t *testing.T) {
	t.Parallel()
	for pkg, links := range map[string]bool{"..": false, ".": true} {
		deps, err := exec.CommandContext(t.Context(), "go", "list", "-deps", pkg).CombinedOutput()
		if err != nil || !bytes.Contains(deps, []byte("github.com/redis/go-redis/v9\n")) {
			t.Fatalf("go list -deps %s: %v\n%s", pkg, err, deps)
		}
		if got := bytes.Contains(deps, []byte("miniredis")); got != links {
			t.Errorf("%s links miniredis: %v, want %v", pkg, got, links)
		}
	}
}

func open(t *testing.T, url string, change ...func(*redisstore.Options)) *redisstore.Conn {
	t.Helper()
	o := redisstore.Options{Timeout: 10 * time.Second, Embedded: embedded.Start}
	for _, f := range change {
		f(&o)
	}
	c, err := redisstore.Open(t.Context(), url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func roundTrip(t *testing.T, c *redisstore.Conn) {
	t.Helper()
	if err := c.Client.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Client.Get(t.Context(), "k").Result(); err != nil || got != "v" {
		t.Fatalf("%q, %v", got, err)
	}
}

func TestStart_HasNoListenerAndOpenWarns(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	c := open(t, "embedded://", func(o *redisstore.Options) {
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
		o.Password = "for another URL" // of REDIS_PASSWORD_FILE
	})
	roundTrip(t, c)
	if !c.Embedded || c.Cluster || c.Display != "embedded://" {
		t.Errorf("%+v", c)
	}
	if !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), "lost at exit") {
		t.Errorf("the log is %q", log.String())
	}
	if w, err := c.Check(t.Context()); err != nil || len(w) != 0 {
		t.Errorf("Check: %v, %v", w, err)
	}
}

func TestStart_ListensOnLoopbackWhenAsked(t *testing.T) {
	t.Parallel()
	c := open(t, "embedded://127.0.0.1:0")
	roundTrip(t, c)
	other := open(t, strings.Replace(c.Display, "embedded", "redis", 1))
	if got, err := other.Client.Get(t.Context(), "k").Result(); err != nil || got != "v" {
		t.Errorf("over the listener: %q, %v", got, err)
	}
	addr := strings.TrimPrefix(c.Display, "embedded://")
	_, err := redisstore.Open(t.Context(), "embedded://"+addr, redisstore.Options{Embedded: embedded.Start})
	if err == nil || !strings.Contains(err.Error(), addr) {
		t.Errorf("a second one on a taken port: %v", err)
	}
}

func TestStart_ServersAreSeparate(t *testing.T) {
	t.Parallel()
	a, b := open(t, "embedded://"), open(t, "embedded://")
	roundTrip(t, a)
	if err := b.Client.Get(t.Context(), "k").Err(); !errors.Is(err, redis.Nil) {
		t.Errorf("one sees the other's key: %v", err)
	}
}

// A plain net.Pipe blocks here: see pipeConn.
func TestStart_TakesALongPipeline(t *testing.T) {
	t.Parallel()
	c := open(t, "embedded://")
	value := strings.Repeat("x", 500)
	pipe := c.Client.Pipeline()
	for i := range 300 {
		pipe.Set(t.Context(), fmt.Sprint("k", i), value, 0)
		pipe.Get(t.Context(), fmt.Sprint("k", i))
	}
	cmds, err := pipe.Exec(t.Context())
	if err != nil || len(cmds) != 600 {
		t.Fatalf("%d commands, %v", len(cmds), err)
	}
}

func TestStart_KeysExpireByTheClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, err := redisstore.Open(t.Context(), "embedded://", redisstore.Options{Embedded: embedded.Start})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		if err := c.Client.Set(t.Context(), "k", "v", time.Hour).Err(); err != nil {
			t.Fatal(err)
		}
		hour := time.NewTimer(time.Hour - time.Second)
		<-hour.C
		if err := c.Client.Get(t.Context(), "k").Err(); err != nil {
			t.Errorf("a second before its time: %v", err)
		}
		hour.Reset(2 * time.Second)
		<-hour.C
		if err := c.Client.Get(t.Context(), "k").Err(); !errors.Is(err, redis.Nil) {
			t.Errorf("a second after its time: %v", err)
		}
	})
}

func TestClose_IsForGood(t *testing.T) {
	t.Parallel()
	engine, err := embedded.Start("")
	if err != nil {
		t.Fatal(err)
	}
	engine.Close()
	if conn, err := engine.Dial(t.Context(), "", ""); !errors.Is(err, net.ErrClosed) {
		t.Errorf("dial after close: %v, %v", conn, err)
	}
}

// Not parallel: it counts goroutines.
func TestClose_LeavesNoGoroutine(t *testing.T) {
	before := goleak.IgnoreCurrent()
	for _, url := range []string{"embedded://", "embedded://127.0.0.1:0"} {
		c := open(t, url)
		roundTrip(t, c)
		for range 2 {
			if err := c.Close(); err != nil {
				t.Errorf("close %s: %v", c.Display, err)
			}
		}
		if err := c.Client.Get(t.Context(), "k").Err(); err == nil {
			t.Errorf("%s answers after Close", c.Display)
		}
	}
	goleak.VerifyNone(t, before)
}
