package ctl_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/breakerd/breakerd/internal/app"
	"github.com/breakerd/breakerd/internal/ctl"
	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/client"
)

var update = flag.Bool("update", false, "rewrite what the scripts compare with, from what the commands print")

// TestMain makes this binary the programs that scripts run.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"breakerctl": func() {
			os.Exit(ctl.Run(context.Background(), os.Args[1:], os.Environ(), ctl.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
		},
		"breakerd": func() {
			os.Exit(app.Breakerd().Run(context.Background(), os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
		},
		"bridge": func() {
			os.Exit(app.Bridge().Run(context.Background(), os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
		},
	})
}

// TestScripts runs testdata/script, each against a Redis of its own. Beside testscript's own commands it has
//
//	serve NAME [VARIABLE=VALUE…]   start a breakerd that is called NAME; $NAME is its address, and the first one's is $BREAKERCTL_SERVER
//	serve-bridge NAME [VARIABLE=VALUE…]
//	signal NAME TERM|KILL|STOP|CONT
//	report AGENT OUTCOME COUNT [MS]  report calls to $BREAKERCTL_SERVER, that took so long
//	code N breakerctl …            run a command, whose exit code must be N
//	masked FILE                    write FILE: what the last command printed, with times, ids and addresses masked
//	redis COMMAND…                 redis-cli at the script's Redis
//	redis-stop, redis-start        kill the script's Redis, start it again, empty
func TestScripts(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			s := &stage{t: t, redis: testkit.Start(t), processes: map[string]*testkit.Process{}}
			testscript.Run(t, testscript.Params{
				Files: []string{file}, UpdateScripts: *update, Setup: s.setup, RequireUniqueNames: true,
				Cmds: map[string]func(*testscript.TestScript, bool, []string){
					"serve": s.serve("breakerd", "BREAKERD_LISTEN"), "serve-bridge": s.serve("bridge", "BRIDGE_LISTEN"),
					"signal": s.signal, "report": s.report, "code": code, "masked": masked, "redis": s.command,
					"redis-stop":  func(*testscript.TestScript, bool, []string) { s.redis.Kill() },
					"redis-start": func(*testscript.TestScript, bool, []string) { s.redis.Restart() },
				},
			})
		})
	}
}

// stage is what one script has around it.
type stage struct {
	t         *testing.T
	redis     *testkit.Server
	processes map[string]*testkit.Process
}

func (s *stage) setup(env *testscript.Env) error {
	env.Setenv("HOME", filepath.Join(env.WorkDir, "home"))
	env.Setenv("USER", "tester")
	env.Setenv("BREAKERCTL_ACTOR", "tester")
	env.Setenv("REDIS_URL", s.redis.URL())
	env.Setenv("REDIS_ADDR", s.redis.Addr)
	env.Setenv("TZ", "UTC")
	deploy, err := filepath.Abs("../../deploy")
	if err != nil {
		return err
	}
	env.Setenv("DEPLOY", deploy)
	return os.Mkdir(filepath.Join(env.WorkDir, "home"), 0o700)
}

// serve starts a program, and waits until it listens.
func (s *stage) serve(program, listen string) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, _ bool, args []string) {
		name := args[0]
		process, address := launch(s.t, program, append([]string{
			"HOME=" + ts.Getenv("HOME"), "REDIS_URL=" + s.redis.URL(), "REPLICA_ID=" + name, listen + "=127.0.0.1:0",
		}, args[1:]...)...)
		s.processes[name] = process
		ts.Setenv(name, address)
		if program == "breakerd" && ts.Getenv("BREAKERCTL_SERVER") == "" {
			ts.Setenv("BREAKERCTL_SERVER", address)
		}
	}
}

// launch starts one of TestMain's programs, and waits until it is ready.
func launch(t *testing.T, program string, environ ...string) (process *testkit.Process, address string) {
	t.Helper()
	environ = append([]string{
		"PATH=" + os.Getenv("PATH"), "GORACE=atexit_sleep_ms=10", "LOG_FORMAT=json", "REDIS_TIMEOUT_MS=2000",
	}, environ...)
	executable, err := exec.LookPath(program)
	if err != nil {
		t.Fatal(err)
	}
	process = testkit.Run(t, []string{executable}, environ)
	var line struct {
		Address string `json:"address"`
	}
	testkit.Eventually(t, program+" to listen", 30*time.Second, func() error {
		log, err := os.ReadFile(process.StderrFile)
		if err != nil {
			return err
		}
		if !process.Running() {
			t.Fatalf("%s ended: %s", program, log)
		}
		for text := range bytes.Lines(log) {
			if bytes.Contains(text, []byte(`"msg":"listening"`)) {
				return json.Unmarshal(text, &line)
			}
		}
		return fmt.Errorf("it says %s", log)
	})
	if strings.Contains(strings.Join(environ, " "), "TLS_CERT") {
		return process, "https://" + line.Address
	}
	await(t, "http://"+line.Address)
	return process, "http://" + line.Address
}

// which is the breakerctl that is tested.
func which(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("breakerctl")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// await waits until a server is ready.
func await(t *testing.T, address string) {
	t.Helper()
	testkit.Eventually(t, address+" to be ready", 30*time.Second, func() error {
		res, err := http.Get(address + "/readyz")
		if err != nil {
			return err
		}
		_ = res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return errors.New(res.Status)
		}
		return nil
	})
}

func (s *stage) signal(ts *testscript.TestScript, _ bool, args []string) {
	process := s.processes[args[0]]
	signal, ok := map[string]syscall.Signal{
		"TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL, "STOP": syscall.SIGSTOP, "CONT": syscall.SIGCONT,
	}[args[1]]
	if process == nil || !ok {
		ts.Fatalf("signal %q", args)
	}
	process.Signal(signal)
	if signal == syscall.SIGTERM || signal == syscall.SIGKILL {
		<-process.Done()
	}
}

func (s *stage) report(ts *testscript.TestScript, _ bool, args []string) {
	to, err := client.New(client.Options{Servers: []string{ts.Getenv("BREAKERCTL_SERVER")}, Token: client.Token(ts.Getenv("BREAKERCTL_TOKEN"))})
	ts.Check(err)
	defer to.CloseIdleConnections()
	count, err := strconv.Atoi(args[2])
	ts.Check(err)
	call := client.ReportRequest{Outcome: args[1]}
	if len(args) > 3 {
		call.DurationMs, err = strconv.ParseFloat(args[3], 64)
		ts.Check(err)
	}
	for range count {
		_, err := to.Report(s.t.Context(), args[0], call, "")
		ts.Check(err)
	}
}

func (s *stage) command(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec("redis-cli", append([]string{"-u", s.redis.URL()}, args...)...)
	if neg == (err == nil) {
		ts.Fatalf("redis-cli %q: %v", args, err)
	}
}

// code runs a command that must end with an exit code.
func code(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if exit := (interface{ ExitCode() int })(nil); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%q: %v", args[1:], err)
	}
	if got != want {
		ts.Fatalf("%q: exit code %d, want %d", args[1:], got, want)
	}
}

// masks are what differs from run to run.
var masks = []struct {
	pattern *regexp.Regexp
	mask    string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`), "TIME"},
	{regexp.MustCompile(`\b\d+(d\d+h|h\d+m|m\d+s|s) ago`), "AGO"},
	{regexp.MustCompile(`\bin \d+(d\d+h|h\d+m|m\d+s|s)\b`), "SOON"},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "ADDRESS"},
	{regexp.MustCompile(`\b[0-9a-f]{16}\b`), "ID"},
	{regexp.MustCompile(`\b\d{13}-\d+\b`), "STREAM-ID"},
	{regexp.MustCompile(`\b1\d{12}\b`), "MS"},
	{regexp.MustCompile(`\b\d+\.\d+ ?ms\b`), "MILLISECONDS"},
	{regexp.MustCompile(`   +`), "   "}, // of columns, whose width the masks changed
}

func masked(ts *testscript.TestScript, _ bool, args []string) {
	text := ts.ReadFile("stdout")
	for _, m := range masks {
		text = m.pattern.ReplaceAllString(text, m.mask)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}
