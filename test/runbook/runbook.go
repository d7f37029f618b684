// Package runbook plays the commands of a document in bash, word for word, and checks what each prints.
//
// A script is a text file:
//
//	== TEXT           a heading of the document
//	doc> COMMAND      a command of the document, word for word; "   > " begins each further line of it
//	own> COMMAND      a command of the test's own
//	  left out: WHY   the command is not run
//	  instead COMMAND this command is run in its place
//	  because WHY     why it is
//	  exit N          its exit code; 0 if nothing is said
//	  is TEXT         its output, without blanks around it; | stands for a line's end
//	  lines A B       its output is these words, one a line, in any order
//	  json VALUE      its output is this JSON value
//	  holds OBJECT    its output is a JSON object with these values among others
//	  like REGEXP     its output matches; may be said again
//	  eventually      it is run again until all that holds
//	  show            its output goes into the test's log
//
// A command NAME=VALUE sets a variable for all that follow.
package runbook

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

// Step is one command of a script, with what is wanted of it.
type Step struct {
	Heading string
	Line    int
	Doc     bool // of the document
	Command string
	Instead string
	Because string
	LeftOut string

	wants      []want
	exit       string
	eventually bool
	show       bool
}

type want struct{ verb, arg string }

// Checked says whether anything is wanted of the step's output.
func (s *Step) Checked() bool { return len(s.wants) > 0 }

var assignment = regexp.MustCompile(`^([A-Z_]+)=(\S*)$`)

// Sets says whether the step only sets a variable.
func (s *Step) Sets() bool { return assignment.MatchString(s.Command) }

// Parse reads testdata/file.
func Parse(t testing.TB, file string) []Step {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	var steps []Step
	heading := ""
	for i, line := range strings.Split(string(text), "\n") {
		switch {
		case line == "" || line[0] == '#':
		case strings.HasPrefix(line, "== "):
			heading = line[3:]
		case strings.HasPrefix(line, "doc> "), strings.HasPrefix(line, "own> "):
			steps = append(steps, Step{Heading: heading, Line: i + 1, Doc: line[0] == 'd', Command: line[5:], exit: "0"})
		case len(steps) == 0:
			t.Fatalf("%s:%d: no command before this", file, i+1)
		case strings.HasPrefix(line, "   > "):
			steps[len(steps)-1].Command += "\n" + line[5:]
		default:
			if err := steps[len(steps)-1].add(line); err != nil {
				t.Fatalf("%s:%d: %v", file, i+1, err)
			}
		}
	}
	return steps
}

// add takes one line of what is wanted.
func (s *Step) add(line string) error {
	rest, ok := strings.CutPrefix(line, "  ")
	verb, arg, _ := strings.Cut(rest, " ")
	switch {
	case !ok:
		return fmt.Errorf("%q is no line of a script", line)
	case strings.HasPrefix(rest, "left out: "):
		s.LeftOut = strings.TrimPrefix(rest, "left out: ")
	case verb == "instead":
		s.Instead = arg
	case verb == "because":
		s.Because = arg
	case verb == "exit":
		s.exit = arg
	case verb == "eventually":
		s.eventually = true
	case verb == "show":
		s.show = true
	case slices.Contains([]string{"is", "lines", "json", "holds", "like"}, verb):
		s.wants = append(s.wants, want{verb, arg})
	default:
		return fmt.Errorf("%q is not a thing that a script can want", verb)
	}
	return nil
}

// Session is where commands run.
type Session struct {
	Enter   []string                 // a command that runs the rest of its arguments elsewhere; empty: here
	Dir     string                   // "": the test's
	Environ []string                 // of each command
	Within  time.Duration            // how long "eventually" may take
	Set     func(name, value string) // sets a variable; nil: for this session's commands alone

	setup string // testdata/session.sh, and the variables that were set
}

// Play runs the steps in their order. It ends the test at the first that is not as wanted, for what follows builds on
// it.
func (s *Session) Play(t *testing.T, steps []Step) {
	t.Helper()
	setup, err := os.ReadFile("testdata/session.sh")
	if err != nil {
		t.Fatal(err)
	}
	s.setup = string(setup)
	for _, st := range steps {
		if st.LeftOut != "" {
			continue
		}
		if st.Instead != "" {
			st.Command = st.Instead
		}
		where := fmt.Sprintf("line %d, %s", st.Line, st.Heading)
		if v := assignment.FindStringSubmatch(st.Command); v != nil {
			s.set(v[1], v[2])
			continue
		}
		if st.eventually {
			testkit.Eventually(t, where, s.Within, func() error { return s.run(t, &st) })
			continue
		}
		if err := s.run(t, &st); err != nil {
			t.Fatalf("%s: %v", where, err)
		}
	}
}

func (s *Session) set(name, value string) {
	if s.Set != nil {
		s.Set(name, value)
		return
	}
	s.setup += name + "=" + value + "\n"
}

func (s *Session) run(t *testing.T, st *Step) error {
	argv := append(slices.Clone(s.Enter), "bash", "-c", s.setup+st.Command)
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = s.Dir, s.Environ
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		return err
	}
	text := strings.TrimSpace(string(out))
	var faults error
	if got := strconv.Itoa(cmd.ProcessState.ExitCode()); got != st.exit {
		faults = fmt.Errorf("exit code %s, want %s", got, st.exit)
	}
	for _, w := range st.wants {
		faults = errors.Join(faults, w.check(text))
	}
	if faults != nil {
		return fmt.Errorf("%s\nprinted %s\n%s\n%w", st.Command, text, stderr.String(), faults)
	}
	if st.show {
		t.Logf("%s\n%s", st.Command, text)
	}
	return nil
}

func (w want) check(text string) error {
	var ok bool
	switch w.verb {
	case "is":
		ok = strings.ReplaceAll(text, "\n", "|") == w.arg
	case "lines":
		ok = slices.Equal(slices.Sorted(strings.FieldsSeq(text)), slices.Sorted(strings.FieldsSeq(w.arg)))
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
