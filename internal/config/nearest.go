package config

import "slices"

// nearest is the known name that takes the fewest edits to reach, where a shared beginning speaks for it:
// TIMEOUT is rather TIMEOUT_SECONDS than MODE. Above all it is the name whose unit was forgotten.
func nearest(name string, known []string) string {
	if withUnit := name + "_SECONDS"; slices.Contains(known, withUnit) {
		return withUnit
	}
	best, least := "", 0
	for _, k := range known {
		if d := edits(name, k) - shared(name, k); best == "" || d < least {
			best, least = k, d
		}
	}
	return best
}

func shared(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// edits is the Levenshtein distance in bytes.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
