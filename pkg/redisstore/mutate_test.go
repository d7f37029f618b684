//go:build mutate

package redisstore_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/lua"
	"github.com/breakerd/breakerd/pkg/breaker/storetest"
)

// The scripts. The last two have no twin in Go; mutate_configure_test.go says what they must do.
var mutatedVerbs = []string{"acquire", "record", "records", "replay", "renew", "force", "inspect", "configure", "forget"}

const (
	equivalentList = "testdata/equivalent_mutants.txt"
	killedList     = "testdata/killed_mutants.txt"
	mutationSeed   = 3
	mutationSteps  = 40
	// patience is how long a script may run before redis-server can be restarted.
	patience = 3 * time.Second
)

// TestEveryMutantIsKilled makes one small fault at a time in the scripts and demands that the transcripts, or random
// histories, notice it; both are compared with the model after every operation. What they cannot notice stands in
// testdata/equivalent_mutants.txt with the reason.
//
// A whole run in which every mutant is killed writes testdata/killed_mutants.txt: the digest of each file's code at
// that time. MUTATE_CHANGED=1 leaves out the files whose code is still the same. MUTATE_HISTORIES bounds the histories
// for each mutant (40), MUTATE_ONLY is a regular expression on the names of the mutants.
func TestEveryMutantIsKilled(t *testing.T) {
	files := scriptFiles(t)
	only := regexp.MustCompile(os.Getenv("MUTATE_ONLY"))
	proven := map[string]string{}
	if os.Getenv("MUTATE_CHANGED") != "" {
		proven = readKilled(t)
	}
	all := []mutant{{key: "(no fault)"}}
	for _, name := range append(lua.Shared(), mutatedVerbs...) {
		if file := name + ".lua"; proven[file] == digest(files[file]) {
			continue
		}
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
	whole := os.Getenv("MUTATE_ONLY") == "" && len(proven) == 0
	report(t, all[1:], verdicts, whole)
	if whole && !t.Failed() {
		writeKilled(t, files)
	}
}

// digest names a file's code: its tokens, for a comment has no mutants.
func digest(src string) string {
	h := sha256.New()
	for _, token := range luaTokens(src) {
		fmt.Fprintln(h, token.text)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// readKilled reads "digest file" lines.
func readKilled(t *testing.T) map[string]string {
	t.Helper()
	b, err := os.ReadFile(killedList)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for line := range strings.Lines(string(b)) {
		if sum, file, ok := strings.Cut(strings.TrimSpace(line), " "); ok && sum != "#" {
			out[file] = sum
		}
	}
	return out
}

func writeKilled(t *testing.T, files map[string]string) {
	t.Helper()
	var text strings.Builder
	text.WriteString("# Written by `make mutate` when every mutant was killed: the digest of each script's code.\n")
	for _, file := range slices.Sorted(maps.Keys(files)) {
		text.WriteString(digest(files[file]) + " " + file + "\n")
	}
	if err := os.WriteFile(killedList, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}

// scriptFiles reads lua/*.lua.
func scriptFiles(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, name := range append(lua.Shared(), mutatedVerbs...) {
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
	texts := map[string]string{}
	for file, text := range files {
		if file == m.file {
			text = m.text
		}
		texts[strings.TrimSuffix(file, ".lua")] = text
	}
	return lua.Assemble(verb, texts)
}

// judgeAll runs the mutants on a few redis-servers, and gives what killed each; "" for a survivor.
func judgeAll(t *testing.T, files map[string]string, all []mutant) map[string]string {
	t.Helper()
	work := make(chan mutant)
	verdicts := map[string]string{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	equivalent := readEquivalent(t)
	for range runtime.GOMAXPROCS(0) + 1 { // a worker waits half of its time for its server
		server := testkit.Start(t, "--busy-reply-threshold", "500")
		order, err := storetest.Parts()
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			for m := range work {
				_, listed := equivalent[m.key]
				why := judge(t, server, files, m, &order, listed)
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
func judge(t *testing.T, server *testkit.Server, files map[string]string, m mutant, order *[]storetest.Part, listed bool) (why string) {
	t.Helper()
	ctx := context.Background()
	client := redis.NewClient(&redis.Options{Addr: server.Addr, MaxRetries: -1, DisableIdentity: true})
	defer client.Close()
	if err := client.FlushAll(ctx).Err(); err != nil {
		server.Restart() // the last mutant's script still runs
	}
	_ = client.ScriptFlush(ctx).Err()
	e, err := newMutantEngine(client)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer e.events.Close()
	for _, verb := range mutatedVerbs {
		e.setScript(verb, assemble(files, verb, m))
	}
	killers := []func() error{func() error { return e.transcripts(order) }, e.documents, func() error { return e.histories(historyCount()) }}
	if m.file == "configure.lua" || m.file == "forget.lua" {
		killers = []func() error{e.documents, func() error { return nil }}
	}
	if listed { // the histories would only find that a reason has become stale
		killers = killers[:2:2]
	}
	for _, killer := range killers {
		if err := killer(); err != nil {
			why, _, _ = strings.Cut(err.Error(), "\nafter:")
			return why
		}
	}
	return ""
}

func historyCount() int {
	if n, err := strconv.Atoi(os.Getenv("MUTATE_HISTORIES")); err == nil {
		return n
	}
	return 40
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
