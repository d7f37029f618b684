package permits_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/breakerd/breakerd/internal/permits"
	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/redisstore"
	"github.com/breakerd/breakerd/pkg/redisstore/embedded"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const permit = "v1.closed.0000000000000000.-.e40c292c"

// vault is what Redis does, under the clock of the test.
type vault struct {
	mu              sync.Mutex
	current, former string
	made            time.Time
	asked           int
	down            bool
}

func (v *vault) PermitKeys(_ context.Context, offer string, life time.Duration) (redisdocs.PermitKeys, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.asked++
	if v.down {
		return redisdocs.PermitKeys{}, breaker.ErrStoreUnavailable
	}
	if v.current == "" || time.Since(v.made) >= life {
		v.current, v.former, v.made = offer, v.current, time.Now()
	}
	return redisdocs.PermitKeys{Current: v.current, Former: v.former, Age: time.Since(v.made)}, nil
}

func signer(t *testing.T, keys permits.Keys) *permits.Signer {
	t.Helper()
	return permits.NewSigner(keys, slog.New(slog.DiscardHandler))
}

func wantVerified(t *testing.T, s *permits.Signer, signed string) {
	t.Helper()
	if text, err := s.Verify(t.Context(), signed); err != nil || text != permit {
		t.Errorf("%s: %q, %v", signed, text, err)
	}
}

func wantError(t *testing.T, s *permits.Signer, signed string, want error) {
	t.Helper()
	if text, err := s.Verify(t.Context(), signed); !errors.Is(err, want) {
		t.Errorf("%s: %q, %v, want %v", signed, text, err, want)
	}
}

func TestSigner_KnowsWhatAnotherReplicaSigned(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := &vault{}
		a, b := signer(t, v), signer(t, v)
		wantVerified(t, b, a.Sign(permit))
		wantVerified(t, a, b.Sign(permit))
		for _, forged := range []string{
			permit, permit + ".", permit + ".0000000000000000", a.Sign(permit) + "0", a.Sign(permit) + ".0", "", ".....",
			strings.Replace(a.Sign(permit), "closed", "local", 1), signer(t, &vault{}).Sign(permit),
		} {
			wantError(t, b, forged, breaker.ErrBadPermit)
		}
	})
}

func TestSigner_ANilOneTakesBoth(t *testing.T) {
	t.Parallel()
	var s *permits.Signer
	if got := s.Sign(permit); got != permit {
		t.Error(got)
	}
	wantVerified(t, s, permit)
	wantVerified(t, s, signer(t, &vault{}).Sign(permit))
}

// Replicas learn a new key when they meet its signature, and take the former one for an hour.
func TestSigner_RotatesDaily(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := &vault{}
		ctx, stop := context.WithCancel(t.Context())
		a, b := signer(t, v), signer(t, v)
		var runs sync.WaitGroup
		runs.Go(func() { a.Run(ctx) })
		old := a.Sign(permit)
		time.Sleep(24*time.Hour + time.Minute)
		renewed := a.Sign(permit)
		if renewed == old {
			t.Fatal("the key is the same after a day")
		}
		wantVerified(t, b, renewed) // b has not asked for a day
		wantVerified(t, a, old)
		wantVerified(t, b, old)
		if b.Sign(permit) != renewed {
			t.Error("b signs with the former key, though it knows the new one")
		}
		time.Sleep(time.Hour)
		wantError(t, a, old, breaker.ErrBadPermit)
		wantError(t, b, old, breaker.ErrBadPermit)
		wantVerified(t, a, renewed)
		stop()
		runs.Wait()
	})
}

func TestSigner_AsksOnceASecondForUnknownSignatures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := &vault{}
		s := signer(t, v)
		begin := time.Now()
		var forgers sync.WaitGroup
		for i := range 1000 {
			forgers.Go(func() { wantError(t, s, fmt.Sprintf("%s.%016x", permit, i), breaker.ErrBadPermit) })
		}
		forgers.Wait()
		if took := time.Since(begin); v.asked > 2 || took > time.Second {
			t.Errorf("Redis was asked %d times in %v", v.asked, took)
		}
		wantVerified(t, s, s.Sign(permit))
	})
}

func TestSigner_GoesOnWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := &vault{down: true}
		a, b := signer(t, v), signer(t, v)
		own := a.Sign(permit)
		wantVerified(t, a, own)
		wantError(t, b, own, breaker.ErrStoreUnavailable) // not a bad permit: nobody can know
		begin := time.Now()
		var waiting sync.WaitGroup
		for range 100 {
			waiting.Go(func() { wantError(t, b, own, breaker.ErrStoreUnavailable) })
		}
		waiting.Wait()
		if took := time.Since(begin); took > time.Second {
			t.Errorf("they waited one after the other: %v", took)
		}
		v.down = false
		wantVerified(t, b, b.Sign(permit))
		wantError(t, b, own, breaker.ErrBadPermit) // b's offer became the key
		wantVerified(t, a, b.Sign(permit))
		wantVerified(t, a, own)
		v.down = true
		time.Sleep(20 * time.Hour)
		wantVerified(t, a, b.Sign(permit))
		wantError(t, a, own, breaker.ErrStoreUnavailable)
		v.down, v.current, v.former = false, "", "" // it comes back without its data
		last := a.Sign(permit)
		wantError(t, a, own, breaker.ErrBadPermit)
		if a.Sign(permit) == last {
			t.Error("the key is the same")
		}
		wantVerified(t, a, last)
	})
}

// Within a second after Redis is back, others know what a replica signs that started without it.
func TestSigner_IsKnownSoonAfterRedisIsBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := &vault{down: true}
		a := signer(t, v)
		ctx, stop := context.WithCancel(t.Context())
		var runs sync.WaitGroup
		runs.Go(func() { a.Run(ctx) })
		time.Sleep(time.Hour)
		v.mu.Lock()
		v.down, v.current, v.made = false, "another", time.Now()
		v.mu.Unlock()
		time.Sleep(time.Second + time.Millisecond) // not at the instant at which Run looks
		wantVerified(t, signer(t, v), a.Sign(permit))
		stop()
		runs.Wait()
	})
}

func TestSigner_StopsWaitingWithItsCaller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := signer(t, &vault{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := s.Verify(ctx, permit+".0000000000000000"); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}

// On each engine: one key for all who come at once, planted ones make room, a key is replaced once.
func TestPermitKeys_AreOneForAll(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]func(*testing.T) string{
		"miniredis": func(*testing.T) string { return "embedded://" },
		"redis":     func(t *testing.T) string { t.Helper(); return testkit.Start(t).URL() },
		"cluster":   func(t *testing.T) string { t.Helper(); return testkit.StartCluster(t).URL() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, err := redisstore.Open(t.Context(), url(t), redisstore.Options{Timeout: 10 * time.Second, Embedded: embedded.Start})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			store, err := redisstore.New(conn.Client, conn.Cluster, redisstore.Config{Timeout: 10 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			docs := redisdocs.New(store, conn.Client, redisdocs.Config{Timeout: 10 * time.Second})
			at, ctx := store.Keys().PermitKey(), t.Context()
			key := func(n int) string { return fmt.Sprintf("%064x", n) }
			ask := func(offer int, life time.Duration) redisdocs.PermitKeys {
				t.Helper()
				k, err := docs.PermitKeys(ctx, key(offer), life)
				if err != nil {
					t.Fatal(err)
				}
				return k
			}
			var all sync.WaitGroup
			got := make([]redisdocs.PermitKeys, 20)
			for i := range got {
				all.Go(func() { got[i] = ask(i, time.Hour) })
			}
			all.Wait()
			for _, k := range got {
				if k.Current != got[0].Current || k.Former != "" || k.Age > time.Minute {
					t.Fatalf("%+v, not %+v", k, got[0])
				}
			}
			if k := ask(100, 0); k.Current != key(100) || k.Former != got[0].Current || k.Age != 0 {
				t.Errorf("old: %+v", k)
			}
			set := func(field, value string) {
				t.Helper()
				if err := conn.Client.HSet(ctx, at, field, value).Err(); err != nil {
					t.Fatal(err)
				}
			}
			for _, bad := range []string{"99999999999999999", "nan", "-1", "", "inf", "x"} {
				set("made_at", bad)
				if k := ask(101, time.Hour); k.Current != key(100) || k.Age > time.Minute {
					t.Errorf("made at %q: %+v", bad, k)
				}
			}
			set("former", "short")
			if k := ask(102, time.Hour); k.Current != key(100) || k.Former != "" {
				t.Errorf("a bad former key: %+v", k)
			}
			set("current", strings.Repeat("z", 64))
			if k := ask(103, time.Hour); k.Current != key(103) || k.Former != "" {
				t.Errorf("a bad key: %+v", k)
			}
			if err := errors.Join(conn.Client.Del(ctx, at).Err(), conn.Client.SAdd(ctx, at, "planted").Err()); err != nil {
				t.Fatal(err)
			}
			if k := ask(104, time.Hour); k.Current != key(104) || k.Former != "" {
				t.Errorf("another type: %+v", k)
			}
		})
	}
}
