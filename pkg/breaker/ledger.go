package breaker

import (
	"maps"
	"sync"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// Outcomes accounts for every outcome that a Manager has taken: at every moment Taken is Unsent.Outcomes and the sum of
// Settled.
type Outcomes struct {
	Taken int64
	// Settled are the outcomes by how they ended: CodeOK (the store counted them), CodeIgnored, CodeLate, CodeForeign,
	// CodeDuplicate, CodeDisabled, CodeObserved, CodeLost of package machine, and [CodeUnknown].
	Settled map[machine.Code]int64
	// Lost are the outcomes of Settled[CodeLost], by why: the reasons of machine.CodeLost, and those of this package.
	Lost   map[machine.Reason]int64
	Unsent Backlog
}

// Why outcomes are lost, beside the reasons that the store gives [B26].
const (
	LostLocal      machine.Reason = "local"       // they count in the memory of this process alone
	LostStoreReset machine.Reason = "store_reset" // the store lost its data while they waited
	LostOverflow   machine.Reason = "overflow"    // too much waited
	LostExpired    machine.Reason = "expired"     // they left the window while they waited
	LostUnsent     machine.Reason = "unsent"      // there was no permit, and the store was not reached
)

// Backlog describes the outcomes that the store has not acknowledged yet: those that are under way, those that cached
// mode joins, and those that wait until the store is up.
type Backlog struct {
	Outcomes int64
	Agents   int           // with outcomes that wait; one that waits in two ways counts twice
	Oldest   time.Duration // how long the oldest of those that wait has waited, to within the duration of a round trip
}

// ledger counts outcomes. An outcome is taken, and then settled; meanwhile it is under way, or in the queue. It is safe
// for concurrent use.
type ledger struct {
	mu       sync.Mutex
	taken    int64
	underWay int64
	settled  map[machine.Code]int64
	lost     map[machine.Reason]int64
	queue    queue
}

// take counts outcomes that are under way from now on.
func (l *ledger) take(n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taken += n
	l.underWay += n
}

// takeFrom takes the outcomes of the buffer's next record.
func (l *ledger) takeFrom(b *epochBuffer) machine.Summary {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := b.outcomes.Take()
	l.taken += s.Calls()
	l.underWay += s.Calls()
	return s
}

// settle counts the end of outcomes that are under way. why is for CodeLost.
func (l *ledger) settle(n int64, code machine.Code, why machine.Reason) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.underWay -= n
	l.settleLocked(n, code, why)
}

// count counts an outcome that is never under way.
func (l *ledger) count(code machine.Code) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taken++
	l.settleLocked(1, code, "")
}

func (l *ledger) settleLocked(n int64, code machine.Code, why machine.Reason) {
	if n == 0 {
		return
	}
	if l.settled == nil {
		l.settled, l.lost = map[machine.Code]int64{}, map[machine.Reason]int64{}
	}
	l.settled[code] += n
	if code == machine.CodeLost {
		l.lost[why] += n
	}
}

// Outcomes returns the account of this moment.
func (m *Manager) Outcomes() Outcomes {
	if m.made() != nil {
		return Outcomes{}
	}
	l := &m.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	var joined int64 // by cached mode
	cached := m.flusher.Backlog(func(b *epochBuffer) { joined += b.outcomes.Sum().Calls() })
	agents, since := l.queue.waiting()
	o := Outcomes{
		Taken: l.taken + joined, Settled: maps.Clone(l.settled), Lost: maps.Clone(l.lost),
		Unsent: Backlog{
			Outcomes: l.underWay + l.queue.outcomes + joined,
			Agents:   cached.Items + agents, Oldest: cached.Oldest,
		},
	}
	if agents > 0 {
		o.Unsent.Oldest = max(cached.Oldest, m.uptime()-since)
	}
	return o
}

// Backlog returns the current backlog.
func (m *Manager) Backlog() Backlog { return m.Outcomes().Unsent }
