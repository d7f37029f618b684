package main

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"runtime"
	"time"
)

// host says on what the figures were measured.
func host(ctx context.Context, p plan) (string, error) {
	out, err := exec.CommandContext(ctx, "redis-server", "--version").Output()
	if err != nil {
		return "", err
	}
	version := regexp.MustCompile(`v=([0-9.]+)`).FindSubmatch(out)
	if version == nil {
		return "", fmt.Errorf("redis-server has no version: %s", out)
	}
	return fmt.Sprintf("%s: %d cores (%s), %s, Redis %s on loopback; everything on the same cores. Medians of %d rounds, the contestants in turns.",
		time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), runtime.GOARCH, runtime.Version(), version[1], p.rounds), nil
}
