package ctl

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/breakerd/breakerd/pkg/client"
)

// view is what one server says of the replicas.
type view struct {
	server string
	list   client.ReplicaList
	err    error
}

// views asks every server of the context at once, in the order of their addresses.
func (c *cli) views(ctx context.Context, servers map[string]*client.Client) []view {
	addresses := slices.Sorted(maps.Keys(servers))
	out := make([]view, len(addresses))
	var all sync.WaitGroup
	for i, address := range addresses {
		all.Go(func() {
			list, err := servers[address].ListReplicas(ctx)
			out[i] = view{address, list, err}
		})
	}
	all.Wait()
	return out
}

// partition are replicas that share one Redis, or one replica that reaches none.
type partition struct {
	Replicas []string `json:"replicas"`
	Redis    bool     `json:"reaches_redis"`
	Size     string   `json:"size"` // majority, minority or half
	Queued   int64    `json:"queued_writes"`
}

// partitions are what a fleet falls into.
type partitions struct {
	Partitioned bool        `json:"partitioned"`
	Partitions  []partition `json:"partitions"`
	Silent      []string    `json:"silent"` // heartbeats are missing, and no server answers for them
	Unreachable []string    `json:"unreachable_servers"`
}

// partitionsOf puts together what servers say. A replica that answers for itself is believed over its heartbeats.
func partitionsOf(views []view) partitions {
	out := partitions{Partitions: []partition{}, Silent: []string{}, Unreachable: []string{}}
	of, queued, silent := map[string]string{}, map[string]int64{}, map[string]bool{}
	place := func(r client.Replica, degraded bool) {
		of[r.ID], queued[r.ID] = r.Store, r.Waiting.Outcomes
		if degraded || !r.DegradedSince.IsZero() {
			of[r.ID] = cutOff + r.ID // alone
		}
	}
	for _, v := range views {
		for _, r := range v.list.Replicas {
			if r.State != "alive" {
				silent[r.ID] = true
			} else if _, placed := of[r.ID]; !placed {
				place(r, v.list.Degraded)
			}
		}
	}
	for _, v := range views {
		if v.err != nil {
			out.Unreachable = append(out.Unreachable, v.server)
			continue
		}
		own := func(r client.Replica) bool { return r.ID == v.list.Self }
		if i := slices.IndexFunc(v.list.Replicas, own); i >= 0 {
			place(v.list.Replicas[i], v.list.Degraded)
		}
	}
	for id := range of {
		delete(silent, id)
	}
	out.Silent = append(out.Silent, slices.Sorted(maps.Keys(silent))...)
	out.Partitions = append(out.Partitions, groupsOf(of, queued, len(of)+len(silent))...)
	alone := len(out.Partitions) == 1 && !out.Partitions[0].Redis
	out.Partitioned = len(out.Partitions) > 1 || alone || len(out.Silent) > 0
	return out
}

const cutOff = "-" // before the id of a replica that reaches no Redis, in place of a Redis' name

// groupsOf puts replicas together by the Redis that each reaches, of all that there are; the largest group comes first.
func groupsOf(of map[string]string, queued map[string]int64, all int) (out []partition) {
	groups := map[string]*partition{}
	for _, id := range slices.Sorted(maps.Keys(of)) {
		g := groups[of[id]]
		if g == nil {
			g = &partition{Redis: !strings.HasPrefix(of[id], cutOff)}
			groups[of[id]] = g
		}
		g.Replicas, g.Queued = append(g.Replicas, id), g.Queued+queued[id]
	}
	for _, g := range groups {
		g.Size = "minority"
		if 2*len(g.Replicas) > all {
			g.Size = "majority"
		} else if 2*len(g.Replicas) == all {
			g.Size = "half"
		}
		out = append(out, *g)
	}
	slices.SortFunc(out, func(a, b partition) int {
		return cmp.Or(-cmp.Compare(len(a.Replicas), len(b.Replicas)), strings.Compare(a.Replicas[0], b.Replicas[0]))
	})
	return out
}

func (p partitions) print(w io.Writer) {
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) }
	if !p.Partitioned {
		n := 0
		for _, part := range p.Partitions {
			n += len(part.Replicas)
		}
		say("No partition: %d replicas reach one Redis", n)
		return
	}
	say("WARNING: Network partition detected")
	for i, part := range p.Partitions {
		name := strconv.Itoa(i + 1)
		if i < 26 {
			name = string(rune('A' + i))
		}
		more := ""
		if !part.Redis {
			more = fmt.Sprintf(", cut off from Redis, %d queued", part.Queued)
		}
		say("Partition %s: [%s] (%s%s)", name, strings.Join(part.Replicas, ", "), part.Size, more)
	}
	if len(p.Silent) > 0 {
		say("Silent: [%s] (dead, or cut off from Redis and from here)", strings.Join(p.Silent, ", "))
	}
}

func (c *cli) partitionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "detect-partition", Short: "which replicas no longer share one Redis", Args: noArgs,
		Long: `Which replicas no longer share one Redis. Every server of the context is asked:
a replica that is cut off from Redis is known for sure by its own answer alone.
Ends with exit code 5 if there is a partition, or a replica is silent.`,
		Example: `  breakerctl cluster detect-partition
  breakerctl cluster detect-partition --server http://a:18180,http://b:18180`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			servers, err := c.each()
			if err != nil {
				return err
			}
			views := c.views(cmd.Context(), servers)
			found := partitionsOf(views)
			code := exitOK
			for _, v := range views {
				if v.err != nil {
					code = worse(code, c.fail(cmd.Context(), v.err, v.server))
				}
			}
			if len(found.Unreachable) == len(views) {
				return conclude(code)
			}
			names := []string{}
			for _, part := range found.Partitions {
				names = append(names, part.Replicas...)
			}
			if err := c.print(output{value: found, names: names, text: found.print}); err != nil {
				return err
			}
			if found.Partitioned {
				code = worse(code, exitFinding)
			}
			return conclude(code)
		},
	}
}

// line is one line of cluster watch.
type line struct {
	At      time.Time `json:"at"`
	Level   string    `json:"level"` // INFO or WARN
	Message string    `json:"message"`
	Server  string    `json:"server"`
	Replica string    `json:"replica,omitempty"`
	Queued  int64     `json:"queued,omitempty"`
}

const watchEvery = 250 * time.Millisecond

// watched is what was last seen of a server.
type watched struct {
	seen, gone, degraded, replaying bool
	queued                          int64
}

// step says what has become of a server since it was last asked.
func (w *watched) step(v view, say func(level, format string, args ...any)) {
	if v.err != nil {
		if !w.gone {
			say("WARN", "%s does not answer", v.server)
		}
		w.gone = true
		return
	}
	self := v.list.Self
	if w.gone {
		say("INFO", "%s answers again", self)
	}
	queued, degraded := int64(0), v.list.Degraded
	for _, r := range v.list.Replicas {
		if r.ID == self {
			queued, degraded = r.Waiting.Outcomes, degraded || !r.DegradedSince.IsZero()
		}
	}
	switch {
	case degraded && !w.degraded:
		say("WARN", "%s is cut off from Redis: it answers from its memory, and queues outcomes", self)
	case !degraded && w.degraded:
		say("INFO", "Partition healed, merging state")
		if w.queued > 0 {
			say("INFO", "Replaying %d queued messages", w.queued)
		}
		w.replaying = true
	}
	if !degraded && w.replaying && queued == 0 {
		say("INFO", "Cluster synchronized")
		w.replaying = false
	}
	w.seen, w.gone, w.degraded, w.queued = true, false, degraded, queued
}

func (c *cli) clusterWatchCommand() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "watch", Short: "say when a partition begins and heals, and what is replayed", Args: noArgs,
		Long: `Says when a server of the context is cut off from Redis, when it is back, and
what it replays then. It goes on until --timeout, or until it is interrupted.`,
		Example: `  breakerctl cluster watch
  breakerctl cluster watch --timeout 5m`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			servers, err := c.each()
			if err != nil {
				return err
			}
			ctx, cancel := cmd.Context(), context.CancelFunc(func() {})
			if timeout > 0 {
				ctx, cancel = context.WithTimeout(ctx, timeout)
			}
			defer cancel()
			states := map[string]*watched{}
			look := time.NewTicker(watchEvery)
			defer look.Stop()
			for {
				views := c.views(ctx, servers)
				if ctx.Err() != nil {
					return cmd.Context().Err()
				}
				if err := c.printSteps(states, views); err != nil {
					return err
				}
				select {
				case <-look.C:
				case <-ctx.Done():
					return cmd.Context().Err()
				}
			}
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "end after so long; 0: never")
	return cmd
}

// printSteps prints what has become of each server.
func (c *cli) printSteps(states map[string]*watched, views []view) (failed error) {
	for _, v := range views {
		if states[v.server] == nil {
			states[v.server] = &watched{}
		}
		w := states[v.server]
		w.step(v, func(level, format string, args ...any) {
			l := line{time.Now().UTC(), level, fmt.Sprintf(format, args...), v.server, v.list.Self, w.queued}
			failed = cmp.Or(failed, c.printWatched(l))
		})
	}
	return failed
}

// printWatched prints a line at once.
func (c *cli) printWatched(l line) error {
	if c.format == formatTable || c.format == formatWide || c.format == formatName {
		_, err := fmt.Fprintf(c.Out, "[%s] %s\n", l.Level, l.Message)
		return err
	}
	if c.format == formatJSON {
		c.format = formatJSONL // lines that go on
	}
	return c.print(output{value: l})
}
