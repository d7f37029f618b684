//go:build nightly

package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/breakerd/breakerd/internal/testkit"
)

// cgroup is a control group whose processes the kernel ends when they take more memory than it may have.
type cgroup struct {
	t         testing.TB
	dir, peak string
}

var cgroups atomic.Int64

// newCgroup makes a control group of so many bytes, of version 1 or 2. The test is skipped where it may not.
func newCgroup(t testing.TB, most int64) *cgroup {
	t.Helper()
	root, limit, peak := "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.max_usage_in_bytes"
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		root, limit, peak = "/sys/fs/cgroup", "memory.max", "memory.peak"
		_ = os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), []byte("+memory"), 0) // or the limit cannot be set
	}
	dir := filepath.Join(root, fmt.Sprintf("breakerd-e2e-%d-%d", os.Getpid(), cgroups.Add(1)))
	err := os.Mkdir(dir, 0o755)
	if err == nil {
		t.Cleanup(func() {
			testkit.Eventually(t, "its processes to be gone", endTimeout, func() error { return os.Remove(dir) })
		})
		err = os.WriteFile(filepath.Join(dir, limit), []byte(strconv.FormatInt(most, 10)), 0)
	}
	if errors.Is(err, os.ErrPermission) || errors.Is(err, os.ErrNotExist) || err != nil && os.Getuid() != 0 {
		t.Skipf("no control group can be made here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = os.WriteFile(filepath.Join(dir, "memory.swap.max"), []byte("0"), 0) // version 2, with swap
	return &cgroup{t, dir, filepath.Join(dir, peak)}
}

// run is a command that runs another in the group.
func (c *cgroup) run(argv ...string) []string {
	return append([]string{"/bin/sh", "-c", `echo $$ > "$0/cgroup.procs" && exec "$@"`, c.dir}, argv...)
}

// most returns how many bytes the group has had at once.
func (c *cgroup) most() int64 {
	c.t.Helper()
	text, err := os.ReadFile(c.peak)
	if err != nil {
		c.t.Fatal(err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		c.t.Fatal(err)
	}
	return n
}
