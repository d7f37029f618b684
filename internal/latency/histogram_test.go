package latency

import (
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestHistogram_BoundsAreDoubles(t *testing.T) {
	t.Parallel()
	for i := range buckets - 1 {
		if got := bucketOf(bound(i)); got != i {
			t.Errorf("%v is in bucket %d, want %d", bound(i), got, i)
		}
		if got := bucketOf(bound(i) + 1); got != i+1 {
			t.Errorf("%v is in bucket %d, want %d", bound(i)+1, got, i+1)
		}
	}
	for d, want := range map[time.Duration]int{-1: 0, 0: 0, 1: 0, math.MaxInt64: buckets - 1, 1000 * time.Second: buckets - 1} {
		if got := bucketOf(d); got != want {
			t.Errorf("%v is in bucket %d, want %d", d, got, want)
		}
	}
	if first, last := bound(0), bound(buckets-2); first != 125*time.Microsecond || last != 524288*time.Millisecond {
		t.Errorf("from %v to %v", first, last)
	}
}

func countsOf(all []time.Duration) (c Counts) {
	var h histogram
	for _, d := range all {
		h.add(d, 1)
	}
	h.addTo(&c)
	return c
}

// The estimate lies in the bucket of the exact percentile, by nearest rank, and so is within a factor of two of it.
func TestPercentile_IsWithinAFactorOfTwo(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		logs := rapid.SliceOfN(rapid.Float64Range(0, 27.5), 1, 300).Draw(t, "log2 of ns above 1 µs")
		all := make([]time.Duration, len(logs))
		var sum time.Duration
		for i, x := range logs { // from 1 µs to 190 s, each order of magnitude as often
			all[i] = time.Duration(1000 * math.Exp2(x))
			sum += all[i]
		}
		c := countsOf(all)
		slices.Sort(all)
		if c.Calls() != int64(len(all)) || c.Average() != sum/time.Duration(len(all)) {
			t.Fatalf("%d calls, average %v, want %d, %v", c.Calls(), c.Average(), len(all), sum/time.Duration(len(all)))
		}
		last := time.Duration(0)
		for _, p := range []float64{0.1, 50, 95, 99, 100} {
			exact := all[max(int(math.Ceil(float64(len(all))*p/100)), 1)-1]
			got := c.Percentile(p)
			if bucketOf(got) != bucketOf(exact) {
				t.Fatalf("percentile %g: %v, exactly %v", p, got, exact)
			}
			if exact > smallest && (got <= exact/2 || got >= 2*exact) {
				t.Fatalf("percentile %g: %v is not within a factor of two of %v", p, got, exact)
			}
			if got < last {
				t.Fatalf("percentile %g: %v is less than a lower one, %v", p, got, last)
			}
			last = got
		}
	})
}

// How the calls are spread over replicas changes nothing.
func TestCounts_JoinAsIfOneReplicaHadAll(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		durations := rapid.SliceOf(rapid.Int64Range(1, int64(time.Hour)))
		var joined Counts
		var all []time.Duration
		for range rapid.IntRange(1, 4).Draw(t, "replicas") {
			var some []time.Duration
			for _, ns := range durations.Draw(t, "durations") {
				some = append(some, time.Duration(ns))
			}
			c := countsOf(some)
			joined.join(&c)
			all = append(all, some...)
		}
		if want := countsOf(all); joined != want {
			t.Fatalf("%+v, want %+v", joined, want)
		}
	})
}

func TestPercentile_OfCallsThatTookEquallyLongIsThat(t *testing.T) {
	t.Parallel()
	c := countsOf([]time.Duration{250 * time.Millisecond, 250 * time.Millisecond, 250 * time.Millisecond})
	for _, p := range []float64{50, 95, 99} {
		if got := c.Percentile(p); got != 250*time.Millisecond {
			t.Errorf("percentile %g: %v", p, got)
		}
	}
	none, endless := Counts{}, countsOf([]time.Duration{time.Hour})
	if none.Percentile(99) != 0 || none.Average() != 0 || endless.Percentile(99) != bound(buckets-2) {
		t.Errorf("%v %v %v", none.Percentile(99), none.Average(), endless.Percentile(99))
	}
}
