package redisstore

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

func TestLimit_SharesTheContextOfAMoment(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := limit{timeout: 320 * time.Millisecond}
		first, begin := l.context(), time.Now()
		<-time.After(9 * time.Millisecond)
		if l.context() != first {
			t.Error("two contexts for one moment")
		}
		<-time.After(time.Millisecond)
		second := l.context()
		if second == first {
			t.Error("a wait would end too early")
		}
		<-first.Done()
		if took := time.Since(begin); took != 320*time.Millisecond || second.Err() != nil {
			t.Errorf("the first ended after %v, the second: %v", took, second.Err())
		}
		<-second.Done()
	})
}

func TestApply_WaitsForAConnectionNoLongerThanTheTimeout(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ctx  func(context.Context) (context.Context, context.CancelFunc)
		want time.Duration
	}{
		"the store's time-out": {context.WithCancel, 250 * time.Millisecond},
		"never over":           {func(context.Context) (context.Context, context.CancelFunc) { return context.Background(), func() {} }, 250 * time.Millisecond},
		"its own deadline": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 100*time.Millisecond)
		}, 100 * time.Millisecond},
		"cancelled": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(50*time.Millisecond, cancel)
			return ctx, cancel
		}, 50 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				never := make(chan struct{})
				client := redis.NewClient(&redis.Options{
					Addr: "127.0.0.1:1", MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}, DisableIdentity: true,
					MaxRetries: -1, DialerRetries: 1, DialTimeout: time.Hour, PoolTimeout: time.Hour, ContextTimeoutEnabled: true,
					Dialer: func(context.Context, string, string) (net.Conn, error) { <-never; return nil, errors.New("never") },
				})
				s, err := New(client, false, Config{Timeout: 250 * time.Millisecond})
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close() // the acquire is remembered
				ctx, cancel := c.ctx(t.Context())
				defer cancel()
				begin := time.Now()
				_, err = s.Apply(ctx, "a", breaker.DefaultPolicy(), machine.Op{Verb: machine.VerbAcquire, Token: machine.ZeroEpoch})
				if took := time.Since(begin); took != c.want || !errors.Is(err, breaker.ErrStoreUnavailable) {
					t.Errorf("a caller waited %v: %v", took, err)
				}
				close(never)
				_ = client.Close()
			})
		})
	}
}

func TestEarlier_HasTheCallersValues(t *testing.T) {
	t.Parallel()
	type key struct{}
	l := limit{timeout: time.Hour}
	for _, parent := range []context.Context{context.Background(), t.Context()} {
		ctx, cancel := earlier(context.WithValue(parent, key{}, 1), l.context())
		defer cancel()
		if at, ok := ctx.Deadline(); ctx.Value(key{}) != 1 || !ok || time.Until(at) > time.Hour || ctx.Err() != nil {
			t.Errorf("value %v, deadline %v, %v", ctx.Value(key{}), at, ctx.Err())
		}
	}
}
