// Command show prints the whole script of a verb, as Redis gets it: go run ./lua/cmd/show record.
package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/breakerd/breakerd/lua"
)

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	if len(args) != 1 {
		fmt.Fprintf(os.Stderr, "usage: show SCRIPT, one of %s\n", strings.Join(lua.Verbs(), ", "))
		return 2
	}
	text, err := lua.Source(args[0])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Print(text)
	return 0
}
