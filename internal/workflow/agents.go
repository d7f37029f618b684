package workflow

import (
	"context"
	"slices"
)

// knownAgents is LibraryOptions.Known.
type knownAgents func(ctx context.Context, agents []string) (unknown []string, err error)

// untilError returns known, but after an error that error without a call: one scan waits for it once.
func (known knownAgents) untilError() knownAgents {
	if known == nil {
		return nil
	}
	var failed error
	return func(ctx context.Context, agents []string) (unknown []string, err error) {
		if failed == nil {
			unknown, failed = known(ctx, agents)
		}
		return unknown, failed
	}
}

// check parses a definition and asks which of its agents are registered. onlyAgents: nothing is wrong but that some are
// not.
func check(ctx context.Context, file string, raw []byte, known knownAgents) (d Definition, onlyAgents bool, err error) {
	named := map[string]bool{}
	d, err = parse(file, raw, func(agent string) bool {
		named[agent] = true
		return true
	})
	if known == nil || len(named) == 0 {
		return d, false, err
	}
	unknown, failed := known(ctx, sortedKeys(named))
	if failed != nil || len(unknown) == 0 {
		return d, false, err
	}
	good := err == nil // the second pass finds where the unknown agents are named
	d, err = parse(file, raw, func(agent string) bool { return !slices.Contains(unknown, agent) })
	return d, good && err != nil, err
}
