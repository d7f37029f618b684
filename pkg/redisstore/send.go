package redisstore

import (
	"context"
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// onceString and onceInts are like once.
type (
	onceString struct{ *redis.StringCmd }
	onceInts   struct{ *redis.IntSliceCmd }
)

// NoRetry is once.NoRetry.
func (onceString) NoRetry() bool { return true }

// NoRetry is once.NoRetry.
func (onceInts) NoRetry() bool { return true }

// send runs a lane's calls in one round trip. What takes a second one is a call that its hint misled: its script follows. A script
// that the server does not know is sent once more with its text, alone: NOSCRIPT says that it has not run.
func (s *Store) send(ctx context.Context, l *trip) {
	quick := false
	for _, c := range l.calls {
		c.quick = c.hint != nil && c.hint.Load()
		quick = quick || c.quick
	}
	s.exchange(ctx, l, l.calls)
	if !quick {
		return
	}
	l.slow = l.slow[:0]
	for _, c := range l.calls {
		if !c.answered {
			c.quick = false
			l.slow = append(l.slow, c)
		}
	}
	if len(l.slow) > 0 {
		s.exchange(ctx, l, l.slow)
		clear(l.slow)
	}
}

// exchange sends what calls have to say at once, and settles all but those that a hint misled.
func (s *Store) exchange(ctx context.Context, l *trip, calls []*call) {
	defer l.forget()
	l.gather(calls)
	for _, c := range calls {
		switch {
		case !c.quick:
			c.at = l.queue(s.command(ctx, l, "evalsha", c.script.sha, c))
		case c.share == shareAcquire:
			c.at = l.queue(onceString{redis.NewStringCmd(ctx, c.agent.state...)})
			l.queue(onceString{redis.NewStringCmd(ctx, c.agent.plain...)})
		}
	}
	for i := range l.groups {
		g := &l.groups[i]
		g.at = l.queue(s.records(ctx, l, "evalsha", s.scripts["records"].sha, g.calls))
	}
	if len(l.cmds) == 1 {
		_ = s.client.Process(ctx, l.cmds[0]) // the command keeps its error
	} else {
		if l.pipe == nil {
			l.pipe = s.client.Pipeline()
		}
		_ = l.pipe.BatchProcess(ctx, l.cmds...) // only queues
		_, _ = l.pipe.Exec(ctx)                 // each command keeps its own error
	}
	for _, c := range calls {
		switch {
		case !c.quick:
			s.settle(ctx, l, c, l.cmds[c.at].(once)) //nolint:forcetypeassert,errcheck // as it was queued
		case c.share == shareAcquire:
			c.readPlainly(l.cmds[c.at].(onceString).StringCmd, l.cmds[c.at+1].(onceString).StringCmd) //nolint:forcetypeassert,errcheck // likewise
		}
	}
	for _, g := range l.groups {
		s.settleRecords(ctx, l, g.calls, l.cmds[g.at].(onceInts)) //nolint:forcetypeassert,errcheck // likewise
	}
}

// queue puts a command into the pipeline and says where.
func (l *trip) queue(cmd redis.Cmder) int {
	l.cmds = append(l.cmds, cmd)
	return len(l.cmds) - 1
}

// forget drops what a trip was made of, and keeps the memory.
func (l *trip) forget() {
	clear(l.cmds)
	clear(l.args)
	clear(l.alike)
	clear(l.groups)
	l.cmds, l.args, l.alike, l.groups = l.cmds[:0], l.args[:0], l.alike[:0], l.groups[:0]
}

// gather puts the quick records of one policy together. One that finds no other goes the ordinary way, with its own script.
func (l *trip) gather(calls []*call) {
	l.alike = slices.Grow(l.alike, len(calls)) // or the groups would lie in two arrays
	for i, c := range calls {
		if !c.quick || c.share != shareRecord || grouped(l.groups, c) {
			continue
		}
		from := len(l.alike)
		for _, o := range calls[i:] {
			if o.quick && o.share == shareRecord && o.policy.packedPolicy == c.policy.packedPolicy {
				l.alike = append(l.alike, o)
			}
		}
		if len(l.alike) == from+1 {
			c.quick = false
			l.alike = l.alike[:from]
			continue
		}
		l.groups = append(l.groups, group{calls: l.alike[from:]})
	}
}

// grouped says whether a record is in a group: that of its policy has all.
func grouped(groups []group, c *call) bool {
	return slices.ContainsFunc(groups, func(g group) bool { return g.calls[0].policy.packedPolicy == c.policy.packedPolicy })
}

// command is a call's own script, by name or by text.
func (s *Store) command(ctx context.Context, l *trip, name, what string, c *call) once {
	from := len(l.args)
	l.args = append(l.args, name, what, len(c.keys))
	l.args = append(l.args, c.keys...)
	if c.agent == nil {
		l.args = append(l.args, c.args...)
	} else {
		l.args = s.appendArgs(l.args, c)
	}
	cmd := redis.NewCmd(ctx, l.args[from:len(l.args):len(l.args)]...)
	cmd.SetFirstKeyPos(3)
	return once{cmd}
}

func unknownScript(err error) bool {
	return err != nil && redis.HasErrorPrefix(err, "NOSCRIPT") // which allocates for no error too
}

// settle takes the answer of a call's own script.
func (s *Store) settle(ctx context.Context, l *trip, c *call, cmd once) {
	if unknownScript(cmd.Err()) {
		cmd = s.command(ctx, l, "eval", c.script.text, c)
		_ = s.client.Process(ctx, cmd) // the command keeps its error
	}
	list, err := cmd.Slice()
	if c.hint != nil {
		c.hint.Store(len(list) == c.short)
	}
	switch {
	case err != nil:
		c.fail(err)
	case c.agent == nil:
		c.reply, c.answered = list, true
	default:
		r, err := parseReply(list)
		r.Plain = r.Plain && c.op.Verb == machine.VerbAcquire
		c.result, c.err, c.answered = r, err, true
	}
}

// records is one command for several records of one policy: see lua/records.lua.
func (s *Store) records(ctx context.Context, l *trip, name, what string, calls []*call) onceInts {
	from := len(l.args)
	l.args = append(l.args, name, what, 3*len(calls))
	for _, c := range calls {
		l.args = append(l.args, c.keys[stateKey], c.keys[callsKey], c.keys[controlKey])
	}
	l.args = append(l.args, s.nowMs(), calls[0].policy.rule)
	for _, c := range calls {
		l.args = append(l.args, c.op.Epoch, c.op.Summary.Successes)
	}
	cmd := redis.NewIntSliceCmd(ctx, l.args[from:len(l.args):len(l.args)]...)
	cmd.SetFirstKeyPos(3)
	return onceInts{cmd}
}

// settleRecords tells each of several records whether it is counted. Those that are not stay unanswered; an error is one of all.
func (s *Store) settleRecords(ctx context.Context, l *trip, calls []*call, cmd onceInts) {
	if unknownScript(cmd.Err()) {
		cmd = s.records(ctx, l, "eval", s.scripts["records"].text, calls)
		_ = s.client.Process(ctx, cmd)
	}
	counted, err := cmd.Result()
	if err == nil && len(counted) != len(calls)+1 {
		err = fmt.Errorf("%d records are answered by %d numbers", len(calls), len(counted))
	}
	for i, c := range calls {
		switch {
		case err != nil:
			c.fail(err)
		case counted[i+1] == 1:
			c.answer(machine.Result{Code: machine.CodeOK, State: machine.Closed, Epoch: c.op.Epoch, NowMs: counted[0], Fast: true})
		default:
			c.hint.Store(false)
		}
	}
}
