package machine

import (
	"fmt"
	"strconv"
	"strings"
)

// past is what Cache.Past says: from when until when the sums hold, and the sums of the buckets other than the one at startMs.
type past struct {
	startMs, tillMs int64
	sums            Counts
}

// pastText writes "+start length successes failures slow"; a - in place of the + says that the sums alone do not reach
// minimum_calls, so that one more success may trip a rate [B7].
func pastText(enough bool, startMs, tillMs int64, sums Counts) string {
	mark := "-"
	if enough {
		mark = "+"
	}
	return fmt.Sprintf("%s%d %d %d %d %d", mark, startMs, tillMs-startMs, sums.Successes, sums.Failures, sums.Slow)
}

func parsePast(text string) (p past, ok bool) {
	if text == "" || text[0] != '+' && text[0] != '-' {
		return p, false
	}
	n, ok := numbers(strings.Split(text[1:], " "))
	if !ok || len(n) != 5 || text[1] == '0' {
		return p, false
	}
	return past{startMs: n[0], tillMs: n[0] + n[1], sums: Counts{n[2], n[3], n[4]}}, true
}

// numbers reads words of at most 15 digits.
func numbers(words []string) (out []int64, ok bool) {
	for _, w := range words {
		if w == "" || len(w) > 15 || strings.Trim(w, "0123456789") != "" {
			return nil, false
		}
		n, _ := strconv.ParseInt(w, 10, 64)
		out = append(out, n)
	}
	return out, true
}
