package docs

import (
	"bytes"
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/internal/backup"
	"github.com/breakerd/breakerd/internal/events"
	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/lua"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// aclRule is the command of docs/security.md.
var aclRule = regexp.MustCompile(`(?m)^redis-cli (ACL SETUSER (?:.*\\\n)*.*)$`)

// atConnect are commands that set up a connection; the rule need not name them.
func atConnect() []string {
	return []string{"auth", "hello", "client|setinfo", "select", "config|resetstat"}
}

// TestSecurity_RedisUserMayDoAllThatIsDoneAndNoMore does what breakerd does, as the user of docs/security.md.
func TestSecurity_RedisUserMayDoAllThatIsDoneAndNoMore(t *testing.T) {
	t.Parallel()
	args := aclArguments(t)
	server := testkit.Start(t)
	admin := server.Client(t)
	if err := admin.Do(t.Context(), args...).Err(); err != nil {
		t.Fatal(err)
	}
	if err := admin.ConfigResetStat(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	address := (&url.URL{Scheme: "redis", User: url.UserPassword("breakerd", "s3cret"), Host: server.Addr}).String()
	conn, err := redisstore.Open(t.Context(), address, redisstore.Options{Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	store, err := redisstore.New(conn.Client, conn.Cluster, redisstore.Config{Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Check(t.Context()); err != nil {
		t.Error(err)
	}
	operate(t, store)
	manage(t, store, redisdocs.New(store, conn.Client, redisdocs.Config{MaxAgents: 10, Timeout: 5 * time.Second}))
	if denied, err := admin.ACLLog(t.Context(), 10).Result(); err != nil || len(denied) > 0 {
		t.Errorf("denied: %+v (%v)", denied, err)
	}
	compareCommands(t, admin, args)
}

func aclArguments(t *testing.T) []any {
	t.Helper()
	for _, d := range documents(t) {
		if m := aclRule.FindStringSubmatch(strings.Join(d.lines, "\n")); d.name == "docs/security.md" && m != nil {
			var args []any
			for w := range strings.FieldsSeq(strings.ReplaceAll(m[1], "\\\n", " ")) {
				args = append(args, strings.Trim(w, "'"))
			}
			return args
		}
	}
	t.Fatal("docs/security.md has no redis-cli ACL SETUSER")
	return nil
}

// operate runs every verb of the machine, so that each command of the scripts is used once.
func operate(t *testing.T, store *redisstore.Store) {
	t.Helper()
	p := breaker.DefaultPolicy()
	draw := 0
	do := func(op machine.Op) machine.Result {
		t.Helper()
		draw++
		op.Draw = strings.Repeat("0", 14) + string("0123456789abcdef"[draw%16])
		r, err := store.Apply(t.Context(), "my-agent", p, op)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	token := "00000000000000aa"
	success, failure := machine.One(false, false, 0), machine.One(true, false, 0)
	do(machine.Op{Verb: machine.VerbAcquire, Token: token})
	do(machine.Op{Verb: machine.VerbRecord, Summary: success, ReportID: "one"})
	do(machine.Op{Verb: machine.VerbRecord, Summary: success, ReportID: "one"})
	for range 3 {
		do(machine.Op{Verb: machine.VerbRecord, Summary: success})
	}
	for range p.FailureThreshold {
		do(machine.Op{Verb: machine.VerbRecord, Summary: failure})
	}
	do(machine.Op{Verb: machine.VerbForce, Force: breaker.Force{Target: breaker.HoldOpen, Reason: "r", Actor: "a"}})
	do(machine.Op{Verb: machine.VerbForce, Force: breaker.Force{Target: breaker.ResetHalfOpen, Reason: "r", Actor: "a"}})
	epoch := do(machine.Op{Verb: machine.VerbAcquire, Token: token}).Epoch
	do(machine.Op{Verb: machine.VerbRenew, Token: token, Epoch: epoch})
	do(machine.Op{Verb: machine.VerbRecord, Token: token, Epoch: epoch, Summary: success})
	do(machine.Op{Verb: machine.VerbForce, Force: breaker.Force{Target: breaker.ResetClosed, Reason: "r", Actor: "a"}})
	if _, err := store.Inspect(t.Context(), "my-agent", p); err != nil {
		t.Error(err)
	}
}

// manage does what breakerd does beside the machine.
func manage(t *testing.T, store *redisstore.Store, docs *redisdocs.Docs) {
	t.Helper()
	agents := []string{"my-agent"}
	for name, do := range map[string]func(context.Context) error{
		"ping":   store.Ping,
		"born":   func(ctx context.Context) error { _, err := store.Born(ctx); return err },
		"saw":    func(ctx context.Context) error { return docs.MarkSeen(ctx, agents) },
		"agents": func(ctx context.Context) error { _, err := docs.Agents(ctx); return err },
		"states": func(ctx context.Context) error { _, err := docs.States(ctx, agents); return err },
		"known":  func(ctx context.Context) error { _, err := docs.Known(ctx, agents[0]); return err },
		"seen":   func(ctx context.Context) error { _, err := docs.Seen(ctx, agents[0]); return err },
		"beat": func(ctx context.Context) error {
			_, _, err := docs.Heartbeat(ctx, "r", time.Minute, redisdocs.ReplicaReport{})
			return err
		},
		"permit keys": func(ctx context.Context) error {
			_, err := docs.PermitKeys(ctx, strings.Repeat("a", 64), 0)
			return err
		},
		"gate": func(ctx context.Context) error {
			was, err := docs.Gate(ctx)
			if err != nil {
				return err
			}
			return docs.PutGate(ctx, &was, &redisdocs.GateChange{To: 1})
		},
		"verify": func(ctx context.Context) error { _, err := docs.Verify(ctx, agents); return err },
		"scan":   func(ctx context.Context) error { _, _, err := docs.ScanAgents(ctx, ""); return err },
		"types":  func(ctx context.Context) error { _, err := docs.PlantedKeys(ctx); return err },
		"fleet":  func(ctx context.Context) error { _, err := docs.Replicas(ctx); return err },
		"report": func(ctx context.Context) error { return docs.Report(ctx, "r", redisdocs.ReplicaReport{}) },
		"beats":  func(ctx context.Context) error { _, _, err := docs.LastHeartbeats(ctx, "r"); return err },
		"renew":  func(ctx context.Context) error { _, err := store.Renew(ctx, "former"); return err },
		"tell": func(ctx context.Context) error {
			return store.Announce(ctx, redisstore.EventStoreReset, "-", "lost", false)
		},
		"lease": func(ctx context.Context) error {
			_, err := docs.Lease(ctx, store.Keys().Sweeper(), "r", time.Second)
			return err
		},
		"done":   func(ctx context.Context) error { return docs.PutLease(ctx, store.Keys().Reset("id"), "r", time.Second) },
		"open":   func(ctx context.Context) error { _, err := docs.NotClosed(ctx); return err },
		"add":    func(ctx context.Context) error { return docs.AddNotClosed(ctx, agents[0], 1) },
		"remove": func(ctx context.Context) error { return docs.RemoveNotClosed(ctx, agents[0], 1) },
		"hear": func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
			defer cancel()
			store.Events(ctx, func(string, breaker.Event) {})
			return nil
		},
		"follow": func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			var missed error
			store.Follow(ctx, breaker.Follower{
				Began: cancel, Event: func(string, breaker.Event) {}, Missed: func(why string) { missed = errors.New(why) },
			})
			return missed
		},
		"hook": func(ctx context.Context) error {
			for _, who := range []string{"r", "other"} {
				if _, err := docs.ClaimHook(ctx, "h", who, time.Minute, true); err != nil {
					return err
				}
			}
			if _, err := docs.SaveHook(ctx, "h", "r", 0, map[string]string{"a": "b"}, []string{"c"}); err != nil {
				return err
			}
			_, err := docs.ReadHook(ctx, "h", "a")
			return err
		},
		"remind": func(ctx context.Context) error {
			_, err := docs.Lease(ctx, store.Keys().Reminder(agents[0], 1), "r", time.Second)
			return errors.Join(err, store.AnnounceHoldEnds(ctx, agents[0], machine.ZeroEpoch, breaker.Open, "soon"))
		},
		"audit": func(ctx context.Context) error {
			_, err := docs.Entries(ctx, events.Audit, events.Last(), events.ID{}, 1)
			return err
		},
		"call": func(ctx context.Context) error {
			return docs.PutEdges(ctx, []redisdocs.Edge{{Parent: "other", Agent: agents[0]}})
		},
		"calls":  func(ctx context.Context) error { _, err := docs.Edges(ctx); return err },
		"repair": func(ctx context.Context) error { return docs.Repair(ctx, 10) },
		"trim":   func(ctx context.Context) error { return docs.Trim(ctx, func(string) bool { return false }) },
		"push":   func(ctx context.Context) error { return docs.PushQuarantine(ctx, agents[0], "{}") },
		"list":   func(ctx context.Context) error { _, err := docs.Quarantine(ctx, agents[0]); return err },
		"backup": func(ctx context.Context) error {
			return docs.Backup(ctx, func(backup.Record) error { return nil })
		},
		"restore": func(ctx context.Context) error {
			var file bytes.Buffer
			w, err := backup.NewWriter(&file, backup.Header{})
			if err != nil {
				return err
			}
			event := "1 manual_open closed>open 00000000000000aa alice 0/0/0/0 fire"
			old := backup.Record{Section: backup.Audit, Name: "1-1", Agent: agents[0], Text: event}
			if err := errors.Join(w.Write(old), w.Close()); err != nil {
				return err
			}
			in, err := backup.NewReader(&file)
			if err != nil {
				return err
			}
			_, err = docs.Restore(ctx, in, redisdocs.RestoreOptions{Actor: "a"})
			return err
		},
		"put": func(ctx context.Context) error {
			return docs.PutOverride(ctx, agents[0], redisstore.AnyVersion, "{}", "a")
		},
		"get": func(ctx context.Context) error {
			_, err := docs.Overrides(ctx, agents)
			return err
		},
	} {
		if err := do(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := store.Forget(t.Context(), agents[0], "a", true); err != nil {
		t.Error(err)
	}
}

// scripted are the commands in the texts of the scripts, executed or not.
func scripted(t *testing.T) (out []string) {
	t.Helper()
	for _, verb := range lua.Verbs() {
		text, err := lua.Source(verb)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?:redis\.p?call|heal_and)\('([A-Z]+)'`).FindAllStringSubmatch(text, -1) {
			out = append(out, strings.ToLower(m[1]))
		}
	}
	return out
}

// sent are the commands that the Go code sends somewhere, whether manage comes there or not.
func sent(t *testing.T) (out []string) {
	t.Helper()
	call := regexp.MustCompile(`\b(?:client|pipe)\.([A-Z]\w+)\(ctx\b`)
	other := map[string]string{
		"zaddargs": "zadd", "zaddnx": "zadd", "zrangewithscores": "zrange", "zrangebyscorewithscores": "zrangebyscore",
		"xrangen": "xrange", "xrevrangen": "xrevrange",
		"exec": "", "process": "", "batchprocess": "", "foreachmaster": "", // of the client library
		"configget": "", // of the check, which does without
	}
	for _, dir := range []string{"../../internal/redisdocs", "../../pkg/redisstore"} {
		files, err := filepath.Glob(dir + "/*.go")
		if err != nil || len(files) == 0 {
			t.Fatalf("no files in %s (%v)", dir, err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range call.FindAllStringSubmatch(string(text), -1) {
				command := strings.ToLower(m[1])
				if is, ok := other[command]; ok {
					command = is
				}
				if command != "" {
					out = append(out, command)
				}
			}
		}
	}
	return out
}

// compareCommands compares the commands that the rule names with those that were called, or stand in a script or in
// the Go code.
func compareCommands(t *testing.T, admin *redis.Client, args []any) {
	t.Helper()
	stats, err := admin.Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	used, named := append(scripted(t), sent(t)...), []string(nil)
	for _, m := range regexp.MustCompile(`cmdstat_([^:]+):`).FindAllStringSubmatch(stats, -1) {
		if !slices.Contains(append(atConnect(), "acl|log"), m[1]) {
			used = append(used, m[1])
		}
	}
	for _, a := range args {
		if c, ok := strings.CutPrefix(a.(string), "+"); ok {
			named = append(named, c)
		}
	}
	slices.Sort(used)
	slices.Sort(named)
	if used = slices.Compact(used); !slices.Equal(used, named) {
		t.Errorf("the rule names\n%s\nand used is\n+%s", strings.Join(named, " "), strings.Join(used, " +"))
	}
}
