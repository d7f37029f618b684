package storetest

import (
	"embed"
	"fmt"
	"maps"
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

// Transcripts replays testdata/*.txt on fresh engines. Each line is "command => words", where every word after the arrow must be
// among those of the answer; the words were computed by hand from the clause that the file names. A line without an arrow only
// acts. Beside that, every answer and all keys must be the model's. "policy" lines take the fields of an override. Times are
// given from the transcript's beginning; "@5000" in a hand's field or value is the moment 5 s after it, in milliseconds.
func Transcripts(t *testing.T, newEngine func(t testing.TB) Engine) {
	t.Helper()
	all, err := readParts()
	if err != nil {
		t.Fatal(err)
	}
	for name, parts := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			engine := newEngine(t)
			if _, plain := engine.(*Model); plain && name == "fast-path" {
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
type Part struct{ Name, title, body string }

// Parts are all transcripts, in the order of their names.
func Parts() ([]Part, error) {
	all, err := readParts()
	if err != nil {
		return nil, err
	}
	var out []Part
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, all[name]...)
	}
	return out, nil
}

// readParts gives the transcripts of each file.
func readParts() (map[string][]Part, error) {
	files, err := transcripts.ReadDir("testdata")
	if err != nil {
		return nil, err
	}
	all := map[string][]Part{}
	for _, f := range files {
		text, err := transcripts.ReadFile("testdata/" + f.Name())
		if err != nil {
			return nil, err
		}
		name := strings.TrimSuffix(f.Name(), ".txt")
		for i, s := range strings.Split(string(text), "\n== ") {
			title, body, _ := strings.Cut(s, "\n")
			all[name] = append(all[name], Part{fmt.Sprintf("%s-%d", name, i), title, body})
		}
	}
	return all, nil
}

// Play replays the transcript on an agent whose name begins with prefix, and returns the first difference.
func (p Part) Play(engine Engine, prefix string) error {
	r := &reading{
		twins: newTwins(engine, NewModel(), prefix+p.Name), now: BaseMs,
		policy: breaker.DefaultPolicy(), permits: map[string]permit{},
	}
	engine.KeepHistory(int(r.model.HistoryMinutes))
	if err := r.play(p.body); err != nil {
		return fmt.Errorf("%s, %s: %w", p.Name, p.title, err)
	}
	return nil
}

// reading is one transcript under way.
type reading struct {
	*twins

	now     int64
	policy  breaker.Policy
	permits map[string]permit
	draws   int
	shift   int64 // of the agent's buckets [B9]
}

func (r *reading) play(body string) error {
	for n, line := range strings.Split(body, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		command, want, checked := strings.Cut(line, "=>")
		got, err := r.command(strings.Fields(command))
		if err != nil {
			return fmt.Errorf("line %d %q: %w", n+2, line, err)
		}
		words := strings.Fields(got)
		for w := range strings.FieldsSeq(want) {
			if checked && got != unknown && !slices.Contains(words, w) {
				return fmt.Errorf("line %d %q: answer is %q", n+2, line, got)
			}
		}
	}
	return nil
}

// unknown is the answer of an engine that cannot say; it is not checked.
const unknown = "?"

func (r *reading) command(w []string) (string, error) {
	switch w[0] {
	case "policy":
		return "", r.setPolicy(w[1:])
	case "at":
		d, err := time.ParseDuration(w[1])
		r.now = BaseMs + d.Milliseconds()
		return "", err
	case "shift":
		d, err := time.ParseDuration(w[1])
		r.shift = d.Milliseconds()
		return "", err
	case "history":
		n, err := strconv.Atoi(w[1])
		r.model.KeepHistory(n)
		r.engine.KeepHistory(n)
		return "", err
	case "hand":
		return "", r.edit(w[1:])
	case "repeat": // "repeat 70 force hold_open by=alice": the last answer
		return r.repeat(w[1:])
	case "expiry":
		return r.expiry()
	case "look":
		return r.look()
	case "log":
		raw, err := r.dump(r.now)
		return fmt.Sprintf("lines=%d | %s", len(raw.Log), strings.Join(raw.Log, " | ")), err
	case "keys":
		raw, err := r.dump(r.now)
		return strings.ReplaceAll(strings.Join(Lines(raw), " "), " = ", "="), err
	default:
		return r.operate(w)
	}
}

func (r *reading) setPolicy(fields []string) error {
	var parts []string
	for _, f := range fields {
		k, v, _ := strings.Cut(f, "=")
		parts = append(parts, fmt.Sprintf("%q:%s", k, v))
	}
	o, err := policy.Parse([]byte("{" + strings.Join(parts, ",") + "}"))
	if err != nil {
		return err
	}
	p := breaker.DefaultPolicy()
	r.policy = o.Apply(p)
	return r.policy.Validate()
}

// batch reads the buckets of a replay: "10s:ssf" has two successes and a failure in the bucket that begins at 10 s.
func batch(w []string) (out []machine.Bucket) {
	for _, x := range w {
		at, letters, ok := strings.Cut(x, ":")
		if start, err := time.ParseDuration(at); ok && err == nil {
			s := outcomes(letters, 0)
			out = append(out, machine.Bucket{
				StartMs: BaseMs + start.Milliseconds(), Counts: machine.Counts{Successes: s.Successes, Failures: s.Failures, Slow: s.Slow},
			})
		}
	}
	return out
}

// option finds "name=value" or the bare word "name".
func option(w []string, name string) (string, bool) {
	for _, x := range w {
		if x == name {
			return "", true
		}
		if v, ok := strings.CutPrefix(x, name+"="); ok {
			return v, true
		}
	}
	return "", false
}

func duration(w []string, name string) int64 {
	v, _ := option(w, name)
	d, _ := time.ParseDuration(v)
	return d.Milliseconds()
}

// millionths reads a draw: a duration stands for its share of a second.
func millionths(w []string, name string) int64 {
	v, _ := option(w, name)
	d, _ := time.ParseDuration(v)
	return d.Microseconds()
}

func (r *reading) operate(w []string) (string, error) {
	r.draws++
	op := machine.Op{
		Verb: machine.Verb(w[0]), Draw: fmt.Sprintf("%015x", r.draws), JitterPPM: millionths(w, "jitter"), RampPPM: millionths(w, "draw"),
		ShiftMs: r.shift,
	}
	switch w[0] {
	case "acquire":
		op.Token = fmt.Sprintf("%016x", r.draws)
		if name, ok := option(w, "again"); ok {
			op.Token = r.permits[name].token
		}
		if v, given := option(w, "token"); given {
			op.Token = v
		}
		if _, given := option(w, "useless"); given {
			op.UselessAfterMs = BaseMs + duration(w, "useless")
		}
	case "record", "renew", "replay":
		p, ok := r.permits[w[1]]
		if !ok && w[1] != "bare" {
			return "", fmt.Errorf("no permit %q", w[1])
		}
		op.Epoch, op.Token = p.epoch, p.token
		if v, given := option(w, "epoch"); given {
			op.Epoch = v
		}
		if v, given := option(w, "token"); given {
			op.Token = v
		}
		if w[0] == "record" {
			op.Summary = outcomes(w[2], duration(w, "wait"))
			op.Reporter, _ = option(w, "by")
			op.ReportID, _ = option(w, "id")
		}
		if w[0] == "replay" {
			op.Reporter, _ = option(w, "by")
			op.Batch = batch(w)
		}
	case "force":
		actor, _ := option(w, "by")
		reason, _ := option(w, "reason")
		_, protected := option(w, "protected")
		_, override := option(w, "override")
		op.Force = breaker.Force{
			Target: breaker.Target(w[1]), LengthMs: duration(w, "for"), RampMs: duration(w, "ramp"),
			Actor: actor, Reason: reason, Protected: protected, Override: override,
		}
	default:
		return "", fmt.Errorf("unknown command %q", w[0])
	}
	res, err := r.apply(r.now, r.policy, op)
	if name, ok := option(w, "as"); ok {
		p := permit{epoch: res.Epoch}
		if res.LeaseMs > 0 {
			p.token = op.Token
		}
		r.permits[name] = p
	}
	return answer(res), err
}

// answer writes a result in words.
func answer(res machine.Result) string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s %s", res.Code, res.State)
	if res.Reason != "" {
		fmt.Fprintf(&out, " reason=%s", res.Reason)
	}
	if res.RetryAfterMs != 0 {
		fmt.Fprintf(&out, " retry=%dms", res.RetryAfterMs)
	}
	if res.LeaseMs != 0 {
		fmt.Fprintf(&out, " lease=%dms", res.LeaseMs)
	}
	if res.Counted != 0 {
		fmt.Fprintf(&out, " counted=%d", res.Counted)
	}
	for _, e := range res.Events {
		fmt.Fprintf(&out, " %s@%dms %s:%s>%s text=%s evidence=%d/%d/%d slow=%d", e.Kind, e.AtMs-BaseMs, e.Kind, e.From, e.To, strings.ReplaceAll(e.Text, " ", "_"), e.Failures, e.Calls, e.Run, e.Slow)
	}
	return out.String()
}

// look shows the advanced state in words.
func (r *reading) look() (string, error) {
	raw, err := r.dump(r.now)
	p := r.model.Params(r.policy)
	s, _ := machine.Step(p, machine.Load(raw), machine.Op{Verb: machine.VerbInspect, Draw: machine.ZeroEpoch[1:]}, r.now)
	w := s.Window(r.now, p.WindowMs)
	out := fmt.Sprintf("%s epoch=%s run=%d reopens=%d window=%d+%d slow=%d buckets=%d total=%d+%d transitions=%d", s.State, s.Epoch, s.Run, s.Reopens, w.Successes,
		w.Failures, w.Slow, len(s.Buckets), s.Successes, s.Failures, s.Transitions)
	if s.State != breaker.Closed {
		out += fmt.Sprintf(" opened=%dms wait=%dms cause=%s evidence=%d/%d/%d round=%d/%d ok=%d failed=%d leases=%d", s.OpenedMs-BaseMs, s.WaitMs,
			strings.ReplaceAll(s.Cause, " ", "_"), s.Evidence.Failures, s.Evidence.Calls, s.Evidence.Run, s.Round.Need, s.Round.Max, s.Round.OK, s.Round.Failed, len(s.Leases))
		out += fmt.Sprintf(" roundslow=%d base=%dms jitter=%dms upstream=%dms first=%s", s.Round.Slow, s.Wait.BaseMs, s.Wait.JitterMs, s.Wait.UpstreamMs,
			strings.ReplaceAll(s.FirstCause, " ", "_"))
	}
	if s.Hold.Kind != "" {
		out += fmt.Sprintf(" hold=%s/%dms by=%s", s.Hold.Kind, s.Hold.LengthMs, s.Hold.Actor)
	}
	if s.ExpiresMs > 0 {
		out += fmt.Sprintf(" expires=%dms", s.ExpiresMs-BaseMs)
	}
	return fmt.Sprintf("%s ramp=%d reporters=%d", out, s.Ramp.LengthMs, len(s.Reporters)), err
}
