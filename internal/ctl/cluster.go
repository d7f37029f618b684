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
	"time"

	"github.com/spf13/cobra"

	"github.com/breakerd/breakerd/pkg/client"
)

// clusterCommand has the words of the Caxton runbook for the replicas.
func (c *cli) clusterCommand() *cobra.Command {
	group := &cobra.Command{Use: "cluster", Short: "the replicas of the fleet: who is there, and who differs"}
	upgrade := &cobra.Command{Use: "upgrade", Short: "how far an upgrade is"}
	upgrade.AddCommand(c.upgradeStatusCommand())
	group.AddCommand(c.membersCommand(), c.statusCommand(), c.performanceCommand(), c.partitionCommand(),
		c.verifyCommand(), c.pingCommand(), c.clusterWatchCommand(), c.shedLoadCommand(), upgrade)
	return group
}

// replicas reads every replica, as one server knows them.
func (c *cli) replicas(ctx context.Context) (client.ReplicaList, error) {
	to, err := c.client()
	if err != nil {
		return client.ReplicaList{}, err
	}
	return to.ListReplicas(ctx)
}

// named are the values of labels, as name=value.
func named(labels map[string]string) string {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		pairs = append(pairs, name+"="+labels[name])
	}
	return orDash(strings.Join(pairs, ","))
}

// stateOf is a replica's state in the words of the runbook.
func stateOf(r client.Replica) string {
	switch {
	case r.State == "gone":
		return "failed"
	case r.State == "alive" && !r.DegradedSince.IsZero():
		return "degraded"
	}
	return r.State
}

func (c *cli) membersCommand() *cobra.Command {
	return &cobra.Command{
		Use: "members", Short: "every replica, by its heartbeat", Args: noArgs,
		Long: `Every replica, by its heartbeat. suspect: two heartbeats are missing. failed:
five are, and it did not say that it ends. degraded: it is cut off from Redis.`,
		Example: `  breakerctl cluster members
  breakerctl cluster members -o wide`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := c.replicas(cmd.Context())
			if err != nil {
				return err
			}
			o := output{
				value: list, lines: []any{}, names: []string{},
				head: []string{
					"NODE-ID", "STATUS", "LAST-SEEN", "AGENTS",
					"+PROGRAM", "+VERSION", "+STARTED", "+QUEUED", "+LISTENS", "+LABELS",
				},
			}
			now := time.UnixMilli(list.NowMs)
			for _, r := range list.Replicas {
				o.lines, o.names = append(o.lines, r), append(o.names, r.ID)
				seen := length(time.Duration(r.AgeSeconds*float64(time.Second))) + " ago"
				o.rows = append(o.rows, []string{
					r.ID, stateOf(r), seen, strconv.FormatInt(r.Agents, 10),
					r.Program, r.Version, ago(now, r.StartedAt), strconv.FormatInt(r.Waiting.Outcomes, 10),
					orDash(strings.Join(r.Listen, ",")), named(r.Labels),
				})
			}
			if err := c.print(o); err != nil {
				return err
			}
			c.tellCutOff(list)
			return nil
		},
	}
}

// tellCutOff says that there may be more replicas than a server knows of.
func (c *cli) tellCutOff(list client.ReplicaList) {
	if list.Degraded {
		c.tellf("%s is cut off from Redis, and knows of itself alone: ask another server", list.Self)
	}
}

// clusterStatus is how the fleet is, as one server sees it.
type clusterStatus struct {
	Status       string   `json:"status"`     // HEALTHY or DEGRADED
	Operations   string   `json:"operations"` // READ-WRITE or READ-ONLY
	QueuedWrites int64    `json:"queued_writes"`
	AnsweredBy   string   `json:"answered_by"`
	NodesAlive   []string `json:"nodes_alive"`
	NodesFailed  []string `json:"nodes_failed"`
	Degraded     []string `json:"degraded"`
	Drifts       []string `json:"drifts"`
	cutOff       bool
}

func statusOf(list client.ReplicaList) clusterStatus {
	s := clusterStatus{
		Status: "HEALTHY", Operations: "READ-WRITE", AnsweredBy: list.Self, cutOff: list.Degraded,
		NodesAlive: []string{}, NodesFailed: []string{}, Degraded: []string{}, Drifts: []string{},
	}
	for _, r := range list.Replicas {
		if r.State != "alive" {
			s.NodesFailed = append(s.NodesFailed, r.ID)
			continue
		}
		s.NodesAlive = append(s.NodesAlive, r.ID)
		s.QueuedWrites += r.Waiting.Outcomes
		if !r.DegradedSince.IsZero() || list.Degraded {
			s.Degraded = append(s.Degraded, r.ID)
		}
		if r.Drifts {
			s.Drifts = append(s.Drifts, r.ID)
		}
	}
	if list.Degraded || len(s.Degraded) == len(s.NodesAlive) {
		s.Status, s.Operations = "DEGRADED", "READ-ONLY"
	}
	return s
}

func (s clusterStatus) print(w io.Writer) {
	all := len(s.NodesAlive) + len(s.NodesFailed)
	why := ""
	switch {
	case s.cutOff:
		why = " (" + s.AnsweredBy + " is cut off from Redis)"
	case len(s.Degraded)+len(s.NodesFailed) > 0:
		why = fmt.Sprintf(" (%d of %d replicas reach Redis)", len(s.NodesAlive)-len(s.Degraded), all)
	}
	line := func(name, value string) { _, _ = fmt.Fprintf(w, "%s: %s\n", name, value) }
	line("Status", s.Status+why)
	line("Operations", s.Operations)
	line("Queued writes", strconv.FormatInt(s.QueuedWrites, 10))
	line("Replicas", orDash(strings.Join(s.NodesAlive, ", ")))
	for _, part := range []struct {
		name     string
		replicas []string
	}{{"Failed", s.NodesFailed}, {"Degraded", s.Degraded}, {"Other policy", s.Drifts}} {
		if len(part.replicas) > 0 {
			line(part.name, strings.Join(part.replicas, ", "))
		}
	}
}

func (c *cli) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "whether the fleet is whole, and what waits for Redis", Args: noArgs,
		Long: `Whether the fleet is whole, as the answering replica sees it. READ-ONLY: it is
cut off from Redis. Calls go on by its memory, their outcomes are queued, and
breakers cannot be changed.`,
		Example: `  breakerctl cluster status
  breakerctl cluster status --server http://node-3:18180`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := c.replicas(cmd.Context())
			if err != nil {
				return err
			}
			s := statusOf(list)
			return c.print(output{value: s, names: s.NodesAlive, text: s.print})
		},
	}
}

func (c *cli) shedLoadCommand() *cobra.Command {
	g := gateChange{action: "shed", fromLine: true}
	cmd := &cobra.Command{
		Use: "shed-load --percentage 20", Short: "refuse a percentage of all calls", Args: noArgs,
		Example: `  breakerctl cluster shed-load --percentage 20
  breakerctl cluster shed-load --percentage 20 --for 10m`,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.shed(cmd, g) },
	}
	cmd.Flags().Float64Var(&g.percent, "percentage", 0, "of all calls")
	cmd.Flags().StringVar(&g.reason, "reason", "", "why; this command line")
	cmd.Flags().DurationVar(&g.length, "for", 0, "lift it by itself after so long")
	return cmd
}

// upgradeStatus is how far an upgrade is.
type upgradeStatus struct {
	Phase    string         `json:"phase"`
	Version  string         `json:"version"` // that the fleet goes to
	Upgraded int            `json:"upgraded"`
	Nodes    int            `json:"nodes"`
	Canaries []canary       `json:"canaries"`
	Versions map[string]int `json:"versions"`
}

// canary is a replica with the label canary=true.
type canary struct {
	ID             string  `json:"id"`
	Version        string  `json:"version"`
	Healthy        bool    `json:"healthy"`
	HealthySeconds float64 `json:"healthy_seconds"`
	Why            string  `json:"why,omitempty"` // it is not healthy
}

// canaryOf judges a replica.
func canaryOf(r client.Replica, version string, now time.Time) canary {
	out := canary{ID: r.ID, Version: r.Version, Healthy: true, HealthySeconds: now.Sub(r.StartedAt).Seconds()}
	switch {
	case r.State != "alive":
		out.Why = r.State
	case !r.DegradedSince.IsZero():
		out.Why = "cut off from Redis"
	case r.Version != version:
		out.Why = "still " + r.Version
	}
	if out.Why != "" {
		out.Healthy, out.HealthySeconds = false, 0
	}
	return out
}

// upgradeOf compares versions. version "" is that of the replica that started last.
func upgradeOf(list client.ReplicaList, version string) upgradeStatus {
	s := upgradeStatus{Version: version, Versions: map[string]int{}, Canaries: []canary{}}
	var alive []client.Replica
	for _, r := range list.Replicas {
		if r.State == "alive" {
			alive = append(alive, r)
			s.Versions[r.Version]++
		}
	}
	if len(alive) > 0 && version == "" {
		newest := slices.MaxFunc(alive, func(a, b client.Replica) int {
			return cmp.Or(a.StartedAt.Compare(b.StartedAt), strings.Compare(a.Version, b.Version))
		})
		s.Version = newest.Version
	}
	s.Nodes, s.Upgraded = len(alive), s.Versions[s.Version]
	for _, r := range list.Replicas {
		if r.Labels["canary"] == "true" {
			s.Canaries = append(s.Canaries, canaryOf(r, s.Version, time.UnixMilli(list.NowMs)))
		}
	}
	switch s.Upgraded {
	case s.Nodes:
		s.Phase = "Complete"
	case 0:
		s.Phase = "Not begun"
	default:
		s.Phase = "Rolling upgrade"
		onlyCanaries := !slices.ContainsFunc(alive, func(r client.Replica) bool {
			return r.Version == s.Version && r.Labels["canary"] != "true"
		})
		if onlyCanaries {
			s.Phase = "Canary"
		}
	}
	return s
}

func (s upgradeStatus) print(w io.Writer) {
	_, _ = fmt.Fprintf(w, "PHASE: %s\nPROGRESS: %d/%d nodes upgraded to %s\n", s.Phase, s.Upgraded, s.Nodes, s.Version)
	if len(s.Canaries) == 0 {
		_, _ = fmt.Fprintln(w, "CANARY: none (REPLICA_LABELS=canary=true makes one)")
	}
	for _, one := range s.Canaries {
		health := "Healthy for " + length(time.Duration(one.HealthySeconds*float64(time.Second)))
		if !one.Healthy {
			health = "Not healthy: " + one.Why
		}
		_, _ = fmt.Fprintf(w, "CANARY: %s (%s)\n", health, one.ID)
	}
	for _, version := range slices.Sorted(maps.Keys(s.Versions)) {
		_, _ = fmt.Fprintf(w, "VERSION %s: %d\n", version, s.Versions[version])
	}
}

func (c *cli) upgradeStatusCommand() *cobra.Command {
	version := ""
	cmd := &cobra.Command{
		Use: "status", Short: "how many replicas have the new version, and how the canary is", Args: noArgs,
		Example: `  breakerctl cluster upgrade status
  breakerctl cluster upgrade status --to v0.2.0`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := c.replicas(cmd.Context())
			if err != nil {
				return err
			}
			s := upgradeOf(list, version)
			c.tellCutOff(list)
			return c.print(output{value: s, names: slices.Sorted(maps.Keys(s.Versions)), text: s.print})
		},
	}
	cmd.Flags().StringVar(&version, "to", "", "the new version; that of the replica that started last")
	return cmd
}
