package redisstore_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
	"github.com/breakerd/breakerd/pkg/breaker/storetest"
)

// neighbour is an agent whose successes share a script with the records of the agent under test. It must not depend on
// what that is: a model of its own says what it must answer and hold.
type neighbour struct {
	model *storetest.Model
	turn  int64
}

// applyBeside carries out every second record that may be joined with others beside one of the neighbour.
func (e *engine) applyBeside(nowMs int64, agent string, p breaker.Policy, op machine.Op) (got machine.Result, ok bool, err error) {
	n, name := e.beside, agent+"-beside"
	if n.turn++; n.turn%2 == 0 || op.Verb != machine.VerbRecord || op.Epoch == "" {
		return got, false, nil
	}
	raw, err := e.prepareNeighbour(nowMs, name, p)
	if err != nil {
		return got, false, err
	}
	theirs := e.beside.success(machine.Load(raw).Epoch)
	theirs.ShiftMs = n.model.Params(p).Shift(name)
	got, gotTheirs, ok, short, err := e.store.ApplyBeside(context.Background(), agent, p, op, name, theirs)
	if err != nil || !ok {
		return got, ok, err
	}
	if want := isCalm(raw, n.model.Params(p), theirs, nowMs); short != want {
		return got, true, fmt.Errorf("neighbour is counted beside others: model %v, engine %v", want, short)
	}
	want, err := n.model.Expect(nowMs, name, p, theirs, gotTheirs.Fast)
	if err != nil {
		return got, true, err
	}
	if fmt.Sprint(want) != fmt.Sprint(gotTheirs) {
		return got, true, fmt.Errorf("neighbour's reply: model %+v engine %+v", want, gotTheirs)
	}
	raw, _ = n.model.Dump(nowMs, name)
	held, err := e.Dump(nowMs, name)
	if a, b := storetest.Lines(raw), storetest.Lines(held); err == nil && !slices.Equal(a, b) {
		err = fmt.Errorf("neighbour's keys: model %q engine %q", a, b)
	}
	return got, true, err
}

func (n *neighbour) success(epoch string) machine.Op {
	return machine.Op{Verb: machine.VerbRecord, Draw: machine.ZeroEpoch[1:], Epoch: epoch, Summary: machine.Summary{Successes: n.turn}}
}

// prepareNeighbour begins a bucket of the neighbour, and says that the others hold minimum_calls: it has no failures,
// so that makes no difference.
func (e *engine) prepareNeighbour(nowMs int64, name string, p breaker.Policy) (machine.Raw, error) {
	n := e.beside
	op := n.success("")
	op.ShiftMs = n.model.Params(p).Shift(name)
	raw, _ := n.model.Dump(nowMs, name)
	if isCalm(raw, n.model.Params(p), op, nowMs) {
		return raw, nil
	}
	r, err := e.store.Apply(context.Background(), name, p, op)
	if err != nil {
		return raw, err
	}
	if _, err := n.model.Expect(nowMs, name, p, op, r.Fast); err != nil {
		return raw, err
	}
	raw, _ = n.model.Dump(nowMs, name)
	if past, ok := strings.CutPrefix(raw.Control["past"], "-"); ok {
		edit := storetest.Edit{Do: storetest.HSet, Key: storetest.Control, Field: "past", Value: "+" + past}
		if err := n.model.Edit(name, edit); err != nil {
			return raw, err
		}
		if err := e.Edit(name, edit); err != nil {
			return raw, err
		}
	}
	raw, _ = n.model.Dump(nowMs, name)
	return raw, nil
}

// isCalm says whether a success goes the way of lua/calm.lua.
func isCalm(raw machine.Raw, p machine.Params, op machine.Op, nowMs int64) bool {
	c := raw.Control
	w := strings.Fields(strings.TrimPrefix(c["past"], "+"))
	if !p.Enabled || raw.State == nil || *raw.State != "closed" || !machine.IsHex16(c["plain"]) || c["rule"] != p.Rule() || c["run"] != "" ||
		!strings.HasPrefix(c["past"], "+") || op.Epoch != "" && op.Epoch != c["plain"] || len(w) != 5 {
		return false
	}
	start, _ := strconv.ParseInt(w[0], 10, 64)
	length, _ := strconv.ParseInt(w[1], 10, 64)
	n, _ := strconv.ParseInt(raw.Calls["s"+w[0]], 10, 64)
	return start <= nowMs && nowMs < start+length && n > 0
}

func besideOthers(newEngine func(t testing.TB) *engine) func(t testing.TB) storetest.Engine {
	return func(t testing.TB) storetest.Engine {
		e := newEngine(t)
		e.beside = &neighbour{model: storetest.NewModel()}
		return e
	}
}

func TestHistories_BesideOthersOnMiniredis(t *testing.T) {
	t.Parallel()
	storetest.Histories(t, besideOthers(miniEngine), 7, count(100))
}

func TestHistories_BesideOthersOnRedis(t *testing.T) {
	t.Parallel()
	storetest.Histories(t, besideOthers(realEngine), 8, count(1000))
}

func TestTranscripts_BesideOthers(t *testing.T) {
	t.Parallel()
	storetest.Transcripts(t, besideOthers(realEngine))
}
