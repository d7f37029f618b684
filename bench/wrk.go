package main

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

//go:embed wrk/*.lua
var wrkScripts embed.FS

// wrkTool runs wrk and reads its output.
type wrkTool struct {
	dir     string // of the scripts
	seconds int    // of a run
}

func newWrk(dir string, d time.Duration) (*wrkTool, error) {
	w := &wrkTool{dir: dir, seconds: max(1, int(d.Seconds()))}
	scripts := map[string][]string{"tally": {"tally"}, "pairs": {"pairs", "tally"}, "batch": {"batch", "tally"}}
	for name, parts := range scripts {
		var text []byte
		for _, part := range parts {
			own, err := wrkScripts.ReadFile("wrk/" + part + ".lua")
			if err != nil {
				return nil, err
			}
			text = append(text, own...)
		}
		if err := os.WriteFile(w.path(name), text, 0o600); err != nil {
			return nil, err
		}
	}
	return w, nil
}

func (w *wrkTool) path(name string) string { return filepath.Join(w.dir, name+".lua") }

// load is one run of wrk.
type load struct {
	Requests int64   `json:"requests"`
	Micros   int64   `json:"micros"` // of the whole run
	Refused  int64   `json:"refused"`
	Broken   int64   `json:"broken"`
	P50      float64 `json:"p50"`
	P99      float64 `json:"p99"`
	Counted  int64   `json:"counted"` // outcomes that the server says it counted
	Odd      int64   `json:"odd"`     // unexpected answers

	cpu map[string]float64 // microseconds a request, by process
}

func (l load) rate() float64 { return float64(l.Requests) / float64(l.Micros) * 1e6 }
func (l load) p50() float64  { return l.P50 / 1000 }
func (l load) p99() float64  { return l.P99 / 1000 }

func cpuOf(process string) func(load) float64 {
	return func(l load) float64 { return l.cpu[process] }
}

// drive runs wrk once. processes are the ids of those whose CPU is measured, by name.
func (w *wrkTool) drive(
	ctx context.Context, script, url string, connections int, processes map[string]int,
) (load, error) {
	before, err := cpuTimes(processes)
	if err != nil {
		return load{}, err
	}
	args := []string{
		"-t1", "-c" + strconv.Itoa(connections), "-d" + strconv.Itoa(w.seconds) + "s", "--timeout", "30s",
		"-s", w.path(script), url,
	}
	cmd := exec.CommandContext(ctx, "wrk", args...) //nolint:gosec // a script and a URL of the bench
	out, err := cmd.CombinedOutput()
	_, text, _ := strings.Cut(string(out), "TALLY ")
	var l load
	if err == nil {
		err = json.Unmarshal([]byte(text), &l)
	}
	if err != nil {
		return l, fmt.Errorf("wrk: %w\n%s", err, out)
	}
	if l.Broken+l.Odd > 0 || l.Requests == 0 {
		return l, fmt.Errorf("void: of %d requests to %s, %d broke and %d had unexpected answers\n%s",
			l.Requests, url, l.Broken, l.Odd, out)
	}
	after, err := cpuTimes(processes)
	if err != nil {
		return l, err
	}
	l.cpu = map[string]float64{}
	for name := range processes {
		l.cpu[name] = float64((after[name] - before[name]).Microseconds()) / float64(l.Requests)
	}
	return l, nil
}

// cpuTimes is the CPU that processes have used, of user and kernel, in the 10 ms ticks of the kernel.
func cpuTimes(processes map[string]int) (map[string]time.Duration, error) {
	times := map[string]time.Duration{}
	for name, pid := range processes {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return nil, err
		}
		_, rest, _ := strings.Cut(string(text), ") ") // the name before may contain blanks
		for _, field := range strings.Fields(rest)[11:13] {
			ticks, err := strconv.ParseInt(field, 10, 64)
			if err != nil {
				return nil, err
			}
			times[name] += time.Duration(ticks*10) * time.Millisecond
		}
	}
	return times, nil
}
