package breakerhttp

import "testing"

// counter is an inspector that counts how often it is asked.
type counter struct{ ends int }

func (*counter) see([]byte) string { return "" }

func (c *counter) end() string { c.ends++; return "" }

func TestBodyIsJudgedOnceAndForgotten(t *testing.T) {
	t.Parallel()
	c := &counter{}
	b := &body{inspector: c}
	for range 2 { // at its end, and at Close
		b.verdict()
	}
	if c.ends != 1 || b.inspector != nil {
		t.Errorf("judged %d times, inspector %v", c.ends, b.inspector)
	}
}
