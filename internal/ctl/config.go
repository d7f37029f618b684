package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/breakerd/breakerd/pkg/client"
)

func (c *cli) configCommand() *cobra.Command {
	group := &cobra.Command{
		Use: "config", Short: "the policies of agents, and their overrides in Redis",
		Example: `  breakerctl config get payments
  breakerctl config set payments failure_threshold=3 --reason 'new provider'
  breakerctl config export > overrides.yaml
  breakerctl config diff --baseline overrides.yaml --exit-code`,
	}
	group.AddCommand(c.configGet(), c.configSet(), c.configUnset(), c.configExport(), c.configDiff(), c.configApply())
	return group
}

func (c *cli) configGet() *cobra.Command {
	return &cobra.Command{
		Use: "get AGENT", Short: "the policy in force, each value with its origin", Args: someArgs(1, 1, "one AGENT"),
		ValidArgsFunction: c.completeAgents, Example: `  breakerctl config get payments`,
		RunE: func(cmd *cobra.Command, args []string) error {
			to, err := c.client()
			if err != nil {
				return err
			}
			now, err := to.GetCircuitBreaker(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			o := output{value: now.Policy, names: []string{}, head: []string{"NAME", "VALUE", "ORIGIN"}}
			for _, name := range slices.Sorted(maps.Keys(now.Policy)) {
				o.names = append(o.names, name)
				o.rows = append(o.rows, []string{name, string(now.Policy[name].Value), now.Policy[name].Origin})
			}
			if err := c.print(o); err != nil {
				return err
			}
			if now.PolicyProblem != "" {
				c.tellf("the override in Redis is not in force: %s", now.PolicyProblem)
			}
			return nil
		},
	}
}

// override reads an agent's; where there is none it is empty.
func override(ctx context.Context, to *client.Client, agent string) (client.Override, error) {
	now, err := to.GetConfig(ctx, agent)
	answer, _ := errors.AsType[*client.Error](err)
	switch {
	case answer == nil:
	case answer.Status == 404:
		return client.Override{}, nil
	case answer.Code == client.CodeConfigInvalid: // a hand wrote it, and it can be replaced as a whole
		return client.Override{ETag: "*"}, nil
	}
	return now, err
}

// put writes an override, or removes one that says nothing.
func put(ctx context.Context, to *client.Client, agent string, in client.Override) error {
	etag := in.ETag
	if len(fieldsOf(in)) == 0 {
		if etag == "" {
			return nil
		}
		return to.DeleteConfig(ctx, agent, etag)
	}
	_, err := to.PutConfig(ctx, agent, in, etag)
	return err
}

// fieldsOf gives the fields of policy that an override sets, as they are written.
func fieldsOf(in client.Override) map[string]string {
	out := map[string]string{}
	in.At, in.Until = time.Time{}, time.Time{}
	body, err := json.Marshal(in)
	if err != nil { // numbers and words
		return out
	}
	var all map[string]json.RawMessage
	_ = json.Unmarshal(body, &all) // it was marshalled
	for name, value := range all {
		if !strings.HasPrefix(name, "_") {
			out[name] = string(value)
		}
	}
	return out
}

// overrideFields are the names that an override may set.
func overrideFields() []string {
	var names []string
	for field := range reflect.TypeFor[client.Override]().Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name != "-" && !strings.HasPrefix(name, "_") {
			names = append(names, name)
		}
	}
	return names
}

// set writes NAME=VALUE into an override.
func set(in *client.Override, pair string) error {
	name, value, ok := strings.Cut(pair, "=")
	if !ok {
		return usagef("breakerctl config set AGENT failure_threshold=3", "config set takes NAME=VALUE, not %q", pair)
	}
	name = strings.ToLower(strings.TrimPrefix(strings.ToUpper(name), "CIRCUIT_BREAKER_"))
	if !slices.Contains(overrideFields(), name) {
		return usagef(near(name, overrideFields()), "a policy has no field %q", name)
	}
	text := value
	if json.Valid([]byte(value)) && !strings.HasPrefix(value, `"`) {
		if err := json.Unmarshal(fmt.Appendf(nil, "{%q:%s}", name, value), in); err == nil {
			return nil
		}
	}
	if err := json.Unmarshal(fmt.Appendf(nil, "{%q:%q}", name, text), in); err != nil {
		return usagef("breakerctl config get AGENT", "%s cannot be %q", name, value)
	}
	return nil
}

// unset removes fields from an override.
func unset(in *client.Override, names []string) error {
	body, err := json.Marshal(*in)
	if err != nil {
		return err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		return err
	}
	for _, name := range names {
		if _, ok := fields[name]; !ok {
			return usagef("breakerctl config get AGENT", "the override does not set %q", name)
		}
		delete(fields, name)
	}
	if body, err = json.Marshal(fields); err != nil {
		return err
	}
	*in = client.Override{ETag: in.ETag}
	return json.Unmarshal(body, in)
}

func (c *cli) configSet() *cobra.Command {
	var reason, until string
	cmd := &cobra.Command{
		Use: "set AGENT NAME=VALUE… --reason WHY", Short: "change an agent's override, field by field",
		Args: someArgs(2, -1, "an AGENT and NAME=VALUE"), ValidArgsFunction: c.completeAgents,
		Example: `  breakerctl config set payments failure_threshold=3 --reason 'new provider'
  breakerctl config set payments mode=observe --for 24h --reason 'trial'`,
	}
	var length time.Duration
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return c.edit(cmd.Context(), args[0], reason, func(o *client.Override) error {
			for _, pair := range args[1:] {
				if err := set(o, pair); err != nil {
					return err
				}
			}
			seconds, err := (&verb{length: length, until: until}).seconds(time.Now())
			if err == nil && seconds > 0 {
				o.Until = time.Now().Add(time.Duration(seconds * float64(time.Second))).UTC().Truncate(time.Second)
			}
			return err
		})
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit")
	cmd.Flags().DurationVar(&length, "for", 0, "the whole override ends by itself after so long")
	cmd.Flags().StringVar(&until, "until", "", "the end: 15:04 (the next one), or a time as 2006-01-02T15:04:05Z")
	cmd.MarkFlagsMutuallyExclusive("for", "until")
	return cmd
}

func (c *cli) configUnset() *cobra.Command {
	var reason string
	var all bool
	cmd := &cobra.Command{
		Use: "unset AGENT NAME… --reason WHY", Short: "remove fields of an agent's override, or all of it",
		Args: someArgs(1, -1, "an AGENT and NAMEs, or --all"), ValidArgsFunction: c.completeAgents,
		Example: `  breakerctl config unset payments failure_threshold --reason 'provider is calm'
  breakerctl config unset payments --all --reason 'trial is over'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if all == (len(args) > 1) {
				return usagef("breakerctl config unset --help", "config unset takes NAMEs, or --all")
			}
			return c.edit(cmd.Context(), args[0], reason, func(o *client.Override) error {
				if all {
					*o = client.Override{ETag: o.ETag}
					return nil
				}
				return unset(o, args[1:])
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit")
	cmd.Flags().BoolVar(&all, "all", false, "the whole override")
	return cmd
}

// edit changes one override, unless somebody else changes it meanwhile.
func (c *cli) edit(ctx context.Context, agent, reason string, change func(*client.Override) error) error {
	if strings.TrimSpace(reason) == "" {
		return usagef("add --reason 'why'", "a change of a policy needs a --reason")
	}
	if err := c.change(scope{what: "change the policy of " + agent, agents: 1}); err != nil {
		return err
	}
	to, err := c.client()
	if err != nil {
		return err
	}
	now, err := override(ctx, to, agent)
	if err != nil {
		return err
	}
	before := fieldsOf(now)
	if err := change(&now); err != nil {
		return err
	}
	now.By, now.At, now.Reason, now.Ended = "", time.Time{}, reason, nil
	if err := put(ctx, to, agent, now); err != nil {
		return err
	}
	return c.printDifferences([]difference{differ(agent, before, fieldsOf(now))})
}
