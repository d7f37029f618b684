package route

import (
	"runtime"
	"strings"
	"testing"
)

// Not parallel: what other tests allocate would count.
func TestCheckJSON_TakesMemoryInProportion(t *testing.T) { //nolint:paralleltest // see above
	name, free := `{"`+strings.Repeat("x", 100)+`":`, []byte(nil)
	free = append(free, strings.Repeat(name, 29)+"["+strings.Repeat("0,", 499_000)+"0]"+strings.Repeat("}", 29)...)
	bad := []byte(strings.Repeat(name, 12) + "[" + strings.Repeat(`{"a":1,"A":1},`, 70_000) + "0]" + strings.Repeat("}", 12))
	for text, want := range map[*[]byte]bool{&free: true, &bad: false} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		p := checkJSON(*text, want)
		runtime.ReadMemStats(&after)
		if (p == nil) != want {
			t.Errorf("got %v", p)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 100<<20 {
			t.Errorf("%d bytes are allocated", n)
		}
	}
}
