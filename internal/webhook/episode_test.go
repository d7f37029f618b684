package webhook

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/events"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// play plays a script of events on a hook, and says which messages it sends. A line is "seconds agent kind from>to", or
// "seconds" alone: all up to then was seen to. After each line the hook's state goes to Redis and back.
func play(t *testing.T, h *hook, script string) string {
	t.Helper()
	var out strings.Builder
	fields := map[string]string{}
	st, _ := readState(fields)
	take := func(s step) {
		if m := s.message; m != nil {
			fmt.Fprintf(&out, "%s %s", m.ID, m.Event.Event)
			if e := m.Episode; e != nil {
				began := "?"
				if e.BeganAt != nil {
					began = (*e.BeganAt)[14:19]
				}
				fmt.Fprintf(&out, " [%d since %s", e.Openings, began)
				if e.Over {
					out.WriteString(", over")
				}
				out.WriteString("]")
			}
			out.WriteString("\n")
		}
		st.take(s)
		maps.Copy(fields, st.set)
		for field := range st.del {
			delete(fields, field)
		}
		st, _ = readState(fields)
	}
	for line := range strings.Lines(script) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		var at uint64
		if _, err := fmt.Sscan(f[0], &at); err != nil {
			t.Fatal(err)
		}
		if len(f) == 1 {
			for _, s := range h.due(st.episodes, st.cursor, int64(at)*1000) {
				take(s)
			}
			continue
		}
		from, to := ">", ""
		if len(f) > 3 {
			from = f[3]
		}
		e, ok := machine.ParseEvent(fmt.Sprintf("%d %s %s%s 00000000000000aa - 0/0/0/0 why", at*1000, f[2], from, to))
		if !ok {
			t.Fatalf("no event: %s", line)
		}
		entry := events.Entry{ID: events.ID{Ms: at * 1000}, Agent: f[1], Event: e}
		for n := 0; st.cursor.Compare(entry.ID) < 0; n++ {
			if n == 2 {
				t.Fatalf("the entry is not seen to: %s", line)
			}
			take(h.next(st.episodes, st.cursor, entry))
		}
	}
	return out.String()
}

func hookOf(t *testing.T, rest string) *hook {
	t.Helper()
	hooks, err := parse([]byte("- {url: http://example.com" + rest + "}"))
	if err != nil {
		t.Fatal(err)
	}
	return &hooks[0]
}

func TestEpisode_IsOneMessageAtItsBeginningAndOneAtItsEnd(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ hook, script, want string }{
		"flapping": {"", `
			100 a opened closed>open
			160 a half_opened open>half_open
			161 a opened half_open>open
			221 a half_opened open>half_open
			222 a closed half_open>closed
			223
			300 a opened closed>open
			360 a half_opened open>half_open
			361 a closed half_open>closed
			660
			661
			662`, "100000-0 opened [1 since 01:40]\n361000-0 closed [3 since 01:40, over]\n"},
		"the next episode, read before the calm was noticed": {
			"", `
			100 a opened closed>open
			160 a closed half_open>closed
			460 a opened closed>open
			470 a closed half_open>closed
			769 a opened closed>open`,
			"100000-0 opened [1 since 01:40]\n160000-0 closed [1 since 01:40, over]\n460000-0 opened [1 since 07:40]\n",
		},
		"each agent has its own": {"", `
			100 a opened closed>open
			101 b opened closed>open
			102 a closed half_open>closed
			103 b closed half_open>closed
			403`, "100000-0 opened [1 since 01:40]\n101000-0 opened [1 since 01:41]\n" +
			"102000-0 closed [1 since 01:40, over]\n103000-0 closed [1 since 01:41, over]\n"},
		"an operator ends it": {"", `
			100 a opened closed>open
			110 a manual_open open>open
			120 a manual_reset open>half_open
			130 a opened half_open>open
			140 a manual_close open>closed
			150 a manual_close closed>closed
			160 a opened closed>open`, "100000-0 opened [1 since 01:40]\n110000-0 manual_open\n120000-0 manual_reset\n" +
			"140000-0 manual_close [2 since 01:40, over]\n150000-0 manual_close\n160000-0 opened [1 since 02:40]\n"},
		"an operator begins it": {"", `
			100 a manual_open closed>open
			200 a hold_expired open>half_open
			201 a opened half_open>open
			300 a half_opened open>half_open
			301 a closed half_open>closed
			601`, "100000-0 manual_open [1 since 01:40]\n200000-0 hold_expired\n301000-0 closed [2 since 01:40, over]\n"},
		"opened and closed alone, whoever does it": {", kinds: [opened, closed]", `
			100 a hand_edit closed>open
			110 a manual_open open>open
			120 a manual_reset open>closed`, "100000-0 hand_edit [1 since 01:40]\n120000-0 manual_reset [1 since 01:40, over]\n"},
		"its agent is deleted": {"", `
			100 a opened closed>open
			110 a forgotten
			120 a forgotten
			130 a opened closed>open`, "100000-0 opened [1 since 01:40]\n110000-0 forgotten [1 since 01:40, over]\n130000-0 opened [1 since 02:10]\n"},
		"its closing was not heard of": {"", `
			100 a opened closed>open
			200 a opened closed>open
			300 b opened closed>open
			604999
			605000
			605100
			605200 a closed half_open>closed
			605500`, "100000-0 opened [1 since 01:40]\n200000-0 opened [1 since 03:20]\n300000-0 opened [1 since 05:00]\n" +
			"605200000-0 closed [0 since ?, over]\n"},
		"its beginning was not heard of": {"", `
			100 a closed half_open>closed
			200 a opened closed>open`, "200000-0 opened [1 since 03:20]\n"},
		"half_opened on demand": {", kinds: [half_opened, opened]", `
			100 a opened closed>open
			160 a half_opened open>half_open
			161 a opened half_open>open
			162 a half_opened open>half_open
			163 a closed half_open>closed
			500`, "100000-0 opened [1 since 01:40]\n160000-0 half_opened\n162000-0 half_opened\n"},
		"no episodes": {", kinds: [gate, evidence]", `
			100 a opened closed>open
			101 a evidence
			102 - gate
			103 - store_reset
			104 a closed half_open>closed
			500`, "101000-0 evidence\n102000-0 gate\n"},
		"agents": {", agents: [pay*, '?']", `
			100 payments opened closed>open
			101 orders opened closed>open
			102 x opened closed>open
			103 - gate
			104 - store_reset
			105 payments nonsense
			106 payments healed closed>closed`, "100000-0 opened [1 since 01:40]\n102000-0 opened [1 since 01:42]\n103000-0 gate\n104000-0 store_reset\n"},
		"hold_ends_soon": {"", "100 a hold_ends_soon open>open\n101 a half_opened open>half_open", "100000-0 hold_ends_soon\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := play(t, hookOf(t, c.hook), c.script); got != c.want {
				t.Errorf("sent\n%swant\n%s", got, c.want)
			}
		})
	}
}

// TestEpisode_AgentsBeyondTheBoundHaveAMessageForEachEvent, and cost nothing.
func TestEpisode_AgentsBeyondTheBoundHaveAMessageForEachEvent(t *testing.T) {
	t.Parallel()
	h, all := hookOf(t, ""), map[string]*episode{}
	for i := range maxEpisodes {
		all[strconv.Itoa(i)] = &episode{BeganMs: 1, Openings: 1}
	}
	for i, line := range []string{"opened closed>open", "closed half_open>closed"} {
		e, _ := machine.ParseEvent("1 " + line + " 00000000000000aa - 0/0/0/0 why")
		s := h.next(all, events.ID{}, events.Entry{ID: events.ID{Ms: uint64(i) + 1}, Agent: "a", Event: e})
		if s.message == nil || s.message.Episode != nil || s.agent != "" {
			t.Errorf("%s: %+v", line, s)
		}
	}
	if s := h.due(all, events.ID{}, (6 * 24 * time.Hour).Milliseconds()); len(s) != 0 {
		t.Errorf("%d are over", len(s))
	}
}
