package ctl

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/breakerd/breakerd/pkg/client"
)

func (c *cli) debugCommand() *cobra.Command {
	group := &cobra.Command{Use: "debug", Short: "all that a bug report needs, in one file"}
	group.AddCommand(c.debugDump())
	return group
}

func (c *cli) debugDump() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use: "dump", Short: "write what the fleet says of itself into a tar.gz", Args: noArgs,
		Long: `Writes what the fleet says of itself into a tar.gz: summary, gate, breakers,
overrides, replicas, checks, latency, findings, the newest events and audit, metrics
of each server, and errors.txt with what could not be had. It holds names of
agents and people, and no token or password.`,
		Example: `  breakerctl debug dump --output debug-$(date +%s).tar.gz`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if path == "" {
				path = fmt.Sprintf("debug-%d.tar.gz", time.Now().Unix())
			}
			servers, err := c.each()
			if err != nil {
				return err
			}
			to, err := c.client()
			if err != nil {
				return err
			}
			files, err := c.dump(cmd.Context(), to, servers)
			if err != nil {
				return err
			}
			if err := writeArchive(path, files); err != nil {
				return err
			}
			names := make([]string, 0, len(files))
			for _, f := range files {
				names = append(names, f.name)
			}
			return c.print(output{
				value: map[string]any{"file": path, "holds": names}, names: []string{path},
				head: []string{"FILE", "HOLDS"}, rows: [][]string{{path, fmt.Sprintf("%d files", len(files))}},
			})
		},
	}
	cmd.Flags().StringVar(&path, "output", "", "where to; debug-TIME.tar.gz")
	return cmd
}

// dumped is one file of the archive.
type dumped struct {
	name string
	body []byte
}

const dumpEvents = 5000 // of events and of audit

// dump collects files.
type dump struct {
	files  []dumped
	failed bytes.Buffer // what could not be had, and why
	errs   error
}

// take adds what was asked for, as JSON, or as it is if it is a text.
func (d *dump) take(name string, value any, err error) {
	body, isText := value.(string)
	if err == nil && !isText {
		var text []byte
		text, err = json.MarshalIndent(value, "", "  ")
		body = string(text) + "\n"
	}
	if err != nil {
		d.errs = errors.Join(d.errs, err)
		_, _ = fmt.Fprintf(&d.failed, "%s: %v\n", name, err)
		return
	}
	d.files = append(d.files, dumped{name, []byte(body)})
}

// dump asks for everything. What cannot be had is told in errors.txt; it fails only where nothing can.
func (c *cli) dump(ctx context.Context, to *client.Client, servers map[string]*client.Client) ([]dumped, error) {
	var d dump
	summary, err := to.GetSummary(ctx)
	d.take("summary.json", summary, err)
	gate, err := to.GetFleet(ctx)
	d.take("gate.json", gate, err)
	replicas, err := to.ListReplicas(ctx)
	d.take("replicas.json", replicas, err)
	breakers, _, err := c.breakers(ctx, nil, client.ListQuery{Include: []string{"window", "profile"}}, 0)
	d.take("breakers.json", breakers, err)
	overrides, err := c.overrides(ctx)
	d.take("overrides.json", overrides, err)
	latency, err := to.ListLatency(ctx, client.LatencyQuery{})
	d.take("latency.json", latency, err)
	events, err := (&eventList{limit: dumpEvents}).read(ctx, to)
	d.take("events.json", events, err)
	audit, err := (&eventList{limit: dumpEvents, audit: true}).read(ctx, to)
	d.take("audit.json", audit, err)
	for i, server := range slices.Sorted(maps.Keys(servers)) {
		checks, err := servers[server].HealthChecks(ctx)
		d.take(fmt.Sprintf("server-%d-checks.json", i+1), map[string]any{"server": server, "health": checks}, err)
		metrics, err := servers[server].Metrics(ctx)
		d.take(fmt.Sprintf("server-%d-metrics.txt", i+1), metrics, err)
	}
	if len(d.files) == 0 {
		return nil, d.errs
	}
	if d.failed.Len() > 0 {
		c.tellf("not all could be had:\n%s", d.failed.String())
		d.files = append(d.files, dumped{"errors.txt", d.failed.Bytes()})
	}
	return d.files, ctx.Err()
}

// writeArchive writes a file that is whole, or not there.
func writeArchive(path string, files []dumped) (err error) {
	out, err := os.CreateTemp(filepath.Dir(path), ".debug-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(out.Name())
		}
	}()
	packed := gzip.NewWriter(out)
	archive := tar.NewWriter(packed)
	for _, f := range files {
		err = archive.WriteHeader(&tar.Header{Name: f.name, Mode: 0o600, Size: int64(len(f.body)), ModTime: time.Now()})
		if err == nil {
			_, err = archive.Write(f.body)
		}
		if err != nil {
			break
		}
	}
	if err = errors.Join(err, archive.Close(), packed.Close(), out.Close()); err != nil {
		return err
	}
	return os.Rename(out.Name(), path)
}
