package latency

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
)

func nobody(string) bool { return false }

func begin() time.Time { return time.Unix(1_770_800_400, 0) }

func TestTable_ForgetsWhatIsOld(t *testing.T) {
	t.Parallel()
	at := begin()
	table := New(10, nobody, at)
	table.Add("old", time.Second, 1)
	table.Add("steady", time.Second, 1)
	for minute := 1; minute <= 8; minute++ {
		at = at.Add(time.Minute)
		table.Turn(at)
		table.Add("steady", 2*time.Millisecond, 1)
	}
	all := table.Read()
	if f := all["old"]; f.Calls.Calls() != 1 || !f.Since.Equal(begin()) {
		t.Errorf("after eight minutes: %+v", f)
	}
	table.Turn(at.Add(2 * time.Minute))
	all = table.Read()
	f := all["steady"]
	if _, still := all["old"]; still || f.Calls.Percentile(99) > 4*time.Millisecond || f.Calls.Calls() == 0 {
		t.Errorf("after ten minutes: %+v", all)
	}
	if !f.Since.After(begin()) {
		t.Errorf("since %v", f.Since)
	}
	if table.agents.Len() != 1 {
		t.Error("an agent without calls has its place still")
	}
	table.Turn(at.Add(time.Hour)) // the process slept
	if left := table.Read(); len(left) != 0 {
		t.Errorf("after an hour: %+v", left)
	}
}

func TestTable_IsBounded(t *testing.T) {
	t.Parallel()
	table := New(3, func(agent string) bool { return agent == "registered" }, begin())
	table.Add("registered", time.Second, 1)
	for i := range 10 {
		table.AddFirstByte(fmt.Sprint("made-up-", i), time.Second, time.Millisecond)
	}
	all := table.Read()
	if len(all) != 3 || all["registered"].Replicas != 1 {
		t.Errorf("%d agents: %+v", len(all), all)
	}
	table.Forget("registered")
	if _, still := table.Read()["registered"]; still {
		t.Error("a deleted agent is still there")
	}
}

func TestTable_CountsEachCallOfManyGoroutines(t *testing.T) {
	t.Parallel()
	table := New(10, nobody, begin())
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				table.AddFirstByte("a", 3*time.Millisecond, time.Millisecond)
				table.Add("a", time.Millisecond, 2)
			}
		})
	}
	wg.Wait()
	f := table.Read()["a"]
	if f.Calls.Calls() != 24_000 || f.FirstByte.Calls() != 8000 || f.Calls.Sum != 40*time.Second || f.FirstByte.Average() != time.Millisecond {
		t.Errorf("%+v", f)
	}
}

func TestText_HasTheSlowestAndTheBusiest(t *testing.T) {
	t.Parallel()
	table := New(1000, nobody, begin())
	for i := range 1000 {
		agent := fmt.Sprintf("a%03d", i)
		table.Add(agent, time.Duration(i+1)*time.Millisecond, 1000-i) // the last is the slowest, the first the busiest
	}
	text, err := Text(table.Read())
	if err != nil || len(text) > 64<<10 {
		t.Fatal(len(text), err)
	}
	got, err := Parse(string(text))
	if err != nil || len(got) != 2*most {
		t.Fatal(len(got), err)
	}
	for _, i := range []int{0, most - 1, 1000 - most, 999} {
		agent := fmt.Sprintf("a%03d", i)
		f, want := got[agent], table.Read()[agent]
		if f.Calls != want.Calls || !f.Since.Equal(want.Since) {
			t.Errorf("%s: %+v, want %+v", agent, f, want)
		}
	}
	for _, i := range []int{most, 1000 - most - 1} {
		if _, has := got[fmt.Sprintf("a%03d", i)]; has {
			t.Errorf("a%03d is neither", i)
		}
	}
}

// Whoever may write to Redis may write anything [B20].
func TestParse_RefusesWhatNoReplicaWrites(t *testing.T) {
	t.Parallel()
	one := `{"since_ms":1,"sum_us":5,"calls":[1]}`
	if _, err := Parse(`{"agents":{"a":` + one + `},"later":1}`); err != nil {
		t.Error("a later version's field is no fault:", err)
	}
	var many []string
	for i := range 2*most + 1 {
		many = append(many, fmt.Sprintf(`"a%d":%s`, i, one))
	}
	for _, bad := range []string{
		"", "null", "[]", "{", `{"agents":7}`, `{"agents":{"a b":` + one + `}}`, `{"agents":{"a":{}}}`,
		`{"agents":{"a":{"calls":[-1]}}}`, `{"agents":{"a":{"calls":[1],"sum_us":-1}}}`, `{"agents":{"a":{"calls":[1e300]}}}`,
		`{"agents":{"a":{"calls":[9000000000000000000]}}}`, `{"agents":{"a":{"calls":[1],"sum_us":9000000000000000000}}}`,
		`{"agents":{"a":{"calls":[` + strings.Repeat("1,", buckets) + `1]}}}`, `{"agents":{` + strings.Join(many, ",") + `}}`,
	} {
		if got, err := Parse(bad); err == nil && len(got) > 0 {
			t.Errorf("%.60s: %+v", bad, got)
		}
	}
}

func TestTable_AddDoesNotAllocate(t *testing.T) { //nolint:paralleltest // it counts allocations
	table := New(10, nobody, begin())
	table.AddFirstByte("a", time.Second, time.Second)
	if n := testkit.FewestAllocs(func() {
		table.Add("a", time.Millisecond, 1)
		table.AddFirstByte("a", time.Millisecond, time.Millisecond)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkTable_Add(b *testing.B) {
	table := New(10_000, nobody, begin())
	for i := range 1000 {
		table.Add(fmt.Sprint("other-", i), time.Second, 1)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			table.Add("bench", 3*time.Millisecond, 1)
		}
	})
}
