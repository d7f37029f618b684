package ctl

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

const (
	confirmTyped = 10      // agents, above which their count is typed
	wholeFleet   = "fleet" // what is typed for the whole fleet
)

// scope is how far a change reaches.
type scope struct {
	what   string // to do: "open 12 agents (payments, …)"
	agents int
	fleet  bool // every call of every replica
	ask    bool // also of one agent
}

// change is the beginning of every command that changes something. It returns nil if that may be done.
func (c *cli) change(s scope) error {
	set, err := c.settings()
	if err != nil {
		return err
	}
	if set.ReadOnly {
		return &failure{
			Exit: exitAuth, Code: "read_only", Message: fmt.Sprintf("context %s is read only", set.Name),
			Next: "breakerctl context set " + set.Name + " --read-only=false, or another --context",
		}
	}
	always := set.Confirm == "always"
	switch {
	case c.yes && !always:
		return nil
	case !s.fleet && s.agents <= 1 && !s.ask && !always:
		return nil
	case c.yes && !isTerminal(c.In): // a script cannot be asked; --yes is its answer
		return nil
	case !isTerminal(c.In):
		return usagef("add --yes", "this would %s, and nobody is there to ask", s.what)
	}
	switch {
	case s.fleet:
		return c.ask(fmt.Sprintf("This will %s. Type %q to do it: ", s.what, wholeFleet), wholeFleet)
	case s.agents > confirmTyped:
		return c.ask(fmt.Sprintf("This will %s. Type %d to do it: ", s.what, s.agents), strconv.Itoa(s.agents))
	}
	return c.ask(fmt.Sprintf("This will %s. Go on? [y/N] ", s.what), "y", "yes")
}

func (c *cli) ask(question string, yes ...string) error {
	_, _ = fmt.Fprint(c.Err, question)
	line, err := bufio.NewReader(c.In).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	line = strings.ToLower(strings.TrimSpace(line))
	if slices.Contains(yes, line) {
		return nil
	}
	return &failure{Exit: exitFailed, Code: "not_confirmed", Message: "nothing was done"}
}
