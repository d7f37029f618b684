package machine

import (
	"strings"
	"testing"
)

func TestValidName_TakesAgentNamesOnly(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"a": true, "7": true, "Failing.Agent_1:v2@eu-west": true, strings.Repeat("a", 128): true,
		"": false, strings.Repeat("a", 129): false, ".a": false, "_a": false, ":a": false, "@a": false, "-a": false,
		"a b": false, "a/b": false, "a{b}": false, "a*": false, "é": false, "a\n": false, "a\x00": false,
	} {
		if ValidName(name) != want {
			t.Errorf("ValidName(%q) is not %v", name, want)
		}
	}
}

func TestValidWord_TakesReportersAndActorsOnly(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]bool{
		"-": true, "alice@example.org": true, strings.Repeat("a", 64): true,
		"": false, strings.Repeat("a", 65): false, "a b": false, "a/b": false, "é": false, "a\t": false,
	} {
		if ValidWord(word) != want {
			t.Errorf("ValidWord(%q) is not %v", word, want)
		}
	}
}

func TestParseEvent_ReadsWhatStringWrites(t *testing.T) {
	t.Parallel()
	e := Event{
		AtMs: 1, Kind: EventOpened, From: Closed, To: Open, Epoch: ZeroEpoch, Actor: "-",
		Failures: 2, Calls: 3, Run: 4, Slow: 5, Text: "two words",
	}
	if got, ok := ParseEvent(e.String()); got != e || !ok {
		t.Errorf("%q gave %+v, %v", e.String(), got, ok)
	}
	e.Slow = 0
	if got, ok := ParseEvent(strings.Replace(e.String(), "/0 ", " ", 1)); got != e || !ok {
		t.Errorf("without slow calls, as older versions wrote it: %+v, %v", got, ok)
	}
	for _, line := range []string{
		"", "x", "1 opened closed>open 0 - 1/2/3/4", "x opened closed>open 0 - 1/2/3/4 t", "1 opened closed 0 - 1/2/3/4 t",
		"1 opened closed>open 0 - 1/2 t", "1 opened closed>open 0 - 1/2/3/4/5 t", "1 opened closed>open 0 - 1/2/x t",
	} {
		if got, ok := ParseEvent(line); ok {
			t.Errorf("%q gave %+v", line, got)
		}
	}
}
