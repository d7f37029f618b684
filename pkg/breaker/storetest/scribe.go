package storetest

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// outcomes reads "ssff": s success, f failure, S and F slow ones, i ignored; joined in order. "f300" is 300 failures.
func outcomes(letters string, waitMs int64) machine.Summary {
	var s machine.Summary
	for _, m := range regexp.MustCompile(`([sfSFi])(\d*)`).FindAllStringSubmatch(letters, -1) {
		o := breaker.Outcome{Kind: breaker.Success, Slow: m[1] == "S" || m[1] == "F"}
		switch m[1] {
		case "f", "F":
			o.Kind, o.RetryAfter = breaker.Failure, time.Duration(waitMs)*time.Millisecond
		case "i":
			o.Kind = breaker.Ignored
		}
		n := 1
		if m[2] != "" {
			n, _ = strconv.Atoi(m[2])
		}
		for range n {
			s = s.Join(o.Summary())
		}
	}
	return s
}

func (r *reading) repeat(w []string) (answer string, err error) {
	n, err := strconv.Atoi(w[0])
	for range n {
		if err == nil {
			answer, err = r.command(w[1:])
		}
	}
	return answer, err
}

// expiry says when the keys that are there expire, each once, and "never".
func (r *reading) expiry() (string, error) {
	at, err := r.engine.ExpiryMs(r.agent)
	if err != nil || at == nil {
		return unknown, err
	}
	var words []string
	for _, ms := range slices.Compact(slices.Sorted(slices.Values(at))) {
		if ms == -1 {
			words = append(words, "never")
		} else {
			words = append(words, fmt.Sprintf("%dms", ms-BaseMs))
		}
	}
	return strings.Join(words, "+"), nil
}

// edit edits keys: "set state open", "del state open_timestamp", "hset control run 7", "hdel control run", "plant calls",
// "flood calls 600" (fields more), "fill calls 512" (until there are as many), "flushall". A value in quotes may hold escapes.
func (r *reading) edit(w []string) error {
	names := []string{"state", "open_timestamp", "calls", "control", "probes", "log", "history"}
	if w[0] == "flushall" {
		return r.hand(Edit{Do: DelAll})
	}
	keys := w[1:2]
	if w[0] == "del" {
		keys = w[1:]
	}
	for _, k := range keys {
		i := slices.Index(names, k)
		if i < 0 {
			return fmt.Errorf("no key %q", k)
		}
		e := Edit{Do: Action(w[0]), Key: Key(i), Field: "x", Value: "1"}
		switch w[0] {
		case "set":
			e.Value = value(w[2:])
			if d, err := time.ParseDuration(w[2]); err == nil && k == "open_timestamp" && d != 0 {
				e.Value = machine.FormatTimestamp(BaseMs + d.Milliseconds())
			}
		case "hset":
			e.Field, e.Value = value(w[2:3]), value(w[3:])
		case "hdel":
			e.Field = value(w[2:3])
		case "flood":
			e.N, _ = strconv.Atoi(w[2])
		case "fill":
			most, _ := strconv.Atoi(w[2])
			e.Do, e.Field, e.N = Flood, fmt.Sprintf("fill%d-", r.draws), most-r.fields(e.Key)
		}
		if err := r.hand(e); err != nil {
			return err
		}
	}
	return nil
}

// fields is how many a hash has.
func (r *reading) fields(k Key) int {
	raw, _ := r.model.Dump(r.now, r.agent)
	return len(map[Key]map[string]string{Calls: raw.Calls, Control: raw.Control, Probes: raw.Probes, History: raw.History}[k])
}

// value is what a hand writes: text, with "@5000" for a moment, in quotes where it holds what a line cannot.
func value(w []string) string {
	text := strings.Join(w, " ")
	if v, err := strconv.Unquote(text); err == nil {
		text = v
	}
	return regexp.MustCompile(`@-?\d+`).ReplaceAllStringFunc(text, func(m string) string {
		ms, _ := strconv.ParseInt(m[1:], 10, 64)
		return strconv.FormatInt(BaseMs+ms, 10)
	})
}
