package startdev

import (
	"context"
	"net/http"
	"time"
)

// round is how long the script takes. It begins again then.
const round = 90 * time.Second

// plot says what the script shows, for the banner.
const plot = `In 2 s payments begins to fail: its breaker opens, sends probes after 10 s, and closes within 40 s.
translate fails too, but is only observed; llm-gpt gets slow, then flaky; alice holds geo open.
After 90 s it begins again.
`

// step is one line of the script: at some time of each round, an agent changes how it behaves.
type step struct {
	at    time.Duration
	agent string
	does  string // for the agents' control API; "": as at first
	why   string
}

// script is what happens in a round. The breaker of payments opens within 2 s of its failing, its first probe after
// 10 s fails, and the next ones succeed.
func script() []step {
	const s = time.Second
	return []step{
		{2 * s, "payments", `{"mode": "failing"}`, "its provider answers nothing but 500: the breaker opens"},
		{10 * s, "translate", `{"mode": "failing", "status": 503}`, "fails, and is observed: nothing is refused"},
		{18 * s, "payments", ``, "its provider is back: the next probes succeed, and calls return"},
		{25 * s, "translate", ``, "is back"},
		{40 * s, "llm-gpt", `{"mode": "slow", "delay_ms": 1500}`, "takes longer than a second: slow calls open it"},
		{52 * s, "llm-gpt", ``, "is quick again"},
		{70 * s, "llm-gpt", `{"mode": "flaky", "failure_rate": 0.25, "delay_ms": 300}`, "fails a call in four: too few"},
		{82 * s, "llm-gpt", ``, "is well"},
	}
}

// hold is what an operator did before the first round.
type hold struct{ agent, actor, reason string }

func byOperator() hold { return hold{"geo", "alice", "moves to another data centre"} }

// follow plays the script, round after round, until ctx ends.
func (f *fleet) follow(ctx context.Context, steps []step) {
	first := map[string]string{}
	for _, a := range agents() {
		first[a.name] = a.first()
	}
	for begin := time.Now(); ; begin = begin.Add(round) {
		for _, s := range steps {
			if !sleepUntil(ctx, begin.Add(s.at)) {
				return
			}
			does := s.does
			if does == "" {
				does = first[s.agent]
			}
			if err := f.put(ctx, s.agent, does); err != nil {
				f.log.WarnContext(ctx, "the script cannot be followed", "agent", s.agent, "error", err)
				continue
			}
			f.log.InfoContext(ctx, "script", "agent", s.agent, "what", s.why)
		}
		if !sleepUntil(ctx, begin.Add(round)) {
			return
		}
	}
}

// put changes how an agent behaves.
func (f *fleet) put(ctx context.Context, agent, does string) error {
	return f.ask(ctx, http.MethodPut, f.agents.url()+"/modes/"+agent, does)
}

// sleepUntil reports whether that time came before the end of ctx.
func sleepUntil(ctx context.Context, at time.Time) bool {
	t := time.NewTimer(time.Until(at))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
