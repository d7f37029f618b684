package storetest

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// comparison drives an engine and the model with the same operations and edits of one agent. After every operation it
// compares all that can be seen of the two: the answer, the keys byte for byte, and the instant at which they expire.
type comparison struct {
	engine Engine
	model  *Model
	agent  string

	// apart are the keys whose expiry an edit has set apart, which the machine has not noticed yet [B25].
	apart map[Key]bool
	// logPlanted says that :log exists but is no list, which a Raw does not show.
	logPlanted bool
}

func newComparison(engine Engine, model *Model, agent string) *comparison {
	return &comparison{engine: engine, model: model, agent: agent, apart: map[Key]bool{}}
}

// apply carries out op on both.
func (c *comparison) apply(nowMs int64, p breaker.Policy, op machine.Op) (machine.Result, error) {
	before := c.raw()
	got, err := c.engine.Apply(nowMs, c.agent, p, op)
	if err != nil {
		return got, fmt.Errorf("apply: %w", err)
	}
	want, err := c.model.Expect(nowMs, c.agent, p, op, got.Fast)
	if err != nil {
		return got, err
	}
	want.Plain = got.Plain // which the model never sets; checked below
	if !sameResult(want, got) {
		return got, fmt.Errorf("reply:\nmodel  %+v\nengine %+v", want, got)
	}
	if _, err := c.dump(nowMs); err != nil {
		return got, err
	}
	after := c.raw()
	if got.Plain && got.Epoch != machine.ZeroEpoch && after.Control["plain"] != got.Epoch {
		return got, fmt.Errorf("the answer is plain, but the next acquire would be answered otherwise: %+v", got)
	}
	c.noticed(before, after, got.Events)
	return got, c.compareExpiry(after)
}

func sameResult(a, b machine.Result) bool {
	same := slices.Equal(a.Events, b.Events)
	a.Events, b.Events = nil, nil
	return same && reflect.DeepEqual(a, b)
}

// raw is what the keys hold by the model.
func (c *comparison) raw() machine.Raw { return c.model.agents[c.agent] }

// dump reads all keys of both.
func (c *comparison) dump(nowMs int64) (machine.Raw, error) {
	want := c.raw()
	got, err := c.engine.Dump(nowMs, c.agent)
	if err != nil {
		return got, fmt.Errorf("dump: %w", err)
	}
	if !sameRaw(want, got) {
		return got, fmt.Errorf("keys:\nmodel only  %q\nengine only %q", without(want, got), without(got, want))
	}
	return got, nil
}

// sameRaw compares two sets of keys byte for byte, but for the content of planted keys.
func sameRaw(a, b machine.Raw) bool {
	text := func(x, y *string) bool { return x == y || x != nil && y != nil && *x == *y }
	others := contents(&b)
	for i, c := range contents(&a) {
		o := others[i]
		switch {
		case *c.planted != *o.planted:
			return false
		case *c.planted:
		case c.text != nil && !text(*c.text, *o.text), c.hash != nil && !maps.Equal(*c.hash, *o.hash):
			return false
		}
	}
	return slices.Equal(a.Log, b.Log)
}

// without are the first lines of a that b lacks.
func without(a, b machine.Raw) []string {
	others := Lines(b)
	only := slices.DeleteFunc(Lines(a), func(l string) bool { return slices.Contains(others, l) })
	return only[:min(len(only), 20)]
}

// edit edits the keys of both.
func (c *comparison) edit(e Edit) error {
	existing := c.existing(c.raw())
	if e.Key == Log || e.Do == DelAll {
		c.logPlanted = e.Do == Plant
	}
	switch {
	case e.Do == DelAll:
		clear(c.apart)
	case e.Do == Del:
		delete(c.apart, e.Key)
	case e.Do == Set || e.Do == Plant || !slices.Contains(existing, e.Key):
		c.apart[e.Key] = true
	}
	if e.Key == Control && e.Field == "expires_ms" {
		for _, k := range existing {
			c.apart[k] = true
		}
	}
	_ = c.model.Edit(c.agent, e)
	return c.engine.Edit(c.agent, e)
}

// noticed updates apart: the machine gives all keys one expiry again when it renews it, and when it notices an edit.
func (c *comparison) noticed(before, after machine.Raw, events []breaker.Event) {
	together := before.Control["expires_ms"] != after.Control["expires_ms"]
	for _, e := range events {
		together = together || e.Kind == machine.EventExternalEdit || e.Kind == machine.EventEditUndone
	}
	c.logPlanted = c.logPlanted && len(after.Log) == 0
	existing := c.existing(after)
	maps.DeleteFunc(c.apart, func(k Key, _ bool) bool { return together || !slices.Contains(existing, k) })
}

// existing are the keys that exist, in order.
func (c *comparison) existing(r machine.Raw) (keys []Key) {
	for k, content := range contents(&r) {
		if content.exists() || Key(k) == Log && (len(r.Log) > 0 || c.logPlanted) {
			keys = append(keys, Key(k))
		}
	}
	return keys
}

// compareExpiry checks that all keys but those apart expire at the instant that :control names [B25].
func (c *comparison) compareExpiry(raw machine.Raw) error {
	at, err := c.engine.ExpiryMs(c.agent)
	if err != nil || at == nil || raw.Control["state"] == "" { // keys that no breaker owns keep the expiry they have
		return err
	}
	want := raw.Control["expires_ms"]
	if want == "" {
		want = "-1"
	}
	keys := c.existing(raw)
	if len(keys) != len(at) {
		return fmt.Errorf("expiry: %d keys exist, the model has %d", len(at), len(keys))
	}
	for i, ms := range at {
		if !c.apart[keys[i]] && strconv.FormatInt(ms, 10) != want {
			return fmt.Errorf("expiry: keys expire at %v, :control says %s", at, want)
		}
	}
	return nil
}
