package app

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
)

// BenchmarkOverview is how long the list of open breakers and the summary take, of fleets in which 200 breakers are
// open: read anew, after an operator's change, and shared with who asked within the same second. p50-ms is the median.
func BenchmarkOverview(b *testing.B) {
	const open = 200
	for _, agents := range []int{10_000, 100_000} {
		w := newWhole(b, testkit.Start(b).URL(), false)
		w.seed(agents, open)
		for name, path := range map[string]string{"open": listPath + "?state=OPEN", "summary": summaryPath, "page": listPath + "?limit=100"} {
			for _, shared := range []bool{false, true} {
				b.Run(fmt.Sprintf("agents=%d/%s/shared=%v", agents, name, shared), func(b *testing.B) {
					var took []time.Duration
					for b.Loop() {
						if !shared {
							w.ask(b, http.MethodDelete, listPath+"/nobody") // which makes the next list read anew
						}
						begin := time.Now()
						w.ask(b, http.MethodGet, path)
						took = append(took, time.Since(begin))
					}
					slices.Sort(took)
					b.ReportMetric(took[len(took)/2].Seconds()*1000, "p50-ms")
				})
			}
		}
	}
}

// ask has a request answered without a connection.
func (w *whole) ask(b *testing.B, method, path string) {
	b.Helper()
	r := httptest.NewRequestWithContext(b.Context(), method, "http://localhost:18180"+path, nil)
	answer := httptest.NewRecorder()
	w.handler.ServeHTTP(answer, r)
	if answer.Code >= http.StatusInternalServerError {
		b.Fatalf("%s %s: %d %s", method, path, answer.Code, answer.Body)
	}
}
