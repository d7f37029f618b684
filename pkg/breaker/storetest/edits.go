package storetest

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// edits edits the keys of both sides.
func (h *history) edits(edits ...Edit) error {
	for _, e := range edits {
		h.note("edit %+v", e)
		if err := h.edit(e); err != nil {
			return err
		}
	}
	return nil
}

// randomEdits are edits that are supported [B19], and planted garbage [B20]. The rare branches of the machine get edits
// of their own, whenever the keys are as they need them.
func (h *history) randomEdits() []Edit {
	raw, src := h.raw(), h.src
	halfOpen := raw.Control["state"] == "half_open"
	c := src.n(100)
	switch {
	case halfOpen && src.chance(19):
		return []Edit{h.leaseEdit()}
	case halfOpen && src.chance(6):
		return []Edit{{Do: Plant, Key: Probes}}
	case halfOpen && src.chance(20):
		return []Edit{{Do: HSet, Key: Control, Field: "round_slow", Value: pick(src, "1", "2", "3")}}
	case len(raw.Calls) > 0 && src.chance(8): // the minute of a bucket that will leave the window
		names := slices.Sorted(maps.Keys(raw.Calls))
		start, _ := strconv.ParseInt(names[src.n(len(names))][1:], 10, 64)
		value := pick(src, "x y", "1 2 3", "1 2", "a b c", "1 2 0000000000000003")
		return []Edit{{Do: HSet, Key: History, Field: strconv.FormatInt(start/60_000, 10), Value: value}}
	case raw.Control["past"] != "" && src.chance(8): // cached sums that cannot be read
		value := pick(src, "-1 2 3", "+0 1 2 3 4", "+a b c d e", "1 2 3 4 5")
		return []Edit{{Do: HSet, Key: Control, Field: "past", Value: value}}
	case c < 14:
		return []Edit{{Do: Del, Key: State}}
	case c < 24:
		return []Edit{{Do: Del, Key: State}, {Do: Del, Key: Timestamp}}
	case c < 32:
		return []Edit{{Do: Del, Key: Timestamp}}
	case c < 46:
		return []Edit{{Do: Set, Key: State, Value: pick(src, "open", "closed", "half_open")}}
	case c < 54:
		at := h.now + int64(src.n(200_000)) - 150_000
		value := pick(src, machine.FormatTimestamp(at), strconv.FormatInt(at/1000, 10))
		return []Edit{{Do: Set, Key: Timestamp, Value: value}}
	case c < 58:
		return []Edit{{Do: DelAll}}
	case c < 64:
		return []Edit{{Do: Del, Key: pick(src, Control, Calls, Probes, Log)}}
	case c < 72:
		return []Edit{{Do: Plant, Key: pick(src, State, Timestamp, Calls, Control, Probes, Log)}}
	case c < 78:
		return []Edit{{Do: Set, Key: pick(src, State, Timestamp), Value: h.garbage()}}
	case c < 84:
		return []Edit{h.controlEdit()}
	case c < 86: // texts, good and bad
		value := pick(src, "a b", "tab\t", strings.Repeat("long", 17))
		return []Edit{{Do: HSet, Key: Control, Field: pick(src, "cause", "hold_actor"), Value: value}}
	case c < 88: // fields that contradict others
		field := pick(src, "ramp_floor_ppm", "round_ok", "round_need", "hold_ms", "ramp_ms", "hold_actor")
		return []Edit{{Do: HSet, Key: Control, Field: field, Value: pick(src, "1", "7")}}
	case c < 91: // a lost state, and a mirror that cannot be believed
		return []Edit{{Do: Del, Key: State}, {Do: HSet, Key: Control, Field: "state", Value: "shut"}}
	case c < 94:
		now := strconv.FormatInt(h.now, 10)
		field := pick(src, "sx", "f"+now, "w"+strconv.FormatInt(h.now+5000, 10), "r:a", "r:a", "r:b", "r:b", "newer", "s007")
		return []Edit{{Do: HSet, Key: Calls, Field: field, Value: pick(src, "3", h.garbage(), h.garbage())}}
	case c < 99:
		return []Edit{h.leaseEdit()}
	default:
		return []Edit{{Do: Flood, Key: pick(src, Calls, Control), Field: "x", Value: "1", N: 600}}
	}
}

func (h *history) leaseEdit() Edit {
	return Edit{
		Do: HSet, Key: Probes,
		Field: pick(h.src, "00000000000000bb", "00000000000000cc", "newer", "00000000000000GG"),
		Value: pick(h.src, fmt.Sprintf("%d %d 500", h.now, h.now), fmt.Sprintf("%d %d 500", h.now+9, h.now+9), "1 2",
			"x y z", "1 2 3 4"),
	}
}

func (h *history) controlEdit() Edit {
	value := h.garbage()
	if h.src.chance(33) {
		now := strconv.FormatInt(h.now+1000, 10)
		value = pick(h.src, "0", "1", "2", "5", "300", "open", "closed", "half_open", now)
	}
	return Edit{
		Do: pick(h.src, HSet, HSet, HDel), Key: Control, Value: value,
		Field: pick(h.src, "state", "epoch", "epoch", "run", "reopens", "opened_ms", "wait_ms", "cause", "cause",
			"round_max", "round_need", "round_ok", "round_failed", "ramp_ms", "ramp_length_ms", "hold", "hold_ms",
			"hold_length_ms", "hold_protected", "hold_actor", "hold_actor", "upstream_ms", "upstream_length_ms",
			"expires_ms", "transitions", "newer_field"),
	}
}

// garbage is a value that some field refuses.
func (h *history) garbage() string {
	return pick(h.src, "nan", "", "-1", "1e3", "0x10", "9007199254740993", "99999999999999999999", "1.5", " 1", "01",
		"-0", "OPEN", "a\x00b", "inf", "0123456789abcdef", "0123456789abcdeX", strings.Repeat("long", 17), "a b", "tab\t")
}
