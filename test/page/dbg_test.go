package page_test

import (
	"net/http"
	"os"
	"runtime/pprof"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
)

func TestDbg(t *testing.T) {
	redis := testkit.Start(t)
	s := big(t, redis)
	time.Sleep(5 * time.Second)
	f, _ := os.Create("/tmp/cpu.prof")
	pprof.StartCPUProfile(f)
	for range 8 {
		began := time.Now()
		sum := s.do(http.MethodGet, "/v1/admin/summary", "")
		a := time.Since(began)
		began = time.Now()
		s.do(http.MethodGet, "/v1/admin/checks", "")
		b := time.Since(began)
		began = time.Now()
		s.do(http.MethodGet, "/v1/admin/circuit_breakers?sort=worst&offset=0&limit=41&include=series&include=window&include=profile&include=override", "")
		t.Log(a, b, time.Since(began), sum["states"])
		time.Sleep(time.Second)
	}
	pprof.StopCPUProfile()
}
