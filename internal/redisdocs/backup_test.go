package redisdocs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/backup"
	"github.com/breakerd/breakerd/internal/events"
	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// apply carries out an operation on an agent's breaker.
func (f *fixture) apply(t *testing.T, agent string, op machine.Op) {
	t.Helper()
	op.Draw = machine.ZeroEpoch[1:]
	if _, err := f.store.Apply(t.Context(), agent, breaker.DefaultPolicy(), op); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) force(t *testing.T, agent string, force machine.Force) {
	t.Helper()
	force.Actor = "alice"
	f.apply(t, agent, machine.Op{Verb: machine.VerbForce, Force: force})
}

// populate makes one of everything that a backup holds.
func (f *fixture) populate(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	for range 5 {
		f.fail(t, "tripped")
	}
	f.fail(t, "calm")
	f.force(t, "banned", machine.Force{Target: machine.HoldOpen, Reason: "flooding_quarantine ä <&>", Protected: true})
	f.force(t, "trusted", machine.Force{Target: machine.HoldClosed, LengthMs: 3_600_000, Reason: "drill"})
	f.force(t, "probing", machine.Force{Target: machine.ResetHalfOpen, Reason: "look"})
	f.apply(t, "probing", machine.Op{Verb: machine.VerbAcquire, Token: "00000000000000aa"})
	gate, err := f.docs.Gate(ctx)
	err = errors.Join(err, f.docs.PutGate(ctx, &gate, &redisdocs.GateChange{From: 0.8, To: 0.8, Until: time.Hour, Reason: "overload", Actor: "alice"}),
		f.docs.PutOverride(ctx, "tripped", "", `{"failure_threshold":7,"_at":"2026-02-11T09:00:00Z"}`, "alice"),
		f.docs.PutOverride(ctx, "ended", "", `{"failure_threshold":7,"_until":"2020-02-11T09:00:00Z"}`, "alice"),
		f.docs.PutProfile(ctx, "registered", "", `{"url":"http://x","contact":"ops"}`, "bob"),
		f.docs.PutWorkflow(ctx, "flow", `{"steps":[]}`, `{"name":"Flow"}`),
		f.docs.MarkSeen(ctx, []string{"tripped", "calm", "seen-only"}),
		f.client.Set(ctx, f.keys.Config("by-hand"), `{"mode":"observe"}`, 0).Err())
	if err != nil {
		t.Fatal(err)
	}
	f.plant(t, f.keys.Machine("planted")[3], f.keys.Config("planted"))
	if err := f.client.Set(ctx, f.keys.Machine("planted")[0], "open", 0).Err(); err != nil {
		t.Fatal(err)
	}
}

// backup is the file, and what is in it.
func (f *fixture) backup(t testing.TB) ([]byte, []backup.Record) {
	t.Helper()
	var out bytes.Buffer
	h, err := f.docs.BackupHeader(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w, err := backup.NewWriter(&out, h)
	if err == nil {
		err = f.docs.Backup(t.Context(), w.Write)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	var all []backup.Record
	if _, _, err = backup.Verify(bytes.NewReader(out.Bytes()), func(r backup.Record) error { all = append(all, r); return nil }); err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), all
}

// restore restores a file, and tells what became of it: "holds create 2" and so on.
func (f *fixture) restore(t testing.TB, file []byte, o redisdocs.RestoreOptions) []string {
	t.Helper()
	in, err := backup.NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	if o.Actor == "" {
		o.Actor = "carol"
	}
	done, err := f.docs.Restore(t.Context(), in, o)
	if err != nil {
		t.Fatal(err)
	}
	return fates(done)
}

func fates(done *redisdocs.Restoration) (out []string) {
	for _, s := range done.Sections {
		for _, fate := range redisdocs.Fates() {
			if n := s.Counts[fate]; n > 0 {
				out = append(out, fmt.Sprintf("%s %s %d", s.Section, fate, n))
			}
		}
	}
	return out
}

// by gives the records of a section by name.
func by(section backup.Section, all []backup.Record) map[string]backup.Record {
	out := map[string]backup.Record{}
	for _, r := range all {
		if r.Section == section {
			out[r.Name] = r
		}
	}
	return out
}

// restored is what a breaker's keys hold after a restore: its log has one line more, and its leases are gone.
func restored(t *testing.T, agent string, b *backup.Breaker) *backup.Breaker {
	t.Helper()
	out := *b
	if len(out.Log) == 0 {
		t.Fatalf("%s has no log", agent)
	}
	if e, ok := machine.ParseEvent(out.Log[0]); !ok || e.Kind != "restored" || e.Actor != "carol" || e.Transition() {
		t.Errorf("%s: its log begins with %q", agent, out.Log[0])
	}
	out.Log, out.Probes = out.Log[1:], nil
	return &out
}

// same says that everything in one backup is in the other, but for what a restore leaves out.
func same(t *testing.T, was, is []backup.Record) {
	t.Helper()
	for _, section := range []backup.Section{backup.Gate, backup.Workflows, backup.Profiles} {
		if a, b := by(section, was), by(section, is); !reflect.DeepEqual(a, b) {
			t.Errorf("%s: %+v, was %+v", section, b, a)
		}
	}
	for _, section := range []backup.Section{backup.Holds, backup.Breakers} {
		a, b := by(section, was), by(section, is)
		if !slices.Equal(slices.Sorted(maps.Keys(a)), slices.Sorted(maps.Keys(b))) {
			t.Errorf("%s: %v, was %v", section, slices.Collect(maps.Keys(b)), slices.Collect(maps.Keys(a)))
			continue
		}
		for name, r := range a {
			want := *r.Breaker
			want.Probes = nil
			if have := restored(t, name, b[name].Breaker); fmt.Sprint(*have) != fmt.Sprint(want) { // which sorts maps
				t.Fatalf("%s %s:\n%+v, was\n%+v", section, name, *have, want)
			}
		}
	}
	audit := by(backup.Audit, is)
	for id, r := range by(backup.Audit, was) {
		if !reflect.DeepEqual(audit[id], r) {
			t.Errorf("audit %s: %+v, was %+v", id, audit[id], r)
		}
	}
}

// keysOf lists all keys, but that of the identity.
func keysOf(t *testing.T, f *fixture) []string {
	t.Helper()
	keys, err := f.client.Keys(t.Context(), "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(keys, func(k string) bool { return strings.HasSuffix(k, ":born") })
}

// unharmed says that the scripts take every restored breaker as one of their own, and that its keys expire together.
func (f *fixture) unharmed(t *testing.T, all []backup.Record) {
	t.Helper()
	ctx := t.Context()
	listed, err := f.client.ZRange(ctx, f.keys.NotClosed(), 0, -1).Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range all {
		if r.Breaker == nil || r.Name == "planted" {
			continue
		}
		is := slices.Contains(listed, r.Name)
		if want := r.Breaker.Held() || r.Breaker.State != "closed"; is != want {
			t.Errorf("%s is in the index of those not closed: %v", r.Name, is)
		}
		for _, key := range f.keys.Machine(r.Name) {
			left, err := f.client.PTTL(ctx, key).Result()
			if err != nil {
				t.Fatal(err)
			}
			if endless := r.Name == "banned"; left != -2 && endless != (left == -1) {
				t.Errorf("%s lives for %v", key, left)
			}
		}
		op := machine.Op{Verb: machine.VerbAcquire, Draw: machine.ZeroEpoch[1:], Token: "00000000000000bb"}
		got, err := f.store.Apply(ctx, r.Name, breaker.DefaultPolicy(), op)
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(got.Events, func(e breaker.Event) bool {
			return e.Kind == machine.EventRepaired || e.Kind == machine.EventExternalEdit
		}) {
			t.Errorf("%s was repaired: %+v", r.Name, got.Events)
		}
		if string(got.State) != r.Breaker.State {
			t.Errorf("%s is %s, was %s", r.Name, got.State, r.Breaker.State)
		}
		if r.Name == "probing" && got.Code != machine.CodeOK {
			t.Errorf("the place of a lease that is gone is not free: %+v", got)
		}
	}
}

func TestBackup_IsRestoredFieldByField(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, f *fixture) {
		f.populate(t)
		file, was := f.backup(t)
		to := open(t, "embedded://")
		if !strings.HasSuffix(t.Name(), "miniredis") {
			to = onRedis(t)
		}
		to.restore(t, file, redisdocs.RestoreOptions{DryRun: true})
		if keys := keysOf(t, to); len(keys) > 0 {
			t.Errorf("a dry run wrote %v", keys)
		}
		done := to.restore(t, file, redisdocs.RestoreOptions{})
		want := []string{
			"gate create 1", "overrides create 2", "overrides expired 1", "profiles create 1", "holds create 2",
			"breakers create 4", "workflows create 1", "registry create 5", "audit create 7",
		}
		if !slices.Equal(done, want) {
			t.Errorf("restored %q, want %q", done, want)
		}
		_, is := to.backup(t)
		same(t, was, is)
		again := to.restore(t, file, redisdocs.RestoreOptions{})
		if slices.ContainsFunc(again, func(s string) bool { return strings.Contains(s, "create") || strings.Contains(s, "replace") }) {
			t.Errorf("a second time: %q", again)
		}
		to.unharmed(t, was)
	})
}

// A restore leaves alone what happened since the backup, and puts back what is older, or was lost under traffic.
func TestRestore_LeavesWhatIsNewer(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		f.populate(t)
		file, _ := f.backup(t)
		f.force(t, "banned", machine.Force{Target: machine.ResetClosed, Override: true, Reason: "mended"})
		f.force(t, "calm", machine.Force{Target: machine.HoldOpen, Reason: "sick now"})
		err := errors.Join(
			f.docs.PutOverride(ctx, "tripped", redisstore.AnyVersion, `{"failure_threshold":9,"_at":"2027-02-11T09:00:00Z"}`, "bob"),
			f.docs.PutProfile(ctx, "registered", redisstore.AnyVersion, `{"contact":"dev"}`, "bob"),
			f.docs.PutWorkflow(ctx, "flow", `{"steps":[1]}`, "{}"),
			f.client.Set(ctx, f.keys.Config("by-hand"), `{"mode":"enforce","_at":"2020-02-11T09:00:00Z"}`, 0).Err())
		if err != nil {
			t.Fatal(err)
		}
		want := []string{
			"gate same 1", "overrides newer 2", "overrides expired 1", "profiles newer 1", "holds same 1", "holds newer 1",
			"breakers same 3", "breakers newer 1", "workflows newer 1", "registry same 5", "audit same 7",
		}
		if done := f.restore(t, file, redisdocs.RestoreOptions{}); !slices.Equal(done, want) {
			t.Errorf("restored %q, want %q", done, want)
		}
		f.fail(t, "lost")
		only := []backup.Section{backup.Holds, backup.Overrides}
		done := f.restore(t, file, redisdocs.RestoreOptions{Overwrite: true, Only: only})
		want = []string{"overrides replace 2", "overrides expired 1", "holds replace 1", "holds same 1"}
		if !slices.Equal(done, want) {
			t.Errorf("overwritten %q, want %q", done, want)
		}
		view, err := f.store.Inspect(ctx, "banned", breaker.DefaultPolicy())
		if err != nil || view.State != breaker.Open || view.Hold.Protected != 1 || view.Hold.Actor != "alice" {
			t.Errorf("the ban: %+v, %v", view, err)
		}
		if view, err = f.store.Inspect(ctx, "calm", breaker.DefaultPolicy()); err != nil || view.Hold.Kind != "open" {
			t.Errorf("what --only leaves out was touched: %+v, %v", view, err)
		}
	})
}

// After a loss of data calls go on, and every agent has a new, closed breaker. A ban counts more than that.
func TestRestore_BringsBackBansUnderTraffic(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, f *fixture) {
		f.populate(t)
		file, _ := f.backup(t)
		to := open(t, "embedded://")
		for _, agent := range []string{"tripped", "calm", "banned", "trusted"} {
			to.fail(t, agent)
		}
		to.force(t, "other", machine.Force{Target: machine.HoldOpen, Reason: "after the loss"})
		done := to.restore(t, file, redisdocs.RestoreOptions{Only: []backup.Section{backup.Holds, backup.Breakers, backup.Audit}})
		want := []string{"holds replace 2", "breakers create 2", "breakers replace 1", "breakers newer 1", "audit create 7"}
		if !slices.Equal(done, want) {
			t.Errorf("restored %q, want %q", done, want)
		}
		entries, err := to.docs.Entries(t.Context(), events.Audit, events.ID{}, events.Last(), 100)
		if err != nil || !slices.IsSortedFunc(entries, func(a, b events.Entry) int { return a.ID.Compare(b.ID) }) || len(entries) != 10 {
			t.Errorf("the audit has %d entries: %+v, %v", len(entries), entries, err)
		}
		if n := len(keysOf(t, to)); n == 0 || slices.ContainsFunc(keysOf(t, to), func(k string) bool { return strings.HasSuffix(k, ".restore") }) {
			t.Errorf("left behind: %v", keysOf(t, to))
		}
	})
}

// Each breaker of a backup is one that was there at some moment, though calls go on.
func TestBackup_UnderLoad(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, f *fixture) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		var wg sync.WaitGroup
		agents := 80
		for i := range agents {
			f.fail(t, fmt.Sprint("agent-", i))
		}
		for w := range 2 {
			wg.Go(func() {
				for i := w; ctx.Err() == nil; i++ {
					op := machine.Op{Verb: machine.VerbRecord, Draw: machine.ZeroEpoch[1:], Summary: machine.One(i%7 != 0, false, 0)}
					_, _ = f.store.Apply(ctx, fmt.Sprint("agent-", i%agents), breaker.DefaultPolicy(), op)
				}
			})
		}
		file, was := f.backup(t)
		stop()
		wg.Wait()
		to := open(t, "embedded://")
		done := to.restore(t, file, redisdocs.RestoreOptions{})
		if n := len(by(backup.Breakers, was)); n != agents || !slices.Contains(done, fmt.Sprintf("breakers create %d", agents)) {
			t.Errorf("%d breakers; restored %q", n, done)
		}
		_, is := to.backup(t)
		same(t, was, is)
		to.unharmed(t, was)
	})
}

// What a restore that was cut has written stays, and another one writes the rest.
func TestRestore_IsFinishedByAnother(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, f *fixture) {
		for i := range 130 {
			f.fail(t, fmt.Sprint("agent-", i))
		}
		file, was := f.backup(t)
		to := open(t, "embedded://")
		in, err := backup.NewReader(bytes.NewReader(file[:len(file)/2]))
		if err != nil {
			t.Fatal(err)
		}
		done, err := to.docs.Restore(t.Context(), in, redisdocs.RestoreOptions{Actor: "carol"})
		if !errors.Is(err, backup.ErrBroken) || done.Changed() == 0 || done.Changed() >= 2*130 {
			t.Fatalf("cut: %v %v", fates(done), err)
		}
		if again := to.restore(t, file, redisdocs.RestoreOptions{}); !slices.ContainsFunc(again, func(s string) bool { return strings.HasPrefix(s, "breakers same") }) {
			t.Errorf("again: %q", again)
		}
		_, is := to.backup(t)
		same(t, was, is)
	})
}

// A breaker whose keys would have expired is not restored, and a restored one is pushed to all replicas.
func TestRestore_PassesOverWhatHasExpiredAndTellsReplicas(t *testing.T) {
	t.Parallel()
	f := onRedis(t)
	for range 5 {
		f.fail(t, "tripped")
	}
	f.fail(t, "calm")
	_, was := f.backup(t)
	var out bytes.Buffer
	w, err := backup.NewWriter(&out, backup.Header{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range was {
		if r.Name == "calm" && r.Breaker != nil {
			r.Breaker.Control["expires_ms"] = "1770800400000"
		}
		err = errors.Join(err, w.Write(r))
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	to := onRedis(t)
	heard := make(chan string, 10)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		to.store.Events(ctx, func(agent string, e breaker.Event) { heard <- agent + " " + e.Kind + " " + string(e.To) })
	}()
	testkit.Eventually(t, "the listener", 10*time.Second, func() error {
		if n, err := to.client.PubSubNumSub(ctx, to.keys.Events()).Result(); err != nil || n[to.keys.Events()] != 1 {
			return fmt.Errorf("%v %w", n, err)
		}
		return nil
	})
	done := to.restore(t, out.Bytes(), redisdocs.RestoreOptions{Only: []backup.Section{backup.Breakers}})
	if !slices.Equal(done, []string{"breakers create 1", "breakers expired 1"}) {
		t.Errorf("%q", done)
	}
	for _, want := range []string{"- restore ", "tripped restored open", "- restore "} {
		if got := <-heard; got != want {
			t.Errorf("heard %q, want %q", got, want)
		}
	}
	stop()
	<-ended
}
