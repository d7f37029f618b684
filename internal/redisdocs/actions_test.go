package redisdocs_test

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/pkg/breaker"
)

func TestActions_AreKeptForADayAndWorkedThrough(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, f *fixture) {
		ctx, id := t.Context(), "00000000000000aa"
		if _, ok, err := f.docs.Action(ctx, id); ok || err != nil {
			t.Errorf("absent: %v, %v", ok, err)
		}
		a := redisdocs.Action{ID: id, Results: map[string]string{}, Force: breaker.Force{
			Target: breaker.HoldOpen, LengthMs: 5, RampMs: 6, Reason: "a \"fire\"", Actor: "ops", Address: "127.0.0.1",
			Protected: true, Override: true, Yield: breaker.YieldOthers,
		}}
		for i := range 1200 {
			a.Results[fmt.Sprint("agent-", i)] = ""
		}
		if err := f.docs.PutAction(ctx, &a); err != nil {
			t.Fatal(err)
		}
		a.Force.ID = id
		got, ok, err := f.docs.Action(ctx, id)
		if err != nil || !ok || !reflect.DeepEqual(got, a) || len(got.Left()) != 1200 || a.CreatedMs == 0 {
			t.Errorf("read %+v %v %v", got.Force, ok, err)
		}
		if ids, err := f.docs.Actions(ctx); err != nil || !reflect.DeepEqual(ids, []string{id}) {
			t.Errorf("%v, %v", ids, err)
		}
		if err := f.docs.SettleAction(ctx, id, map[string]string{"agent-7": redisdocs.ActionDone}); err != nil {
			t.Error(err)
		}
		if got, _, err := f.docs.Action(ctx, id); err != nil || len(got.Left()) != 1199 || got.Results["agent-7"] != redisdocs.ActionDone {
			t.Errorf("%v, %v", len(got.Left()), err)
		}
		if finished, err := f.docs.ActionFinished(ctx, id); finished || err != nil {
			t.Errorf("%v, %v", finished, err)
		}
		if err := f.docs.FinishAction(ctx, id); err != nil {
			t.Error(err)
		}
		got, _, err = f.docs.Action(ctx, id)
		if finished, err := f.docs.ActionFinished(ctx, id); !finished || err != nil || got.FinishedMs < got.CreatedMs {
			t.Errorf("%v, %v", finished, err)
		}
		if ids, err2 := f.docs.Actions(ctx); err != nil || err2 != nil || len(ids) != 0 {
			t.Errorf("%v, %v, %v", ids, err, err2)
		}
		if left := f.client.TTL(ctx, "circuit_breaker:action."+id).Val(); left <= 23*time.Hour || left > 24*time.Hour {
			t.Errorf("kept for %s", left)
		}
	})
}

// A key of another type, or a text that is none of ours, is no action, and makes room for one [B20].
func TestActions_PlantedOnesAreNone(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		for key, value := range map[string]string{"circuit_breaker:action.00000000000000aa": "x", "circuit_breaker:actions": "x"} {
			if err := f.client.Set(ctx, key, value, 0).Err(); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.client.HSet(ctx, "circuit_breaker:action.00000000000000bb", "spec", "[]").Err(); err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{"00000000000000aa", "00000000000000bb"} {
			if _, ok, err := f.docs.Action(ctx, id); ok || err != nil {
				t.Errorf("%s: %v, %v", id, ok, err)
			}
		}
		if ids, err := f.docs.Actions(ctx); len(ids) != 0 || err != nil {
			t.Errorf("%v, %v", ids, err)
		}
		if err := f.docs.DropAction(ctx, "00000000000000aa"); err != nil {
			t.Error(err)
		}
		a := redisdocs.Action{ID: "00000000000000cc", Results: map[string]string{"a": ""}, Force: breaker.Force{Target: breaker.ResetClosed}}
		if err := f.docs.PutAction(ctx, &a); err != nil {
			t.Error(err)
		}
		if ids, err := f.docs.Actions(ctx); len(ids) != 1 || err != nil {
			t.Errorf("%v, %v", ids, err)
		}
	})
}
