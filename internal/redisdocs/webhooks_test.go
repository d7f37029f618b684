package redisdocs_test

import (
	"maps"
	"strconv"
	"testing"
	"time"
)

// TestHook_HasOneWriterAtATime, who keeps what the one before has written.
func TestHook_HasOneWriterAtATime(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, f *fixture) {
		ctx, key := t.Context(), f.keys.Webhook("h")
		claim := func(who, holder string, fields bool) time.Duration {
			t.Helper()
			h, err := f.docs.ClaimHook(ctx, "h", who, time.Minute, false)
			if err != nil || h.Holder != holder || (h.Fields != nil) != fields || h.NowMs < 1e12 || h.Left > time.Minute {
				t.Errorf("%s: %+v, %v", who, h, err)
			}
			return h.Left
		}
		save := func(who string, lease time.Duration, want bool, set map[string]string, del ...string) {
			t.Helper()
			if held, err := f.docs.SaveHook(ctx, "h", who, lease, set, del); err != nil || held != want {
				t.Errorf("%s: %v, %v", who, held, err)
			}
		}
		save("a", time.Minute, false, map[string]string{"x": "0"})
		claim("a", "a", true)
		claim("a", "a", false)
		claim("b", "a", false)
		save("b", time.Minute, false, map[string]string{"x": "b"})
		save("a", time.Minute, true, map[string]string{"x": "1", "y": "2", "z": "3"}, "none")
		save("a", time.Minute, true, nil, "y")
		if h, err := f.docs.ReadHook(ctx, "h", "x", "y"); err != nil || h.Holder != "a" || h.Fields["x"] != "1" || h.Fields["y"] != "" || h.Left < 50*time.Second {
			t.Errorf("%+v, %v", h, err)
		}
		if ttl, err := f.client.PTTL(ctx, key).Result(); err != nil || ttl < 6*24*time.Hour {
			t.Errorf("lives %v, %v", ttl, err)
		}
		// The clock goes back by an hour: the lease seems to end later than it may.
		ahead := strconv.FormatInt(time.Now().Add(time.Hour).UnixMilli(), 10)
		if err := f.client.HSet(ctx, key, "until_ms", ahead).Err(); err != nil {
			t.Fatal(err)
		}
		if left := claim("b", "a", false); left < 50*time.Second {
			t.Errorf("%v are left", left)
		}
		if h, err := f.docs.ReadHook(ctx, "h"); err != nil || h.Left > time.Minute {
			t.Errorf("%+v, %v", h, err)
		}
		save("a", 0, true, nil) // given back
		if h, err := f.docs.ReadHook(ctx, "h"); err != nil || h.Holder != "" {
			t.Errorf("%+v, %v", h, err)
		}
		h, err := f.docs.ClaimHook(ctx, "h", "b", time.Minute, false)
		delete(h.Fields, "until_ms")
		if want := map[string]string{"holder": "b", "x": "1", "z": "3"}; err != nil || !maps.Equal(h.Fields, want) {
			t.Errorf("%+v, %v", h, err)
		}
		save("a", time.Minute, false, map[string]string{"x": "late"})
		f.plant(t, key)
		if h, err := f.docs.ReadHook(ctx, "h", "x"); err != nil || len(h.Fields) > 0 {
			t.Errorf("%+v, %v", h, err)
		}
		save("b", time.Minute, false, map[string]string{"x": "b"})
		claim("b", "b", true)
	})
}
