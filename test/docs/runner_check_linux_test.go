package docs

import (
	"os"
	"testing"
)

// What the runner must notice, or every document could say anything.
func TestTheRunnerNoticesFailures(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		job  []command
		want []result
	}{
		"the last command":  {[]command{{Text: "echo a; echo b >&2"}, {Text: "false"}, {Text: "true"}}, []result{{"a\n", "b\n", 0}, {"", "", 1}}},
		"an earlier one":    {[]command{{Text: "(exit 3)\necho later"}}, []result{{"", "", 3}}},
		"one of a pipe":     {[]command{{Text: "false | cat"}}, []result{{"", "", 1}}},
		"variables last":    {[]command{{Text: "a=1"}, {Text: "echo $a"}}, []result{{"", "", 0}, {"1\n", "", 0}}},
		"an exit is an end": {[]command{{Text: "exit 0"}}, []result{{"", "", 0}}},
		"left running":      {[]command{{Text: "tail -f /dev/null >/dev/null 2>&1 &"}, {Text: "echo on"}}, []result{{"", "", 0}, {"on\n", "", 0}}},
		"a foreground":      {[]command{{Text: "echo up; exec tail -f /dev/null", Ready: "up"}, {Text: "echo on"}}, []result{{"up\n", "", 0}, {"on\n", "", 0}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := runJob(t, os.Args[0], c.job)
			if len(got) != len(c.want) {
				t.Fatalf("got %+v, want %+v", got, c.want)
			}
			for i := range got {
				if got[i] != c.want[i] {
					t.Errorf("command %d: got %+v, want %+v", i, got[i], c.want[i])
				}
			}
		})
	}
}
