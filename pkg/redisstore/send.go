package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// send carries out the calls of one round trip. If a hint was wrong, the call falls back to its script in a second
// round trip. A script that the server does not know is sent again with its text, by itself: NOSCRIPT says that it has
// not run.
func (s *Store) send(ctx context.Context, t *roundTrip) {
	hinted := false
	for _, c := range t.calls {
		c.short = c.hint != nil && c.hint.Load()
		hinted = hinted || c.short
	}
	s.exchange(ctx, t, t.calls)
	if !hinted {
		return
	}
	t.misled = t.misled[:0]
	for _, c := range t.calls {
		if !c.answered {
			c.short = false
			t.misled = append(t.misled, c)
		}
	}
	if len(t.misled) > 0 {
		s.exchange(ctx, t, t.misled)
		clear(t.misled)
	}
}

// exchange sends the commands of calls in one pipeline, and settles all calls but those whose hint was wrong.
func (s *Store) exchange(ctx context.Context, t *roundTrip, calls []*call) {
	defer t.reset()
	t.merge(calls)
	for _, c := range calls {
		switch {
		case !c.short:
			c.at = t.add(s.command(ctx, t, "evalsha", c.script.sha, c))
		case c.share == shareAcquire:
			c.at = t.add(onceString{redis.NewStringCmd(ctx, c.agent.state...)})
			t.add(onceString{redis.NewStringCmd(ctx, c.agent.plain...)})
		}
	}
	for i := range t.groups {
		g := &t.groups[i]
		g.at = t.add(s.records(ctx, t, "evalsha", s.scripts["records"].sha, g.calls))
	}
	sent := time.Now()
	if len(t.cmds) == 1 {
		_ = s.client.Process(ctx, t.cmds[0]) // the command keeps its error
	} else {
		if t.pipe == nil {
			t.pipe = s.client.Pipeline()
		}
		_ = t.pipe.BatchProcess(ctx, t.cmds...) // only queues
		_, _ = t.pipe.Exec(ctx)                 // each command keeps its own error
	}
	for _, c := range calls {
		switch {
		case !c.short:
			s.settle(ctx, t, c, t.cmds[c.at].(once)) //nolint:forcetypeassert,errcheck // as it was added
		case c.share == shareAcquire:
			get, hget := t.cmds[c.at].(onceString), t.cmds[c.at+1].(onceString) //nolint:forcetypeassert,errcheck // likewise
			c.settleReads(get.StringCmd, hget.StringCmd)
		}
	}
	for _, g := range t.groups {
		s.settleRecords(ctx, t, g.calls, t.cmds[g.at].(onceInts)) //nolint:forcetypeassert,errcheck // likewise
	}
	answered := time.Now()
	for _, c := range calls {
		if c.result.NowMs > 0 {
			c.agent.clock.observe(c.result.NowMs, sent, answered)
		}
	}
}

// add adds a command to the pipeline and returns its index.
func (t *roundTrip) add(cmd redis.Cmder) int {
	t.cmds = append(t.cmds, cmd)
	return len(t.cmds) - 1
}

// reset drops the commands and keeps the memory.
func (t *roundTrip) reset() {
	clear(t.cmds)
	clear(t.args)
	clear(t.merged)
	clear(t.groups)
	t.cmds, t.args, t.merged, t.groups = t.cmds[:0], t.args[:0], t.merged[:0], t.groups[:0]
}

// merge groups the records in short form by policy. One that finds no other is sent as its own script.
func (t *roundTrip) merge(calls []*call) {
	t.merged = slices.Grow(t.merged, len(calls)) // groups are parts of one array
	for i, c := range calls {
		if !c.short || c.share != shareRecord || grouped(t.groups, c) {
			continue
		}
		from := len(t.merged)
		for _, o := range calls[i:] {
			if o.short && o.share == shareRecord && o.policy.packedPolicy == c.policy.packedPolicy {
				t.merged = append(t.merged, o)
			}
		}
		if len(t.merged) == from+1 {
			c.short = false
			t.merged = t.merged[:from]
			continue
		}
		t.groups = append(t.groups, group{calls: t.merged[from:]})
	}
}

// grouped says whether a record is in a group, which is then that of its policy.
func grouped(groups []group, c *call) bool {
	return slices.ContainsFunc(groups, func(g group) bool {
		return g.calls[0].policy.packedPolicy == c.policy.packedPolicy
	})
}

// command is a call's own script, by name or by text.
func (s *Store) command(ctx context.Context, t *roundTrip, name, what string, c *call) once {
	from := len(t.args)
	t.args = append(t.args, name, what, len(c.keys))
	t.args = append(t.args, c.keys...)
	if c.agent == nil {
		t.args = append(t.args, c.args...)
	} else {
		t.args = s.appendArgs(t.args, c)
	}
	cmd := redis.NewCmd(ctx, t.args[from:len(t.args):len(t.args)]...)
	cmd.SetFirstKeyPos(3)
	return once{cmd}
}

func unknownScript(err error) bool {
	return err != nil && redis.HasErrorPrefix(err, "NOSCRIPT") // which allocates even without an error
}

// settle takes the reply of a call's own script.
func (s *Store) settle(ctx context.Context, t *roundTrip, c *call, cmd once) {
	if unknownScript(cmd.Err()) {
		cmd = s.command(ctx, t, "eval", c.script.text, c)
		_ = s.client.Process(ctx, cmd) // the command keeps its error
	}
	list, err := cmd.Slice()
	if cmd.Err() == nil {
		err = unreadable(err)
	}
	if c.hint != nil {
		c.hint.Store(len(list) == c.shortReply)
	}
	switch {
	case err != nil:
		c.fail(err)
	case c.agent == nil:
		c.reply, c.answered = list, true
	default:
		r, err := parseReply(list)
		r.Plain = r.Plain && c.op.Verb == machine.VerbAcquire
		c.result, c.err, c.answered = r, unreadable(err), true
	}
}

// settleReads takes the replies of an acquire's two reads, of :state and of :control's field plain. The keys may change
// between the two. Yet at one moment between them what they say was so: the field exists only while the breaker is
// plainly closed, and names the epoch. If they do not say so, the call stays unanswered, and its script decides.
func (c *call) settleReads(get, hget *redis.StringCmd) {
	state, err := get.Result()
	plain, err2 := hget.Result()
	for _, err := range [...]error{err, err2} {
		if err != nil && !errors.As(err, new(redis.Error)) {
			c.fail(fmt.Errorf("%w: %w", errNotRun, err))
			return
		}
	}
	if err == nil && err2 == nil && state == string(machine.Closed) && machine.IsHex16(plain) {
		c.answer(machine.Result{Code: machine.CodeOK, State: machine.Closed, Epoch: plain, Plain: true, Fast: true})
	}
}

// records is one command for several records under one policy: see lua/records.lua.
func (s *Store) records(ctx context.Context, t *roundTrip, name, what string, calls []*call) onceInts {
	from := len(t.args)
	t.args = append(t.args, name, what, 3*len(calls))
	for _, c := range calls {
		t.args = append(t.args, c.keys[stateKey], c.keys[callsKey], c.keys[controlKey])
	}
	t.args = append(t.args, s.nowMs(), calls[0].policy.rule)
	for _, c := range calls {
		t.args = append(t.args, c.op.Epoch, c.op.Summary.Successes)
	}
	cmd := redis.NewIntSliceCmd(ctx, t.args[from:len(t.args):len(t.args)]...)
	cmd.SetFirstKeyPos(3)
	return onceInts{cmd}
}

// settleRecords takes the reply of such a command. A record that it did not count stays unanswered, and so do all if
// Redis denies a key of one of them. Another error is that of each record.
func (s *Store) settleRecords(ctx context.Context, t *roundTrip, calls []*call, cmd onceInts) {
	if unknownScript(cmd.Err()) {
		cmd = s.records(ctx, t, "eval", s.scripts["records"].text, calls)
		_ = s.client.Process(ctx, cmd)
	}
	counted, err := cmd.Result()
	if err == nil && len(counted) != len(calls)+1 {
		err = fmt.Errorf("%w: %d records, %d numbers", errBadReply, len(calls), len(counted))
	}
	denied := err != nil && answers(err, "NOPERM")
	for i, c := range calls {
		switch {
		case denied:
			c.hint.Store(false)
		case err != nil:
			c.fail(err)
		case counted[i+1] == 1:
			c.answer(machine.Result{
				Code: machine.CodeOK, State: machine.Closed, Epoch: c.op.Epoch, NowMs: counted[0], Fast: true,
			})
		default:
			c.hint.Store(false)
		}
	}
}
