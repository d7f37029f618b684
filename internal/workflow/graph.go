package workflow

import (
	"maps"
	"slices"
	"strings"

	"github.com/breakerd/breakerd/internal/text"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// dependencies returns for each step those that it waits for, sorted: those of depends_on, and those whose output it
// uses.
func dependencies(steps map[string]Step) map[string][]string {
	out := make(map[string][]string, len(steps))
	for id, s := range steps {
		on := slices.Clone(s.DependsOn)
		for _, r := range s.references() {
			if r.step != "" {
				on = append(on, r.step)
			}
		}
		slices.Sort(on)
		out[id] = slices.Compact(on)
	}
	return out
}

// maxCycle bounds the steps of a cycle that are named.
const maxCycle = 10

// cycles describes cycles of dependencies, "a -> b -> a" (a waits for b), at most maxFaults: one for each edge that
// closes a cycle in a depth-first search. So there is one if and only if the steps cannot all run.
func cycles(on map[string][]string) []string {
	const active, done = 1, 2
	state, path := map[string]int{}, []string{}
	var out []string
	var walk func(id string)
	walk = func(id string) { // at most MaxSteps deep
		state[id] = active
		path = append(path, id)
		for _, next := range on[id] {
			if len(out) == maxFaults {
				return
			}
			switch state[next] {
			case active:
				out = append(out, describe(path[slices.Index(path, next):]))
			case done:
			default:
				walk(next)
			}
		}
		path = path[:len(path)-1]
		state[id] = done
	}
	for _, id := range sortedKeys(on) {
		if state[id] == 0 {
			walk(id)
		}
	}
	return out
}

func describe(cycle []string) string {
	var names []string
	for _, id := range cycle[:min(len(cycle), maxCycle)] {
		names = append(names, text.Short(id))
	}
	if len(cycle) > maxCycle {
		names = append(names, "…")
	}
	return strings.Join(append(names, text.Short(cycle[0])), " -> ")
}
