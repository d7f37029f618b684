package storetest

import (
	"embed"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

//go:embed testdata/*.txt
var transcripts embed.FS

// Transcripts replays testdata/*.txt on fresh engines.
//
// A line is a command, or "command => words": then every word must be among those of the answer. The words were worked
// out by hand from the clause that the title names. After every operation the answer and the keys must also be the
// model's. Times are given from the transcript's beginning; "@5000" in an edit is the moment 5 s after it, in
// milliseconds.
//
//	policy failure_threshold=3          the default policy with these fields of an override
//	at 5s                               the time from now on
//	acquire as=a                        keeps its permit as a; also draw=, token=, again=a, useless=5s
//	record a ssFi                       by permit a, or "bare": see outcomes; also by=, id=, wait=, epoch=, token=
//	renew a                             also epoch=, token=
//	replay a 10s:ssf                    buckets by start; also by=, epoch=, token=
//	force hold_open by=alice            also reason=, for=, ramp=, protected, override
//	edit set state open                 also del, hset, hdel, plant, flood, fill, flushall: see edits
//	look                                the advanced snapshot
//	log, keys, expiry                   what the keys hold, and when they expire
//	repeat 70 record bare f             the command that follows, so often
//	history 0                           minutes that :history goes back
//	shift 5s                            of the agent's buckets
func Transcripts(t *testing.T, newEngine func(t testing.TB) Engine) {
	t.Helper()
	parts, err := Parts()
	if err != nil {
		t.Fatal(err)
	}
	byFile := map[string][]Part{}
	for _, p := range parts {
		byFile[p.file] = append(byFile[p.file], p)
	}
	for file, parts := range byFile {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			engine := newEngine(t)
			if _, model := engine.(*Model); model && file == "fast-path" {
				return // it has none
			}
			for _, p := range parts {
				if err := p.Play(engine, ""); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// Part is one transcript.
type Part struct{ Name, file, title, body string }

// Parts are all transcripts, in the order of their files.
func Parts() (parts []Part, err error) {
	files, err := transcripts.ReadDir("testdata")
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		text, err := transcripts.ReadFile("testdata/" + f.Name())
		if err != nil {
			return nil, err
		}
		file := strings.TrimSuffix(f.Name(), ".txt")
		for i, s := range strings.Split(string(text), "\n== ") {
			title, body, _ := strings.Cut(s, "\n")
			parts = append(parts, Part{fmt.Sprintf("%s-%d", file, i), file, title, body})
		}
	}
	return parts, nil
}

// Play replays the transcript on an agent whose name begins with prefix, and returns the first difference.
func (p Part) Play(engine Engine, prefix string) error {
	t := &player{
		comparison: newComparison(engine, NewModel(), prefix+p.Name), now: BaseMs,
		policy: breaker.DefaultPolicy(), permits: map[string]permit{"bare": {}},
	}
	engine.KeepHistory(int(t.model.historyMinutes))
	for n, line := range strings.Split(p.body, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		command, want, _ := strings.Cut(line, "=>")
		got, err := t.command(strings.Fields(command))
		words := strings.Fields(got)
		for w := range strings.FieldsSeq(want) {
			if err == nil && got != unknown && !slices.Contains(words, w) {
				err = fmt.Errorf("answer is %q", got)
			}
		}
		if err != nil {
			return fmt.Errorf("%s, %s: line %d %q: %w", p.Name, p.title, n+2, line, err)
		}
	}
	return nil
}

// unknown is the answer of an engine that cannot say. It is not checked.
const unknown = "?"

// player is one transcript under way.
type player struct {
	*comparison

	now     int64
	policy  breaker.Policy
	permits map[string]permit
	draws   int
	shiftMs int64
}

// args are the "name=value" words and the bare words of a command.
type args map[string]string

func parseArgs(words []string) args {
	a := args{}
	for _, w := range words {
		name, value, _ := strings.Cut(w, "=")
		a[name] = value
	}
	return a
}

func (a args) has(name string) bool { _, ok := a[name]; return ok }

func (a args) duration(name string) time.Duration {
	d, _ := time.ParseDuration(a[name])
	return d
}

func (a args) ms(name string) int64 { return a.duration(name).Milliseconds() }

// ppm reads a draw, written as a duration: 500ms is a half.
func (a args) ppm(name string) int64 { return a.duration(name).Microseconds() }

// command carries out one line, and gives its answer in words.
func (t *player) command(w []string) (answer string, err error) {
	if len(w) < 1 {
		return "", errors.New("no command")
	}
	switch w[0] {
	case "policy":
		return "", t.setPolicy(w[1:])
	case "at":
		d, err := time.ParseDuration(w[1])
		t.now = BaseMs + d.Milliseconds()
		return "", err
	case "shift":
		d, err := time.ParseDuration(w[1])
		t.shiftMs = d.Milliseconds()
		return "", err
	case "history":
		n, err := strconv.Atoi(w[1])
		t.model.KeepHistory(n)
		t.engine.KeepHistory(n)
		return "", err
	case "edit":
		return "", t.edits(w[1], w[2:])
	case "repeat":
		n, err := strconv.Atoi(w[1])
		for ; err == nil && n > 0; n-- {
			answer, err = t.command(w[2:])
		}
		return answer, err
	case "expiry":
		return t.expiry()
	case "look":
		return t.look()
	case "log":
		raw, err := t.dump(t.now)
		return fmt.Sprintf("lines=%d | %s", len(raw.Log), strings.Join(raw.Log, " | ")), err
	case "keys":
		raw, err := t.dump(t.now)
		return strings.ReplaceAll(strings.Join(Lines(raw), " "), " = ", "="), err
	default:
		return t.operate(w)
	}
}

func (t *player) setPolicy(fields []string) error {
	for i, f := range fields {
		name, value, _ := strings.Cut(f, "=")
		fields[i] = fmt.Sprintf("%q:%s", name, value)
	}
	o, err := policy.Parse([]byte("{" + strings.Join(fields, ",") + "}"))
	if err != nil {
		return err
	}
	t.policy = o.Apply(breaker.DefaultPolicy())
	return t.policy.Validate()
}

// operate carries out one of the machine's verbs.
func (t *player) operate(w []string) (string, error) {
	t.draws++
	a := parseArgs(w[1:])
	op := machine.Op{
		Verb: machine.Verb(w[0]), Draw: fmt.Sprintf("%015x", t.draws), JitterPPM: a.ppm("jitter"), RampPPM: a.ppm("draw"),
		ShiftMs: t.shiftMs,
	}
	switch op.Verb {
	case machine.VerbAcquire:
		op.Token = fmt.Sprintf("%016x", t.draws)
		if a.has("again") {
			op.Token = t.permits[a["again"]].token
		}
		if a.has("useless") {
			op.UselessAfterMs = BaseMs + a.ms("useless")
		}
	case machine.VerbRecord, machine.VerbRenew, machine.VerbReplay:
		p, ok := t.permits[w[1]]
		if !ok {
			return "", fmt.Errorf("no permit %q", w[1])
		}
		op.Epoch, op.Token, op.Reporter, op.ReportID = p.epoch, p.token, a["by"], a["id"]
		if op.Verb == machine.VerbRecord {
			op.Summary = outcomes(w[2], a.ms("wait"))
		}
		if op.Verb == machine.VerbReplay {
			op.Batch = batch(w[2:])
		}
	case machine.VerbForce:
		op.Force = breaker.Force{
			Target: breaker.Target(w[1]), LengthMs: a.ms("for"), RampMs: a.ms("ramp"),
			Actor: a["by"], Reason: a["reason"], Protected: a.has("protected"), Override: a.has("override"),
			Yield: breaker.Yield(a["yield"]), ID: a["id"],
		}
	default:
		return "", fmt.Errorf("unknown command %q", w[0])
	}
	if a.has("epoch") {
		op.Epoch = a["epoch"]
	}
	if a.has("token") {
		op.Token = a["token"]
	}
	res, err := t.apply(t.now, t.policy, op)
	if a.has("as") {
		t.permits[a["as"]] = permitOf(res, op.Token)
	}
	return answer(res), err
}

var letters = regexp.MustCompile(`([sfSFi])(\d*)`)

// outcomes joins "ssff" in order: s success, f failure, S and F slow ones, i ignored; "f300" is 300 failures.
func outcomes(text string, waitMs int64) machine.Summary {
	var s machine.Summary
	for _, m := range letters.FindAllStringSubmatch(text, -1) {
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

// batch reads the buckets of a replay: "10s:ssf" has two successes and a failure in the bucket that starts at 10 s.
func batch(words []string) (out []machine.Bucket) {
	for _, w := range words {
		at, text, ok := strings.Cut(w, ":")
		if start, err := time.ParseDuration(at); ok && err == nil {
			s := outcomes(text, 0)
			out = append(out, machine.Bucket{
				StartMs: BaseMs + start.Milliseconds(),
				Counts:  machine.Counts{Successes: s.Successes, Failures: s.Failures, Slow: s.Slow},
			})
		}
	}
	return out
}

// edits edits keys: "set state open", "del state open_timestamp", "hset control run 7", "hdel control run", "plant
// calls", "flood calls 600" (more fields), "fill calls 512" (until there are so many), "flushall".
func (t *player) edits(do string, w []string) error {
	if do == "flushall" {
		return t.edit(Edit{Do: DelAll})
	}
	names := w[:1]
	if do == "del" {
		names = w
	}
	raw := t.raw()
	keys := contents(&raw)
	for _, name := range names {
		e := Edit{Do: Action(do), Field: "x", Value: "1"}
		if e.Key = Key(slices.IndexFunc(keys, func(c content) bool { return c.name == name })); e.Key < 0 {
			return fmt.Errorf("no key %q", name)
		}
		switch do {
		case "set":
			e.Value = editValue(w[1:])
			if d, err := time.ParseDuration(w[1]); err == nil && e.Key == Timestamp && d != 0 {
				e.Value = machine.FormatTimestamp(BaseMs + d.Milliseconds())
			}
		case "hset":
			e.Field, e.Value = editValue(w[1:2]), editValue(w[2:])
		case "hdel":
			e.Field = editValue(w[1:2])
		case "flood":
			e.N, _ = strconv.Atoi(w[1])
		case "fill":
			most, _ := strconv.Atoi(w[1])
			e.Do, e.Field, e.N = Flood, fmt.Sprintf("fill%d-", t.draws), most-len(*keys[e.Key].hash)
		}
		if err := t.edit(e); err != nil {
			return err
		}
	}
	return nil
}

var moment = regexp.MustCompile(`@-?\d+`)

// editValue is a field or a value: words in which "@5000" is a moment, in quotes if it holds what a line cannot.
func editValue(words []string) string {
	text := strings.Join(words, " ")
	if v, err := strconv.Unquote(text); err == nil {
		text = v
	}
	return moment.ReplaceAllStringFunc(text, func(m string) string {
		ms, _ := strconv.ParseInt(m[1:], 10, 64)
		return strconv.FormatInt(BaseMs+ms, 10)
	})
}

// answer is a result in words.
func answer(res machine.Result) string {
	out := []string{fmt.Sprintf("%s %s reason=%s retry=%dms lease=%dms counted=%d",
		res.Code, res.State, res.Reason, res.RetryAfterMs, res.LeaseMs, res.Counted)}
	for _, e := range res.Events {
		out = append(out, fmt.Sprintf("%s@%dms %s:%s>%s text=%s evidence=%d/%d/%d slow=%d",
			e.Kind, e.AtMs-BaseMs, e.Kind, e.From, e.To, word(e.Text), e.Failures, e.Calls, e.Run, e.Slow))
	}
	return strings.Join(out, " ")
}

// look is the advanced snapshot in words.
func (t *player) look() (string, error) {
	raw, err := t.dump(t.now)
	p := t.model.Params(t.policy)
	inspect := machine.Op{Verb: machine.VerbInspect, Draw: machine.ZeroEpoch[1:]}
	s, _ := machine.Step(p, machine.Load(raw), inspect, t.now)
	w, e, r := s.Window(t.now, p.WindowMs), s.Evidence, s.Round
	return strings.Join([]string{
		fmt.Sprintf("%s epoch=%s run=%d reopens=%d transitions=%d", s.State, s.Epoch, s.Run, s.Reopens, s.Transitions),
		fmt.Sprintf("window=%d+%d slow=%d buckets=%d", w.Successes, w.Failures, w.Slow, len(s.Buckets)),
		fmt.Sprintf("total=%d+%d reporters=%d", s.Successes, s.Failures, len(s.Reporters)),
		fmt.Sprintf("opened=%dms cause=%s first=%s", s.OpenedMs-BaseMs, word(s.Cause), word(s.FirstCause)),
		fmt.Sprintf("wait=%dms base=%dms jitter=%dms", s.WaitMs, s.Wait.BaseMs, s.Wait.JitterMs),
		fmt.Sprintf("upstream=%dms evidence=%d/%d/%d", s.Wait.UpstreamMs, e.Failures, e.Calls, e.Run),
		fmt.Sprintf("round=%d/%d ok=%d failed=%d roundslow=%d", r.Need, r.Max, r.OK, r.Failed, r.Slow),
		fmt.Sprintf("hold=%s/%dms by=%s ramp=%d", s.Hold.Kind, s.Hold.LengthMs, s.Hold.Actor, s.Ramp.LengthMs),
		fmt.Sprintf("leases=%d expires=%dms", len(s.Leases), s.ExpiresMs-BaseMs),
	}, " "), err
}

// expiry says when the existing keys expire, each moment once, and "never".
func (t *player) expiry() (string, error) {
	at, err := t.engine.ExpiryMs(t.agent)
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

// word makes one word of a text.
func word(text string) string { return strings.ReplaceAll(text, " ", "_") }
