package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/breakerd/breakerd/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// running is a Program under test.
type running struct {
	t       *testing.T
	url     string
	signals chan os.Signal
	stderr  *testkit.Buffer
	exit    chan int
	orderly chan bool // what Stop was called with
}

// testProgram serves mux and /readyz at TEST_LISTEN. stopped receives what Stop is called with.
func testProgram(mux *http.ServeMux, drain time.Duration, stopped chan<- bool) Program {
	return Program{Name: "tester", About: "tests.", Help: "TEST_LISTEN\n", Configure: func(environ []string) (Config, error) {
		listen := strings.TrimPrefix(strings.Join(environ, ""), "TEST_LISTEN=")
		if listen == "" {
			return Config{}, errors.New("TEST_LISTEN is not set")
		}
		return Config{
			Listen: listen, LogFormat: "auto", ShutdownTimeout: drain, Warnings: []string{"mind the step"},
			Open: func(_ context.Context, h Host) (Service, error) {
				if listen == "nowhere" {
					return Service{}, errors.New("TEST_LISTEN: nowhere")
				}
				mux.HandleFunc("/readyz", func(w http.ResponseWriter, r *http.Request) {
					if err := h.Ready(r.Context()); err != nil {
						http.Error(w, err.Error(), http.StatusServiceUnavailable)
					}
				})
				return Service{
					Listeners: []Listener{{Listen: listen, Variable: "TEST_LISTEN", Handler: mux, Stream: true}},
					Banner:    func([]string) string { return "hello" },
					Stop:      func(orderly bool) { stopped <- orderly },
				}, nil
			},
		}, nil
	}}
}

// start runs mux until the test ends.
func start(t *testing.T, mux *http.ServeMux, drain time.Duration) *running {
	t.Helper()
	stopped := make(chan bool, 1)
	return startProgram(t, testProgram(mux, drain, stopped), stopped)
}

func startProgram(t *testing.T, p Program, stopped chan bool) *running {
	t.Helper()
	return startManaged(t, p, stopped, manager{})
}

// startManaged is for a program that systemd has started.
func startManaged(t *testing.T, p Program, stopped chan bool, m manager) *running {
	t.Helper()
	r := &running{t, "", make(chan os.Signal, 2), &testkit.Buffer{}, make(chan int, 1), stopped}
	go func() {
		r.exit <- p.
			run(context.WithoutCancel(t.Context()), nil, []string{"TEST_LISTEN=127.0.0.1:0"}, io.Discard, r.stderr, r.signals, m)
	}()
	testkit.Eventually(t, "a listener", 20*time.Second, func() error {
		for line := range strings.Lines(r.stderr.String()) {
			var l struct {
				Msg     string `json:"msg"`
				Address string `json:"address"`
				TLS     bool   `json:"tls"`
			}
			if json.Unmarshal([]byte(line), &l) == nil && l.Msg == "listening" {
				r.url = map[bool]string{false: "http://", true: "https://"}[l.TLS] + l.Address
				return nil
			}
		}
		return errors.New(r.stderr.String())
	})
	t.Cleanup(func() {
		r.signals <- syscall.SIGTERM
		r.signals <- syscall.SIGTERM
		<-r.exit
	})
	return r
}

// wantExit waits for the end of the program. It puts the code back for the cleanup.
func (r *running) wantExit(code int) {
	r.t.Helper()
	got := <-r.exit
	r.exit <- got
	if orderly := <-r.orderly; got != code || orderly != (code == exitOK) {
		r.t.Errorf("exit code %d, want %d; orderly %v: %s", got, code, orderly, r.stderr.String())
	}
}

func (r *running) get(h2c bool, path string) (*http.Response, error) {
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetHTTP1(!h2c)
	transport.Protocols.SetUnencryptedHTTP2(h2c)
	r.t.Cleanup(transport.CloseIdleConnections)
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, r.url+path, http.NoBody)
	if err != nil {
		r.t.Fatal(err)
	}
	return transport.RoundTrip(req)
}

// execute runs the program to its end.
func execute(t *testing.T, args []string, environ ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	code = testProgram(http.NewServeMux(), 0, make(chan bool, 1)).Run(t.Context(), args, environ, &out, &err)
	return code, out.String(), err.String()
}

func TestRun_Arguments(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args           string
		code           int
		stdout, stderr string
	}{
		{"--help", 0, "tester: tests.", ""},
		{"-h", 0, "TEST_LISTEN", ""},
		{"--version", 0, "tester ", ""},
		{"--loud", 2, "", `unknown argument "--loud"`},
		{"--health --loud", 2, "", `unknown argument "--health --loud"`},
	} {
		code, stdout, stderr := execute(t, strings.Fields(c.args))
		if code != c.code || !strings.Contains(stdout, c.stdout) || !strings.Contains(stderr, c.stderr) || (code == 0) != (stderr == "") {
			t.Errorf("%s: %d\n%s\n%s", c.args, code, stdout, stderr)
		}
	}
}

func TestRun_BadConfigurationExitsWith2(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args    []string
		environ string
	}{{nil, "TEST_LISTEN="}, {[]string{"--health"}, "TEST_LISTEN="}, {nil, "TEST_LISTEN=nowhere"}} {
		if code, stdout, stderr := execute(t, c.args, c.environ); code != 2 || stdout != "" || !strings.Contains(stderr, "tester: bad configuration:\nTEST_LISTEN") {
			t.Errorf("%v: %d\n%s", c, code, stderr)
		}
	}
}

func TestRun_TakenAddressExitsWith1(t *testing.T) {
	t.Parallel()
	r := start(t, http.NewServeMux(), 0)
	if code, _, stderr := execute(t, nil, "TEST_LISTEN="+strings.TrimPrefix(r.url, "http://")); code != 1 || !strings.Contains(stderr, "set TEST_LISTEN to a free address") {
		t.Errorf("%d %s", code, stderr)
	}
}

func TestRun_LogsWarnings(t *testing.T) {
	t.Parallel()
	if r := start(t, http.NewServeMux(), 0); !strings.Contains(r.stderr.String(), `"level":"WARN","msg":"configuration","component":"Circuit Breaker","warning":"mind the step"`) {
		t.Error(r.stderr.String())
	}
}

func TestHealth_AsksTheOneThatRuns(t *testing.T) {
	t.Parallel()
	r := start(t, http.NewServeMux(), 0)
	_, port, err := net.SplitHostPort(strings.TrimPrefix(r.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"127.0.0.1", "0.0.0.0", ""} {
		if code, stdout, stderr := execute(t, []string{"--health"}, "TEST_LISTEN="+host+":"+port); code != 0 || stdout != "ready\n" {
			t.Errorf("%q: %d %s", host, code, stderr)
		}
	}
	if code, _, stderr := execute(t, []string{"--health"}, "TEST_LISTEN=127.0.0.1:1"); code != 1 || !strings.Contains(stderr, "not ready") {
		t.Errorf("nobody there: %d %s", code, stderr)
	}
	for listen, want := range map[string]string{
		":9000": "127.0.0.1:9000", "0.0.0.0:9000": "127.0.0.1:9000", "[::]:9000": "[::1]:9000 127.0.0.1:9000", "127.0.0.2:9000": "127.0.0.2:9000", "demo:9000": "demo:9000",
	} {
		if got := strings.Join(reachable(listen), " "); got != want {
			t.Errorf("%s: %s, want %s", listen, got, want)
		}
	}
}

// hold serves /hold: it sends to began when a call has come, and answers once release is closed.
func hold(began chan<- struct{}, release <-chan struct{}) *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("/hold", func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		began <- struct{}{}
		select {
		case <-release:
			_, _ = io.WriteString(w, "whole")
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
	})
	return mux
}

func TestDrain_LetsCallsEnd(t *testing.T) {
	t.Parallel()
	for _, h2c := range []bool{false, true} {
		began, release := make(chan struct{}, 1), make(chan struct{})
		r := start(t, hold(began, release), time.Minute)
		res, err := r.get(h2c, "/hold")
		if err != nil {
			t.Fatal(err)
		}
		<-began
		r.signals <- syscall.SIGTERM
		testkit.Eventually(t, "the listener to close", 20*time.Second, func() error {
			if conn, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://")); err == nil {
				return errors.Join(errors.New("it still listens"), conn.Close())
			}
			return nil
		})
		close(release)
		if text, err := io.ReadAll(res.Body); err != nil || string(text) != "whole" {
			t.Errorf("%s: %q %v", res.Proto, text, err)
		}
		_ = res.Body.Close()
		r.wantExit(exitOK)
	}
}

func TestDrain_IsBounded(t *testing.T) {
	t.Parallel()
	began := make(chan struct{}, 1)
	r := start(t, hold(began, nil), 10*time.Millisecond)
	res, err := r.get(false, "/hold")
	if err != nil {
		t.Fatal(err)
	}
	<-began
	r.signals <- syscall.SIGTERM
	r.wantExit(exitOK)
	if text, err := io.ReadAll(res.Body); err == nil {
		t.Errorf("the call ended well: %q", text)
	}
	_ = res.Body.Close()
	if !strings.Contains(r.stderr.String(), "calls still under way") {
		t.Error(r.stderr.String())
	}
}

func TestSecondSignal_EndsAtOnce(t *testing.T) {
	t.Parallel()
	began := make(chan struct{}, 1)
	r := start(t, hold(began, nil), time.Hour)
	res, err := r.get(false, "/hold")
	if err != nil {
		t.Fatal(err)
	}
	<-began
	r.signals <- syscall.SIGTERM
	r.signals <- syscall.SIGTERM
	r.wantExit(exitFailed)
	_ = res.Body.Close()
}

// stuck are the parts of a program that hang until release is closed.
type stuck struct{ open, start, stop, reader bool }

// endOf runs a program in virtual time with parts that hang. It gives SIGTERM after an hour, another after then, and
// returns the exit code and how long the end took.
func (s stuck) endOf(t *testing.T, signals int, then time.Duration) (code int, took time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		hang := func(hangs bool) {
			if hangs {
				<-release
			}
		}
		p := Program{Name: "tester", Configure: func([]string) (Config, error) {
			return Config{
				ShutdownDelay: 3 * time.Second, ShutdownTimeout: 7 * time.Second,
				Open: func(_ context.Context, h Host) (Service, error) {
					for range 100 {
						h.Log.Info("a line")
					}
					hang(s.open)
					return Service{Start: func() { hang(s.start) }, Stop: func(bool) { hang(s.stop) }}, nil
				},
			}, nil
		}}
		arriving, exit := make(chan os.Signal, 2), make(chan int)
		stderr := writer(func(b []byte) (int, error) {
			hang(s.reader)
			return len(b), nil
		})
		go func() { exit <- p.run(t.Context(), nil, nil, io.Discard, stderr, arriving, manager{}) }()
		time.Sleep(time.Hour)
		begin := time.Now()
		for i := range signals {
			if i > 0 {
				time.Sleep(then)
				begin = time.Now()
			}
			arriving <- syscall.SIGTERM
		}
		code = <-exit
		took = time.Since(begin)
		close(release)
		time.Sleep(time.Hour) // what was left behind ends too
	})
	return code, took
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

// moby 31540 (nobody reads stderr), and each other part that may hang.
func TestEnd_IsBoundedWhateverHangs(t *testing.T) {
	t.Parallel()
	const drain, whole = 10 * time.Second, 10*time.Second + rest
	for _, c := range []struct {
		stuck   stuck
		signals int
		then    time.Duration
		code    int
		took    time.Duration
	}{
		{stuck{}, 1, 0, exitOK, 3 * time.Second},
		{stuck{reader: true}, 1, 0, exitOK, 3*time.Second + lastLines},
		{stuck{open: true}, 1, 0, exitFailed, whole},
		{stuck{start: true}, 1, 0, exitFailed, whole},
		{stuck{stop: true}, 1, 0, exitFailed, whole},
		{stuck{stop: true, reader: true}, 1, 0, exitFailed, whole + lastLines},
		{stuck{open: true, reader: true}, 1, 0, exitFailed, whole + lastLines},
		{stuck{}, 2, time.Second, exitFailed, 0},
		{stuck{reader: true}, 2, time.Second, exitFailed, lastLines},
		{stuck{open: true}, 2, 0, exitFailed, forcedRest},
		{stuck{start: true}, 2, time.Second, exitFailed, forcedRest},
		{stuck{stop: true}, 2, time.Second, exitFailed, forcedRest},
		{stuck{stop: true}, 2, drain, exitFailed, forcedRest}, // in Stop already
		{stuck{open: true, stop: true, reader: true}, 2, time.Second, exitFailed, forcedRest + lastLines},
	} {
		if code, took := c.stuck.endOf(t, c.signals, c.then); code != c.code || took != c.took {
			t.Errorf("%+v: exit code %d after %v", c, code, took)
		}
	}
}

// A service that failed ends in time too: nobody gives it a signal.
func TestEnd_IsBoundedAfterAFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var stderr bytes.Buffer
		p := Program{Name: "tester", Configure: func([]string) (Config, error) {
			return Config{Open: func(context.Context, Host) (Service, error) {
				return Service{Listeners: []Listener{{Listen: "nowhere"}}, Stop: func(bool) { <-release }}, nil
			}}, nil
		}}
		begin := time.Now()
		code := p.run(t.Context(), nil, nil, io.Discard, &stderr, nil, manager{})
		if took := time.Since(begin); code != exitFailed || took != rest || !strings.Contains(stderr.String(), "not stopped in time") {
			t.Errorf("exit code %d after %v: %s", code, took, stderr.String())
		}
		close(release)
	})
}

// A configuration that is refused, arguments and a failed probe are said on stderr; nobody need read that.
func TestEnd_BeforeItBegan(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"--loud"}, {}, {"--health"}} {
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			begin := time.Now()
			code := testProgram(nil, 0, nil).run(t.Context(), args, []string{"TEST_LISTEN="}, io.Discard, writer(func(b []byte) (int, error) {
				<-release
				return len(b), nil
			}), nil, manager{})
			if took := time.Since(begin); code != exitConfig || took != lastLines {
				t.Errorf("%q: exit code %d after %v", args, code, took)
			}
			close(release)
		})
	}
}

// A call that does not heed its context is left behind.
func TestDrain_LeavesBehindACallThatDoesNotEnd(t *testing.T) {
	t.Parallel()
	mux, began, release := http.NewServeMux(), make(chan struct{}, 1), make(chan struct{})
	mux.HandleFunc("/deaf", func(http.ResponseWriter, *http.Request) {
		began <- struct{}{}
		<-release
	})
	r := start(t, mux, 10*time.Millisecond)
	go func() {
		if res, err := r.get(false, "/deaf"); err == nil {
			_ = res.Body.Close()
		}
	}()
	<-began
	r.signals <- syscall.SIGTERM
	r.wantExit(exitOK)
	close(release)
}

// The Makefile's own rule builds the programs here, as a release does.
func TestVersion_IsWhatMakeBuildWasGiven(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it links every program anew")
	}
	dir := t.TempDir()
	const version = "v9.8.7-6-gabcdef0-dirty"
	build := exec.CommandContext(t.Context(), "make", "-C", "../..", "build", "BIN="+dir, "VERSION="+version)
	build.Env = append(os.Environ(), "GOFLAGS=-buildvcs=false") // another process may be writing to the repository
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	programs, err := os.ReadDir(dir)
	if err != nil || len(programs) < 3 {
		t.Fatalf("%v %v", programs, err)
	}
	for _, p := range programs {
		out, err := exec.CommandContext(t.Context(), filepath.Join(dir, p.Name()), "--version").Output()
		if err != nil || string(out) != p.Name()+" "+version+"\n" {
			t.Errorf("%s says %q, %v", p.Name(), out, err)
		}
	}
}
