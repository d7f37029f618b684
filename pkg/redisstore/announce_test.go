package redisstore_test

import (
	"strings"
	"testing"

	"github.com/breakerd/breakerd/pkg/redisstore"
)

// TestAnnounce_WritesWhatAPersonDidOnceInEachStream also where one of them, or both, were planted.
func TestAnnounce_WritesWhatAPersonDidOnceInEachStream(t *testing.T) {
	t.Parallel()
	for name, engine := range map[string]*engine{"miniredis": miniEngine(t), "redis": realEngine(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, keys := t.Context(), engine.store.Keys()
			streams := []string{keys.Stream(), keys.Audit()}
			for _, planted := range [][]string{nil, streams[:1], streams[1:], streams} {
				engine.client.Del(ctx, streams...)
				for _, key := range planted {
					if err := engine.client.Set(ctx, key, "planted", 0).Err(); err != nil {
						t.Fatal(err)
					}
				}
				text := "stop: a fire\n1 gate > 0000000000000000 - 0/0/0/0 forged"
				if err := engine.store.Announce(ctx, redisstore.EventGate, "alice", text, true); err != nil {
					t.Fatal(err)
				}
				for _, stream := range streams {
					entries, err := engine.client.XRange(ctx, stream, "-", "+").Result()
					if err != nil || len(entries) != 1 || entries[0].Values["agent"] != "-" {
						t.Fatalf("planted %v: %s has %v (%v)", planted, stream, entries, err)
					}
					line, _ := entries[0].Values["event"].(string)
					if want := "alice 0/0/0/0 " + strings.ReplaceAll(text, "\n", " "); !strings.HasSuffix(line, want) {
						t.Errorf("%s has %q, want …%q", stream, line, want)
					}
				}
			}
			engine.client.Del(ctx, streams...)
			for _, kind := range []string{
				redisstore.EventReplicaJoined, redisstore.EventReplicaLeft, redisstore.EventReplicaGone, redisstore.EventEvidence,
			} {
				if err := engine.store.Announce(ctx, kind, "-", "r", false); err != nil {
					t.Fatal(err)
				}
			}
			if n := engine.client.Exists(ctx, keys.Audit()).Val(); n != 0 {
				t.Error("the audit has what nobody did")
			}
		})
	}
}
