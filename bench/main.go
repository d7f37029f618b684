// Command bench measures breakerd beside its peers, all in turns in one run on one machine, and writes the figures and the plot of
// docs/performance.md. It needs redis-server and wrk. A measurement whose calls Redis did not count to the last one is void: the
// run ends with an error.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	write := flags.String("write", "", "the document whose figures are replaced; its plot lies beside it as .svg")
	small := flags.Bool("smoke", false, "a few seconds in all: does everything run, and does Redis count every call?")
	only := flags.String("only", "", "these sections alone, separated by commas")
	as := flags.String("as", "", "be a process of the stand: agent, proxy or bare")
	to := flags.String("to", "", "the proxy's agent")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *as != "" {
		return play(ctx, *as, *to, out)
	}
	b := &bench{plan: full(), out: out}
	if *small {
		b.plan = smoke()
	}
	chosen, err := choose(*only)
	if err != nil {
		return err
	}
	return b.measure(ctx, chosen, document(*write), *only == "" && !*small)
}

// section measures one thing and tells it in Markdown; its name is that of its markers in the document.
type section struct {
	name    string
	measure func(context.Context, *bench) (string, error)
}

func sections() []section {
	return []section{
		{"bench", strictPairs},
		{"local", localCalls},
		{"load", redisLoad},
		{"crowd", manyAgents},
		{"trip", trips},
		{"scripts", scripts},
		{"gateway", gateway},
		{"service", service},
	}
}

func choose(only string) ([]section, error) {
	all := sections()
	if only == "" {
		return all, nil
	}
	var chosen []section
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(all, func(s section) bool { return s.name == name })
		if i < 0 {
			return nil, fmt.Errorf("no section %q", name)
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

// bench is one run.
type bench struct {
	plan

	out   io.Writer
	mu    sync.Mutex // of what follows
	goals []goal
	bars  []bar
}

// plan says how much is measured.
type plan struct {
	atOnce      int           // sections that run side by side: one, where figures count
	rounds      int           // of each contestant, in turns
	warm        int           // runs of wrk before them
	round       time.Duration // of what goes to Redis
	local       time.Duration // of what stays in the process
	load        time.Duration // of a run of wrk, whole seconds
	callers     []int         // goroutines
	connections []int         // of wrk
	calls       int           // of one script in one round
	trips       int
	agents      int           // of the crowd
	crowd       time.Duration // how long it lasts
	paced       time.Duration // how long one agent is busy in the cached mode
}

func full() plan {
	return plan{
		atOnce: 1, rounds: 5, warm: 1, round: time.Second, local: 300 * time.Millisecond, load: 2 * time.Second, callers: []int{1, 8, 64, 256},
		connections: []int{8, 64}, calls: 3000, trips: 200, agents: 10_000, crowd: 10 * time.Second, paced: 3 * time.Second,
	}
}

func smoke() plan {
	return plan{
		atOnce: 8, rounds: 1, round: 20 * time.Millisecond, local: 5 * time.Millisecond, load: time.Second, callers: []int{1, 64},
		connections: []int{8}, calls: 40, trips: 5, agents: 200, crowd: 300 * time.Millisecond, paced: 100 * time.Millisecond,
	}
}

// measure runs the sections and writes what they found. The goals and the plot need all of them.
func (b *bench) measure(ctx context.Context, chosen []section, doc document, whole bool) error {
	found := map[string]string{}
	sections, measuring := errgroup.WithContext(ctx)
	sections.SetLimit(b.atOnce)
	for _, s := range chosen {
		sections.Go(func() error {
			start := time.Now()
			text, err := s.measure(measuring, b)
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			b.mu.Lock()
			defer b.mu.Unlock()
			found[s.name] = text
			fmt.Fprintf(b.out, "## %s (%v)\n\n%s\n", s.name, time.Since(start).Round(time.Second), text)
			return nil
		})
	}
	if err := sections.Wait(); err != nil {
		return err
	}
	if !whole {
		return doc.replace(found)
	}
	found["goals"] = goalTable(b.goals)
	fmt.Fprintln(b.out, found["goals"])
	text, err := host(ctx, b.plan)
	if err != nil {
		return err
	}
	found["machine"] = text
	return errors.Join(doc.replace(found), doc.plot(b.bars))
}
