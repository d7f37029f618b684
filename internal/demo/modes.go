package demo

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/breakerd/breakerd/internal/text"
)

// mode is how an agent behaves.
type mode string

const (
	healthy      mode = "healthy"
	slow         mode = "slow"
	flaky        mode = "flaky"
	failing      mode = "failing"
	rateLimited  mode = "rate-limited"
	streaming    mode = "streaming"
	hanging      mode = "hanging"
	broken       mode = "broken"
	jsonrpcError mode = "jsonrpc-error"
	mcpError     mode = "mcp-error"
)

// The settings, as JSON spells them. Each is a number.
const (
	delayMs     = "delay_ms" // before the mode's answer
	status      = "status"
	failureRate = "failure_rate"
	failEvery   = "fail_every"  // 0: failure_rate decides
	retryAfter  = "retry_after" // seconds; 0 in failing and flaky: no header
	intervalMs  = "interval_ms"
	events      = "events"
	breakAfter  = "break_after" // 0: the stream ends in order
)

// kind describes one mode.
type kind struct {
	mode     mode
	word     string             // an agent with it in its name begins in this mode; "": none does
	short    string             // the setting that mode:number sets; "": none
	settings map[string]float64 // besides delay_ms, with the defaults
}

// kinds are the modes. The first whose word an agent's name contains is the agent's first mode.
func kinds() []kind {
	return []kind{
		{healthy, "", "", nil},
		{failing, "Failing", status, map[string]float64{status: 500, retryAfter: 0}},
		{slow, "Slow", delayMs, map[string]float64{delayMs: 1000}},
		{flaky, "Flaky", failureRate, map[string]float64{failureRate: 0.5, failEvery: 0, status: 500, retryAfter: 0}},
		{rateLimited, "RateLimited", retryAfter, map[string]float64{retryAfter: 5}},
		{streaming, "Streaming", events, map[string]float64{events: 10, intervalMs: 500, breakAfter: 0}},
		{hanging, "Hanging", "", nil},
		{broken, "Broken", "", nil},
		{jsonrpcError, "", "", nil},
		{mcpError, "", "", nil},
	}
}

// bounds is the range of a setting: whole numbers, unless fraction is set.
type bounds struct {
	least, most float64
	fraction    bool
}

func settings() map[string]bounds {
	const hourMs, day, many = 3_600_000, 86_400, 1_000_000
	return map[string]bounds{
		delayMs:     {0, hourMs, false},
		status:      {400, 599, false},
		failureRate: {0, 1, true},
		failEvery:   {0, many, false},
		retryAfter:  {0, day, false},
		intervalMs:  {0, hourMs, false},
		events:      {1, many, false},
		breakAfter:  {0, many, false},
	}
}

// behaviour is a mode with all of its settings. It does not change.
type behaviour struct {
	mode     mode
	settings map[string]float64
}

// newBehaviour checks the settings that were given, and takes the defaults of the others. The error says what is
// allowed.
func newBehaviour(m mode, given map[string]float64) (behaviour, error) {
	k, ok := kindOf(m)
	if !ok {
		return behaviour{}, fmt.Errorf("mode: want one of %s", modeNames())
	}
	b := behaviour{m, map[string]float64{delayMs: 0}}
	maps.Copy(b.settings, k.settings)
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if _, ok := b.settings[name]; !ok {
			takes := strings.Join(slices.Sorted(maps.Keys(b.settings)), ", ")
			return behaviour{}, fmt.Errorf("%s: %s takes only %s", text.Short(name), m, takes)
		}
		v, in := given[name], settings()[name]
		if !(v >= in.least && v <= in.most) || !in.fraction && v != math.Trunc(v) {
			what := "a whole number"
			if in.fraction {
				what = "a number"
			}
			return behaviour{}, fmt.Errorf("%s: want %s from %s to %s", name, what, number(in.least), number(in.most))
		}
		b.settings[name] = v
	}
	if b.settings[breakAfter] > b.settings[events] {
		return behaviour{}, fmt.Errorf("break_after: want no more than events, which is %s", number(b.settings[events]))
	}
	return b, nil
}

func kindOf(m mode) (kind, bool) {
	all := kinds()
	i := slices.IndexFunc(all, func(k kind) bool { return k.mode == m })
	if i < 0 {
		return kind{}, false
	}
	return all[i], true
}

func modeNames() string {
	var names []string
	for _, k := range kinds() {
		names = append(names, string(k.mode))
	}
	return strings.Join(names, ", ")
}

// byName is the first behaviour of an agent that DEMO_AGENTS does not name.
func byName(agent string) behaviour {
	m := healthy
	for _, k := range kinds() {
		if k.word != "" && strings.Contains(strings.ToLower(agent), strings.ToLower(k.word)) {
			m = k.mode
			break
		}
	}
	b, _ := newBehaviour(m, nil) // a known mode without settings is always right
	return b
}

// whole is a setting as an integer.
func (b behaviour) whole(name string) int { return int(b.settings[name]) }

// wait is a setting of milliseconds.
func (b behaviour) wait(name string) time.Duration {
	return time.Duration(b.settings[name]) * time.Millisecond
}

// now is the mode of one call: slow is healthy after its delay, flaky is failing or healthy. turn counts the calls
// since the last switch, from 1.
func (b behaviour) now(turn int64) mode {
	switch b.mode {
	case slow:
		return healthy
	case flaky:
		every := int64(b.whole(failEvery))
		if every > 0 && turn%every == 0 || every == 0 && rand.Float64() < b.settings[failureRate] {
			return failing
		}
		return healthy
	}
	return b.mode
}

// String is the behaviour for a log line.
func (b behaviour) String() string {
	parts := []string{string(b.mode)}
	for _, name := range slices.Sorted(maps.Keys(b.settings)) {
		if b.settings[name] != 0 {
			parts = append(parts, name+"="+number(b.settings[name]))
		}
	}
	return strings.Join(parts, " ")
}

func number(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
