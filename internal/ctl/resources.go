package ctl

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/breakerd/breakerd/pkg/client"
)

const (
	backlogFrom = 10_000 // queued outcomes, from the runbook
	headroom    = 0.2    // of CPU and memory, that should be free
	certWarns   = 25 * 24 * time.Hour
	certFails   = 7 * 24 * time.Hour
)

func (c *cli) queueCommand() *cobra.Command {
	group := &cobra.Command{Use: "queue", Short: "outcomes that wait for Redis"}
	stats := &cobra.Command{
		Use: "stats", Short: "outcomes that wait for Redis, by replica", Args: noArgs,
		Long: `Outcomes that wait for Redis, by replica. BACKLOG: more than 10,000. A replica
in cached mode always has some, for milliseconds.`,
		Example: `  breakerctl queue stats
  watch -n 5 'breakerctl queue stats'`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := c.replicas(cmd.Context())
			if err != nil {
				return err
			}
			return c.printQueue(list)
		},
	}
	var timeout time.Duration
	drain := &cobra.Command{
		Use: "drain", Short: "wait until nothing waits for Redis", Args: noArgs,
		Long: `Waits until every replica has sent what it queued. They send by themselves as
soon as Redis answers. Ends with exit code 8 if something still waits.`,
		Example: `  breakerctl queue drain --timeout 60s`,
		RunE:    func(cmd *cobra.Command, _ []string) error { return c.drain(cmd.Context(), timeout) },
	}
	drain.Flags().DurationVar(&timeout, "timeout", time.Minute, "how long to wait")
	group.AddCommand(stats, drain)
	return group
}

func (c *cli) printQueue(list client.ReplicaList) error {
	o := output{lines: []any{}, names: []string{}, head: []string{"NODE", "QUEUED", "AGENTS", "OLDEST", "STATUS"}}
	type queue struct {
		ID     string         `json:"id"`
		Queue  client.Waiting `json:"waiting"`
		Status string         `json:"status"`
	}
	queues, total := []queue{}, int64(0)
	for _, r := range list.Replicas {
		q := queue{r.ID, r.Waiting, "OK"}
		switch {
		case r.Waiting.Outcomes > backlogFrom:
			q.Status = "BACKLOG"
		case !r.DegradedSince.IsZero():
			q.Status = "QUEUING"
		}
		queues, total = append(queues, q), total+r.Waiting.Outcomes
		o.lines, o.names = append(o.lines, q), append(o.names, r.ID)
		o.rows = append(o.rows, []string{
			r.ID, strconv.FormatInt(r.Waiting.Outcomes, 10), strconv.FormatInt(r.Waiting.Agents, 10),
			length(time.Duration(r.Waiting.AgeSeconds * float64(time.Second))), q.Status,
		})
	}
	o.value = map[string]any{"queued": total, "replicas": queues}
	if err := c.print(o); err != nil {
		return err
	}
	c.tellCutOff(list)
	return nil
}

// drain waits until nothing waits, or has waited for less than a flush of cached mode takes.
func (c *cli) drain(ctx context.Context, timeout time.Duration) error {
	const every, moment = 250 * time.Millisecond, 2.0 // seconds
	for begun := time.Now(); ; {
		list, err := c.replicas(ctx)
		if err != nil {
			return err
		}
		waits, ids := int64(0), ""
		for _, r := range list.Replicas {
			if r.State == "alive" && r.Waiting.Outcomes > 0 && (r.Waiting.AgeSeconds > moment || !r.DegradedSince.IsZero()) {
				waits, ids = waits+r.Waiting.Outcomes, ids+" "+r.ID
			}
		}
		if waits == 0 {
			return c.printQueue(list)
		}
		if time.Since(begun) > timeout {
			if err := c.printQueue(list); err != nil {
				return err
			}
			return &failure{
				Exit: exitWaited, Code: "timeout", Next: "breakerctl cluster detect-partition",
				Message: fmt.Sprintf("%d outcomes still wait after %v, at%s", waits, timeout, ids),
			}
		}
		select {
		case <-time.After(every):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// bytesOf is a number of bytes as people read it.
func bytesOf(n int64) string {
	switch {
	case n <= 0:
		return "-"
	case n < 1<<20:
		return fmt.Sprintf("%.0fKB", float64(n)/(1<<10))
	case n < 1<<30:
		return fmt.Sprintf("%.1fMB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1fGB", float64(n)/(1<<30))
}

func (c *cli) memoryCommand() *cobra.Command {
	group := &cobra.Command{Use: "memory", Short: "the memory of the replicas, and of Redis"}
	group.AddCommand(&cobra.Command{
		Use: "stats", Short: "the memory of the replicas, and of Redis", Args: noArgs,
		Long: `The memory of each replica, its limit (GOMEMLIMIT), and what the answering
replica knows of Redis' memory.`,
		Example: `  breakerctl memory stats`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := c.replicas(cmd.Context())
			if err != nil {
				return err
			}
			to, err := c.client()
			if err != nil {
				return err
			}
			type memory struct {
				ID     string        `json:"id"`
				Memory client.Memory `json:"memory"`
				Agents int64         `json:"agents"`
			}
			all := []memory{}
			o := output{lines: []any{}, names: []string{}, head: []string{"NODE", "USED", "LIMIT", "AGENTS"}}
			for _, r := range list.Replicas {
				m := memory{r.ID, r.Memory, r.Agents}
				all, o.lines, o.names = append(all, m), append(o.lines, m), append(o.names, r.ID)
				o.rows = append(o.rows, []string{
					r.ID, bytesOf(r.Memory.UsedBytes), bytesOf(r.Memory.LimitBytes), strconv.FormatInt(r.Agents, 10),
				})
			}
			health, err := to.HealthChecks(cmd.Context())
			redis, known := health.Checks["redis_memory"]
			if err != nil || !known {
				redis = client.Check{Status: "unknown", Detail: "not known"}
			}
			o.value = map[string]any{
				"replicas": all, "redis": map[string]string{"status": redis.Status, "detail": redis.Detail},
			}
			if err := c.print(o); err != nil {
				return err
			}
			c.tellf("Redis: %s", redis.Detail)
			c.tellCutOff(list)
			return nil
		},
	})
	return group
}

func (c *cli) resourcesCommand() *cobra.Command {
	return &cobra.Command{
		Use: "resources", Short: "what each replica uses of its machine", Args: noArgs,
		Long: `What each replica uses of its machine. LOW: less than 20 % of its CPUs, or of
its memory limit, is free.`,
		Example: `  breakerctl resources
  breakerctl resources -o wide`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := c.replicas(cmd.Context())
			if err != nil {
				return err
			}
			o := output{
				value: list, lines: []any{}, names: []string{},
				head: []string{"NODE", "CPU", "MEMORY", "AGENTS", "HEADROOM", "+CORES", "+GOROUTINES", "+REDIS P99"},
			}
			for _, r := range list.Replicas {
				o.lines, o.names = append(o.lines, r), append(o.names, r.ID)
				o.rows = append(o.rows, []string{
					r.ID, fmt.Sprintf("%.0f%%", 100*r.CPU.Share), bytesOf(r.Memory.UsedBytes), strconv.FormatInt(r.Agents, 10),
					headroomOf(r),
					strconv.FormatInt(r.CPU.Cores, 10), strconv.FormatInt(r.Goroutines, 10),
					fmt.Sprintf("%.2f ms", r.RoundTripMs.P99),
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

// headroomOf says whether a replica has room for more.
func headroomOf(r client.Replica) string {
	full := r.Memory.LimitBytes > 0 && float64(r.Memory.UsedBytes) > (1-headroom)*float64(r.Memory.LimitBytes)
	if full || r.CPU.Share > 1-headroom {
		return "LOW"
	}
	return "OK"
}

// certStatus is one certificate of a replica.
type certStatus struct {
	ID       string    `json:"id"`
	Role     string    `json:"role"`
	Subject  string    `json:"subject"`
	NotAfter time.Time `json:"not_after"`
	Days     int       `json:"expires_in_days"`
	Status   string    `json:"status"`
}

// certsOf judges the certificates of all replicas, the one that ends first before the others.
func certsOf(list client.ReplicaList) []certStatus {
	out := []certStatus{}
	now := time.UnixMilli(list.NowMs)
	for _, r := range list.Replicas {
		for _, cert := range r.Certificates {
			left := cert.NotAfter.Sub(now)
			s := certStatus{r.ID, cert.Role, cert.Subject, cert.NotAfter, int(left.Hours() / 24), "OK"}
			switch {
			case left <= 0:
				s.Status = "EXPIRED"
			case left <= certFails:
				s.Status = "CRITICAL"
			case left <= certWarns:
				s.Status = "WARNING"
			}
			out = append(out, s)
		}
	}
	slices.SortStableFunc(out, func(a, b certStatus) int {
		return cmp.Or(a.NotAfter.Compare(b.NotAfter), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Role, b.Role))
	})
	return out
}

func (c *cli) securityCommand() *cobra.Command {
	group := &cobra.Command{Use: "security", Short: "the certificates of the replicas"}
	group.AddCommand(&cobra.Command{
		Use: "cert-status", Short: "when the certificates of the replicas end", Args: noArgs,
		Long: `When the certificates that the replicas have loaded end. WARNING: within 25 days.
CRITICAL: within 7. Ends with exit code 5 if one does, or has ended.`,
		Example: `  breakerctl security cert-status`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := c.replicas(cmd.Context())
			if err != nil {
				return err
			}
			certs := certsOf(list)
			o := output{
				value: map[string]any{"certificates": certs}, lines: []any{}, names: []string{},
				head: []string{"NODE-ID", "ROLE", "EXPIRES-IN", "STATUS", "+SUBJECT"},
			}
			code := exitOK
			for _, s := range certs {
				if s.Status != "OK" {
					code = exitFinding
				}
				o.lines, o.names = append(o.lines, s), append(o.names, s.ID)
				o.rows = append(o.rows, []string{s.ID, s.Role, fmt.Sprintf("%d days", s.Days), s.Status, s.Subject})
			}
			if err := c.print(o); err != nil {
				return err
			}
			if len(certs) == 0 {
				c.tellf("no replica has loaded a certificate")
			}
			c.tellCutOff(list)
			return conclude(code)
		},
	})
	return group
}
