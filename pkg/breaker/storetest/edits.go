package storetest

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// edit is a hand on the keys: the supported ones, and planted rubbish [B19], [B20].
func (h *history) edit() error {
	var edits []Edit
	raw, _ := h.model.Dump(h.now, h.agent)
	c := h.src.n(100)
	if raw.Control["state"] == "half_open" && h.src.one(25) { // leases can be edited only now
		c = 95
		if h.src.one(20) {
			return h.hands([]Edit{{Do: Plant, Key: Probes}})
		}
	}
	if h.src.one(8) && len(raw.Calls) > 0 { // a minute in which a bucket will leave the window
		names := slices.Sorted(maps.Keys(raw.Calls))
		name := names[h.src.n(len(names))]
		start, _ := strconv.ParseInt(name[1:], 10, 64)
		value := pick(h.src, "x y", "1 2 3", "1 2", "a b c", "1 2 0000000000000003")
		return h.hands([]Edit{{Do: HSet, Key: History, Field: strconv.FormatInt(start/60_000, 10), Value: value}})
	}
	if raw.Control["state"] == "half_open" && h.src.one(20) {
		return h.hands([]Edit{{Do: HSet, Key: Control, Field: "round_slow", Value: pick(h.src, "1", "2", "3")}})
	}
	if raw.Control["past"] != "" && h.src.one(8) { // cached sums that cannot be read
		return h.hands([]Edit{{Do: HSet, Key: Control, Field: "past", Value: pick(h.src, "-1 2 3", "+0 1 2 3 4", "+a b c d e", "1 2 3 4 5")}})
	}
	switch {
	case c < 14:
		edits = []Edit{{Do: Del, Key: State}}
	case c < 24:
		edits = []Edit{{Do: Del, Key: State}, {Do: Del, Key: Timestamp}}
	case c < 32:
		edits = []Edit{{Do: Del, Key: Timestamp}}
	case c < 46:
		edits = []Edit{{Do: Set, Key: State, Value: pick(h.src, "open", "closed", "half_open")}}
	case c < 54:
		at := h.now + int64(h.src.n(200_000)) - 150_000
		edits = []Edit{{Do: Set, Key: Timestamp, Value: pick(h.src, machine.FormatTimestamp(at), strconv.FormatInt(at/1000, 10))}}
	case c < 58:
		edits = []Edit{{Do: DelAll}}
	case c < 64:
		edits = []Edit{{Do: Del, Key: pick(h.src, Control, Calls, Probes, Log)}}
	case c < 72:
		edits = []Edit{{Do: Plant, Key: pick(h.src, State, Timestamp, Calls, Control, Probes, Log)}}
	case c < 78:
		edits = []Edit{{Do: Set, Key: pick(h.src, State, Timestamp), Value: pick(h.src, garbage...)}}
	case c < 84:
		edits = []Edit{h.controlEdit()}
	case c < 86: // texts that are none
		edits = []Edit{{Do: HSet, Key: Control, Field: pick(h.src, "cause", "hold_actor"), Value: pick(h.src, "a b", "tab\t", strings.Repeat("long", 17))}}
	case c < 88: // what contradicts itself
		edits = []Edit{{Do: HSet, Key: Control, Field: pick(h.src, "ramp_floor_ppm", "round_ok", "round_need", "hold_ms", "ramp_ms", "hold_actor"), Value: pick(h.src, "1", "7")}}
	case c < 91: // a mirror that cannot be believed
		edits = []Edit{{Do: Del, Key: State}, {Do: HSet, Key: Control, Field: "state", Value: "shut"}}
	case c < 94:
		edits = []Edit{{Do: HSet, Key: Calls, Field: pick(h.src, "sx", fmt.Sprintf("f%d", h.now), fmt.Sprintf("w%d", h.now+5000), "r:a", "newer", "s007"), Value: pick(h.src, append([]string{"3"}, garbage...)...)}}
	case c < 99:
		edits = []Edit{{
			Do: HSet, Key: Probes, Field: pick(h.src, "00000000000000bb", "00000000000000cc", "newer", "00000000000000GG"),
			Value: pick(h.src, fmt.Sprintf("%d %d 500", h.now, h.now), fmt.Sprintf("%d %d 500", h.now+9, h.now+9), "1 2", "x y z", "1 2 3 4"),
		}}
	default:
		edits = []Edit{{Do: Flood, Key: pick(h.src, Calls, Control), Field: "x", Value: "1", N: 600}}
	}
	return h.hands(edits)
}

func (h *history) hands(edits []Edit) error {
	for _, e := range edits {
		h.note("hand %+v", e)
		if err := h.hand(e); err != nil {
			return err
		}
	}
	return nil
}

var garbage = []string{"nan", "", "-1", "1e3", "0x10", "9007199254740993", "99999999999999999999", "1.5", " 1", "01", "-0", "OPEN", "a\x00b", "inf", "0123456789abcdef", "0123456789abcdeX", strings.Repeat("long", 17), "a b", "tab\t"}

func (h *history) controlEdit() Edit {
	fields := []string{
		"state", "epoch", "run", "reopens", "opened_ms", "wait_ms", "cause", "cause", "epoch", "hold_actor", "round_max", "round_need", "round_ok",
		"round_failed", "ramp_ms", "ramp_length_ms", "hold", "hold_ms", "hold_length_ms", "hold_protected", "hold_actor",
		"upstream_ms", "upstream_length_ms", "expires_ms", "transitions", "newer_field",
	}
	e := Edit{Do: pick(h.src, HSet, HSet, HDel), Key: Control, Field: pick(h.src, fields...)}
	e.Value = pick(h.src, append([]string{"0", "1", "2", "5", "300", "open", "closed", "half_open", strconv.FormatInt(h.now+1000, 10)}, garbage...)...)
	return e
}
