package redisdocs_test

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/redisdocs"
)

func TestEdges_AreBoundedAndPlantedOnesGo(t *testing.T) {
	t.Parallel()
	onEachEngine(t, func(t *testing.T, f *fixture) {
		ctx, key := t.Context(), f.keys.Edges()
		read := func() []redisdocs.Edge {
			t.Helper()
			edges, err := f.docs.Edges(ctx)
			if err != nil {
				t.Fatal(err)
			}
			return edges
		}
		put := func(edges ...redisdocs.Edge) {
			t.Helper()
			if err := f.docs.PutEdges(ctx, edges); err != nil {
				t.Fatal(err)
			}
		}
		one := redisdocs.Edge{Parent: "A", Agent: "B"}
		if got := read(); len(got) > 0 {
			t.Errorf("at first: %v", got)
		}
		put(one)
		if got := read(); !slices.Equal(got, []redisdocs.Edge{one}) {
			t.Errorf("%v", got)
		}
		if ttl := f.client.TTL(ctx, key).Val(); ttl < 23*time.Hour || ttl > 24*time.Hour {
			t.Errorf("it lives for %v", ttl)
		}
		old := strconv.FormatInt(time.Now().Add(-25*time.Hour).UnixMilli(), 10)
		far := strconv.FormatInt(time.Now().Add(48*time.Hour).UnixMilli(), 10)
		now := strconv.FormatInt(time.Now().UnixMilli(), 10)
		f.client.HSet(ctx, key, "junk", now, "a b>c", now, "A>C", "soon", "A>D", old, "A>E", far, "A>F", "", ">", now)
		if got := read(); !slices.Equal(got, []redisdocs.Edge{one}) || f.client.HLen(ctx, key).Val() != 1 {
			t.Errorf("beside planted ones: %v, of %d", got, f.client.HLen(ctx, key).Val())
		}
		f.client.Del(ctx, key)
		f.client.Set(ctx, key, "text", 0)
		if got := read(); len(got) > 0 {
			t.Errorf("of another type: %v", got)
		}
		put(one)
		if got := read(); len(got) != 1 {
			t.Errorf("after another type: %v", got)
		}
		const kept = 4096
		var many []redisdocs.Edge
		for i := range kept + 500 {
			many = append(many, redisdocs.Edge{Parent: fmt.Sprintf("P%d", i), Agent: "B"})
		}
		time.Sleep(2 * time.Millisecond) // the first is older
		put(many...)
		if n := f.client.HLen(ctx, key).Val(); n != kept || f.client.HExists(ctx, key, "A>B").Val() {
			t.Errorf("%d are kept", n)
		}
		fields := make([]any, 0, 40_000)
		for i := range 20_000 {
			fields = append(fields, fmt.Sprintf("M%d>B", i), now)
		}
		f.client.HSet(ctx, key, fields...)
		if got := read(); len(got) > 0 || f.client.Exists(ctx, key).Val() != 0 {
			t.Errorf("of a planted hash %d are read", len(got))
		}
	})
}
