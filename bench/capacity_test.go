package main

import (
	"flag"
	"math"
	"os"
	"testing"
	"time"
)

var capacityInto = flag.String("write", "", "the document whose figures TestCapacity replaces; without it, everything is small and short")

// TestCapacity measures what docs/capacity.md says, and is void unless Redis counts every call.
func TestCapacity(t *testing.T) {
	plan := smallCapacity()
	if *capacityInto != "" {
		plan = fullCapacity()
	}
	text, err := capacity(t.Context(), plan)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", text)
	if err := document(*capacityInto).replace(map[string]string{"capacity": text}); err != nil {
		t.Fatal(err)
	}
}

func TestTheCapacityHasItsMarkers(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../docs/capacity.md")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := between(string(doc), "capacity", "x"); err != nil {
		t.Error(err)
	}
}

func TestTheModelKnowsItsLimits(t *testing.T) {
	t.Parallel()
	c := costs{acquire: cost{1, 10, 20}, record: cost{10, 100, 30}, lone: cost{50, 100, 30}, first: cost{60, 100, 30}, poll: cost{cpu: 0.5}}
	const interval = 10 * time.Millisecond
	for _, x := range []struct {
		name              string
		load              fleetLoad
		records, acquires float64
	}{
		{"strict: all", fleetLoad{false, 2, 10, 2, 1000, 0, 0}, 1000, 1000},
		{"cached and rare: nearly as strict", fleetLoad{true, 1, 1000, 1, 1, interval, 0}, 1, 1},
		{"cached and busy: one an interval", fleetLoad{true, 1, 1, 1, 1e7, interval, 0}, 100, 0},
		{"cached by three replicas: each its own", fleetLoad{true, 3, 1, 3, 3e7, interval, 0}, 300, 0},
		{"no more than it can", fleetLoad{true, 2, 10_000, 2, 1e8, interval, 700}, 1400, 1400},
		{"more than a process sends", fleetLoad{true, 2, 10_000, 2, 1e8, interval, 0}, 100_000, 0},
	} {
		n := x.load.of(c)
		if math.Abs(n.records-x.records) > 0.01*x.records+0.01 || math.Abs(n.acquires-x.acquires) > 0.01 {
			t.Errorf("%s: %v records and %v acquires, want %v and %v", x.name, n.records, n.acquires, x.records, x.acquires)
		}
	}
	n := fleetLoad{false, 1, 10, 1, 100_000, 0, 0}.of(c)
	if math.Abs(n.cores()-1.10005) > 1e-9 || n.redis.in != 11e6 || n.redis.out != 5e6 || n.polls != 10 || n.masters() != 2 {
		t.Errorf("%+v, %v masters", n, n.masters())
	}
	if got := (fleetLoad{true, 1, 1, 1, 1e6, interval, 0}).of(c).redis.cpu; math.Abs(got-5000) > 10 {
		t.Errorf("an idle Redis: %v µs a second", got)
	}
}

func TestARoundedFigurePromisesTwoDigits(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]float64{7: 7, 99: 99, 101: 100, 1999: 1900, 123_456: 120_000} {
		if got := rounded(v); got != want {
			t.Errorf("rounded %v = %v, want %v", v, got, want)
		}
	}
}
