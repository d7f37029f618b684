package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
)

// step is one command of a script in testdata, with what is wanted of it:
//
//	== TEXT         a heading
//	doc> COMMAND    a command of the document, word for word; "   > " begins each further line of it
//	own> COMMAND    a command of ours
//	  exit N        its exit code; 0 if nothing is said
//	  is TEXT       what it prints, but for blanks around it, is this; | stands for a line's end
//	  lines A B     what it prints is these words, one a line, in any order
//	  json VALUE    what it prints is this JSON value
//	  holds OBJECT  what it prints is a JSON object with these values among others
//	  like REGEXP   what it prints matches; may be said again
//	  eventually    it is run again until all that is so
//	  left out: WHY it is not run
//
// A command NAME=VALUE counts for all that follow.
type step struct {
	heading string
	line    int
	doc     bool
	command string
	wants   []want
	exit    string
	again   bool // eventually
	leftOut string
}

type want struct{ verb, arg string }

func parseScript(t testing.TB, file string) []step {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	var steps []step
	heading := ""
	for i, line := range strings.Split(string(text), "\n") {
		switch {
		case line == "" || line[0] == '#':
		case strings.HasPrefix(line, "== "):
			heading = line[3:]
		case strings.HasPrefix(line, "doc> "), strings.HasPrefix(line, "own> "):
			steps = append(steps, step{heading: heading, line: i + 1, doc: line[0] == 'd', command: line[5:], exit: "0"})
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
	case verb == "exit":
		s.exit = arg
	case verb == "eventually":
		s.again = true
	case strings.HasPrefix(rest, "left out: "):
		s.leftOut = strings.TrimPrefix(rest, "left out: ")
	case slices.Contains([]string{"is", "lines", "json", "holds", "like"}, verb):
		s.wants = append(s.wants, want{verb, arg})
	default:
		return fmt.Errorf("%q is not a thing that a script can want", verb)
	}
	return nil
}

var assignment = regexp.MustCompile(`^[A-Z_]+=\S*$`)

// session runs a script's commands in bash.
type session struct {
	enter    []string // the command that puts another into the namespace
	environ  []string
	setup    string // session.sh
	settings string // NAME=VALUE lines so far
}

func newSession(t testing.TB, ns namespace, log string) *session {
	t.Helper()
	need(t, "bash", "curl", "jq", "redis-cli", "grep")
	setup, err := os.ReadFile("testdata/session.sh")
	if err != nil {
		t.Fatal(err)
	}
	return &session{enter: ns.enter, setup: string(setup), environ: []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(),
		"LOG=" + log, "AGENT_SIGNATURE=none", "LC_ALL=C.UTF-8",
	}}
}

// play runs the steps in their order and stops at the first that is not as wanted: what follows builds on it.
func (s *session) play(t *testing.T, steps []step) {
	t.Helper()
	for _, st := range steps {
		switch {
		case st.leftOut != "":
		case assignment.MatchString(st.command):
			s.settings += st.command + "\n"
		case st.again:
			testkit.Eventually(t, fmt.Sprintf("line %d, %s", st.line, st.heading), 10*time.Second, func() error { return s.run(t, st) })
		default:
			if err := s.run(t, st); err != nil {
				t.Fatalf("line %d, %s: %v", st.line, st.heading, err)
			}
		}
	}
}

func (s *session) run(t *testing.T, st step) error {
	argv := append(slices.Clone(s.enter), "bash", "-c", s.setup+s.settings+st.command)
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.Env = s.environ
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		return err
	}
	text := strings.TrimSpace(string(out))
	if got := strconv.Itoa(cmd.ProcessState.ExitCode()); got != st.exit {
		err = fmt.Errorf("exit code %s, want %s", got, st.exit)
	} else {
		err = nil
	}
	for _, w := range st.wants {
		err = errors.Join(err, w.check(text))
	}
	if err != nil {
		return fmt.Errorf("%s\nprinted %s\n%s\n%w", st.command, text, stderr.String(), err)
	}
	return nil
}

func (w want) check(text string) error {
	var ok bool
	switch w.verb {
	case "is":
		ok = strings.ReplaceAll(text, "\n", "|") == w.arg
	case "lines":
		got, words := strings.Fields(text), strings.Fields(w.arg)
		slices.Sort(got)
		ok = slices.Equal(got, slices.Sorted(slices.Values(words)))
	case "like":
		re, err := regexp.Compile(w.arg)
		if err != nil {
			return err
		}
		ok = re.MatchString(text)
	default:
		var got, wanted any
		if err := errors.Join(json.Unmarshal([]byte(text), &got), json.Unmarshal([]byte(w.arg), &wanted)); err != nil {
			return err
		}
		ok = reflect.DeepEqual(got, wanted) || w.verb == "holds" && contains(got, wanted)
	}
	if !ok {
		return fmt.Errorf("not: %s %s", w.verb, w.arg)
	}
	return nil
}

// contains says whether got has the values of want; objects may have more.
func contains(got, want any) bool {
	w, ok := want.(map[string]any)
	if !ok {
		return reflect.DeepEqual(got, want)
	}
	g, ok := got.(map[string]any)
	for name, v := range w {
		ok = ok && contains(g[name], v)
	}
	return ok
}
