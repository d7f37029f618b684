package runbook

import "testing"

func TestStep_ChecksWhatIsWanted(t *testing.T) {
	t.Parallel()
	const text = "{\"a\": 1,\n\"b\": {\"c\": [2]}}"
	for want, holds := range map[string]bool{
		`  is {"a": 1,|"b": {"c": [2]}}`: true, `  is {"a": 1}`: false,
		`  json {"a":1,"b":{"c":[2]}}`: true, `  json {"a":1}`: false,
		`  holds {"b":{"c":[2]}}`: true, `  holds {"b":{"c":[]}}`: false, `  holds {"d":null}`: true,
		`  like "a": \d,`: true, `  like (?m)^"c"`: false,
		`  lines [2]}} {"c": "b": {"a": 1,`: true, `  lines [2]}}`: false,
	} {
		var s Step
		if err := s.add(want); err != nil {
			t.Fatal(err)
		}
		if err := s.wants[0].check(text); (err == nil) != holds {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestStep_RefusesALineThatIsNone(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"is 3", "  was 3", "  ", " is 3"} {
		if new(Step).add(line) == nil {
			t.Errorf("%q is taken", line)
		}
	}
}
