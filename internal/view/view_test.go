package view_test

import (
	"testing"

	"github.com/breakerd/breakerd/internal/view"
)

// shown is the text of a pointer, or null.
func shown(s *string) string {
	if s == nil {
		return "null"
	}
	return *s
}

func TestView_ShowsNullWhereThereIsNothing(t *testing.T) {
	t.Parallel()
	for got, want := range map[*string]string{
		view.Actor("-"): "null", view.Actor(""): "null", view.Actor("alice"): "alice", view.Actor("-a"): "-a",
		view.Epoch("0000000000000000"): "0000000000000000", view.Epoch("0000000000000001"): "null", view.Epoch("000000000000000f"): "null",
		view.Epoch("00000000000000a1"): "00000000000000a1", view.Epoch("123456789abcdef1"): "123456789abcdef1",
		view.Stamp(0): "null", view.Stamp(1770800400999): "2026-02-11T09:00:00Z", view.TextOrNull(""): "null",
	} {
		if shown(got) != want {
			t.Errorf("%s, want %s", shown(got), want)
		}
	}
}
