package machine_test

import (
	"fmt"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// Step is the machine itself: the same arguments give the same answer, for a simulation or a test.
func ExampleStep() {
	p := machine.Params{Enabled: true, FailureThreshold: 5, WindowMs: 120_000, TimeoutMs: 60_000, TimeoutMaxMs: 60_000, MaxCalls: 3, Need: 3}
	failure := machine.Op{Verb: machine.VerbRecord, Draw: "000000000000001", Summary: machine.One(true, false, 0)}
	var s machine.Snapshot
	for now := int64(1000); now <= 5000; now += 1000 {
		var r machine.Result
		s, r = machine.Step(p, machine.Loaded{Snapshot: s}, failure, now)
		fmt.Println(now, r.State, r.Run)
	}
	// Output:
	// 1000 closed 1
	// 2000 closed 2
	// 3000 closed 3
	// 4000 closed 4
	// 5000 open 5
}
