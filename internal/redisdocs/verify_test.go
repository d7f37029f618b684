package redisdocs_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// TestVerify_NamesEachFault breaks the keys of one agent in each way, and leaves another one whole.
func TestVerify_NamesEachFault(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		state := func(agent string) string { return f.keys.Machine(agent)[0] }
		control := func(agent string) string { return f.keys.Machine(agent)[3] }
		set := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		hold := machine.Op{Verb: machine.VerbForce, Draw: machine.ZeroEpoch[1:], Force: machine.Force{Target: machine.HoldOpen, Reason: "x", Actor: "a"}}
		held := func(agent string) {
			t.Helper()
			_, err := f.store.Apply(ctx, agent, breaker.DefaultPolicy(), hold)
			set(err)
		}
		broken := map[string]struct {
			code string
			do   func(agent string)
		}{
			"calls-of-another-type":  {redisdocs.FaultBadKey, func(a string) { f.plant(t, f.keys.Machine(a)[2]) }},
			"log-of-another-type":    {redisdocs.FaultBadKey, func(a string) { f.plant(t, f.keys.Log(a)) }},
			"config-of-another-type": {redisdocs.FaultBadKey, func(a string) { f.plant(t, f.keys.Config(a)) }},
			"nonsense-in-control":    {redisdocs.FaultBadKey, func(a string) { set(f.client.HSet(ctx, control(a), "run", "many").Err()) }},
			"nonsense-as-state":      {redisdocs.FaultBadKey, func(a string) { set(f.client.Set(ctx, state(a), "ajar", time.Hour).Err()) }},
			"state-set-by-hand":      {redisdocs.FaultHandEdit, func(a string) { set(f.client.Set(ctx, state(a), "open", time.Hour).Err()) }},
			"state-deleted":          {redisdocs.FaultHandEdit, func(a string) { set(f.client.Del(ctx, state(a)).Err()) }},
			"never-expires":          {redisdocs.FaultExpiry, func(a string) { set(f.client.Persist(ctx, control(a)).Err()) }},
			"expires-too-soon":       {redisdocs.FaultExpiry, func(a string) { set(f.client.PExpire(ctx, state(a), time.Minute).Err()) }},
			"held-and-expires": {redisdocs.FaultExpiry, func(a string) {
				held(a)
				set(f.client.PExpire(ctx, state(a), time.Minute).Err())
			}},
			"not-in-the-index": {redisdocs.FaultNotInIndex, func(a string) { set(f.client.ZRem(ctx, f.keys.Agents(), a).Err()) }},
			"held-and-not-listed": {redisdocs.FaultNotNotClosed, func(a string) {
				held(a)
				set(f.client.ZRem(ctx, f.keys.NotClosed(), a).Err())
			}},
		}
		agents := []string{"whole", "held-and-whole"}
		for agent := range broken {
			agents = append(agents, agent)
		}
		for _, agent := range agents {
			f.fail(t, agent)
		}
		set(f.docs.MarkSeen(ctx, agents))
		held("held-and-whole")
		for agent, b := range broken {
			b.do(agent)
		}
		found, err := f.docs.Verify(ctx, append(agents, "nobody"))
		set(err)
		for agent, b := range broken {
			i := slices.IndexFunc(found, func(x redisdocs.Fault) bool { return x.Agent == agent })
			if i < 0 || found[i].Code != b.code || found[i].Key == "" || found[i].Text == "" {
				t.Errorf("%s: want %s: %+v", agent, b.code, found)
			}
		}
		if len(found) != len(broken) {
			t.Errorf("%d faults of %d: %+v", len(found), len(broken), found)
		}
		if planted, err := f.docs.PlantedKeys(ctx); err != nil || len(planted) > 0 {
			t.Error(planted, err)
		}
		f.plant(t, f.keys.Stream(), f.keys.Fleet())
		if planted, err := f.docs.PlantedKeys(ctx); err != nil || len(planted) != 2 || planted[1].Key != f.keys.Stream() {
			t.Error(planted, err)
		}
	})
}

func TestScanAgents_FindsAllOfThem(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, f *fixture) {
		var all, found []string
		for i := range 40 {
			all = append(all, fmt.Sprintf("agent-%02d", i))
			f.fail(t, all[i])
		}
		for from := ""; ; {
			some, next, err := f.docs.ScanAgents(t.Context(), from)
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, some...)
			if from = next; from == "" {
				break
			}
		}
		slices.Sort(found)
		if found = slices.Compact(found); !slices.Equal(found, all) {
			t.Errorf("%q", found)
		}
		for _, from := range []string{"x", "-1.5", "99.0", "0.18446744073709551616"} {
			if _, _, err := f.docs.ScanAgents(t.Context(), from); err != nil {
				t.Errorf("%s: %v", from, err)
			}
		}
	})
}

func TestVerify_WithoutRedis(t *testing.T) {
	t.Parallel()
	f := onRedis(t)
	f.fail(t, "a")
	if err := f.client.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := f.docs.Verify(t.Context(), []string{"a"})
	_, err2 := f.docs.PlantedKeys(t.Context())
	_, _, err3 := f.docs.ScanAgents(t.Context(), "")
	for i, err := range []error{err, err2, err3} {
		if !errors.Is(err, breaker.ErrStoreUnavailable) {
			t.Errorf("%d: %v", i, err)
		}
	}
}
