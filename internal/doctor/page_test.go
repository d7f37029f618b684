package doctor_test

import (
	"os"
	"strings"
	"testing"

	"github.com/breakerd/breakerd/internal/doctor"
)

// TestChecks_AreDocumented in the table of docs/operations/doctor.md, in their order, and so are statuses and causes.
func TestChecks_AreDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/operations/doctor.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "<!-- checks:begin -->")
	table, _, _ = strings.Cut(table, "<!-- checks:end -->")
	scopes := map[doctor.Scope]string{
		doctor.OfFleet: "always", doctor.OfAgent: "of an agent", doctor.OfReview: "without one",
	}
	want := []string{"| check | made | finds a fault when |", "|---|---|---|"}
	for _, c := range doctor.Checks() {
		want = append(want, "| `"+c.Name+"` | "+scopes[c.Of]+" | "+c.Fault+" |")
	}
	if got := strings.TrimSpace(table); got != strings.Join(want, "\n") {
		t.Errorf("its table is\n%s\nand should be\n%s", got, strings.Join(want, "\n"))
	}
	for _, s := range []doctor.Status{doctor.Fine, doctor.Fault, doctor.Unknown} {
		if !strings.Contains(string(page), "| `"+s.Mark()+"` |") || !strings.Contains(string(page), "`"+string(s)+"`") {
			t.Errorf("it lacks the status %s", s)
		}
	}
	for _, c := range []doctor.Cause{doctor.ManualBan, doctor.AutomaticBan, doctor.LongTimeout, doctor.HalfOpenLoop} {
		if !strings.Contains(string(page), "| `"+string(c)+"` |") || c.Title() == "" {
			t.Errorf("it lacks the cause %s", c)
		}
	}
}
