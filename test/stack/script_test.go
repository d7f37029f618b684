package stack_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// step is one command of testdata/deployment-guide.txt, with what is wanted of it:
//
//	== TEXT           a heading
//	doc> COMMAND      a command of the guide, word for word; "   > " begins each further line of it
//	own> COMMAND      a command of ours
//	  left out: WHY   it is not run
//	  instead COMMAND what is run in its place
//	  because WHY     and why that
//	  is TEXT         what it prints, but for blanks around it, is this
//	  lines A B       what it prints is these words, one a line, in any order
//	  like REGEXP     what it prints matches; may be said again
//	  eventually      it is run again until all that is so
//	  show            what it prints goes into the test's log
//
// A command NAME=VALUE is a line of .env, and is written there. Every other one must end with exit code 0.
type step struct {
	heading string
	line    int
	doc     bool
	command string
	instead string
	because string
	leftOut string
	wants   []want
	again   bool // eventually
	show    bool
}

type want struct{ verb, arg string }

func parseScript(t testing.TB, file string) []*step {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	var steps []*step
	heading := ""
	for i, line := range strings.Split(string(text), "\n") {
		switch {
		case line == "" || line[0] == '#':
		case strings.HasPrefix(line, "== "):
			heading = line[3:]
		case strings.HasPrefix(line, "doc> "), strings.HasPrefix(line, "own> "):
			steps = append(steps, &step{heading: heading, line: i + 1, doc: line[0] == 'd', command: line[5:]})
		case len(steps) == 0:
			t.Fatalf("%s:%d: no command before this", file, i+1)
		case strings.HasPrefix(line, "   > "):
			steps[len(steps)-1].command += "\n" + line[5:]
		default:
			if err := steps[len(steps)-1].ask(line); err != nil {
				t.Fatalf("%s:%d: %v", file, i+1, err)
			}
		}
	}
	return steps
}

// ask adds one line of what is wanted.
func (s *step) ask(line string) error {
	rest, ok := strings.CutPrefix(line, "  ")
	verb, arg, _ := strings.Cut(rest, " ")
	switch {
	case !ok:
		return fmt.Errorf("%q is no line of a script", line)
	case verb == "eventually":
		s.again = true
	case verb == "show":
		s.show = true
	case verb == "instead":
		s.instead = arg
	case verb == "because":
		s.because = arg
	case strings.HasPrefix(rest, "left out: "):
		s.leftOut = strings.TrimPrefix(rest, "left out: ")
	case slices.Contains([]string{"is", "lines", "like"}, verb):
		s.wants = append(s.wants, want{verb, arg})
	default:
		return fmt.Errorf("%q is not a thing that a script can want", verb)
	}
	return nil
}

func (w want) check(text string) error {
	var ok bool
	switch w.verb {
	case "is":
		ok = text == w.arg
	case "lines":
		ok = slices.Equal(slices.Sorted(strings.FieldsSeq(text)), slices.Sorted(strings.FieldsSeq(w.arg)))
	default:
		re, err := regexp.Compile(w.arg)
		if err != nil {
			return err
		}
		ok = re.MatchString(text)
	}
	if !ok {
		return fmt.Errorf("not: %s %s", w.verb, w.arg)
	}
	return nil
}

// TestWhatOfTheGuideIsLeftOutOrRunOtherwise keeps both lists short and known: whoever adds to them has to say so here too.
func TestWhatOfTheGuideIsLeftOutOrRunOtherwise(t *testing.T) {
	t.Parallel()
	want := `left out: pip install redis==5.0.1
left out: pip install -r requirements.txt
left out: docker run -d \
CIRCUIT_BREAKER_TIMEOUT_SECONDS=60 -> CIRCUIT_BREAKER_TIMEOUT_SECONDS=5
left out: REDIS_URL=redis://redis-sentinel-1:26379,redis-sentinel-2:26379,redis-sentinel-3:26379/mymaster
left out: docker run -d \
sleep 60 -> sleep 5
docker exec bridge redis-cli -u $REDIS_URL PING -> docker exec bridge sh -c 'redis-cli -u $REDIS_URL PING'
docker exec bridge ping redis -> docker exec bridge ping -c 1 redis
left out: redis://localhost:6379/0
redis-cli KEYS "circuit_breaker:*:state" -> docker exec redis redis-cli KEYS "circuit_breaker:*:state"
redis-cli KEYS "circuit_breaker:*:calls" -> docker exec redis redis-cli KEYS "circuit_breaker:*:calls"
redis-cli KEYS "circuit_breaker:*:open_timestamp" -> docker exec redis redis-cli KEYS "circuit_breaker:*:open_timestamp"
docker-compose logs -f bridge | grep "Circuit breaker OPENED" -> timeout 3 docker-compose logs -f bridge | grep "Circuit breaker OPENED"
docker-compose logs -f bridge | grep "Circuit breaker transitioned to CLOSED" -> ` +
		`timeout 3 docker-compose logs -f bridge | grep "Circuit breaker transitioned to CLOSED"
docker-compose logs -f bridge | grep "CircuitBreakerOpenError" -> timeout 3 docker-compose logs -f bridge | grep "CircuitBreakerOpenError"
left out: docker run -d \
left out: REDIS_URL=redis://:your-strong-password@redis:6379/0
left out: REDIS_URL=rediss://redis:6380/0`
	var got []string
	asWritten := 0
	for _, st := range parseScript(t, "deployment-guide.txt") {
		first, _, _ := strings.Cut(st.command, "\n")
		switch {
		case (st.instead == "") != (st.because == ""), !st.doc && st.instead+st.leftOut != "":
			t.Errorf("line %d: a command of the guide that is run otherwise, and why, go together", st.line)
		case st.leftOut != "":
			got = append(got, "left out: "+first)
		case st.instead != "":
			got = append(got, first+" -> "+st.instead)
		case st.doc:
			asWritten++
		}
	}
	if text := strings.Join(got, "\n"); text != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
	if asWritten != 32 {
		t.Errorf("%d commands of the guide are run as it has them, want 32", asWritten)
	}
}
