package ctl

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/breakerd/breakerd/pkg/client"
)

// verb is one change of breakers.
type verb struct {
	action    string // of the API
	reason    string
	length    time.Duration
	until     string
	gradual   time.Duration
	protected bool
	force     bool
	dryRun    bool
	ask       bool // also of one agent

	which selection
}

func (c *cli) changeCommands() []*cobra.Command {
	return []*cobra.Command{
		c.verbCommand("open", "open", "refuse every call of an agent, for a time or for ever",
			`payments --reason 'provider is down' --for 1h`,
			`-l team=payments --reason deploy --until 02:00 --dry-run`,
			`payments --reason fraud --protected`),
		c.verbCommand("close", "close", "admit every call of an agent, whatever it does, for a time",
			`payments --reason 'false alarm' --for 30m`),
		c.verbCommand("half-open", "half_open", "let an agent's next calls be probes",
			`payments --reason 'provider says it is back'`),
		c.verbCommand("reset", "reset", "close a breaker and forget its failures; lifts a hold",
			`payments --reason 'provider is back'`,
			`--state open --reason 'network is back' --gradual 10m`),
		c.holdCommand(),
		c.verbCommand("release", "release", "end a hold as its own end would",
			`payments --reason 'provider is back'`),
	}
}

func (v *verb) addFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&v.reason, "reason", "", "why, for the audit and for whoever is refused")
	flags.BoolVar(&v.force, "force", false, "also where the hold of somebody else stands, or is protected")
	flags.BoolVar(&v.dryRun, "dry-run", false, "show whom it would be, and do nothing")
	switch v.action {
	case "open", "close":
		flags.DurationVar(&v.length, "for", 0, "how long; 0: HOLD_DEFAULT_SECONDS of the server")
		flags.StringVar(&v.until, "until", "", "the end: 15:04 (the next one), or a time as 2006-01-02T15:04:05Z")
		flags.BoolVar(&v.protected, "protected", false, "only --force ends it before its time")
		cmd.MarkFlagsMutuallyExclusive("for", "until")
	case "reset":
		flags.DurationVar(&v.gradual, "gradual", 0, "let calls return over so long")
	}
	v.which.addFlags(cmd)
}

func (c *cli) verbCommand(name, action, short string, examples ...string) *cobra.Command {
	v := &verb{action: action}
	for i := range examples {
		examples[i] = "  breakerctl " + name + " " + examples[i]
	}
	cmd := &cobra.Command{
		Use: name + " AGENT… --reason WHY", Short: short, Example: strings.Join(examples, "\n"),
		ValidArgsFunction: c.completeAgents,
		RunE:              func(cmd *cobra.Command, agents []string) error { return c.doVerb(cmd.Context(), v, agents) },
	}
	v.addFlags(cmd)
	return cmd
}

// holdCommand holds a breaker as it is now.
func (c *cli) holdCommand() *cobra.Command {
	v := &verb{action: "open"}
	state := ""
	cmd := &cobra.Command{
		Use: "hold AGENT --reason WHY", Short: "keep a breaker as it is: closed, or else open",
		Example: `  breakerctl hold payments --reason 'under repair' --for 2h
  breakerctl hold payments --as-state closed --reason 'load test' --for 10m`,
		Args: someArgs(1, 1, "one AGENT"), ValidArgsFunction: c.completeAgents,
		RunE: func(cmd *cobra.Command, agents []string) error {
			to, err := c.client()
			if err != nil {
				return err
			}
			switch strings.ToUpper(state) {
			case "":
				now, err := to.GetCircuitBreaker(cmd.Context(), agents[0])
				if err != nil {
					return err
				}
				if now.State == "CLOSED" {
					v.action = "close"
				}
			case "CLOSED":
				v.action = "close"
			case "OPEN":
			default:
				return usagef("--as-state open|closed", "a hold is open or closed, not %q", state)
			}
			return c.doVerb(cmd.Context(), v, agents)
		},
	}
	v.addFlags(cmd)
	cmd.Flags().StringVar(&state, "as-state", "", "open or closed; as it is now")
	return cmd
}

// seconds is how long a hold lasts.
func (v *verb) seconds(now time.Time) (float64, error) {
	if v.until == "" {
		return v.length.Seconds(), nil
	}
	end, err := time.Parse(time.RFC3339, v.until)
	if err != nil {
		clock, err := time.ParseInLocation("15:04", v.until, now.Location())
		if err != nil {
			return 0, usagef("--until 02:00", "--until takes 15:04 or a time as 2006-01-02T15:04:05Z, not %q", v.until)
		}
		end = time.Date(now.Year(), now.Month(), now.Day(), clock.Hour(), clock.Minute(), 0, 0, now.Location())
		if !end.After(now) {
			end = end.AddDate(0, 0, 1)
		}
	}
	if !end.After(now) {
		return 0, usagef("", "--until %s is over", v.until)
	}
	return end.Sub(now).Round(time.Second).Seconds(), nil
}

// check refuses what was typed, before anybody is asked.
func (v *verb) check(name string, agents []string) error {
	switch {
	case len(agents) > 0 && !v.which.empty():
		return usagef("breakerctl "+name+" --help", "agents are named, or selected, not both")
	case len(agents) == 0 && v.which.empty():
		return usagef("breakerctl "+name+" --help", "%s needs an AGENT, or a selection such as -l KEY=VALUE", name)
	case strings.TrimSpace(v.reason) == "":
		return usagef("add --reason 'why'", "%s needs a --reason: whoever looks tonight wants to know why", name)
	}
	_, err := v.which.query()
	return err
}

// doVerb does a verb to the agents that were named, or selected.
func (c *cli) doVerb(ctx context.Context, v *verb, agents []string) error {
	name := strings.ReplaceAll(v.action, "_", "-")
	if err := v.check(name, agents); err != nil {
		return err
	}
	seconds, err := v.seconds(time.Now())
	if err != nil {
		return err
	}
	to, err := c.client()
	if err != nil {
		return err
	}
	if len(agents) == 1 && !v.dryRun {
		if err := c.change(scope{what: name + " " + agents[0], agents: 1, ask: v.ask}); err != nil {
			return err
		}
		return c.forceOne(ctx, to, v, agents[0], seconds)
	}
	request := client.ActionRequest{
		Action: v.action, Agents: agents, DryRun: true, Force: v.force, GradualSeconds: v.gradual.Seconds(),
		Protected: v.protected, Reason: v.reason, TimeoutSeconds: seconds,
	}
	if len(agents) == 0 {
		request.Selector = v.which.selector()
	}
	plan, err := to.PostAction(ctx, request)
	if err != nil {
		return err
	}
	if v.dryRun || plan.Matched == 0 {
		return c.printAction(plan)
	}
	what := fmt.Sprintf("%s %d agents (%s)", name, plan.Matched, some(plan.Results))
	if err := c.change(scope{what: what, agents: int(plan.Matched), ask: true}); err != nil {
		return err
	}
	request.DryRun, request.Expect = false, &plan.Matched
	return c.act(ctx, to, request)
}

// act does an action, and waits for its end.
func (c *cli) act(ctx context.Context, to *client.Client, request client.ActionRequest) error {
	done, err := to.PostAction(ctx, request)
	if err != nil {
		return err
	}
	if done, err = c.await(ctx, to, done); err != nil {
		return err
	}
	return c.printAction(done)
}

// some names the first few.
func some(results []client.ActionResult) string {
	const most = 3
	var names []string
	for _, r := range results {
		if len(names) == most {
			names = append(names, "…")
			break
		}
		names = append(names, r.AgentID)
	}
	return strings.Join(names, ", ")
}

const actionPoll = 500 * time.Millisecond

// await follows a long action to its end, and says how far it is.
func (c *cli) await(ctx context.Context, to *client.Client, a client.Action) (client.Action, error) {
	look := time.NewTicker(actionPoll)
	defer look.Stop()
	for !a.Finished {
		if isTerminal(c.Err) {
			_, _ = fmt.Fprintf(c.Err, "\r%d of %d done", a.Matched-a.Todo, a.Matched)
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			c.tellf("\nthe fleet goes on with it: breakerctl action %s shows how far it is", a.ID)
			return a, ctx.Err()
		}
		again, err := to.GetAction(ctx, a.ID)
		if err != nil && failureOf(err).Exit != exitUnreachable { // an outage may pass
			return a, err
		}
		if err == nil {
			a = again
		}
	}
	if isTerminal(c.Err) {
		_, _ = fmt.Fprint(c.Err, "\r")
	}
	return a, nil
}

// resultExit is the exit code for what became of one agent.
func resultExit(result string) int {
	switch result {
	case "done", "todo":
		return exitOK
	case "agent_unknown":
		return exitNotFound
	case "hold_exists", "hold_protected", "not_held":
		return exitConflict
	}
	return exitFailed
}

func (c *cli) printAction(a client.Action) error {
	o := output{value: a, lines: []any{}, names: []string{}, head: []string{"AGENT", "RESULT"}}
	code := exitOK
	for _, r := range a.Results {
		o.lines = append(o.lines, r)
		o.names = append(o.names, r.AgentID)
		o.rows = append(o.rows, []string{r.AgentID, r.Result})
		code = worse(code, resultExit(r.Result))
	}
	if err := c.print(o); err != nil {
		return err
	}
	if a.DryRun {
		c.tellf("%d agents would be affected; nothing was done", a.Matched)
	}
	return conclude(code)
}

// forceOne acts on one agent by its own path, which makes it known where it was not.
func (c *cli) forceOne(ctx context.Context, to *client.Client, v *verb, agent string, seconds float64) error {
	hold := client.HoldRequest{Reason: v.reason, Force: v.force, Protected: v.protected, TimeoutSeconds: seconds}
	var reply client.ForceReply
	var err error
	switch v.action {
	case "open":
		reply, err = to.OpenCircuitBreaker(ctx, agent, hold)
	case "close":
		reply, err = to.CloseCircuitBreaker(ctx, agent, hold)
	case "half_open", "reset":
		target := map[string]string{"half_open": "HALF_OPEN", "reset": "CLOSED"}[v.action]
		reply, err = to.ResetCircuitBreaker(ctx, agent, client.ResetRequest{
			Reason: v.reason, Force: v.force, GradualSeconds: v.gradual.Seconds(), TargetState: target,
		})
	default: // release
		reply, err = to.ReleaseCircuitBreaker(ctx, agent, client.ReleaseRequest{Reason: v.reason, Force: v.force})
	}
	if err != nil {
		return err
	}
	if reply.Created {
		c.tellf("nobody knew %s before; known names that are near: %s", agent, orDash(strings.Join(reply.Nearest, ", ")))
	}
	if reply.Endless {
		c.tellf("this hold has no end: breakerctl release %s", agent)
	}
	return c.print(output{
		value: reply, names: []string{reply.AgentID}, head: []string{"AGENT", "STATE", "RESULT"},
		rows: [][]string{{reply.AgentID, reply.State, reply.Status}},
	})
}

// actionCommand shows what became of an action.
func (c *cli) actionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "action ID", Short: "what became of an action on many agents", Hidden: true,
		Args: someArgs(1, 1, "the ID of an action"),
		RunE: func(cmd *cobra.Command, args []string) error {
			to, err := c.client()
			if err != nil {
				return err
			}
			a, err := to.GetAction(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return c.printAction(a)
		},
	}
}
