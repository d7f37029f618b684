package access

import (
	"fmt"
	"strings"
	"testing"
)

// A request costs this much more where tokens are used.
func BenchmarkAdmit(b *testing.B) {
	for _, lines := range []int{10, maxLines} {
		b.Run(fmt.Sprintf("%d lines", lines), func(b *testing.B) {
			var text strings.Builder
			for i := range lines {
				text.WriteString(entryOf(fmt.Sprintf("n%d", i), "report", fmt.Sprintf("token %d", i), ""))
			}
			g, _ := newGuard(b, text.String())
			r := bearer("token 5")
			b.ReportAllocs()
			for b.Loop() {
				if _, p := g.Admit(r, Report, API); p != nil {
					b.Fatal(p)
				}
			}
		})
	}
}
