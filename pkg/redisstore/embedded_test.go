package redisstore

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
)

func TestEmbeddedHasNoListenerAndSaysSo(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	c := openURL(t, "embedded://", func(o *Options) {
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
		o.Password = "for another URL" // of REDIS_PASSWORD_FILE
	})
	roundTrip(t, c)
	if c.Embedded == nil || c.Cluster || c.Display != "embedded://" {
		t.Errorf("%+v", c)
	}
	if !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), "lost at exit") {
		t.Errorf("it says only %q", log.String())
	}
	if w, err := c.Check(t.Context()); err != nil || len(w) != 0 {
		t.Errorf("Check: %v, %v", w, err)
	}
}

func TestEmbeddedListensOnLoopbackWhenAsked(t *testing.T) {
	t.Parallel()
	c := openURL(t, "embedded://127.0.0.1:0")
	roundTrip(t, c)
	other := openURL(t, strings.Replace(c.Display, "embedded", "redis", 1))
	if got, err := other.Client.Get(t.Context(), "k").Result(); err != nil || got != "v" {
		t.Errorf("over the listener: %q, %v", got, err)
	}
	addr := strings.TrimPrefix(c.Display, "embedded://")
	if _, err := Open(t.Context(), "embedded://"+addr, Options{}); err == nil || !strings.Contains(err.Error(), addr) {
		t.Errorf("a second one on a taken port: %v", err)
	}
}

func TestEmbeddedStoresAreSeparate(t *testing.T) {
	t.Parallel()
	a, b := openURL(t, "embedded://"), openURL(t, "embedded://")
	roundTrip(t, a)
	if err := b.Client.Get(t.Context(), "k").Err(); !errors.Is(err, redis.Nil) {
		t.Errorf("one sees the other's key: %v", err)
	}
}

// A plain net.Pipe jams here: see pipeConn.
func TestEmbeddedTakesALongPipeline(t *testing.T) {
	t.Parallel()
	c := openURL(t, "embedded://")
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

func TestEmbeddedKeysExpireByTheClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, err := Open(t.Context(), "embedded://", Options{})
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

func TestClosedEmbeddedDoesNotStartAgain(t *testing.T) {
	t.Parallel()
	engine, err := startEmbedded("")
	if err != nil {
		t.Fatal(err)
	}
	engine.close()
	if conn, err := engine.dial(t.Context(), "", ""); !errors.Is(err, net.ErrClosed) {
		t.Errorf("dial after close: %v, %v", conn, err)
	}
}
