// Package redisdocs keeps in Redis what the service has besides breakers: agents' documents, the index of agents,
// samples of failed calls, workflows and their executions, and the heartbeats of replicas.
//
// Each command is sent once and its error is a [breaker.StoreError]. A key of another type than expected was planted:
// it reads as absent, and makes room for a write [B20].
package redisdocs

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/internal/view"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/machine"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// Config bounds a Docs.
type Config struct {
	MaxAgents int           // agents in the index
	Timeout   time.Duration // of an operation on workflows, executions and heartbeats
}

// Docs is what the service keeps, beside a Store of the same Redis. It is safe for concurrent use.
type Docs struct {
	store  *redisstore.Store
	client redis.UniversalClient
	keys   redisstore.Keys
	config Config
}

// New makes the Docs of a Store and of the client that the Store is made on.
func New(store *redisstore.Store, client redis.UniversalClient, c Config) *Docs {
	return &Docs{store: store, client: client, keys: store.Keys(), config: c}
}

// Override reads an agent's policy override, JSON; "" when there is none.
func (d *Docs) Override(ctx context.Context, agent string) (string, error) {
	text, err := d.client.Get(ctx, d.keys.Config(agent)).Result()
	return text, failed("read config", agent, err)
}

// Overrides reads many agents' policy overrides, in order; "" where there is none.
func (d *Docs) Overrides(ctx context.Context, agents []string) ([]string, error) {
	return d.getAll(ctx, "read config", agents, d.keys.Config)
}

// EachOverride is Overrides, but a key that Redis refuses to read, as an ACL may tell it to, is not the error of all:
// refused has the error of each such agent, whose text is "".
func (d *Docs) EachOverride(
	ctx context.Context, agents []string,
) (texts []string, refused map[string]error, err error) {
	return d.getEach(ctx, "read config", agents, d.keys.Config)
}

// PutOverride writes a policy override ("" deletes it) if it still holds expected ([redisstore.AnyVersion]: whatever it
// holds), and logs who did it. [redisstore.ErrConflict]: it does not.
func (d *Docs) PutOverride(ctx context.Context, agent, expected, text, actor string) error {
	return d.put(ctx, agent, actor, d.override(agent, expected, text))
}

// Profile reads an agent's contact, url and labels, JSON; "" when there are none.
func (d *Docs) Profile(ctx context.Context, agent string) (string, error) {
	text, err := d.client.Get(ctx, d.keys.Profile(agent)).Result()
	return text, failed("read profile", agent, err)
}

// ProfilesOf reads many agents' profiles, in order; "" where there is none.
func (d *Docs) ProfilesOf(ctx context.Context, agents []string) ([]string, error) {
	return d.getAll(ctx, "read profile", agents, d.keys.Profile)
}

// EachProfile is to profiles what EachOverride is to overrides.
func (d *Docs) EachProfile(
	ctx context.Context, agents []string,
) (texts []string, refused map[string]error, err error) {
	return d.getEach(ctx, "read profile", agents, d.keys.Profile)
}

// PutProfile is to a profile what PutOverride is to an override.
func (d *Docs) PutProfile(ctx context.Context, agent, expected, text, actor string) error {
	return d.put(ctx, agent, actor, d.profile(agent, expected, text))
}

// PutBoth is PutProfile and PutOverride as one change, which happens as a whole or not at all. Of each document the
// first text is what it must hold, the second what it shall hold; one that stays as it is, is not part of the change.
func (d *Docs) PutBoth(ctx context.Context, agent string, profile, override [2]string, actor string) error {
	return d.put(ctx, agent, actor,
		d.profile(agent, profile[0], profile[1]), d.override(agent, override[0], override[1]))
}

func (d *Docs) override(agent, expected, text string) redisstore.Document {
	return redisstore.Document{Key: d.keys.Config(agent), Name: "config", Expected: expected, Text: text}
}

func (d *Docs) profile(agent, expected, text string) redisstore.Document {
	return redisstore.Document{Key: d.keys.Profile(agent), Name: "profile", Expected: expected, Text: text}
}

func (d *Docs) put(ctx context.Context, agent, actor string, documents ...redisstore.Document) error {
	if slices.ContainsFunc(documents, func(doc redisstore.Document) bool { return doc.Text != "" }) {
		if err := d.MarkSeen(ctx, []string{agent}); err != nil {
			return err
		}
	}
	if len(documents) > 1 {
		documents = slices.DeleteFunc(documents, func(doc redisstore.Document) bool { return doc.Expected == doc.Text })
		if len(documents) == 0 {
			return nil
		}
	}
	err := d.configure(ctx, agent, redisstore.Change{Documents: documents, Actor: actor})
	if err == nil {
		d.OverridesChanged(ctx)
	}
	return err
}

// replaceTries is how often a change of a document that may hold anything reads first what it holds.
const replaceTries = 3

// configure writes documents, and says in the event what they held: exactly that, unless others keep changing one that
// may hold anything.
func (d *Docs) configure(ctx context.Context, agent string, c redisstore.Change) error {
	for range replaceTries {
		exact, asked := c, false
		exact.Documents = slices.Clone(c.Documents)
		for i := range exact.Documents {
			doc := &exact.Documents[i]
			if doc.Expected != redisstore.AnyVersion {
				continue
			}
			held, err := d.client.Get(ctx, doc.Key).Result()
			if err := failed("configure", agent, err); err != nil {
				return err
			}
			doc.Expected, asked = held, true
		}
		exact.Detail = detailOf(exact.Documents)
		if err := d.store.Configure(ctx, agent, exact); !asked || !errors.Is(err, redisstore.ErrConflict) {
			return err
		}
	}
	c.Detail = detailOf(c.Documents)
	return d.store.Configure(ctx, agent, c)
}

// detailOf says what documents held, as far as it is known, and will hold.
func detailOf(documents []redisstore.Document) string {
	changes := make([]view.DocumentChange, len(documents))
	for i, doc := range documents {
		changes[i] = view.DocumentChange{Name: doc.Name, After: doc.Text}
		if doc.Expected != redisstore.AnyVersion {
			changes[i].Before = doc.Expected
		}
	}
	return view.ChangeOf(changes...)
}

// OverridesVersion is a text that is another one after each change of an override or a profile; "" at first.
func (d *Docs) OverridesVersion(ctx context.Context) (string, error) {
	version, err := d.client.Get(ctx, d.keys.Overrides()).Result()
	return version, failed("read version", "", err)
}

// OverridesChanged changes OverridesVersion, so that every replica reads all overrides again. It is for a change that
// has happened already, so it has no error: replicas that miss it come to the change in their turn.
func (d *Docs) OverridesChanged(ctx context.Context) {
	n, err := d.client.Incr(ctx, d.keys.Overrides()).Result()
	if n == 1 || err != nil { // a new key may not begin where the one before it did, and a planted one makes room
		_ = d.client.Set(ctx, d.keys.Overrides(), 1+rand.Int64N(1e12), 0).Err()
	}
}

const chunk = 500 // commands a pipeline, members a step of SCAN

// getAll reads one key of each agent. A key that Redis refuses is an error.
func (d *Docs) getAll(
	ctx context.Context, verb machine.Verb, agents []string, key func(agent string) string,
) ([]string, error) {
	out, refused, err := d.getEach(ctx, verb, agents, key)
	for _, err := range refused {
		return nil, err
	}
	return out, err
}

// getEach reads one key of each agent. The error is one of the connection or of the server.
func (d *Docs) getEach(
	ctx context.Context, verb machine.Verb, agents []string, key func(agent string) string,
) (out []string, refused map[string]error, err error) {
	out = make([]string, 0, len(agents))
	for part := range slices.Chunk(agents, chunk) {
		pipe := d.client.Pipeline()
		cmds := make([]*redis.StringCmd, len(part))
		for i, a := range part {
			cmds[i] = pipe.Get(ctx, key(a))
		}
		_, _ = pipe.Exec(ctx) // each command keeps its own error
		for i, c := range cmds {
			out = append(out, c.Val())
			err := failed(verb, part[i], c.Err())
			if err == nil {
				continue
			}
			if e, ok := errors.AsType[*breaker.StoreError](err); !ok || !e.Refused {
				return nil, nil, err
			}
			if refused == nil {
				refused = map[string]error{}
			}
			refused[part[i]] = err
		}
	}
	return out, refused, nil
}

const (
	quarantineKept  = 50             // newest items of an agent
	quarantineLives = 24 * time.Hour // since the newest
)

// PushQuarantine adds one item, JSON, to an agent's newest failed and refused calls.
func (d *Docs) PushQuarantine(ctx context.Context, agent, item string) error {
	key := d.keys.Quarantine(agent)
	return failed("quarantine", agent, d.write(ctx, key, func() error {
		pipe := d.client.TxPipeline()
		pipe.LPush(ctx, key, item)
		pipe.LTrim(ctx, key, 0, quarantineKept-1)
		pipe.Expire(ctx, key, quarantineLives)
		_, err := pipe.Exec(ctx)
		return err
	}))
}

// Quarantine reads an agent's newest failed and refused calls, newest first, as JSON texts.
func (d *Docs) Quarantine(ctx context.Context, agent string) ([]string, error) {
	items, err := d.client.LRange(ctx, d.keys.Quarantine(agent), 0, quarantineKept-1).Result()
	return items, failed("quarantine", agent, err)
}

// History is what was called of an agent, minute by minute.
type History struct {
	Kept    int              // minutes that this replica keeps; 0: none, and Minutes is of the window alone
	NowMs   int64            // the server's clock
	Minutes []machine.Minute // the oldest first
}

// History reads what was called of an agent.
func (d *Docs) History(ctx context.Context, agent string) (h History, err error) {
	h.Minutes, h.Kept, h.NowMs, err = d.store.Minutes(ctx, agent)
	return h, err
}

// write writes to a key. One of the wrong type was planted, and makes room.
func (d *Docs) write(ctx context.Context, key string, write func() error) error {
	err := write()
	if redis.HasErrorPrefix(err, "WRONGTYPE") {
		_ = d.client.Unlink(ctx, key).Err() // the next line tells if that failed
		err = write()
	}
	return err
}

// failed wraps an error. What is not there, or was planted, is none.
func failed(verb machine.Verb, agent string, err error) error {
	if err == nil || errors.Is(err, redis.Nil) || redis.HasErrorPrefix(err, "WRONGTYPE") {
		return nil
	}
	return redisstore.WrapError(verb, agent, err)
}
