package storetest

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// twins drive an engine and the model with the same operations and the same hands, and compare all that can be seen of the two
// after every operation: the reply, the keys byte for byte, and the instant at which they expire.
type twins struct {
	engine Engine
	model  *Model
	agent  string
	// stained are keys to which a hand gave a life of their own, of which the machine knows nothing yet [B25].
	stained map[Key]bool
	// plantedLog: the log is there, but of another type, which a Raw does not tell.
	plantedLog bool
}

func newTwins(engine Engine, model *Model, agent string) *twins {
	return &twins{engine: engine, model: model, agent: agent, stained: map[Key]bool{}}
}

// apply carries out op on both.
func (t *twins) apply(nowMs int64, p breaker.Policy, op machine.Op) (machine.Result, error) {
	before, _ := t.model.Dump(nowMs, t.agent)
	got, err := t.engine.Apply(nowMs, t.agent, p, op)
	if err != nil {
		return got, fmt.Errorf("apply: %w", err)
	}
	want, err := t.model.Expect(nowMs, t.agent, p, op, got.Fast)
	if err != nil {
		return got, err
	}
	want.Plain = got.Plain // the model is silent on it: see below
	if !sameResult(want, got) {
		return got, fmt.Errorf("reply:\nmodel  %+v\nengine %+v", want, got)
	}
	if _, err := t.dump(nowMs); err != nil {
		return got, err
	}
	raw, _ := t.model.Dump(nowMs, t.agent)
	if got.Plain && raw.Control["plain"] != got.Epoch {
		return got, fmt.Errorf("the next acquire would not be answered as this one: %+v", got)
	}
	t.washed(before, raw, got.Events)
	return got, t.sameExpiry(raw)
}

// dump reads all keys of both.
func (t *twins) dump(nowMs int64) (machine.Raw, error) {
	want, _ := t.model.Dump(nowMs, t.agent)
	got, err := t.engine.Dump(nowMs, t.agent)
	if err != nil {
		return got, fmt.Errorf("dump: %w", err)
	}
	if !sameRaw(want, got) {
		return got, fmt.Errorf("keys:\nmodel only  %q\nengine only %q", without(want, got), without(got, want))
	}
	return got, nil
}

// hand edits a key of both.
func (t *twins) hand(e Edit) error {
	raw, _ := t.model.Dump(0, t.agent)
	if e.Key == Log || e.Do == DelAll {
		t.plantedLog = e.Do == Plant
	}
	switch {
	case e.Do == DelAll:
		clear(t.stained)
	case e.Do == Del:
		delete(t.stained, e.Key)
	case e.Do == Set || e.Do == Plant || !t.existing(raw)[e.Key]:
		t.stained[e.Key] = true
	}
	if e.Key == Control && e.Field == "expires_ms" {
		for k := range t.existing(raw) {
			t.stained[k] = true
		}
	}
	_ = t.model.Edit(t.agent, e)
	return t.engine.Edit(t.agent, e)
}

// washed forgets the stains when the machine has given all keys an instant anew: a new one, or because it noticed a hand.
func (t *twins) washed(before, after machine.Raw, events []breaker.Event) {
	noticed := before.Control["expires_ms"] != after.Control["expires_ms"]
	for _, e := range events {
		noticed = noticed || strings.HasPrefix(e.Kind, "hand_")
	}
	t.plantedLog = t.plantedLog && len(after.Log) == 0
	there := t.existing(after)
	for k := range t.stained {
		if noticed || !there[k] {
			delete(t.stained, k)
		}
	}
}

// without are the first lines of a that b lacks.
func without(a, b machine.Raw) []string {
	others := Lines(b)
	only := slices.DeleteFunc(Lines(a), func(l string) bool { return slices.Contains(others, l) })
	return only[:min(len(only), 20)]
}

// existing are the keys that are there.
func (t *twins) existing(r machine.Raw) map[Key]bool {
	out := map[Key]bool{}
	for k, there := range map[Key]bool{
		State: r.State != nil || r.Planted.State, Timestamp: r.Timestamp != nil || r.Planted.Timestamp,
		Calls: r.Calls != nil || r.Planted.Calls, Control: r.Control != nil || r.Planted.Control,
		Probes: r.Probes != nil || r.Planted.Probes, Log: len(r.Log) > 0 || t.plantedLog,
		History: r.History != nil || r.Planted.History,
	} {
		if there {
			out[k] = true
		}
	}
	return out
}

// sameExpiry checks that all keys expire at the instant that :control names [B25], but for the stained ones.
func (t *twins) sameExpiry(raw machine.Raw) error {
	at, err := t.engine.ExpiryMs(t.agent)
	if err != nil || at == nil || raw.Control["state"] == "" { // what is left without a breaker keeps its life
		return err
	}
	want := raw.Control["expires_ms"]
	if want == "" {
		want = "-1"
	}
	keys := slices.Sorted(maps.Keys(t.existing(raw)))
	if len(keys) != len(at) {
		return fmt.Errorf("expiry: %d keys, of which %d are known", len(at), len(keys))
	}
	for i, ms := range at {
		if !t.stained[keys[i]] && strconv.FormatInt(ms, 10) != want {
			return fmt.Errorf("expiry: keys expire at %v, :control says %s", at, want)
		}
	}
	return nil
}

func sameResult(a, b machine.Result) bool {
	ea, eb := a.Events, b.Events
	a.Events, b.Events = nil, nil
	return slices.Equal(ea, eb) && reflect.DeepEqual(a, b)
}

// sameRaw compares two sets of keys byte for byte; what a planted key holds is nobody's business.
func sameRaw(a, b machine.Raw) bool {
	text := func(x, y *string) bool { return x == y || x != nil && y != nil && *x == *y }
	hash := func(planted bool, x, y map[string]string) bool { return planted || maps.Equal(x, y) }
	return a.Planted == b.Planted && text(a.State, b.State) && text(a.Timestamp, b.Timestamp) && slices.Equal(a.Log, b.Log) &&
		hash(a.Planted.Calls, a.Calls, b.Calls) && hash(a.Planted.Control, a.Control, b.Control) && hash(a.Planted.Probes, a.Probes, b.Probes) &&
		hash(a.Planted.History, a.History, b.History)
}
