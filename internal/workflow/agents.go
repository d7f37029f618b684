package workflow

import (
	"context"
	"errors"
	"slices"
)

// knownAgents is LibraryOptions.Known.
type knownAgents func(ctx context.Context, agents []string) (unknown []string, err error)

// untilTrouble asks no more once there was an error, so that nobody waits for it again and again.
func (known knownAgents) untilTrouble() knownAgents {
	if known == nil {
		return nil
	}
	var trouble error
	return func(ctx context.Context, agents []string) (unknown []string, err error) {
		if trouble == nil {
			unknown, trouble = known(ctx, agents)
		}
		return unknown, trouble
	}
}

// check is parse, agents included. onlyAgents says that nothing is wrong but that there are none of some.
func check(ctx context.Context, file string, text []byte, known knownAgents) (d Definition, onlyAgents bool, err error) {
	named := map[string]bool{}
	d, err = parse(file, text, func(agent string) bool {
		named[agent] = true
		return true
	})
	if known == nil || len(named) == 0 {
		return d, false, err
	}
	unknown, trouble := known(ctx, sortedKeys(named))
	if trouble != nil || len(unknown) == 0 {
		return d, false, err
	}
	right := err == nil // and once more, for the places where they are named
	d, err = parse(file, text, func(agent string) bool { return !slices.Contains(unknown, agent) })
	return d, right && err != nil, err
}

// fatal is what must be put right before anything is served; nil: nothing.
func (d *directory) fatal() error {
	problem := d.now.Load().problem
	if len(d.files) == 0 {
		return problem // of the directory itself
	}
	var of []error
	for _, name := range sortedKeys(d.files) {
		if f := d.files[name]; f.problem != nil && !f.waits {
			of = append(of, f.problem)
		}
	}
	return errors.Join(of...)
}
