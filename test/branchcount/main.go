// Command branchcount prints how often random histories went through every branch of the machine, and fails where they did so
// too seldom. It reads the coverage profile of the histories:
//
//	go test -covermode=atomic -coverpkg=./pkg/breaker/machine -coverprofile=histories.out -run '^TestHistories' ./pkg/redisstore
//	go run ./test/branchcount histories.out
//
// A branch is a basic block of the Go machine, which the scripts equal operation by operation. What histories cannot reach
// stands in allowed.txt, with the reason.
package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	if len(args) != 1 {
		fmt.Fprintln(stderr, "usage: branchcount PROFILE")
		return 2
	}
	seldom, err := count(args[0], stdout)
	if err != nil {
		fmt.Fprintln(stderr, "branchcount:", err)
		return 2
	}
	for _, line := range seldom {
		fmt.Fprintln(stderr, "branchcount:", line)
	}
	if len(seldom) > 0 {
		return 1
	}
	return 0
}

// count prints the table of the profile and says what is wrong with it.
func count(path string, stdout io.Writer) (wrong []string, err error) {
	profile, err := os.ReadFile(path) //nolint:gosec // the file that the caller names
	if err != nil {
		return nil, err
	}
	blocks, err := readProfile(bytes.NewReader(profile))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	functions, err := readFunctions("pkg/breaker/machine")
	if err != nil {
		return nil, err
	}
	allowed, err := readAllowed(allowedText)
	if err != nil {
		return nil, err
	}
	return table(stdout, functions, blocks, allowed), nil
}
