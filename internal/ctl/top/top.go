// Package top is the screen of breakerctl top: the worst breakers of the fleet, read again every two seconds.
package top

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	tea "github.com/charmbracelet/bubbletea"

	"github.com/breakerd/breakerd/pkg/client"
)

const (
	pause    = 2 * time.Second // between two readings
	patience = 5 * time.Second // for one reading
	chrome   = 5               // lines that are no breakers: two of summary, a blank one, the head, the foot
)

// Source is what the screen shows.
type Source interface {
	GetSummary(ctx context.Context) (client.Summary, error)
	ListCircuitBreakers(ctx context.Context, q client.ListQuery) (client.BreakerList, error)
	ExplainCircuitBreaker(ctx context.Context, agent string) (client.Explanation, error)
}

// Run shows the screen until q is typed or ctx ends. It returns what kept it from that.
func Run(ctx context.Context, in io.Reader, out io.Writer, from Source) error {
	_, err := tea.NewProgram(newScreen(ctx, from), tea.WithContext(ctx), tea.WithInput(in), tea.WithOutput(out),
		tea.WithAltScreen(), tea.WithoutSignalHandler()).Run()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// sorts are what s goes through.
func sorts() []string {
	return []string{"worst", "failure_rate", "opened_at", "timeout_until", "agent_id"}
}

// screen is the state of what is shown.
type screen struct {
	ctx  context.Context //nolint:containedctx // of the program; tea hands none to its models
	from Source

	width, height int

	sort      int
	open      bool // only what is not closed
	name      string
	typing    bool // name is being typed
	paused    bool
	asked     int // readings; an answer to an older question is dropped
	selected  int
	follows   string              // the agent that stays selected; "": the first place does
	explained *client.Explanation // over the list

	summary  client.Summary
	breakers []client.ListEntry
	total    int64
	trouble  error
	read     time.Time
}

func newScreen(ctx context.Context, from Source) *screen {
	return &screen{ctx: ctx, from: from, width: 80, height: 24}
}

// reading is one look at the fleet.
type reading struct {
	asked    int
	summary  client.Summary
	list     client.BreakerList
	trouble  error
	finished time.Time
}

type (
	again     struct{}
	explained struct {
		why     client.Explanation
		trouble error
	}
)

// Init implements [tea.Model].
func (s *screen) Init() tea.Cmd { return tea.Batch(s.look(), tick()) }

func tick() tea.Cmd { return tea.Tick(pause, func(time.Time) tea.Msg { return again{} }) }

// look reads as many breakers as fit on the screen, however many there are.
func (s *screen) look() tea.Cmd {
	s.asked++
	q := client.ListQuery{Sort: sorts()[s.sort], Name: s.name, Include: []string{"window"}, Limit: max(s.rows(), 1)}
	if s.open {
		q.States = []string{"OPEN", "HALF_OPEN"}
	}
	asked := s.asked
	return func() tea.Msg {
		ctx, cancel := context.WithTimeout(s.ctx, patience)
		defer cancel()
		r := reading{asked: asked}
		if r.list, r.trouble = s.from.ListCircuitBreakers(ctx, q); r.trouble == nil {
			r.summary, r.trouble = s.from.GetSummary(ctx)
		}
		r.finished = time.Now()
		return r
	}
}

func (s *screen) explain(agent string) tea.Cmd {
	return func() tea.Msg {
		ctx, cancel := context.WithTimeout(s.ctx, patience)
		defer cancel()
		why, err := s.from.ExplainCircuitBreaker(ctx, agent)
		return explained{why: why, trouble: err}
	}
}

// rows is how many breakers fit.
func (s *screen) rows() int { return max(s.height-chrome, 0) }

// Update implements [tea.Model].
func (s *screen) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		s.width, s.height = msg.Width, msg.Height
		return s, s.look()
	case again:
		if s.paused {
			return s, tick()
		}
		return s, tea.Batch(s.look(), tick())
	case reading:
		s.take(msg)
	case explained:
		if s.trouble = msg.trouble; s.trouble == nil {
			s.explained = &msg.why
		}
	case tea.KeyMsg:
		if s.typing {
			return s, s.typed(msg)
		}
		return s, s.keys(msg)
	}
	return s, nil
}

// keys takes one key, or several letters that were typed faster than they were read.
func (s *screen) keys(msg tea.KeyMsg) tea.Cmd {
	if msg.Type != tea.KeyRunes {
		return s.key(msg.String())
	}
	var all []tea.Cmd
	for _, letter := range msg.Runes {
		all = append(all, s.key(string(letter)))
	}
	return tea.Batch(all...)
}

// take shows a reading, with the same agent selected.
func (s *screen) take(r reading) {
	if r.asked != s.asked {
		return
	}
	s.trouble = r.trouble
	if r.trouble != nil { // what was read last stays
		return
	}
	s.summary, s.breakers, s.read = r.summary, r.list.CircuitBreakers, r.finished
	s.total = r.list.Total
	s.selected = min(s.selected, max(len(s.breakers)-1, 0))
	for i, b := range s.breakers {
		if b.AgentID == s.follows {
			s.selected = i
		}
	}
}

func (s *screen) agent() string {
	if s.selected >= len(s.breakers) {
		return ""
	}
	return s.breakers[s.selected].AgentID
}

// typed takes a key while a name is being typed.
func (s *screen) typed(key tea.KeyMsg) tea.Cmd {
	switch key.Type {
	case tea.KeyEnter:
		s.typing = false
	case tea.KeyEsc:
		s.typing, s.name = false, ""
	case tea.KeyBackspace:
		_, size := utf8.DecodeLastRuneInString(s.name)
		s.name = s.name[:len(s.name)-size]
	case tea.KeyCtrlC:
		return tea.Quit
	case tea.KeyRunes:
		s.name += string(key.Runes)
	}
	return s.anew()
}

// anew reads another list, from its beginning.
func (s *screen) anew() tea.Cmd {
	s.selected, s.follows = 0, ""
	return s.look()
}

func (s *screen) key(key string) tea.Cmd {
	switch key {
	case "q", "ctrl+c":
		return tea.Quit
	case "esc":
		s.explained = nil
	case "up", "k":
		s.selected = max(s.selected-1, 0)
		s.follows = s.agent()
	case "down", "j":
		s.selected = min(s.selected+1, max(len(s.breakers)-1, 0))
		s.follows = s.agent()
	case "enter":
		if agent := s.agent(); agent != "" {
			return s.explain(agent)
		}
	case "s":
		s.sort = (s.sort + 1) % len(sorts())
		return s.anew()
	case "o":
		s.open = !s.open
		return s.anew()
	case "/":
		s.typing = true
	case " ":
		s.paused = !s.paused
	case "r":
		return s.look()
	}
	return nil
}

// View implements [tea.Model].
func (s *screen) View() string {
	var lines []string
	lines = append(lines, s.head()...)
	if s.explained != nil {
		lines = append(lines, s.why()...)
	} else {
		lines = append(lines, s.list()...)
	}
	for len(lines) < s.height-1 {
		lines = append(lines, "")
	}
	lines = append(lines[:max(s.height-1, 0)], s.foot())
	return strings.Join(lines, "\n")
}

// head sums the fleet up in two lines.
func (s *screen) head() []string {
	now := "reading…"
	if !s.read.IsZero() {
		now = s.read.UTC().Format("15:04:05")
	}
	states, gate := s.summary.States, "none"
	if g := s.summary.Gate; g.Action != "" && g.Action != "none" {
		gate = fmt.Sprintf("%s, admits %.0f %%: %s", g.Action, 100*g.Share, g.Reason)
	}
	return []string{
		s.cut(fmt.Sprintf("%s UTC  agents %d  OPEN %d  HALF_OPEN %d  CLOSED %d  replicas alive %d",
			now, s.summary.Agents, states["OPEN"], states["HALF_OPEN"], states["CLOSED"], s.summary.Replicas.Alive)),
		s.cut("gate " + gate),
		"",
	}
}

func (s *screen) list() []string {
	const columns, since = 39, 10 // of all cells but the agent's; of one that a narrow screen leaves out
	row := func(agent, state, opened, failed, next string) string {
		if s.width < 80 {
			return fmt.Sprintf("%s %-10s %11s %12s", pad(agent, max(s.width-columns, 8)), state, failed, next)
		}
		return fmt.Sprintf("%s %-10s %9s %11s %12s", pad(agent, s.width-columns-since), state, opened, failed, next)
	}
	lines := []string{bold(s.cut(" " + row("AGENT", "STATE", "SINCE", "FAILED", "NEXT")))}
	for i, b := range s.breakers[:min(len(s.breakers), s.rows())] {
		failed := "-"
		if b.Window != nil {
			failed = fmt.Sprintf("%d of %d", b.Window.Failures, b.Window.Calls)
		}
		text := row(b.AgentID, b.State, span(s.read.Sub(b.OpenedAt), b.OpenedAt.IsZero()), failed, s.next(b.Breaker))
		mark := " "
		if i == s.selected {
			mark = ">"
		}
		lines = append(lines, colour(b.State, s.cut(mark+text)))
	}
	return lines
}

// next is when something happens by itself.
func (s *screen) next(b client.Breaker) string {
	switch {
	case b.Hold != nil && b.Hold.Until.IsZero():
		return "held"
	case b.Hold != nil:
		return "held " + span(b.Hold.Until.Sub(s.read), false)
	case b.State == "OPEN":
		return "probe " + span(b.TimeoutUntil.Sub(s.read), b.TimeoutUntil.IsZero())
	case b.Ramp != nil:
		return "ramp " + span(b.Ramp.Until.Sub(s.read), b.Ramp.Until.IsZero())
	}
	return "-"
}

// why is the explanation of one agent.
func (s *screen) why() []string {
	lines := []string{bold(s.cut(s.explained.AgentID + " is " + s.explained.State))}
	for _, part := range []struct {
		title   string
		clauses []client.ReasonClause
	}{{"Because:", s.explained.Because}, {"Not tripping:", s.explained.NotTripping}, {"Next:", s.explained.Next}} {
		if len(part.clauses) > 0 {
			lines = append(lines, part.title)
		}
		for _, clause := range part.clauses {
			lines = append(lines, s.cut("  "+clause.Text))
		}
	}
	return lines
}

// foot says what can be typed, or what went wrong.
func (s *screen) foot() string {
	switch {
	case s.typing:
		return s.cut("name contains: " + s.name + "_   enter: keep  esc: forget")
	case s.trouble != nil:
		return colour("OPEN", s.cut("cannot read: "+strings.ReplaceAll(s.trouble.Error(), "\n", " ")))
	case s.explained != nil:
		return s.cut("esc: back  q: quit")
	}
	shown := fmt.Sprintf("%d of %d by %s", min(len(s.breakers), s.rows()), s.total, sorts()[s.sort])
	if s.open {
		shown += ", not closed"
	}
	if s.name != "" {
		shown += ", *" + s.name + "*"
	}
	if s.paused {
		shown += ", PAUSED"
	}
	return s.cut(shown + "  s: sort  o: open  /: name  enter: why  space: pause  q: quit")
}
