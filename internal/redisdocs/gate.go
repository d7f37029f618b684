package redisdocs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// Gate is the fleet's gate as Redis holds it [B24]: a hash that a hand may write, too, of which only to is required.
type Gate struct {
	breaker.Gate

	Reason, Actor string
	Version       string // another text for other content; "": there is no gate
	Problem       string // why what a hand wrote is no gate, or which field of it was left out; "": nothing
	NowMs         int64  // when it was read, by Redis' clock

	raw string // as putGate compares it
}

// Stands reports whether there is a gate, and its end has not come yet.
func (g *Gate) Stands() bool { return g.Version != "" && !g.Over(g.NowMs) }

// EndMs is when the gate ends by itself, by Redis' clock; 0: it does not.
func (g *Gate) EndMs() int64 {
	end := g.UntilMs
	if full := g.StartMs + g.LengthMs; g.To >= 1 && (end == 0 || full < end) {
		end = full
	}
	return end
}

// gateFields are the fields of the hash, in the order of putGate.
func gateFields() []string {
	return []string{"from", "to", "start", "length", "until", "reason", "actor"}
}

// putGate replaces the gate by ARGV[2] on (from, to, length in ms, ms until its end, reason, actor), or without them
// removes it, if its fields are still those of ARGV[1]. It returns 1 if it has. What has another type was planted
// [B20].
const putGate = `
local names = {'from', 'to', 'start', 'length', 'until', 'reason', 'actor'}
local was = redis.pcall('HMGET', KEYS[1], unpack(names))
if was.err then was = {} end
for i = 1, #names do was[i] = was[i] or '' end
if ARGV[1] ~= table.concat(was, '\n') then return 0 end
redis.call('UNLINK', KEYS[1])
if #ARGV == 1 then return 1 end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local till = tonumber(ARGV[5])
if till > 0 then till = now + till end
redis.call('HSET', KEYS[1], 'from', ARGV[2], 'to', ARGV[3], 'start', string.format('%.0f', now), 'length', ARGV[4],
  'until', string.format('%.0f', till), 'reason', ARGV[6], 'actor', ARGV[7])
return 1`

// Gate reads the gate.
func (d *Docs) Gate(ctx context.Context) (g Gate, err error) {
	ctx, cancel := context.WithTimeout(ctx, d.config.Timeout)
	defer cancel()
	pipe := d.client.Pipeline()
	fields := pipe.HMGet(ctx, d.keys.Fleet(), gateFields()...)
	now := pipe.Time(ctx)
	_, _ = pipe.Exec(ctx) // each command keeps its own error
	if err := errors.Join(failed("fleet gate", "", fields.Err()), failed("fleet gate", "", now.Err())); err != nil {
		return g, err
	}
	return parseGate(fields.Val(), now.Val().UnixMilli()), nil
}

// parseGate reads the fields of a gate. A bad one is absent [B20].
func parseGate(values []any, nowMs int64) (g Gate) {
	g.NowMs = nowMs
	text := make([]string, len(gateFields()))
	for i := range min(len(values), len(text)) {
		text[i], _ = values[i].(string)
	}
	g.raw = strings.Join(text, "\n")
	if strings.Join(text, "") == "" {
		return g
	}
	sum := sha256.Sum256([]byte(g.raw))
	g.Version = hex.EncodeToString(sum[:8])
	var bad []string
	share := func(i int, otherwise float64) float64 {
		x, err := strconv.ParseFloat(text[i], 64)
		if text[i] == "" {
			return otherwise
		}
		if err != nil || math.IsNaN(x) || x < 0 || x > 1 {
			bad = append(bad, fmt.Sprintf("%s is %.64q: want 0 to 1", gateFields()[i], text[i]))
			return otherwise
		}
		return x
	}
	whole := func(i int) int64 {
		n, err := strconv.ParseInt(text[i], 10, 64)
		if text[i] != "" && (err != nil || n < 0 || n > maxGateMs) {
			bad = append(bad, fmt.Sprintf("%s is %.64q: want milliseconds", gateFields()[i], text[i]))
			return 0
		}
		return n
	}
	const all = 1 // without to there is no gate
	g.To = share(1, all)
	g.From = share(0, g.To)
	g.StartMs, g.LengthMs, g.UntilMs = whole(2), whole(3), whole(4)
	g.Reason, g.Actor = text[5], text[6]
	if text[1] == "" {
		bad = append(bad, "to is missing: want the share of calls to admit, 0 to 1")
	}
	g.Problem = strings.Join(bad, "; ")
	return g
}

// maxGateMs is the year 5138, up to which all sums of times fit.
const maxGateMs = 1e14

// GateChange is a gate to be: times are lengths from now on.
type GateChange struct {
	From, To      float64
	Length, Until time.Duration // Until 0: no end
	Reason, Actor string
}

// PutGate replaces the gate by c, or removes it if c is nil, if it is still was. ErrConflict: it is not.
func (d *Docs) PutGate(ctx context.Context, was *Gate, c *GateChange) error {
	ctx, cancel := context.WithTimeout(ctx, d.config.Timeout)
	defer cancel()
	args := []any{was.raw}
	if c != nil {
		share := func(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }
		args = append(args, share(c.From), share(c.To), c.Length.Milliseconds(), c.Until.Milliseconds(), c.Reason, c.Actor)
	}
	done, err := d.client.Eval(ctx, putGate, []string{d.keys.Fleet()}, args...).Int()
	if err != nil {
		return redisstore.WrapError("fleet gate", "", err)
	}
	if done == 0 {
		return redisstore.ErrConflict
	}
	return nil
}

// Text says in a few words what a gate admits.
func (g *Gate) Text() string {
	if !g.Stands() {
		return "none"
	}
	return g.Former()
}

// Former is Text, though the gate may have ended.
func (g *Gate) Former() string { return shareText(g.From, g.To, g.LengthMs) }

// Text says in a few words what a gate will admit, and why.
func (c *GateChange) Text() string {
	if c == nil {
		return "none"
	}
	return shareText(c.From, c.To, c.Length.Milliseconds()) + ": " + c.Reason
}

func shareText(from, to float64, lengthMs int64) string {
	switch {
	case from == 0 && to == 0:
		return "stop"
	case from == to:
		return fmt.Sprintf("%g of all calls", to)
	default:
		return fmt.Sprintf("%g to %g of all calls in %g s", from, to, float64(lengthMs)/1000)
	}
}
