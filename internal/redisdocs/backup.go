package redisdocs

import (
	"context"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/internal/backup"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

const (
	// backupPage is how many agents one round trip reads or writes: Redis serves others between two of them.
	backupPage = 50
	// backupStep bounds one round trip of a backup or of a restore.
	backupStep = 10 * time.Second
	// auditPage is how many entries of the audit one round trip reads.
	auditPage = 500
)

// BackupHeader says whose data a backup will hold. What is not in Redis, the caller fills in.
func (d *Docs) BackupHeader(ctx context.Context) (h backup.Header, err error) {
	ctx, cancel := context.WithTimeout(ctx, backupStep)
	defer cancel()
	now, err := d.client.Time(ctx).Result()
	if err != nil {
		return h, redisstore.WrapError("backup", "", err)
	}
	agents, err := d.client.ZCard(ctx, d.keys.Agents()).Result()
	if err := failed("backup", "", err); err != nil {
		return h, err
	}
	born, err := d.store.Born(ctx)
	return backup.Header{
		Prefix: d.keys.Prefix, TakenMs: now.UnixMilli(), TakenAt: now.UTC().Format(time.RFC3339), Born: born,
		Agents: int(agents),
	}, err
}

// Backup reads all that a backup holds of Redis, page by page, while others go on. Each breaker is read at one moment,
// and the whole is not: what happens meanwhile may be in it or not. write must not keep what it is given.
func (d *Docs) Backup(ctx context.Context, write func(backup.Record) error) error {
	if err := d.backupGate(ctx, write); err != nil {
		return err
	}
	if err := d.backupWorkflows(ctx, write); err != nil {
		return err
	}
	err := d.eachAgent(ctx, func(agents []string) error { return d.backupAgents(ctx, agents, write) })
	if err != nil {
		return err
	}
	return d.backupAudit(ctx, write)
}

func (d *Docs) backupGate(ctx context.Context, write func(backup.Record) error) error {
	g, err := d.Gate(ctx)
	if err != nil || !g.Stands() {
		return err
	}
	fields := map[string]string{}
	for i, text := range strings.Split(g.raw, "\n") {
		if text != "" && i < len(gateFields()) {
			fields[gateFields()[i]] = text
		}
	}
	return write(backup.Record{Section: backup.Gate, Fields: fields})
}

func (d *Docs) backupWorkflows(ctx context.Context, write func(backup.Record) error) error {
	entries, err := d.WorkflowEntries(ctx)
	if err != nil {
		return err
	}
	for id, entry := range entries {
		text, err := d.Workflow(ctx, id)
		if err != nil {
			return err
		}
		if text == "" || !utf8.ValidString(id+text+entry) {
			continue // deleted meanwhile, or nothing of ours
		}
		if err := write(backup.Record{Section: backup.Workflows, Name: id, Text: text, Entry: entry}); err != nil {
			return err
		}
	}
	return nil
}

// eachAgent calls handle with every agent that has a breaker, an override, a profile or a place in the index, some at a
// time, each once.
func (d *Docs) eachAgent(ctx context.Context, handle func(agents []string) error) error {
	seen := map[string]bool{}
	var page []string
	add := func(agent string) error {
		if !breaker.ValidName(agent) || seen[agent] {
			return nil
		}
		seen[agent] = true
		if page = append(page, agent); len(page) < backupPage {
			return nil
		}
		defer func() { page = page[:0] }()
		return handle(page)
	}
	if err := d.scanNames(ctx, add); err != nil {
		return err
	}
	if err := d.indexNames(ctx, add); err != nil {
		return err
	}
	if len(page) == 0 {
		return nil
	}
	return handle(page)
}

// scanNames finds the agents that have keys.
func (d *Docs) scanNames(ctx context.Context, add func(agent string) error) error {
	masters, err := d.masters(ctx)
	if err != nil {
		return failed("backup", "", err)
	}
	for _, m := range masters {
		for cursor := uint64(0); ; {
			step, cancel := context.WithTimeout(ctx, backupStep)
			var keys []string
			keys, cursor, err = m.Scan(step, cursor, d.keys.Prefix+":*:*", chunk).Result()
			cancel()
			if err != nil {
				return redisstore.WrapError("backup", "", err)
			}
			for _, key := range keys {
				if err := add(d.agentOf(key)); err != nil {
					return err
				}
			}
			if cursor == 0 {
				break
			}
		}
	}
	return nil
}

// agentOf is whose breaker, override or profile a key holds; "": it holds none.
func (d *Docs) agentOf(key string) string {
	for _, what := range []string{":state", ":control", ":config", ":profile"} {
		if of, ok := strings.CutSuffix(key, what); ok {
			return d.keys.AgentOf(of + ":state")
		}
	}
	return ""
}

// indexNames finds the agents in the index. It begins at the end, where those seen last are: an agent that moves there
// meanwhile has keys, and moves no other one past the place that is read next.
func (d *Docs) indexNames(ctx context.Context, add func(agent string) error) error {
	for last := int64(-1); ; last -= chunk {
		step, cancel := context.WithTimeout(ctx, backupStep)
		names, err := d.client.ZRange(step, d.keys.Agents(), last-chunk+1, last).Result()
		cancel()
		if err := failed("backup", "", err); err != nil {
			return err
		}
		for _, name := range names {
			if err := add(name); err != nil {
				return err
			}
		}
		if len(names) < chunk {
			return nil
		}
	}
}

// breakerKeys are how many keys the machine has.
const breakerKeys = 7

// readBreaker reads the machine's keys at one moment: state, timestamp, calls, control, probes, log, history. What has
// another type, or more fields than any version writes, was planted and reads as absent [B20].
const readBreaker = `
local out = {}
for i, key in ipairs(KEYS) do
  local v
  if i <= 2 then
    v = redis.pcall('GET', key)
  elseif i == 6 then
    v = redis.pcall('LRANGE', key, 0, 63)
  else
    local n = redis.pcall('HLEN', key)
    v = type(n) == 'number' and n <= 4096 and redis.call('HGETALL', key)
  end
  if type(v) == 'table' and v.err then v = false end
  out[i] = v
end
return out`

// readBreakers reads many breakers in one round trip, each at one moment.
func (d *Docs) readBreakers(ctx context.Context, agents []string) ([]backup.Breaker, error) {
	ctx, cancel := context.WithTimeout(ctx, backupStep)
	defer cancel()
	pipe := d.client.Pipeline()
	cmds := make([]*redis.Cmd, len(agents))
	for i, a := range agents {
		cmds[i] = pipe.Eval(ctx, readBreaker, d.keys.Machine(a))
	}
	_, _ = pipe.Exec(ctx) // each command keeps its own error
	out := make([]backup.Breaker, len(agents))
	for i, c := range cmds {
		values, err := c.Slice()
		if err != nil {
			return nil, redisstore.WrapError("backup", agents[i], err)
		}
		values = append(values, make([]any, breakerKeys)...) // whatever the server answers
		out[i] = backup.Breaker{
			State: textOf(values[0]), OpenTimestamp: textOf(values[1]), Calls: fieldsOf(values[2]),
			Control: fieldsOf(values[3]), Probes: fieldsOf(values[4]), Log: textsOf(values[5]),
			History: fieldsOf(values[6]),
		}
	}
	return out, nil
}

// textOf is a reply's text, if it is one that JSON can hold.
func textOf(v any) string {
	if text, _ := v.(string); utf8.ValidString(text) {
		return text
	}
	return ""
}

func textsOf(v any) (out []string) {
	items, _ := v.([]any)
	for _, item := range items {
		if text := textOf(item); text != "" {
			out = append(out, text)
		}
	}
	return out
}

func fieldsOf(v any) map[string]string {
	items, _ := v.([]any)
	out := make(map[string]string, len(items)/2)
	for i := 0; i+1 < len(items); i += 2 {
		if name := textOf(items[i]); name != "" {
			out[name] = textOf(items[i+1])
		}
	}
	return out
}

// backupAgents writes all that a page of agents has.
func (d *Docs) backupAgents(ctx context.Context, agents []string, write func(backup.Record) error) error {
	breakers, err := d.readBreakers(ctx, agents)
	if err != nil {
		return err
	}
	overrides, err := d.Overrides(ctx, agents)
	if err != nil {
		return err
	}
	profiles, err := d.ProfilesOf(ctx, agents)
	if err != nil {
		return err
	}
	seen, err := d.seen(ctx, agents)
	if err != nil {
		return err
	}
	for i, agent := range agents {
		records := []backup.Record{{Section: backup.Registry, Name: agent, SeenS: seen[i]}}
		if text := textOf(overrides[i]); text != "" {
			records = append(records, backup.Record{Section: backup.Overrides, Name: agent, Text: text})
		}
		if text := textOf(profiles[i]); text != "" {
			records = append(records, backup.Record{Section: backup.Profiles, Name: agent, Text: text})
		}
		if b := &breakers[i]; b.Present() {
			section := backup.Breakers
			if b.Held() {
				section = backup.Holds
			}
			records = append(records, backup.Record{Section: section, Name: agent, Breaker: b})
		}
		for _, r := range records {
			if err := write(r); err != nil {
				return err
			}
		}
	}
	return nil
}

// seen is when agents were last seen, Unix seconds; 0 where the index does not say.
func (d *Docs) seen(ctx context.Context, agents []string) ([]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, backupStep)
	defer cancel()
	pipe := d.client.Pipeline()
	cmds := make([]*redis.FloatCmd, len(agents))
	for i, a := range agents {
		cmds[i] = pipe.ZScore(ctx, d.keys.Agents(), a)
	}
	_, _ = pipe.Exec(ctx) // each command keeps its own error
	out := make([]int64, len(agents))
	for i, c := range cmds {
		if err := failed("backup", agents[i], c.Err()); err != nil {
			return nil, err
		}
		out[i] = int64(c.Val())
	}
	return out, nil
}

// backupAudit writes the entries of the audit, the oldest first.
func (d *Docs) backupAudit(ctx context.Context, write func(backup.Record) error) error {
	for from := "-"; ; {
		step, cancel := context.WithTimeout(ctx, backupStep)
		page, err := d.client.XRangeN(step, d.keys.Audit(), from, "+", auditPage).Result()
		cancel()
		if err := failed("backup", "", err); err != nil {
			return err
		}
		for _, entry := range page {
			agent, event := textOf(entry.Values["agent"]), textOf(entry.Values["event"])
			if agent == "" || event == "" {
				continue // nothing of ours
			}
			r := backup.Record{Section: backup.Audit, Name: entry.ID, Agent: agent, Text: event}
			if err := write(r); err != nil {
				return err
			}
		}
		if len(page) < auditPage {
			return nil
		}
		from = "(" + page[len(page)-1].ID
	}
}
