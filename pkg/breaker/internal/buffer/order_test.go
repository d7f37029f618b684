package buffer

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/anishathalye/porcupine"

	"github.com/breakerd/breakerd/pkg/breaker/machine"
)

// threshold is the run of failures that trips.
const threshold = 4

// input is a call of a Buffer. S: Success, F: Failure, A: Add of a slow success, T: Take, +: makeStripes.
type input byte

// state is the state of the model of a Buffer.
type state struct {
	held machine.Summary
	run  int64
}

func (s state) reaches() bool { return max(s.run+s.held.Lead, s.held.MaxRun) >= threshold }

// step is the model. It reports whether a call in state s may have that output, and returns the state after the call.
func step(s state, in input, output any) (bool, state) {
	switch in {
	case 'S':
		s.held = s.held.Join(machine.One(false, false, 0))
	case 'A':
		s.held = s.held.Join(machine.One(false, true, 0))
		return output == s.reaches(), s
	case 'F':
		s.held = s.held.Join(machine.One(true, false, 0))
		return output == s.reaches(), s
	case 'T':
		taken := s.held
		s.held = machine.Summary{}
		if taken.Successes > 0 {
			s.run = taken.Trail
		} else {
			s.run += taken.Failures
		}
		return output == taken, s
	}
	return true, s
}

// call makes a call of the Buffer.
func call(b *Buffer, in input) (output any) {
	switch in {
	case 'S':
		b.Success()
	case 'A':
		_, reaches := b.Add(machine.One(false, true, 0), threshold)
		return reaches
	case 'F':
		_, _, reaches := b.Failure(threshold)
		return reaches
	case 'T':
		return b.Take()
	case '+':
		b.makeStripes()
	}
	return nil
}

func TestBuffer_ConcurrentCallsAreLinearizable(t *testing.T) {
	t.Parallel()
	model := porcupine.Model{
		Init:              func() any { return state{} },
		Step:              func(s, in, out any) (bool, any) { return step(s.(state), in.(input), out) },
		DescribeOperation: func(in, out any) string { return fmt.Sprintf("%c %+v", in, out) },
	}
	for _, mix := range []string{"SSSSF", "SSSFFT", "SSSSSSFAT", "SSSF+", "FFFFST"} {
		t.Run(mix, func(t *testing.T) {
			t.Parallel()
			for i := range 1000 {
				var b Buffer
				if i%4 > 0 {
					b.makeStripes()
				}
				history := concurrentCalls(&b, mix)
				if !porcupine.CheckOperations(model, history) {
					for _, o := range history {
						t.Logf("%d: %d to %d: %s", o.ClientId, o.Call, o.Return, model.DescribeOperation(o.Input, o.Output))
					}
					t.Fatal("the history is not linearizable")
				}
			}
		})
	}
}

// concurrentCalls makes random calls on some goroutines, and at the end one Take.
func concurrentCalls(b *Buffer, mix string) (history []porcupine.Operation) {
	const goroutines, each = 4, 6
	var clock atomic.Int64
	timed := func(client int, in input) porcupine.Operation {
		o := porcupine.Operation{ClientId: client, Input: in, Call: clock.Add(1)}
		o.Output = call(b, in)
		o.Return = clock.Add(1)
		return o
	}
	var all [goroutines][]porcupine.Operation
	var wg sync.WaitGroup
	start := make(chan struct{})
	for g := range goroutines {
		wg.Go(func() {
			<-start
			for range each {
				all[g] = append(all[g], timed(g, input(mix[rand.IntN(len(mix))])))
			}
		})
	}
	close(start)
	wg.Wait()
	for _, ops := range all {
		history = append(history, ops...)
	}
	return append(history, timed(goroutines, 'T'))
}

// Goroutines add outcomes in turns, so that the outcomes have one order, while another goroutine calls Take.
func TestBuffer_OrderOverGoroutinesIsKept(t *testing.T) {
	t.Parallel()
	var b Buffer
	b.makeStripes()
	stop := takeAll(&b)
	var want machine.Summary
	var turn atomic.Int64
	var wg sync.WaitGroup
	const goroutines, outcomes = 3, 30_000
	for g := range int64(goroutines) {
		wg.Go(func() {
			for i := g; i < outcomes; i += goroutines {
				for turn.Load() != i {
					runtime.Gosched()
				}
				failed := rand.IntN(4) == 0
				want = want.Join(machine.One(failed, false, 0))
				if failed {
					b.Failure(0)
				} else {
					b.Success()
				}
				turn.Store(i + 1)
			}
		})
	}
	wg.Wait()
	if got := stop(); got != want {
		t.Errorf("took %+v, want %+v", got, want)
	}
}

// One goroutine adds failures and successes in turns, which makes no run of two, while others add successes.
func TestBuffer_ConcurrentSuccessesKeepRuns(t *testing.T) {
	t.Parallel()
	var b Buffer
	stop := takeAll(&b)
	const goroutines, each, trail = 3, 20_000, 7
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for range each {
				if g == 0 {
					b.Failure(0)
				}
				b.Success()
			}
		})
	}
	wg.Wait()
	for range trail {
		b.Failure(0)
	}
	got := stop()
	want := machine.Summary{Successes: goroutines * each, Failures: each + trail, Lead: min(got.Lead, 1), Trail: trail, MaxRun: trail}
	if got != want {
		t.Errorf("took %+v, want %+v", got, want)
	}
}

// Take meanwhile moves failures from the word to the run.
func TestBuffer_OneFailureOfARunReachesTheThreshold(t *testing.T) {
	t.Parallel()
	for range 1000 {
		var b Buffer
		stop := takeAll(&b)
		b.Success()
		var wg sync.WaitGroup
		var reached atomic.Int64
		for range threshold {
			wg.Go(func() {
				if _, _, reaches := b.Failure(threshold); reaches {
					reached.Add(1)
				}
			})
		}
		wg.Wait()
		if s := stop(); reached.Load() != 1 || s.MaxRun != threshold {
			t.Fatalf("%d of %d failures reach the threshold; took %+v", reached.Load(), threshold, s)
		}
	}
}

// takeAll calls Take again and again until stop, which returns all outcomes, joined.
func takeAll(b *Buffer) (stop func() machine.Summary) {
	var done atomic.Bool
	took := make(chan machine.Summary)
	go func() {
		var all machine.Summary
		for last := false; !last; {
			last = done.Load()
			all = all.Join(b.Take())
			runtime.Gosched()
		}
		took <- all
	}()
	return func() machine.Summary {
		done.Store(true)
		return <-took
	}
}
