package ctl

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/breakerd/breakerd/pkg/client"
)

// metric is one figure of the fleet that has a target: at most so much.
type metric struct {
	name, title string
	isTime      bool    // target and actual are milliseconds; else counts
	target      float64 // unless a file says another one
	of          func(client.Replica) (value float64, counts bool)
	sum         bool // of all replicas; else the worst one's
}

// How a metric is.
const (
	statusOK       = "ok"
	statusDegraded = "degraded"
	statusUnknown  = "unknown"
)

// metrics are what replicas say of themselves with their heartbeats.
func metrics() []metric {
	alive := func(value func(client.Replica) float64) func(client.Replica) (float64, bool) {
		return func(r client.Replica) (float64, bool) { return value(r), r.State != "gone" }
	}
	asked := func(value func(client.Replica) float64) func(client.Replica) (float64, bool) {
		return func(r client.Replica) (float64, bool) { return value(r), r.State != "gone" && value(r) > 0 }
	}
	one := func(is bool) float64 {
		if is {
			return 1
		}
		return 0
	}
	return []metric{
		{
			name: "store_round_trip_p50", title: "Store round trip P50", isTime: true, target: 0.5,
			of: asked(func(r client.Replica) float64 { return r.RoundTripMs.P50 }),
		},
		{
			name: "store_round_trip_p99", title: "Store round trip P99", isTime: true, target: 1,
			of: asked(func(r client.Replica) float64 { return r.RoundTripMs.P99 }),
		},
		{
			name: "unsent_age", title: "Oldest unsent outcome", isTime: true, target: 1000,
			of: alive(func(r client.Replica) float64 { return 1000 * r.Waiting.AgeSeconds }),
		},
		{
			name: "unsent_outcomes", title: "Unsent outcomes", target: 10_000, sum: true,
			of: alive(func(r client.Replica) float64 { return float64(r.Waiting.Outcomes) }),
		},
		{
			name: "replicas_degraded", title: "Replicas degraded", sum: true,
			of: alive(func(r client.Replica) float64 { return one(!r.DegradedSince.IsZero()) }),
		},
		{
			name: "replicas_silent", title: "Replicas silent", sum: true,
			of: func(r client.Replica) (float64, bool) { return one(r.State != "alive"), true },
		},
	}
}

// measured is a metric as it is.
type measured struct {
	Metric  string  `json:"metric"`
	Unit    string  `json:"unit"` // ms, or "" for counts
	Target  float64 `json:"target"`
	Actual  float64 `json:"actual"`
	Status  string  `json:"status"` // ok, degraded; unknown: no replica says it
	Replica string  `json:"replica,omitempty"`
}

func (c *cli) performanceCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "performance",
		Short: "what is measured against its targets",
		Long: `Compares what the replicas say of themselves with targets, each of which is the
most that is well. It ends with exit code 5 if one is missed. A file of targets
is YAML: a metric and its target on each line, such as
store_round_trip_p99: 2ms. A round trip is the worst replica's, of its newest
1,024 calls of Redis.`,
		Example: `  breakerctl cluster performance
  breakerctl cluster performance --targets targets.yaml
  breakerctl cluster performance -o json | jq '.[] | select(.status != "ok")'`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			targets := metrics()
			if file != "" {
				if err := readTargets(file, targets); err != nil {
					return err
				}
			}
			to, err := c.client()
			if err != nil {
				return err
			}
			found, err := to.ListReplicas(cmd.Context())
			if err != nil {
				return err
			}
			return c.printPerformance(measure(targets, found.Replicas), targets)
		},
	}
	cmd.Flags().StringVar(&file, "targets", "", "a YAML file of other targets")
	return cmd
}

// measure compares what replicas say with targets.
func measure(targets []metric, replicas []client.Replica) []measured {
	all := make([]measured, 0, len(targets))
	for _, t := range targets {
		m := measured{Metric: t.name, Target: t.target, Status: statusOK}
		if t.isTime {
			m.Unit = "ms"
		}
		for _, r := range replicas {
			switch value, counts := t.of(r); {
			case !counts:
			case t.sum:
				m.Actual += value
			case value > m.Actual || m.Replica == "":
				m.Actual, m.Replica = value, r.ID
			}
		}
		switch {
		case m.Actual > m.Target:
			m.Status = statusDegraded
		case !t.sum && m.Replica == "":
			m.Status = statusUnknown
		}
		all = append(all, m)
	}
	return all
}

func (c *cli) printPerformance(all []measured, targets []metric) error {
	o := output{
		value: all, names: []string{}, lines: []any{}, head: []string{"METRIC", "TARGET", "ACTUAL", "STATUS", "+REPLICA"},
	}
	code := exitOK
	for i, m := range all {
		show := func(x float64) string { return strconv.FormatFloat(x, 'f', -1, 64) }
		if m.Unit == "ms" {
			show = milliseconds
		}
		status, actual := "✓ OK", show(m.Actual)
		switch m.Status {
		case statusDegraded:
			status, code = "✗ DEGRADED", exitFinding
		case statusUnknown:
			status, actual = "? UNKNOWN", "-"
		}
		o.names, o.lines = append(o.names, m.Metric), append(o.lines, m)
		o.rows = append(o.rows, []string{targets[i].title, show(m.Target), actual, status, orDash(m.Replica)})
	}
	if err := c.print(o); err != nil {
		return err
	}
	return conclude(code)
}

// readTargets replaces the targets that a file has.
func readTargets(file string, targets []metric) error {
	body, err := os.ReadFile(file)
	if err != nil {
		return usagef("breakerctl cluster performance --help", "%v", err)
	}
	given := map[string]string{}
	if err := yaml.NewDecoder(bytes.NewReader(body)).Decode(&given); err != nil && !errors.Is(err, io.EOF) {
		return usagef("want lines such as store_round_trip_p99: 2ms", "%s: %v", file, err)
	}
	at, names := map[string]int{}, make([]string, 0, len(targets))
	for i, t := range targets {
		at[t.name], names = i, append(names, t.name)
	}
	for name, value := range given {
		i, known := at[name]
		if !known {
			return usagef(near(name, names), "%s: there is no metric %q: want one of %s", file, name,
				strings.Join(names, ", "))
		}
		if targets[i].target, err = targetOf(value, targets[i].isTime); err != nil {
			return usagef("breakerctl cluster performance --help", "%s: %s: %v", file, name, err)
		}
	}
	return nil
}

func targetOf(value string, isTime bool) (float64, error) {
	if isTime {
		d, err := time.ParseDuration(value)
		if err != nil || d < 0 {
			return 0, fmt.Errorf("%q is not allowed: want a time, such as 2ms", value)
		}
		return d.Seconds() * 1000, nil
	}
	n, err := strconv.ParseFloat(value, 64)
	if err != nil || !(n >= 0) || math.IsInf(n, 0) {
		return 0, fmt.Errorf("%q is not allowed: want a number", value)
	}
	return n, nil
}
