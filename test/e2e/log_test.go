package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
)

// endsIn bounds the end of a program with a timeout of zero, on a busy machine.
const endsIn = 10 * time.Second

// logPipe is the reader of a program's stderr. A named pipe behaves as any other.
type logPipe struct {
	t    testing.TB
	path string
	in   *os.File
	buf  *bufio.Reader
}

func newLogPipe(t testing.TB) *logPipe {
	t.Helper()
	p := &logPipe{t: t, path: filepath.Join(t.TempDir(), "stderr")}
	if err := syscall.Mkfifo(p.path, 0o600); err != nil {
		t.Fatal(err)
	}
	p.open()
	t.Cleanup(p.close)
	return p
}

// open comes back, or comes for the first time.
func (p *logPipe) open() {
	p.t.Helper()
	var err error
	if p.in, err = os.OpenFile(p.path, os.O_RDONLY|syscall.O_NONBLOCK, 0); err != nil {
		p.t.Fatal(err)
	}
	p.buf = bufio.NewReader(p.in)
}

// close goes away.
func (p *logPipe) close() { _ = p.in.Close() }

// logLine is one line of the log.
type logLine struct {
	Level     string `json:"level"`
	Msg       string `json:"msg"`
	Component string `json:"component"`
	Address   string `json:"address"`
	Path      string `json:"path"`
	Count     int    `json:"count"`
}

// next reads one line. It is io.EOF when the program has ended.
func (p *logPipe) next() (l logLine, err error) {
	if err := p.in.SetReadDeadline(time.Now().Add(startTimeout)); err != nil {
		return l, err
	}
	text, err := p.buf.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(text, &l)
	}
	if err == nil && l.Component != "Circuit Breaker" {
		err = errors.New("no component")
	}
	if err != nil && (len(text) > 0 || !errors.Is(err, io.EOF)) {
		err = fmt.Errorf("%w: %q", err, text)
	}
	return l, err
}

// until reads up to a line with this message.
func (p *logPipe) until(msg string) logLine {
	p.t.Helper()
	for {
		l, err := p.next()
		if err != nil {
			p.t.Fatalf("before %q: %v", msg, err)
		}
		if l.Msg == msg {
			return l
		}
	}
}

// startLogging starts a program whose stdout and stderr are the pipe. The reader has read the lines of the start.
func (p program) startLogging(t testing.TB, pipe *logPipe, env ...string) *daemon {
	t.Helper()
	need(t, "bash")
	d := p.launchBinary(t, []string{"bash", "-c", `exec "$0" >"$1" 2>&1`, p.binary(), pipe.path}, env...)
	// The pipe has a reader, but no writer yet: a read would be at its end.
	testkit.Eventually(t, "the program to open the pipe", startTimeout, func() error {
		_, err := pipe.buf.Peek(1)
		return err
	})
	d.at(pipe.until("listening").Address)
	return d
}

// at is awaitListening for an address that is known.
func (d *daemon) at(addr string) {
	d.addr = addr
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	d.client = &http.Client{Transport: transport, Timeout: startTimeout}
	d.t.Cleanup(transport.CloseIdleConnections)
}

// pad makes a request's line as long as 20 KB.
var pad = strings.Repeat("x", 20_000)

// chatter makes n requests, numbered from the first, whose lines at level debug are long. Each must be answered.
func (d *daemon) chatter(first, n int) {
	d.t.Helper()
	for i := range n {
		d.call(http.MethodGet, "/n/"+strconv.Itoa(first+i)+"/"+pad, "").want(http.StatusNotFound)
	}
}

// dropped reads the metric.
func (d *daemon) dropped() int {
	d.t.Helper()
	page := string(d.call(http.MethodGet, "/metrics", "").want(http.StatusOK).body)
	m := regexp.MustCompile(`(?m)^circuit_breaker_log_lines_dropped_total (\S+)$`).FindStringSubmatch(page)
	if m == nil {
		d.t.Fatal("the metric is absent")
	}
	n, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		d.t.Fatal(err)
	}
	return int(n)
}

// overflow makes lines until some are dropped, and more.
func (d *daemon) overflow() (next int) {
	d.t.Helper()
	for ; d.dropped() == 0; next += 20 {
		if next > 1000 {
			d.t.Fatal("nothing is dropped")
		}
		d.chatter(next, 20)
	}
	d.chatter(next, 20)
	return next + 20
}

// ends gives SIGTERM and wants exit code 0 in time.
func (d *daemon) ends() {
	d.t.Helper()
	d.signal(syscall.SIGTERM)
	d.endsWith(0)
}

func (d *daemon) endsWith(code int) {
	d.t.Helper()
	select {
	case <-d.Done():
		if got := d.ExitCode(); got != code {
			d.t.Errorf("%s: exit code %d, want %d", d.name, got, code)
		}
	case <-time.After(endsIn):
		d.t.Errorf("%s runs on", d.name)
	}
}

// talker is a program that logs to a pipe, with Redis and one agent.
type talker struct {
	*daemon

	pipe  *logPipe
	redis *testkit.Server
	agent string // that work calls
}

// talkers are breakerd and bridge, strict and cached.
func talkers(t *testing.T, test func(d *talker)) {
	t.Helper()
	for _, mode := range []string{"strict", "cached"} {
		t.Run("breakerd "+mode, func(t *testing.T) {
			t.Parallel()
			s, pipe := testkit.Start(t), newLogPipe(t)
			d := breakerd.startLogging(t, pipe, "REDIS_URL="+s.URL(), "LOG_LEVEL=debug", "CIRCUIT_BREAKER_CONSISTENCY="+mode)
			test(&talker{d, pipe, s, "Other"})
		})
		t.Run("bridge "+mode, func(t *testing.T) {
			t.Parallel()
			s, pipe := newSite(t), newLogPipe(t)
			d := bridge.startLogging(t, pipe, "REDIS_URL="+s.redis.URL(), "LOG_LEVEL=debug", "CIRCUIT_BREAKER_CONSISTENCY="+mode,
				"AGENTS_FILE="+filepath.Join(s.dir, "agents.json"))
			test(&talker{d, pipe, s.redis, "Other"})
		})
	}
}

// work makes n calls that succeed.
func (d *talker) work(n int) {
	d.t.Helper()
	if d.program == breakerd {
		d.run(d.agent, "success", n)
		return
	}
	for range n {
		d.through(d.agent, "/").want(http.StatusOK)
	}
}

// counted wants Redis to have this many successes, and no failure.
func (d *talker) counted(n int) {
	d.t.Helper()
	start(d.t, "REDIS_URL="+d.redis.URL()).show(d.agent).has("totals.successes", float64(n)).has("totals.failures", 0.0)
}

// beginCall begins a call that ends when finish is called.
func (d *talker) beginCall() (finish func()) {
	d.t.Helper()
	if d.program == breakerd {
		slow := beginReport(d.daemon, d.agent, d.acquire(d.agent).want(http.StatusOK).text("permit"))
		return func() {
			d.t.Helper()
			slow.finish().want(http.StatusOK).has("counted", true)
		}
	}
	conn := dial(d.t, d.addr)
	_, err := fmt.Fprintf(conn, "POST /agents/%s/ HTTP/1.1\r\nHost: %s\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n", d.agent, d.addr)
	if err != nil {
		d.t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	head := make([]byte, len("HTTP/1.1 100 Continue\r\n\r\n")) // it says that the agent reads the body
	if _, err := io.ReadFull(in, head); err != nil || !strings.HasPrefix(string(head), "HTTP/1.1 100 ") {
		d.t.Fatalf("no 100 Continue: %q, %v", head, err)
	}
	return func() {
		d.t.Helper()
		if _, err := io.WriteString(conn, "{}"); err != nil {
			d.t.Fatal(err)
		}
		if next, err := in.Peek(len(head)); err == nil && string(next) == string(head) { // net/http may send it twice
			_, _ = in.Discard(len(head))
		}
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			d.t.Fatalf("the call in flight got no answer: %v", err)
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != http.StatusOK {
			d.t.Errorf("the call in flight: %s, %v", res.Status, err)
		}
		_ = res.Body.Close()
	}
}

// moby 31540, containerd 9342: the pipe is full, and every write to it waits.
func TestLog_UnreadPipeHoldsNothing(t *testing.T) {
	t.Parallel()
	talkers(t, func(d *talker) {
		d.overflow()
		d.call(http.MethodGet, "/livez", "").want(http.StatusOK)
		d.call(http.MethodGet, "/readyz", "").want(http.StatusOK)
		d.work(20)
		finish := d.beginCall()
		d.signal(syscall.SIGTERM)
		notReady(d.daemon)
		finish()
		d.endsWith(0)
		d.counted(21)
	})
}

// notReady waits until the program takes no new calls.
func notReady(d *daemon) {
	d.t.Helper()
	testkit.Eventually(d.t, "no new calls to be wanted", startTimeout, func() error {
		if r, err := d.try(http.MethodGet, "/readyz", ""); err == nil && r.status == http.StatusOK {
			return errors.New("/readyz says ready")
		}
		return nil
	})
}

// moby 19728: the reader goes away, and the next line raises SIGPIPE.
func TestLog_ReaderThatGoesAwayEndsNothing(t *testing.T) {
	t.Parallel()
	talkers(t, func(d *talker) {
		finish := d.beginCall()
		d.pipe.close()
		d.work(20)
		testkit.Eventually(d.t, "lines to be lost", startTimeout, func() error {
			if d.call(http.MethodGet, "/readyz", "").want(http.StatusOK); d.dropped() == 0 {
				return errors.New("none are")
			}
			return nil
		})
		d.signal(syscall.SIGTERM)
		notReady(d.daemon)
		finish()
		d.endsWith(0)
		d.counted(21)
	})
}

// A second reader finds whole lines, and how many are missing before them.
func TestLog_ReaderThatComesBackIsToldWhatIsMissing(t *testing.T) {
	t.Parallel()
	pipe := newLogPipe(t)
	d := breakerd.startLogging(t, pipe, "LOG_LEVEL=debug")
	pipe.close()
	for d.dropped() < 10 {
		d.chatter(0, 10)
	}
	pipe.open()
	testkit.Eventually(t, "a line", startTimeout, func() error {
		d.chatter(0, 1)
		_, err := pipe.buf.Peek(1)
		return err
	})
	for missing := 0; missing < 10; {
		l := pipe.until("log lines dropped")
		if l.Level != "WARN" || l.Count == 0 {
			t.Fatalf("%+v", l)
		}
		missing += l.Count
	}
	go drain(pipe)
	d.ends()
}

func drain(p *logPipe) {
	for {
		if _, err := p.next(); err != nil {
			return
		}
	}
}

// The reader stops, and goes on: the lines are whole and in order, and those that are missing are counted where they are.
func TestLog_ReaderThatStopsAndGoesOn(t *testing.T) {
	t.Parallel()
	pipe := newLogPipe(t)
	d := breakerd.startLogging(t, pipe, "LOG_LEVEL=debug")
	n := d.overflow()
	type sums struct{ seen, notices, missing int }
	end := make(chan sums, 1)
	go func() {
		var s sums
		last := -1
		for {
			l, err := pipe.next()
			if err != nil {
				if !errors.Is(err, io.EOF) {
					t.Error(err)
				}
				end <- s
				return
			}
			if l.Msg == "log lines dropped" {
				s.notices++
				s.missing += l.Count
			}
			if _, number, is := strings.Cut(l.Path, "/n/"); is {
				number, _, _ = strings.Cut(number, "/")
				if i, err := strconv.Atoi(number); err != nil || i <= last || s.notices == 0 && i != last+1 {
					t.Errorf("request %s after %d", number, last)
				} else {
					last = i
				}
				s.seen++
			}
		}
	}()
	// Lines of /metrics may be among the missing: at least as many are as numbers are.
	testkit.Eventually(t, "room", startTimeout, func() error {
		before := d.dropped()
		d.chatter(n, 1)
		n++
		if d.dropped() != before {
			return errors.New("lines are dropped")
		}
		return nil
	})
	dropped := d.dropped()
	d.ends()
	if s := <-end; s.missing != dropped || s.notices == 0 || s.seen+s.missing < n || s.seen == 0 {
		t.Errorf("%+v of %d requests, %d dropped", s, n, dropped)
	}
}

// A slow reader takes the pace of nobody.
func TestLog_SlowReader(t *testing.T) {
	t.Parallel()
	pipe := newLogPipe(t)
	d := breakerd.startLogging(t, pipe, "LOG_LEVEL=debug")
	ctx := t.Context()
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(250 * time.Millisecond) // four lines a second: any machine writes more
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if _, err := pipe.next(); err != nil {
				return
			}
		}
	})
	t.Cleanup(wg.Wait)
	d.overflow()
	d.run("Agent", "success", 20)
	d.ends()
}

// What stderr may be, other than a pipe.
func TestLog_StderrThatTakesNothing(t *testing.T) {
	t.Parallel()
	need(t, "bash")
	for name, redirect := range map[string]string{
		"closed": "2>&-", "all closed": "0<&- 1>&- 2>&-", "full": "2>/dev/full", "both full": ">/dev/full 2>&1", "for reading": "2</dev/null",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := testkit.FreeAddress(t)
			d := breakerd.launchBinary(t, []string{"bash", "-c", `exec "$0" ` + redirect, breakerd.binary()},
				"BREAKERD_LISTEN="+addr, "LOG_LEVEL=debug")
			d.at(addr)
			testkit.Eventually(t, "it to listen", startTimeout, func() error {
				_, err := d.try(http.MethodGet, "/readyz", "")
				return err
			})
			d.run("Agent", "success", 5)
			d.call(http.MethodGet, "/readyz", "").want(http.StatusOK)
			if strings.Contains(name, "closed") { // the runtime opens /dev/null in its place
				d.dropped()
			} else {
				testkit.Eventually(t, "lines to be lost", startTimeout, func() error {
					if d.dropped() == 0 {
						return errors.New("none are")
					}
					return nil
				})
			}
			d.ends()
		})
	}
}

// The log is a file on a disk that is full, and is not any more.
func TestLog_FullDisk(t *testing.T) {
	t.Parallel()
	need(t, "unshare", "bash")
	unshare := []string{"unshare", "-m"}
	if os.Getuid() != 0 {
		unshare = []string{"unshare", "-r", "-m"}
	}
	dir := t.TempDir()
	addr := testkit.FreeAddress(t)
	d := breakerd.launchBinary(t, append(unshare, "bash", "-c", `mount -t tmpfs -o size=4m none "$1" && exec "$0" 2>>"$1/log"`, breakerd.binary(), dir),
		"BREAKERD_LISTEN="+addr, "LOG_LEVEL=debug")
	d.at(addr)
	testkit.Eventually(t, "it to listen", startTimeout, func() error {
		_, err := d.try(http.MethodGet, "/readyz", "")
		return err
	})
	file := filepath.Join("/proc", strconv.Itoa(d.PID()), "root", dir, "log") // as the program sees it
	for d.dropped() == 0 {
		d.chatter(0, 10)
	}
	d.run("Agent", "success", 5)
	full, err := os.ReadFile(file)
	if err == nil {
		err = os.Truncate(file, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "a line that says what is missing", startTimeout, func() error {
		d.call(http.MethodGet, "/readyz", "").want(http.StatusOK)
		after, err := os.ReadFile(file)
		if err == nil && !strings.Contains(string(after), `"msg":"log lines dropped"`) {
			return errors.New("there is none")
		}
		checkLog(t, string(full)+string(after[:strings.LastIndex(string(after), "\n")+1])) // the disk was full within a line
		return err
	})
	d.ends()
}

// Redis has stopped answering, nobody reads the log, a call does not end: the program ends in time all the same.
func TestDaemon_EndIsBoundedWhateverHangs(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"strict", "cached"} {
		for _, signals := range []int{1, 2} {
			s, pipe := testkit.Start(t), newLogPipe(t)
			d := breakerd.startLogging(t, pipe, "REDIS_URL="+s.URL(), "LOG_LEVEL=debug", "CIRCUIT_BREAKER_CONSISTENCY="+mode,
				"SHUTDOWN_TIMEOUT_SECONDS=0.2", "CIRCUIT_BREAKER_FLUSH_INTERVAL_MS=1000")
			d.run("Agent", "success", 5)
			slow := beginReport(d, "Agent", d.acquire("Agent").want(http.StatusOK).text("permit"))
			d.overflow()
			s.Pause()
			begin := time.Now()
			d.signal(syscall.SIGTERM)
			if signals == 2 {
				notReady(d) // the kernel makes one of two signals that nobody took yet
				d.signal(syscall.SIGTERM)
			}
			<-d.Done()
			if took, code := time.Since(begin), d.ExitCode(); took > endsIn || code != 0 && signals == 1 || code != 1 && signals == 2 {
				t.Errorf("%s, %d signals: exit code %d after %v", mode, signals, code, took)
			} else {
				t.Logf("%s, %d signals: %v", mode, signals, took.Round(time.Millisecond))
			}
			_ = slow.conn.Close()
			s.Resume()
		}
	}
}

// golang 19895: what net/http's Transport logs goes to stderr by the package log. An agent brings that about.
func TestLog_LibrariesUseItToo(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	rude := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, out, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		const answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
		_, _ = out.WriteString(answer + answer) // nobody asked for the second
		_ = out.Flush()
		_, _ = conn.Read(make([]byte, 1)) // until the Transport closes it
		_ = conn.Close()
	}))
	t.Cleanup(rude.Close)
	b := s.bridge("LOG_LEVEL=debug")
	b.call(http.MethodPost, "/api/v1/agents", `{"name":"Rude","url":"`+rude.URL+`"}`).want(http.StatusCreated)
	testkit.Eventually(t, "the Transport's line", startTimeout, func() error {
		b.through("Rude", "/").want(http.StatusOK)
		if _, is := b.logged(`"level":"DEBUG"`, "Unsolicited response received on idle HTTP channel"); !is {
			return errors.New("there is none")
		}
		return nil
	})
}
