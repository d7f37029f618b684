package breakerlog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
	"github.com/breakerd/breakerd/pkg/breakerlog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lines is a log. It is safe for concurrent use.
type lines struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(p)
}

// take returns the lines since the last time.
func (l *lines) take() (out []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.all.String()) {
		out = append(out, strings.TrimSuffix(line, "\n"))
	}
	l.all.Reset()
	return out
}

// logger logs to l, without the time.
func (l *lines) logger(level slog.Leveler) *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{
		Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	}))
}

// one returns the only line since the last time.
func (l *lines) one(t *testing.T) string {
	t.Helper()
	all := l.take()
	if len(all) != 1 {
		t.Fatalf("%d lines: %q", len(all), all)
	}
	return all[0]
}

var refusal = &breaker.OpenError{Agent: "a", State: breaker.Open, Reason: breaker.ReasonOpen, Wait: 1500 * time.Millisecond}

// Runbooks and alerts search for these, so that a changed word is a broken runbook.
func TestObserver_WritesTheseLines(t *testing.T) {
	t.Parallel()
	event := func(kind string, from, to breaker.State, text string) breaker.Event {
		return breaker.Event{
			AtMs: 1_700_000_000_250, Kind: kind, From: from, To: to, Epoch: "0123456789abcdef", Actor: "ann", Failures: 3, Calls: 4, Text: text,
		}
	}
	const (
		closed, open, halfOpen = breaker.Closed, breaker.Open, breaker.HalfOpen
		rest                   = " failures=3 calls=4 epoch=0123456789abcdef at=2023-11-14T22:13:20.25Z"
	)
	failure := breaker.Outcome{Kind: breaker.Failure, Class: "HTTP 503", Duration: 250 * time.Millisecond}
	for want, do := range map[string]func(o breaker.Observer){
		`level=WARN msg="Circuit breaker OPENED" component="Circuit Breaker" event=circuit_breaker.opened agent=a from=CLOSED to=OPEN reason=consecutive_failures actor=ann` + rest: func(o breaker.Observer) {
			o.Event("a", event(machine.EventOpened, closed, open, "consecutive_failures"), false)
		},
		`level=WARN msg="Circuit breaker OPENED" component="Circuit Breaker" event=circuit_breaker.manual_open agent=a from=HALF_OPEN to=OPEN reason="a ban" actor=ann` + rest: func(o breaker.Observer) {
			o.Event("a", event(machine.EventManualOpen, halfOpen, open, "a ban"), false)
		},
		`level=WARN msg="Circuit breaker OPENED" component="Circuit Breaker" event=circuit_breaker.opened agent=a from=HALF_OPEN to=OPEN reason=probe_failed actor=ann` + rest + ` degraded=true detail="Test request failed, reopening"`: func(o breaker.Observer) {
			o.Event("a", event(machine.EventOpened, halfOpen, open, "probe_failed"), true)
		},
		`level=WARN msg="Circuit breaker OPENED" component="Circuit Breaker" event=circuit_breaker.opened agent=a from=HALF_OPEN to=OPEN reason=slow_rate actor=ann` + rest + ` detail="Test requests slow, reopening"`: func(o breaker.Observer) {
			o.Event("a", event(machine.EventOpened, halfOpen, open, "slow_rate"), false)
		},
		`level=INFO msg="Circuit breaker transitioned to CLOSED" component="Circuit Breaker" event=circuit_breaker.closed agent=a from=HALF_OPEN to=CLOSED reason="probes succeeded" actor=ann` + rest + ` detail="Recovery confirmed"`: func(o breaker.Observer) {
			o.Event("a", event(machine.EventClosed, halfOpen, closed, "probes succeeded"), false)
		},
		`level=INFO msg="Circuit breaker transitioned to HALF_OPEN" component="Circuit Breaker" event=circuit_breaker.half_opened agent=a from=OPEN to=HALF_OPEN reason="timeout elapsed" actor=ann` + rest: func(o breaker.Observer) {
			o.Event("a", event(machine.EventHalfOpened, open, halfOpen, "timeout elapsed"), false)
		},
		`level=INFO msg="Circuit breaker transitioned to HALF_OPEN" component="Circuit Breaker" event=circuit_breaker.manual_reset agent=a from=OPEN to=HALF_OPEN reason="" actor=ann` + rest + ` detail="Manual reset (was OPEN)"`: func(o breaker.Observer) {
			o.Event("a", event(machine.EventManualReset, open, halfOpen, ""), false)
		},
		`level=INFO msg="Circuit breaker transitioned to HALF_OPEN" component="Circuit Breaker" event=circuit_breaker.manual_release agent=a from=OPEN to=HALF_OPEN reason=mended actor=ann` + rest + ` detail="Manual release (was OPEN)"`: func(o breaker.Observer) {
			o.Event("a", event(machine.EventManualRelease, open, halfOpen, "mended"), false)
		},
		`level=WARN msg="Circuit breaker keys held bad fields, which were repaired" component="Circuit Breaker" event=circuit_breaker.healed agent=a from=OPEN to=OPEN reason=state actor=ann` + rest: func(o breaker.Observer) {
			o.Event("a", event(machine.EventRepaired, open, open, "state"), false)
		},
		`level=WARN msg="Circuit breaker keys were edited under a protected hold, and put back" component="Circuit Breaker" event=circuit_breaker.hand_restored agent=a from=OPEN to=OPEN reason=state actor=ann` + rest: func(o breaker.Observer) {
			o.Event("a", event(machine.EventEditUndone, open, open, "state"), false)
		},
		`level=INFO msg="Circuit breaker half-open test" component="Circuit Breaker" event=circuit_breaker.half_open_test agent=a outcome=failure class="HTTP 503"`: func(o breaker.Observer) {
			o.Probed("a", failure)
		},
		`level=WARN msg=CircuitBreakerOpenError component="Circuit Breaker" event=circuit_breaker.refused agent=a state=OPEN reason=open retry_after_seconds=1.5`: func(o breaker.Observer) {
			o.Refused("a", refusal)
		},
		`level=DEBUG msg="Failure recorded (3/5)" component="Circuit Breaker" event=circuit_breaker.failure agent=a class="HTTP 503" seconds=0.25 pending=true`: func(o breaker.Observer) {
			o.Settled("a", failure, breaker.Report{State: closed, Counted: true, Pending: true, Run: 3, Threshold: 5})
		},
		`level=DEBUG msg="Failure recorded" component="Circuit Breaker" event=circuit_breaker.failure agent=a class="HTTP 503" seconds=0.25 degraded=true`: func(o breaker.Observer) {
			o.Settled("a", failure, breaker.Report{State: closed, Counted: true, Run: 3, Degraded: true})
		},
		`level=DEBUG msg="Success recorded" component="Circuit Breaker" event=circuit_breaker.success agent=a seconds=2 slow=true`: func(o breaker.Observer) {
			o.Settled("a", breaker.Outcome{Kind: breaker.Success, Slow: true, Duration: 2 * time.Second}, breaker.Report{State: closed, Counted: true})
		},
		`level=DEBUG msg="Outcome not counted" component="Circuit Breaker" event=circuit_breaker.not_counted agent=a outcome=failure why=late class="HTTP 503" seconds=0.25`: func(o breaker.Observer) {
			o.Settled("a", failure, breaker.Report{Why: machine.CodeLate})
		},
		`level=DEBUG msg="Outcomes not counted" component="Circuit Breaker" event=circuit_breaker.not_counted agent=a calls=5 failures=2 why=late`: func(o breaker.Observer) {
			o.Flushed("a", machine.Summary{Successes: 3, Failures: 2}, breaker.Report{Why: machine.CodeLate})
			o.Flushed("a", machine.Summary{Successes: 3}, breaker.Report{Counted: true})
		},
	} {
		out := &lines{}
		do(breakerlog.New(out.logger(slog.LevelDebug), breakerlog.Options{}))
		if got := out.one(t); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func newManager(t *testing.T, o breaker.Options) *breaker.Manager {
	t.Helper()
	o.Store = breaker.NewMemory(nil, 0)
	m, err := breaker.NewManager(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close(context.Background()) })
	return m
}

var errAgent = errors.New("agent")

func fail(context.Context) error    { return errAgent }
func succeed(context.Context) error { return nil }

// What a Manager does in either mode is in the log, once each.
func TestObserver_ManagerLogsALifeOfABreaker(t *testing.T) {
	t.Parallel()
	for _, mode := range []breaker.Consistency{breaker.Strict, breaker.Cached} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				out := &lines{}
				m := newManager(t, breaker.Options{
					Observer: breakerlog.New(out.logger(slog.LevelDebug), breakerlog.Options{}),
					Policy:   breaker.Policy{Consistency: mode, FailureThreshold: 3, Timeout: time.Second, HalfOpenMaxCalls: 1},
				})
				call := func(fns ...func(context.Context) error) {
					for _, fn := range fns {
						_ = m.Do(t.Context(), "a", fn)
					}
				}
				// wants compares the lines of the calls, in their order, but openings: in cached mode a flush makes them.
				wants := func(openings int, want ...string) {
					t.Helper()
					_ = m.Flush(t.Context(), "a")
					synctest.Wait()
					var got []string
					for _, line := range out.take() {
						if strings.Contains(line, "OPENED") {
							openings--
							continue
						}
						got = append(got, message.FindString(line)+detail.FindString(line))
					}
					if fmt.Sprint(got) != fmt.Sprint(want) || openings != 0 {
						t.Errorf("got\n%s\n%d openings missing", strings.Join(got, "\n"), openings)
					}
				}
				call(fail, succeed)
				wants(0, `msg="Failure recorded (1/3)"`, `msg="Success recorded"`)
				call(fail, fail, fail)
				wants(1, `msg="Failure recorded (1/3)"`, `msg="Failure recorded (2/3)"`, `msg="Failure recorded (3/3)"`)
				call(fail, fail)
				wants(0, `msg=CircuitBreakerOpenError`)
				time.Sleep(time.Second)
				call(fail)
				wants(1, `msg="Circuit breaker transitioned to HALF_OPEN"`, `msg="Circuit breaker half-open test"`, `msg="Failure recorded"`)
				time.Sleep(time.Second)
				call(succeed)
				wants(0, `msg="Circuit breaker transitioned to HALF_OPEN"`, `msg="Circuit breaker transitioned to CLOSED" detail="Recovery confirmed"`,
					`msg="Circuit breaker half-open test"`, `msg="Success recorded"`)
				call(fail)
				_ = m.Flush(t.Context(), "a")
				call(fail)
				wants(0, `msg="Failure recorded (1/3)"`, `msg="Failure recorded (2/3)"`)
				_, _ = m.Force(t.Context(), "a", breaker.Force{Target: breaker.ResetClosed, Actor: "ann"})
				wants(0, `msg="Circuit breaker transitioned to CLOSED" detail="Manual reset (was CLOSED)"`)
			})
		})
	}
}

var (
	message = regexp.MustCompile(`msg=("[^"]*"|\S+)`)
	detail  = regexp.MustCompile(` detail="[^"]*"`)
)

func TestObserver_RefusalsAreLoggedOnceAnInterval(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for interval, want := range map[time.Duration]int{0: 3, 10 * time.Second: 1, -1: 25} {
			out := &lines{}
			o := breakerlog.New(out.logger(slog.LevelInfo), breakerlog.Options{RefusalInterval: interval})
			for range 25 {
				o.Refused("a", refusal)
				o.Refused("b", refusal)
				time.Sleep(100 * time.Millisecond)
			}
			if n := len(out.take()); n != 2*want {
				t.Errorf("interval %v: %d lines of two agents, want %d", interval, n, 2*want)
			}
		}
	})
}

// Made-up names do not make it forget an agent that is refused all the time.
func TestObserver_RememberedAgentsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		out := &lines{}
		o := breakerlog.New(out.logger(slog.LevelInfo), breakerlog.Options{})
		for i := range 30_000 {
			o.Refused(fmt.Sprint("made-up-", i), refusal)
			if i%100 == 0 {
				o.Refused("real", refusal)
			}
		}
		n := 0
		for _, line := range out.take() {
			if strings.Contains(line, "agent=real") {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%d lines of one agent within a second", n)
		}
	})
}

func TestObserver_FollowsALevelThatChanges(t *testing.T) {
	t.Parallel()
	var level slog.LevelVar
	out := &lines{}
	o := breakerlog.New(out.logger(&level), breakerlog.Options{})
	all := func() int {
		o.Settled("a", breaker.Outcome{Kind: breaker.Success}, breaker.Report{Counted: true})
		o.Probed("a", breaker.Outcome{Kind: breaker.Success})
		o.Refused("a", refusal)
		o.Event("a", breaker.Event{Kind: machine.EventClosed, To: breaker.Closed}, false)
		return len(out.take())
	}
	for _, c := range []struct {
		level slog.Level
		want  int
	}{{slog.LevelError, 0}, {slog.LevelDebug, 4}, {slog.LevelInfo, 2}, {slog.LevelDebug, 3}} { // a refusal is logged once a second
		level.Set(c.level)
		if n := all(); n != c.want {
			t.Errorf("%v: %d lines, want %d", c.level, n, c.want)
		}
	}
}

// In cached mode the Manager asks now and then whether successes are of interest.
func TestObserver_HearsSuccessesOfCachedModeOnceDebugIsOn(t *testing.T) {
	t.Parallel()
	var level slog.LevelVar
	out := &lines{}
	m := newManager(t, breaker.Options{
		Observer: breakerlog.New(out.logger(&level), breakerlog.Options{}), Policy: breaker.Policy{Consistency: breaker.Cached},
	})
	for _, c := range []struct {
		level slog.Level
		want  int
	}{{slog.LevelInfo, 0}, {slog.LevelDebug, 5}, {slog.LevelInfo, 0}} {
		level.Set(c.level)
		_ = m.Do(t.Context(), "a", succeed)
		_ = m.Flush(t.Context(), "a")
		out.take()
		for range 5 {
			_ = m.Do(t.Context(), "a", succeed)
		}
		if n := len(out.take()); n != c.want {
			t.Errorf("%v: %d lines, want %d", c.level, n, c.want)
		}
	}
}

func TestComponent_IsAddedOnce(t *testing.T) {
	t.Parallel()
	out := &lines{}
	log := out.logger(slog.LevelInfo)
	for name, l := range map[string]*slog.Logger{
		"bare": log, "from Component": breakerlog.Component(log), "twice": breakerlog.Component(breakerlog.Component(log)),
		"with more": breakerlog.Component(log).With("replica", 1), "in a group": breakerlog.Component(log).WithGroup("g"),
	} {
		breakerlog.New(l, breakerlog.Options{}).Refused("a", refusal)
		if got := out.one(t); strings.Count(got, `component="Circuit Breaker"`) != 1 {
			t.Errorf("%s: %s", name, got)
		}
	}
	breakerlog.New(nil, breakerlog.Options{}).Refused("a", refusal)
}

// A class is what an agent says, and a reason what an operator types, or whoever writes to Redis.
func TestObserver_TextOfOthersIsOneShortLine(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	evil := "x\r\nlevel=ERROR msg=\"Circuit breaker OPENED\" \x1b[31m\u2028\u202e" + strings.Repeat("y", 1<<16)
	raw := &plainHandler{w: &out}
	o := breakerlog.New(slog.New(raw), breakerlog.Options{})
	o.Probed("a", breaker.Outcome{Kind: breaker.Failure, Class: evil})
	o.Settled("a", breaker.Outcome{Kind: breaker.Failure, Class: evil}, breaker.Report{Counted: true})
	o.Settled("a", breaker.Outcome{Kind: breaker.Failure, Class: evil}, breaker.Report{})
	o.Event("a", breaker.Event{Kind: machine.EventManualOpen, To: breaker.Open, Text: evil, Actor: evil}, false)
	if n := strings.Count(out.String(), "\n"); n != 4 || out.Len() > 4000 || strings.ContainsAny(out.String(), "\r\x1b\u2028\u202e") {
		t.Errorf("%d lines, %d bytes: %.500q", n, out.Len(), out.String())
	}
}

// plainHandler is a Handler that escapes nothing.
type plainHandler struct{ w io.Writer }

func (*plainHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h *plainHandler) WithAttrs([]slog.Attr) slog.Handler     { return h }
func (h *plainHandler) WithGroup(string) slog.Handler          { return h }
func (h *plainHandler) Handle(_ context.Context, r slog.Record) error {
	_, _ = fmt.Fprint(h.w, r.Message)
	r.Attrs(func(a slog.Attr) bool {
		_, _ = fmt.Fprint(h.w, " ", a.Key, "=", a.Value)
		return true
	})
	_, err := fmt.Fprintln(h.w)
	return err
}

// hookHandler calls a function for each line.
type hookHandler struct {
	level  slog.Level
	handle func()
}

func (h hookHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level }
func (h hookHandler) WithAttrs([]slog.Attr) slog.Handler           { return h }
func (h hookHandler) WithGroup(string) slog.Handler                { return h }
func (h hookHandler) Handle(context.Context, slog.Record) error {
	h.handle()
	return nil
}

func TestObserver_HandlerThatPanicsCostsNoOutcome(t *testing.T) {
	t.Parallel()
	for _, mode := range []breaker.Consistency{breaker.Strict, breaker.Cached} {
		log := slog.New(hookHandler{slog.LevelDebug, func() { panic("handler") }})
		m := newManager(t, breaker.Options{
			Observer: breakerlog.New(log, breakerlog.Options{}), Policy: breaker.Policy{Consistency: mode, FailureThreshold: 3},
		})
		for range 3 {
			if err := m.Do(t.Context(), "a", fail); !errors.Is(err, errAgent) {
				t.Errorf("%s: %v", mode, err)
			}
		}
		if err := m.Do(t.Context(), "a", succeed); !errors.Is(err, breaker.ErrOpen) {
			t.Errorf("%s: %v", mode, err)
		}
	}
}

// A Handler that blocks holds the call whose line it has, and no other.
func TestObserver_HandlerThatBlocksHoldsNoLock(t *testing.T) {
	t.Parallel()
	for _, mode := range []breaker.Consistency{breaker.Strict, breaker.Cached} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				unblock := make(chan struct{})
				log := slog.New(hookHandler{slog.LevelInfo, func() { <-unblock }})
				m := newManager(t, breaker.Options{
					Observer: breakerlog.New(log, breakerlog.Options{}), Policy: breaker.Policy{Consistency: mode, FailureThreshold: 1},
				})
				_ = m.Do(t.Context(), "b", succeed)
				var blocked sync.WaitGroup
				blocked.Go(func() { _ = m.Do(t.Context(), "a", fail); _ = m.Do(t.Context(), "a", succeed) })
				synctest.Wait()
				for range 10 {
					if err := m.Do(t.Context(), "b", succeed); err != nil {
						t.Error(err)
					}
				}
				close(unblock)
				blocked.Wait()
			})
		})
	}
}

// TestPackage_BringsNoThirdParty compares the packages that a program links with those of package breaker.
func TestPackage_BringsNoThirdParty(t *testing.T) {
	t.Parallel()
	deps := func(pkg string) map[string]bool {
		out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", pkg).Output()
		if err != nil || !bytes.Contains(out, []byte("pkg/breaker/machine\n")) {
			t.Fatalf("go list -deps %s: %v\n%s", pkg, err, out)
		}
		all := map[string]bool{}
		for name := range strings.FieldsSeq(string(out)) {
			all[name] = true
		}
		return all
	}
	core := deps("../breaker")
	for name := range deps(".") {
		if !core[name] && !strings.HasPrefix(name, "github.com/breakerd/breakerd/") {
			t.Errorf("brings %s", name)
		}
	}
}
