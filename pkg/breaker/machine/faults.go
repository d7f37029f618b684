package machine

import "fmt"

// Fault is something in the keys of an agent that its next verb repairs, or takes for an edit.
type Fault struct {
	Key  string // the last part of its name, as "state"
	Edit bool   // it is taken for an edit [B19]; false: it is bad, and repaired [B20]
	Text string
}

// Faults says what Load notices.
func Faults(raw Raw) (out []Fault) {
	l := Load(raw)
	for _, k := range []struct {
		key     string
		bad     int
		planted bool
	}{
		{"state", l.repairs.state, raw.Planted.State},
		{"open_timestamp", l.repairs.timestamp, raw.Planted.Timestamp},
		{"control", l.repairs.control, raw.Planted.Control},
		{"calls", l.repairs.calls, raw.Planted.Calls},
		{"probes", l.repairs.probes, raw.Planted.Probes},
		{"history", 0, raw.Planted.History},
	} {
		switch {
		case k.planted:
			out = append(out, Fault{Key: k.key, Text: "it has another type, or too many fields"})
		case k.bad == 1:
			out = append(out, Fault{Key: k.key, Text: "a value is not allowed, or contradicts others"})
		case k.bad > 1:
			out = append(out, Fault{Key: k.key, Text: fmt.Sprintf("%d values are not allowed, or contradict others", k.bad)})
		}
	}
	if l.Edit.To != "" {
		text := l.Edit.Text + ": it will be " + string(l.Edit.To)
		if l.Hold.Protected == 1 {
			text = l.Edit.Text + ": a protected hold stands, and it is put back"
		}
		out = append(out, Fault{Key: "state", Edit: true, Text: text})
	}
	if l.Edit.Timestamp {
		out = append(out, Fault{Key: "open_timestamp", Edit: true, Text: "it is not what control says, and counts"})
	}
	return out
}
