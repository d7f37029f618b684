package breaker

import (
	"sync/atomic"
	"time"

	"github.com/breakerd/breakerd/internal/bounded"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// unsent returns the epoch in which the store may still count an outcome; "": in none. One without a permit counts in
// the epoch of the store's last answer, if the breaker was closed then.
func (a *lastAnswer) unsent(op machine.Op) string {
	switch {
	case op.Local:
		return ""
	case op.Epoch == "" && a.state == Closed:
		return a.epoch
	}
	return op.Epoch
}

// lastAnswer is what seedLocal needs of the store's last answer on an agent.
type lastAnswer struct {
	state, hold   State
	epoch         string
	run           int64
	nowMs, leftMs int64
}

// equivalent reports whether r seeds the same breaker.
func (a *lastAnswer) equivalent(r *machine.Result) bool {
	if r.NowMs == 0 { // the answer of the fast path has only the epoch
		return a.epoch == r.Epoch
	}
	if a.state != r.State || a.hold != r.Hold || a.epoch != r.Epoch || a.run != r.Run {
		return false
	}
	endless := r.Hold != "" && a.leftMs <= 0 && r.LeftMs <= 0
	return r.Hold == "" && r.State != Open || endless || a.nowMs+a.leftMs == r.NowMs+r.LeftMs
}

// remember keeps the store's last answer on an agent. It takes no lock if the answer is equivalent to the one before,
// as most are.
func (f *Fallback) remember(agent string, r *machine.Result) {
	if r.NowMs > 0 {
		f.clock.set(r.NowMs)
	}
	last, ok := f.lastAnswers.Load(agent)
	if ok && last.Load().equivalent(r) {
		return
	}
	a := &lastAnswer{state: r.State, hold: r.Hold, epoch: r.Epoch, run: r.Run, nowMs: r.NowMs, leftMs: r.LeftMs}
	if !ok {
		fresh := new(atomic.Pointer[lastAnswer])
		fresh.Store(a)
		last, _ = f.lastAnswers.LoadOrStore(agent, fresh)
	}
	last.Store(a)
	f.lastAnswers.Reclassify(agent)
}

// classOfAnswer says which answers are forgotten first.
func classOfAnswer(_ string, last *atomic.Pointer[lastAnswer]) bounded.Class {
	switch a := last.Load(); {
	case a.hold != "":
		return bounded.Kept
	case a.state != Closed:
		return bounded.NotClosed
	case a.run > 0:
		return bounded.Failing
	}
	return bounded.Harmless
}

// lastAnswer returns what is remembered of an agent; of one that the store never answered for, a closed breaker.
func (f *Fallback) lastAnswer(agent string) *lastAnswer {
	if last, ok := f.lastAnswers.Load(agent); ok {
		return last.Load()
	}
	return &lastAnswer{state: Closed, epoch: machine.ZeroEpoch}
}

// seedLocal stores a breaker in memory, unless there is one, in the state of the store's last answer.
func (f *Fallback) seedLocal(agent string) {
	a := f.lastAnswer(agent)
	s := machine.Snapshot{Present: true, State: a.state, Epoch: a.epoch, Run: a.run}
	if a.hold != "" {
		s.Hold = machine.Hold{Kind: a.hold, StartMs: a.nowMs, LengthMs: max(a.leftMs, 0)}
	}
	if a.state == Open {
		s.OpenedMs, s.WaitMs = a.nowMs, max(a.leftMs, 1)
	}
	f.local.seed(agent, s)
}

// storeClock continues the store's time monotonically from its answers [B1]. Before the first answer it is the clock of
// this machine.
type storeClock struct{ last atomic.Pointer[storeTime] }

type storeTime struct {
	ms int64
	at time.Time // when this process got it
}

// maxLeadMs is how far the clock may be ahead of an answer, which took a while to arrive, before it is set back.
const maxLeadMs = 10

func (c *storeClock) set(ms int64) {
	if last := c.last.Load(); last != nil {
		age := time.Since(last.at)
		lead := last.ms + age.Milliseconds() - ms
		if age <= time.Second && (ms < last.ms || lead >= 0 && lead <= maxLeadMs) {
			return
		}
	}
	c.last.Store(&storeTime{ms: ms, at: time.Now()})
}

func (c *storeClock) nowMs() int64 {
	last := c.last.Load()
	if last == nil {
		return time.Now().UnixMilli()
	}
	return last.ms + time.Since(last.at).Milliseconds()
}
