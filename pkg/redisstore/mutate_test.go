//go:build mutate

package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/internal/redistest"
	"github.com/breakerd/breakerd/lua"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breaker/storetest"
	"github.com/breakerd/breakerd/pkg/redisstore"
)

// The scripts that the model is an oracle of. configure and forget are not among them: Go has no twin of these two.
var mutatedVerbs = []string{"acquire", "record", "renew", "force", "inspect"}

const (
	equivalentList = "testdata/equivalent_mutants.txt"
	mutationSeed   = 3
	mutationSteps  = 40
	// patience is how long a script may run; redis-server then lets itself be restarted.
	patience = 3 * time.Second
)

// TestEveryMutantIsKilled makes one small fault at a time in the scripts and demands that random histories, compared with the
// model after every operation, notice it. What they cannot notice stands in testdata/equivalent_mutants.txt with the reason.
//
// MUTATE_HISTORIES bounds the histories for each (1500), MUTATE_ONLY is a regular expression on the names of the mutants.
func TestEveryMutantIsKilled(t *testing.T) {
	files := scriptFiles(t)
	only := regexp.MustCompile(os.Getenv("MUTATE_ONLY"))
	all := []mutant{{key: "(no fault)"}}
	for _, name := range append([]string{"prelude"}, mutatedVerbs...) {
		for _, m := range mutants(name+".lua", files[name+".lua"]) {
			if only.MatchString(m.key) {
				all = append(all, m)
			}
		}
	}
	verdicts := judgeAll(t, files, all)
	if why := verdicts["(no fault)"]; why != "" {
		t.Fatalf("the scripts differ from the model without any fault: %s", why)
	}
	report(t, all[1:], verdicts, os.Getenv("MUTATE_ONLY") == "")
}

// scriptFiles reads lua/*.lua.
func scriptFiles(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, name := range append([]string{"prelude"}, mutatedVerbs...) {
		b, err := os.ReadFile("../../lua/" + name + ".lua")
		if err != nil {
			t.Fatal(err)
		}
		files[name+".lua"] = string(b)
	}
	for _, verb := range mutatedVerbs {
		if want, err := lua.Source(verb); err != nil || want != assemble(files, verb, mutant{}) {
			t.Fatalf("%s is not assembled as lua.Source does (%v)", verb, err)
		}
	}
	return files
}

func assemble(files map[string]string, verb string, m mutant) string {
	text := func(file string) string {
		if file == m.file {
			return m.text
		}
		return files[file]
	}
	return strings.Replace(text(verb+".lua"), "--@prelude", text("prelude.lua"), 1)
}

// judgeAll runs the mutants on one redis-server for each processor, and gives what killed each; "" for a survivor.
func judgeAll(t *testing.T, files map[string]string, all []mutant) map[string]string {
	t.Helper()
	work := make(chan mutant)
	verdicts := map[string]string{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		server := redistest.Start(t, "--busy-reply-threshold", "500")
		wg.Go(func() {
			for m := range work {
				why := judge(t, server, files, m)
				mu.Lock()
				verdicts[m.key] = why
				if n := len(verdicts); n%50 == 0 {
					t.Logf("%d of %d", n, len(all))
				}
				mu.Unlock()
			}
		})
	}
	for _, m := range all {
		work <- m
	}
	close(work)
	wg.Wait()
	return verdicts
}

// judge says what killed the mutant, "" if nothing did.
func judge(t *testing.T, server *redistest.Server, files map[string]string, m mutant) (why string) {
	t.Helper()
	ctx := context.Background()
	client := redis.NewClient(&redis.Options{Addr: server.Addr, MaxRetries: -1, DisableIdentity: true})
	defer client.Close()
	if err := client.FlushAll(ctx).Err(); err != nil {
		server.Restart() // the last mutant still runs
	}
	_ = client.ScriptFlush(ctx).Err()
	e, err := newMutantEngine(client)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer e.told.Close()
	for _, verb := range mutatedVerbs {
		e.store.SetScript(verb, assemble(files, verb, m))
		e.clock.SetScript(verb, assemble(files, verb, m))
	}
	if err := e.histories(historyCount()); err != nil {
		why, _, _ = strings.Cut(err.Error(), "\nafter:")
		return why
	}
	return ""
}

func historyCount() int {
	if n, err := strconv.Atoi(os.Getenv("MUTATE_HISTORIES")); err == nil {
		return n
	}
	return 1500
}

// mutantEngine sees more than a plain engine: what is published, how long an Idempotency-Key is kept and the log is, and whose
// clock it is that production reads.
type mutantEngine struct {
	*engine
	clock *redisstore.Store // the same scripts, on the server's clock
	told  *redis.PubSub
}

func newMutantEngine(client *redis.Client) (*mutantEngine, error) {
	store, err := redisstore.New(client, false, redisstore.Config{Timeout: patience})
	if err != nil {
		return nil, err
	}
	clock, err := redisstore.New(client, false, redisstore.Config{Timeout: patience})
	if err != nil {
		return nil, err
	}
	e := &mutantEngine{engine: &engine{client: client, store: store, ttls: true}, clock: clock}
	store.SetNow(func() int64 { return e.now })
	e.told = client.Subscribe(context.Background(), store.Keys().Events())
	_, err = e.told.ReceiveTimeout(context.Background(), patience) // that it is subscribed
	return e, err
}

// histories is storetest.Histories, but for the first difference ends it.
func (e *mutantEngine) histories(n int) error {
	model := storetest.NewModel()
	for i := range n {
		steps := mutationSteps
		if i%25 == 24 { // long enough for the log to be cut
			steps *= 10
		}
		data := make([]byte, steps*40)
		r := rand.New(rand.NewPCG(mutationSeed, uint64(i)))
		for j := range data {
			data[j] = byte(r.Uint32())
		}
		agent := fmt.Sprintf("h%d", i)
		if err := storetest.Replay(e, model, agent, data, steps); err != nil {
			return err
		}
		if err := errors.Join(e.silent(), e.readsClock(agent)); err != nil {
			return err
		}
		model.Forget(agent)
		if err := e.Edit(agent, storetest.Edit{Do: storetest.DelAll}); err != nil {
			return err
		}
	}
	return nil
}

func (e *mutantEngine) Apply(nowMs int64, agent string, p breaker.Policy, op breaker.Op) (breaker.Result, error) {
	r, err := e.engine.Apply(nowMs, agent, p, op)
	if err != nil {
		return r, err
	}
	for _, event := range r.Events {
		if err := e.hears(agent + " " + event.String()); err != nil {
			return r, err
		}
	}
	if op.Verb == breaker.VerbRecord && op.ReportID != "" {
		left, err := e.client.PTTL(context.Background(), e.store.Keys().Report(agent, op.ReportID)).Result()
		if err != nil || left <= 0 || left > 10*time.Minute {
			return r, fmt.Errorf("an Idempotency-Key is kept for %v (%w)", left, err)
		}
	}
	return r, nil
}

// Dump also looks behind the 64 lines of the log that a Raw shows.
func (e *mutantEngine) Dump(nowMs int64, agent string) (breaker.Raw, error) {
	raw, err := e.engine.Dump(nowMs, agent)
	if err != nil {
		return raw, err
	}
	n, err := e.client.LLen(context.Background(), e.store.Keys().Log(agent)).Result()
	if err == nil && n > int64(len(raw.Log)) {
		return raw, fmt.Errorf("the log has %d lines, of which %d are shown", n, len(raw.Log))
	}
	return raw, nil // an error: planted
}

// readsClock says whether scripts read the server's time when they are told none, and the told one when they are.
func (e *mutantEngine) readsClock(agent string) error {
	ctx := context.Background()
	if v, err := e.store.Inspect(ctx, agent, breaker.DefaultPolicy()); err != nil || v.NowMs != e.now {
		return fmt.Errorf("inspect at %d says %d (%w)", e.now, v.NowMs, err)
	}
	before, err := e.client.Time(ctx).Result()
	if err != nil {
		return err
	}
	r, err := e.clock.Apply(ctx, "clock", breaker.DefaultPolicy(), breaker.Op{Verb: breaker.VerbAcquire, Draw: breaker.ZeroEpoch[1:]})
	if err != nil {
		return err
	}
	v, err := e.clock.Inspect(ctx, "clock", breaker.DefaultPolicy())
	if err != nil {
		return err
	}
	after, err := e.client.Time(ctx).Result()
	if err != nil {
		return err
	}
	for _, ms := range []int64{r.NowMs, v.NowMs} {
		if ms < before.UnixMilli() || ms > after.UnixMilli() {
			return fmt.Errorf("at %d to %d a script reads %d", before.UnixMilli(), after.UnixMilli(), ms)
		}
	}
	return nil
}

// hears says whether want is the next message.
func (e *mutantEngine) hears(want string) error {
	m, err := e.told.ReceiveTimeout(context.Background(), patience)
	if err != nil {
		return fmt.Errorf("not published: %s: %w", want, err)
	}
	if got, ok := m.(*redis.Message); !ok || got.Payload != want {
		return fmt.Errorf("published %v, not %s", m, want)
	}
	return nil
}

// silent says whether nothing was published but what hears has heard.
func (e *mutantEngine) silent() error {
	const mark = "end of history"
	if err := e.client.Publish(context.Background(), e.store.Keys().Events(), mark).Err(); err != nil {
		return err
	}
	return e.hears(mark)
}

// report compares the survivors with the list of the equivalent ones.
func report(t *testing.T, all []mutant, verdicts map[string]string, complete bool) {
	t.Helper()
	equivalent := readEquivalent(t)
	killed, listed, holes := 0, 0, 0
	for _, m := range all {
		reason, isListed := equivalent[m.key]
		why := verdicts[m.key]
		switch {
		case why != "" && isListed:
			t.Errorf("STALE: in %s, but killed (%s): %s", equivalentList, why, m.key)
		case why != "":
			killed++
		case isListed && reason != "":
			listed++
		default:
			holes++
			t.Errorf("SURVIVED: %s", m.key)
		}
		delete(equivalent, m.key)
	}
	if complete {
		for key := range equivalent {
			t.Errorf("STALE: in %s, but there is no such mutant: %s", equivalentList, key)
		}
	}
	t.Logf("mutants %d, killed %d, equivalent %d, survived %d", len(all), killed, listed, holes)
}

// readEquivalent reads "file | line | token#n -> replacement | reason" lines.
func readEquivalent(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	b, err := os.ReadFile(equivalentList)
	if errors.Is(err, os.ErrNotExist) {
		return out
	}
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		at := strings.LastIndex(line, " | ")
		if strings.Count(line, " | ") != 3 {
			t.Fatalf("%s: not \"file | line | token#n -> replacement | reason\": %s", equivalentList, line)
		}
		out[line[:at]] = line[at+3:]
	}
	return out
}
