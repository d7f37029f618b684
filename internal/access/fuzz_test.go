package access

import (
	"strings"
	"testing"
)

// Whatever a file holds, reading it ends, and its error shows none of its values.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"", "[]", entryOf("a", "read", "t", "  expires: 2027-02-11T09:00:00Z\n  agents: [a*, b]\n  subject: CN=a\n"),
		"- {name: &x a, role: *x}", "- !!binary aGk=", "- name: |\n    a\n", "? a\n: b", "- {<<: {a: b}}", "%YAML 1.2\n---\n- a", "- 'secret value\n",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		parsed, err := parse([]byte(text))
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", text, err)
		}
		if err != nil {
			return
		}
		for _, l := range parsed.lines {
			if l.caller.Name == "" || l.caller.Role == "" || !l.hasDigest && l.subject == "" || l.caller.Agents != nil && len(l.caller.Agents) == 0 {
				t.Errorf("%q: %+v", text, l)
			}
		}
	})
}
