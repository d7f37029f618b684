package workflow

import (
	"maps"
	"slices"
	"strings"

	"github.com/breakerd/breakerd/internal/text"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// dependencies gives for each step the steps it waits for, sorted: those of depends_on, and those whose output it uses.
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

// maxRing bounds the steps that are named of a ring.
const maxRing = 10

// cycles names rings of dependencies, "a -> b -> a" (a waits for b): one for each edge that closes a ring on a walk through the
// steps by name, so that there is one if and only if the steps cannot all be run; but no more than are told.
func cycles(on map[string][]string) []string {
	const walking, done = 1, 2
	state, way := map[string]int{}, []string{}
	var out []string
	var walk func(id string)
	walk = func(id string) { // as deep as there are steps, at most MaxSteps
		state[id] = walking
		way = append(way, id)
		for _, next := range on[id] {
			if len(out) == maxFaults {
				return
			}
			switch state[next] {
			case walking:
				out = append(out, ring(way[slices.Index(way, next):]))
			case done:
			default:
				walk(next)
			}
		}
		way = way[:len(way)-1]
		state[id] = done
	}
	for _, id := range sortedKeys(on) {
		if state[id] == 0 {
			walk(id)
		}
	}
	return out
}

// ring names steps that wait for one another in turn.
func ring(steps []string) string {
	var out strings.Builder
	for i, id := range steps {
		if i == maxRing {
			out.WriteString("… -> ")
			break
		}
		out.WriteString(text.Short(id) + " -> ")
	}
	return out.String() + text.Short(steps[0])
}
