package app

import (
	"log/slog"
	"math"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// memoryShare is the share of the container's memory that the Go runtime may use. The rest is for what the kernel
// counts beside it, as the buffers of sockets.
const memoryShare = 0.9

// The budget of workflows where WORKFLOW_MEMORY_BYTES is not set: a share of what the Go runtime may use, so that
// streams, the collector's head room and all else have the rest.
const (
	workflowShare         = 4 // one part of so many
	defaultWorkflowMemory = 64 << 20
)

// limitMemory sets GOMEMLIMIT to a share of the cgroup's limit, unless it is set or there is none.
func limitMemory(log *slog.Logger) {
	limit, err := memlimit.Set(memlimit.WithRatio(memoryShare))
	switch {
	case err != nil:
		log.Warn("the cgroup's memory limit cannot be read; set GOMEMLIMIT", "error", err)
	case limit < math.MaxInt64:
		log.Info("memory is limited", "gomemlimit_bytes", limit)
	}
}

// workflowMemory is the budget of workflows in bytes; set is WORKFLOW_MEMORY_BYTES, 0: not set.
func workflowMemory(set int64) int64 {
	limit := debug.SetMemoryLimit(-1) // reads it
	switch {
	case set > 0:
		return set
	case limit < math.MaxInt64:
		return limit / workflowShare
	}
	return defaultWorkflowMemory
}
