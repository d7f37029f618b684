// Command branchcount reads the coverage profile of the random histories, prints how often they took each branch of the
// machine, and fails if they took one too rarely:
//
//	go test -covermode=atomic -coverpkg=./pkg/breaker/machine -coverprofile=histories.out \
//		-run '^TestHistories' ./pkg/redisstore
//	go run ./test/branchcount histories.out
//
// A branch is a basic block of the machine in Go. The histories compare the scripts with it after every operation, so a
// branch that they take often is compared often. allowed.txt lists the branches that they cannot take, with the reason.
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
	complaints, err := count(args[0], stdout)
	if err != nil {
		fmt.Fprintln(stderr, "branchcount:", err)
		return 2
	}
	for _, line := range complaints {
		fmt.Fprintln(stderr, "branchcount:", line)
	}
	if len(complaints) > 0 {
		return 1
	}
	return 0
}

// count prints the table of the profile at path and returns its complaints.
func count(path string, stdout io.Writer) (complaints []string, err error) {
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
