package storetest

import (
	"embed"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
)

//go:embed testdata/*.txt
var transcripts embed.FS

// Transcripts replays testdata/*.txt on fresh engines. Each line is "command => words", where every word after the arrow must be
// among those of the answer; the words were computed by hand from the clause that the file names. A line without an arrow only
// acts. "policy" lines take the fields of an override. Times are given from the transcript's beginning.
func Transcripts(t *testing.T, newEngine func(t testing.TB) Engine) {
	files, err := transcripts.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(f.Name(), ".txt"), func(t *testing.T) {
			t.Parallel()
			text, err := transcripts.ReadFile("testdata/" + f.Name())
			if err != nil {
				t.Fatal(err)
			}
			engine := newEngine(t)
			for i, part := range strings.Split(string(text), "\n== ") {
				title, body, _ := strings.Cut(part, "\n")
				r := &reading{engine: engine, agent: fmt.Sprintf("%s-%d", strings.TrimSuffix(f.Name(), ".txt"), i), now: BaseMs, policy: breaker.DefaultPolicy(), permits: map[string]permit{}}
				if err := r.play(body); err != nil {
					t.Errorf("%s: %v", title, err)
				}
			}
		})
	}
}

// reading is one transcript under way.
type reading struct {
	engine  Engine
	agent   string
	now     int64
	policy  breaker.Policy
	permits map[string]permit
	draws   int
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
		for _, w := range strings.Fields(want) {
			if checked && !slices.Contains(words, w) {
				return fmt.Errorf("line %d %q: answer is %q", n+2, line, got)
			}
		}
	}
	return nil
}

func (r *reading) command(w []string) (string, error) {
	switch w[0] {
	case "policy":
		return "", r.setPolicy(w[1:])
	case "at":
		d, err := time.ParseDuration(w[1])
		r.now = BaseMs + d.Milliseconds()
		return "", err
	case "hand":
		return "", r.hand(w[1:])
	case "look":
		return r.look()
	case "log":
		raw, err := r.engine.Dump(r.now, r.agent)
		return strings.Join(append(raw.Log, ""), " | "), err
	case "keys":
		raw, err := r.engine.Dump(r.now, r.agent)
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
	o, err := breaker.ParseOverride([]byte("{" + strings.Join(parts, ",") + "}"))
	if err != nil {
		return err
	}
	p := breaker.DefaultPolicy()
	r.policy = o.Apply(p)
	return r.policy.Validate()
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

func (r *reading) operate(w []string) (string, error) {
	r.draws++
	op := breaker.Op{Verb: breaker.Verb(w[0]), Draw: fmt.Sprintf("%015x", r.draws), JitterPPM: duration(w, "jitter") * 1000, RampPPM: duration(w, "draw") * 1000}
	switch w[0] {
	case "acquire":
		op.Token = fmt.Sprintf("%016x", r.draws)
		if name, ok := option(w, "again"); ok {
			op.Token = r.permits[name].token
		}
	case "record", "renew":
		p, ok := r.permits[w[1]]
		if !ok && w[1] != "bare" {
			return "", fmt.Errorf("no permit %q", w[1])
		}
		op.Epoch, op.Token = p.epoch, p.token
		if w[0] == "record" {
			op.Summary = outcomes(w[2], duration(w, "wait"))
			op.Reporter, _ = option(w, "by")
			op.ReportID, _ = option(w, "id")
		}
	case "force":
		actor, _ := option(w, "by")
		reason, _ := option(w, "reason")
		_, protected := option(w, "protected")
		_, override := option(w, "override")
		op.Force = breaker.Force{Target: breaker.Target(w[1]), LengthMs: duration(w, "for"), RampMs: duration(w, "ramp"),
			Actor: actor, Reason: reason, Protected: protected, Override: override}
	default:
		return "", fmt.Errorf("unknown command %q", w[0])
	}
	res, err := r.engine.Apply(r.now, r.agent, r.policy, op)
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
func answer(res breaker.Result) string {
	out := fmt.Sprintf("%s %s", res.Code, res.State)
	if res.Reason != "" {
		out += " reason=" + string(res.Reason)
	}
	if res.RetryAfterMs != 0 {
		out += fmt.Sprintf(" retry=%dms", res.RetryAfterMs)
	}
	if res.LeaseMs != 0 {
		out += fmt.Sprintf(" lease=%dms", res.LeaseMs)
	}
	for _, e := range res.Events {
		out += fmt.Sprintf(" %s@%dms %s:%s>%s text=%s evidence=%d/%d/%d", e.Kind, e.AtMs-BaseMs, e.Kind, e.From, e.To, strings.ReplaceAll(e.Text, " ", "_"), e.Failures, e.Calls, e.Run)
	}
	return out
}

// outcomes reads "ssff": s success, f failure, S and F slow ones, i ignored; joined in order.
func outcomes(letters string, waitMs int64) breaker.Summary {
	var s breaker.Summary
	for _, c := range letters {
		o := breaker.Outcome{Kind: breaker.Success, Slow: c == 'S' || c == 'F'}
		switch c {
		case 'f', 'F':
			o.Kind, o.RetryAfter = breaker.Failure, time.Duration(waitMs)*time.Millisecond
		case 'i':
			o.Kind = breaker.Ignored
		}
		s = s.Join(breaker.One(o))
	}
	return s
}

// look shows the advanced state in words.
func (r *reading) look() (string, error) {
	raw, err := r.engine.Dump(r.now, r.agent)
	p := r.policy.Params(time.Hour, 0)
	s, _ := breaker.Step(p, breaker.Load(raw, r.now), breaker.Op{Verb: breaker.VerbLook, Draw: breaker.ZeroEpoch[1:]}, r.now)
	w := s.Window(r.now, p.WindowMs)
	out := fmt.Sprintf("%s epoch=%s run=%d reopens=%d window=%d+%d slow=%d buckets=%d total=%d+%d transitions=%d", s.State, s.Epoch, s.Run, s.Reopens, w.Successes,
		w.Failures, w.Slow, len(s.Buckets), s.Successes, s.Failures, s.Transitions)
	if s.State != breaker.Closed {
		out += fmt.Sprintf(" opened=%dms wait=%dms cause=%s evidence=%d/%d/%d round=%d/%d ok=%d failed=%d leases=%d", s.OpenedMs-BaseMs, s.WaitMs,
			strings.ReplaceAll(s.Cause, " ", "_"), s.Evidence.Failures, s.Evidence.Calls, s.Evidence.Run, s.Round.Need, s.Round.Max, s.Round.OK, s.Round.Failed, len(s.Leases))
	}
	if s.Hold.Kind != "" {
		out += fmt.Sprintf(" hold=%s/%dms by=%s", s.Hold.Kind, s.Hold.LengthMs, s.Hold.Actor)
	}
	if s.ExpiresMs > 0 {
		out += fmt.Sprintf(" expires=%dms", s.ExpiresMs-BaseMs)
	}
	return fmt.Sprintf("%s ramp=%d reporters=%d", out, s.Ramp.LengthMs, len(s.Reporters)), err
}

// hand edits keys: "set state open", "del state open_timestamp", "hset control run 7", "hdel control run", "plant calls",
// "flood calls", "flushall".
func (r *reading) hand(w []string) error {
	names := []string{"state", "open_timestamp", "calls", "control", "probes", "log"}
	if w[0] == "flushall" {
		return r.engine.Edit(r.agent, Edit{Do: DelAll})
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
		e := Edit{Do: Action(w[0]), Key: Key(i), N: 600, Field: "x", Value: "1"}
		switch w[0] {
		case "set":
			e.Value = strings.Join(w[2:], " ")
			if d, err := time.ParseDuration(w[2]); err == nil && k == "open_timestamp" && d != 0 {
				e.Value = breaker.FormatTimestamp(BaseMs + d.Milliseconds())
			}
		case "hset":
			e.Field, e.Value = w[2], strings.Join(w[3:], " ")
		case "hdel":
			e.Field = w[2]
		}
		if err := r.engine.Edit(r.agent, e); err != nil {
			return err
		}
	}
	return nil
}
