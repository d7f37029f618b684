// Command bench measures breakerd beside its peers, in turns, in one run on one machine, and writes the figures and
// the plot of docs/performance.md. It needs redis-server and wrk. If Redis has not counted every call of a
// measurement, the measurement is void and the run ends with an error.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
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
	write := flags.String("write", "", "the document whose figures and plot (.svg) are replaced")
	small := flags.Bool("smoke", false, "a few seconds in all: does everything run, and does Redis count every call?")
	only := flags.String("only", "", "measure these sections only, separated by commas")
	as := flags.String("as", "", "run as one of the servers that wrk calls: agent, proxy or bare")
	to := flags.String("to", "", "the URL of the agent of -as proxy")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *as != "" {
		return serve(ctx, *as, *to)
	}
	// A Fleet takes it from here. So long that a busy machine loses no call.
	if err := os.Setenv("REDIS_TIMEOUT_MS", strconv.FormatInt(storeTimeout.Milliseconds(), 10)); err != nil {
		return err
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

// section measures one thing and reports it in Markdown. Its name is that of its markers in the document.
type section struct {
	name    string
	measure func(testkit.T, *bench) (string, error)
}

func sections() []section {
	return []section{
		{"strict", strictPairs},
		{"local", localCalls},
		{"load", redisLoad},
		{"many-agents", manyAgents},
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
			return nil, fmt.Errorf("-only: no section %q", name)
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

// bench is one run.
type bench struct {
	plan

	out   io.Writer
	mu    sync.Mutex // guards goals and bars
	goals []goal
	bars  []bar
}

// plan is how much a run measures.
type plan struct {
	parallel    int           // sections at the same time; 1 where figures count
	rounds      int           // of each candidate, in turns
	warm        int           // runs of wrk before its rounds
	round       time.Duration // of what goes to Redis
	local       time.Duration // of what stays in the process
	load        time.Duration // of one run of wrk, in whole seconds
	callers     []int         // goroutines
	connections []int         // of wrk
	calls       int           // of one script in one round
	trips       int
	agents      int           // of the section many-agents
	manyAgents  time.Duration // the length of that section
	paced       time.Duration // the length of a load on one agent in the cached mode
}

func full() plan {
	return plan{
		parallel: 1, rounds: 5, warm: 1, round: time.Second, local: 300 * time.Millisecond, load: 2 * time.Second,
		callers: []int{1, 8, 64, 256}, connections: []int{8, 64}, calls: 3000, trips: 200,
		agents: 10_000, manyAgents: 10 * time.Second, paced: 3 * time.Second,
	}
}

func smoke() plan {
	return plan{
		parallel: 8, rounds: 1, round: 20 * time.Millisecond, local: 5 * time.Millisecond, load: time.Second,
		callers: []int{1, 64}, connections: []int{8}, calls: 40, trips: 5,
		agents: 200, manyAgents: 300 * time.Millisecond, paced: 100 * time.Millisecond,
	}
}

// measure runs the sections and writes their figures. The goals and the plot need all sections.
func (b *bench) measure(ctx context.Context, chosen []section, doc document, whole bool) error {
	found := map[string]string{}
	sections, measuring := errgroup.WithContext(ctx)
	sections.SetLimit(b.parallel)
	for _, s := range chosen {
		sections.Go(func() error {
			start := time.Now()
			text, err := within(measuring, b.out, func(t testkit.T) (string, error) { return s.measure(t, b) })
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

// host describes the machine and the versions.
func host(ctx context.Context, p plan) (string, error) {
	out, err := exec.CommandContext(ctx, "redis-server", "--version").Output()
	if err != nil {
		return "", err
	}
	version := regexp.MustCompile(`v=([0-9.]+)`).FindSubmatch(out)
	if version == nil {
		return "", fmt.Errorf("redis-server --version prints no version: %s", out)
	}
	today := time.Now().UTC().Format(time.DateOnly)
	return fmt.Sprintf("%s: %d cores (%s), %s, Redis %s on loopback; everything on the same cores. "+
		"Medians of %d rounds, the candidates in turns.",
		today, runtime.NumCPU(), runtime.GOARCH, runtime.Version(), version[1], p.rounds), nil
}
