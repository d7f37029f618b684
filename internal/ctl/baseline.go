package ctl

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/breakerd/breakerd/pkg/client"
)

// baseline is what config export writes, and apply and diff read: the overrides by agent.
type baseline struct {
	Overrides map[string]client.Override `json:"overrides"`
}

// overrides reads those of all agents.
func (c *cli) overrides(ctx context.Context) (baseline, error) {
	all := baseline{Overrides: map[string]client.Override{}}
	to, err := c.client()
	if err != nil {
		return all, err
	}
	for b, err := range to.AllCircuitBreakers(ctx, client.ListQuery{Override: "any", Sort: "agent_id"}) {
		if err != nil {
			return all, err
		}
		now, err := override(ctx, to, b.AgentID)
		if err != nil {
			return all, err
		}
		if len(fieldsOf(now)) > 0 {
			all.Overrides[b.AgentID] = now
		}
	}
	return all, nil
}

func (c *cli) configExport() *cobra.Command {
	return &cobra.Command{
		Use: "export", Short: "all overrides, for config apply and config diff", Args: noArgs,
		Example: `  breakerctl config export > overrides.yaml`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := c.overrides(cmd.Context())
			if err != nil {
				return err
			}
			names := slices.Sorted(maps.Keys(all.Overrides))
			return c.print(output{
				value: all, names: append([]string{}, names...), text: func(w io.Writer) { _ = printYAML(w, all) },
			})
		},
	}
}

// difference is what one agent's override has, and should have.
type difference struct {
	Agent  string                `json:"agent_id"`
	Fields map[string][2]*string `json:"fields"` // name: what it is, what it is to be; null: not set
}

func differ(agent string, is, wanted map[string]string) difference {
	d := difference{Agent: agent, Fields: map[string][2]*string{}}
	for name, value := range is {
		if other, ok := wanted[name]; !ok {
			d.Fields[name] = [2]*string{&value, nil}
		} else if other != value {
			d.Fields[name] = [2]*string{&value, &other}
		}
	}
	for name, value := range wanted {
		if _, ok := is[name]; !ok {
			d.Fields[name] = [2]*string{nil, &value}
		}
	}
	return d
}

func (c *cli) printDifferences(all []difference) error {
	o := output{
		value: map[string]any{"differences": append([]difference{}, all...)}, lines: []any{}, names: []string{},
		head: []string{"AGENT", "FIELD", "IS", "BECOMES"},
	}
	show := func(value *string) string {
		if value == nil {
			return "-"
		}
		return *value
	}
	for _, d := range all {
		o.lines = append(o.lines, d)
		o.names = append(o.names, d.Agent)
		for _, name := range slices.Sorted(maps.Keys(d.Fields)) {
			o.rows = append(o.rows, []string{d.Agent, name, show(d.Fields[name][0]), show(d.Fields[name][1])})
		}
	}
	return c.print(o)
}

// readBaseline reads YAML or JSON.
func readBaseline(path string, in io.Reader) (all baseline, err error) {
	var body []byte
	if path == "-" {
		body, err = io.ReadAll(in)
	} else {
		body, err = os.ReadFile(path)
	}
	if err != nil {
		return all, usagef("breakerctl config export > FILE", "the baseline cannot be read: %v", err)
	}
	var document any
	if err = yaml.Unmarshal(body, &document); err == nil {
		if body, err = json.Marshal(document); err == nil {
			strict := json.NewDecoder(bytes.NewReader(body))
			strict.DisallowUnknownFields()
			err = strict.Decode(&all)
		}
	}
	if err != nil {
		return all, usagef("breakerctl config export shows the form", "%s is no export of overrides: %v", path, err)
	}
	return all, nil
}

// drift compares the overrides of the fleet with those of a file.
func (c *cli) drift(ctx context.Context, path string) (is, wanted baseline, all []difference, err error) {
	if wanted, err = readBaseline(path, c.In); err != nil {
		return is, wanted, nil, err
	}
	if is, err = c.overrides(ctx); err != nil {
		return is, wanted, nil, err
	}
	names := map[string]bool{}
	for name := range is.Overrides {
		names[name] = true
	}
	for name := range wanted.Overrides {
		names[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if d := differ(name, fieldsOf(is.Overrides[name]), fieldsOf(wanted.Overrides[name])); len(d.Fields) > 0 {
			all = append(all, d)
		}
	}
	return is, wanted, all, nil
}

func (c *cli) configDiff() *cobra.Command {
	var path string
	var exitCode bool
	cmd := &cobra.Command{
		Use: "diff --baseline FILE", Short: "how the overrides differ from a file", Args: noArgs,
		Example: `  breakerctl config diff --baseline overrides.yaml
  breakerctl config diff --baseline overrides.yaml --exit-code || echo drift`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if path == "" {
				return usagef("breakerctl config export > FILE", "config diff needs --baseline FILE")
			}
			_, _, all, err := c.drift(cmd.Context(), path)
			if err != nil {
				return err
			}
			if len(all) == 0 {
				c.tellf("no difference")
			}
			if err := c.printDifferences(all); err != nil || !exitCode || len(all) == 0 {
				return err
			}
			return conclude(exitDiffers)
		},
	}
	cmd.Flags().StringVar(&path, "baseline", "", "what config export wrote; -: stdin")
	cmd.Flags().BoolVar(&exitCode, "exit-code", false, "exit code 9 if there is a difference")
	return cmd
}

func (c *cli) configApply() *cobra.Command {
	var path, reason string
	var prune, dryRun bool
	cmd := &cobra.Command{
		Use: "apply -f FILE --reason WHY", Short: "make the overrides those of a file", Args: noArgs,
		Example: `  breakerctl config apply -f overrides.yaml --reason baseline --dry-run
  breakerctl config apply -f overrides.yaml --reason baseline --prune`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if path == "" || !dryRun && strings.TrimSpace(reason) == "" {
				return usagef("breakerctl config apply --help", "config apply needs -f FILE and --reason")
			}
			is, wanted, all, err := c.drift(cmd.Context(), path)
			if err != nil {
				return err
			}
			if !prune {
				all = slices.DeleteFunc(all, func(d difference) bool { _, ok := wanted.Overrides[d.Agent]; return !ok })
			}
			if dryRun || len(all) == 0 {
				c.tellf("%d overrides would change; nothing was done", len(all))
				return c.printDifferences(all)
			}
			what := fmt.Sprintf("change the policies of %d agents", len(all))
			if err := c.change(scope{what: what, agents: len(all), ask: true}); err != nil {
				return err
			}
			return c.apply(cmd.Context(), is, wanted, all, reason)
		},
	}
	cmd.Flags().StringVarP(&path, "filename", "f", "", "what config export wrote; -: stdin")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit")
	cmd.Flags().BoolVar(&prune, "prune", false, "remove overrides that the file does not have")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show what would change, and do nothing")
	return cmd
}

// apply makes each override that differs what it should be.
func (c *cli) apply(ctx context.Context, is, wanted baseline, all []difference, reason string) error {
	to, err := c.client()
	if err != nil {
		return err
	}
	code := exitOK
	var done []difference
	for _, d := range all {
		next := wanted.Overrides[d.Agent]
		next.ETag, next.Reason = is.Overrides[d.Agent].ETag, reason
		next.By, next.At, next.Ended = "", time.Time{}, nil
		if err := put(ctx, to, d.Agent, next); err != nil {
			code = worse(code, c.fail(ctx, err, d.Agent))
			continue
		}
		done = append(done, d)
	}
	if err := c.printDifferences(done); err != nil {
		return err
	}
	return conclude(code)
}
