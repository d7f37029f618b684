package httpapi

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/problem"
)

// ids are the ids of a page.
func ids(t *testing.T, page any) (out []string) {
	t.Helper()
	list, ok := page.([]any)
	if !ok {
		t.Fatalf("no list: %v", page)
	}
	for _, e := range list {
		fields, _ := e.(map[string]any)
		out = append(out, fmt.Sprint(fields["id"]))
	}
	return out
}

func (f *fixture) happenMany(n int) {
	f.Helper()
	for i := range n {
		agent, kind := "a", "opened"
		if i%2 == 1 {
			agent, kind = "-", "gate"
		}
		from := "closed>open"
		if agent == "-" {
			from = ">"
		}
		line := fmt.Sprintf("%d %s %s 00000000000000aa actor-%d 0/0/0/0 text", 1770800400000+i, kind, from, i%3)
		f.records.happen(fmt.Sprintf("%d-%d", 1770800400000+i/10*1000, i%10), agent, line)
	}
}

func TestFleetEvents_PagesShowEachEntryOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.happenMany(25)
	f.records.happen("1770800409000-0", "a", "") // an entry that is no event
	for query, want := range map[string]int{
		"?": 25, "?agent=a": 13, "?agent=-": 12, "?kind=gate": 12, "?kind=gate,opened": 25, "?kind=closed": 0, "?agent=b": 0,
		"?since=2026-02-11T09:00:01Z": 15, "?since=1770800401000-4": 10, "?since=1770800402000-4": 0,
	} {
		for limit := 1; limit <= 26; limit += 5 {
			var all []string
			cursor := ""
			for {
				g := f.Do("GET", fmt.Sprintf("/v1/admin/events%s&limit=%d%s", query, limit, cursor), "").Want(200)
				all = append(all, ids(t, g.JSON["events"])...)
				next, more := g.JSON["next_cursor"].(string)
				if !more {
					break
				}
				cursor = "&cursor=" + next
			}
			sorted := slices.Clone(all)
			slices.Sort(sorted)
			if !strings.Contains(query, "since") {
				slices.Reverse(all)
			}
			if len(all) != want || !slices.Equal(sorted, all) || len(slices.Compact(sorted)) != want {
				t.Errorf("%s, pages of %d: %d entries, want %d: %v", query, limit, len(all), want, all)
			}
		}
	}
	f.Do("GET", "/v1/admin/events?since=1770800401000-4", "").Want(200, `gap=false`)
	f.Do("GET", "/v1/admin/events?since=1770800401000-99", "").Want(200, `gap=true`)
	g := f.Do("GET", "/v1/admin/audit?actor=actor-1&since=1770800401000-4", "").Want(200)
	if got := ids(t, g.JSON["entries"]); !slices.Equal(got, []string{"1770800402000-2", "1770800401000-9", "1770800401000-6"}) {
		t.Errorf("the audit has %v", got)
	}
	for _, query := range []string{
		"since=x", "since=1", "since=1-x", "since=-1", "cursor=x", "agent=a%20b", "kind=A", "kind=" + strings.Repeat("a,", 40), "limit=0",
		"kind=a;b", "since=1-1&since=2-2", "actor=x",
	} {
		f.Do("GET", "/v1/admin/events?"+query, "").WantProblem(422, problem.InvalidValue)
	}
	f.records.TakeDown(true)
	f.Do("GET", "/v1/admin/events", "").WantProblem(503, problem.StoreUnavailable)
	f.Do("GET", "/v1/admin/audit", "").WantProblem(503, problem.StoreUnavailable)
}

// TestFleetEvents_FilterThatNothingPassesIsBounded: the page is empty, and its cursor goes on.
func TestFleetEvents_FilterThatNothingPassesIsBounded(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.happenMany(scanPage*scanPages + 1)
	g := f.Do("GET", "/v1/admin/events?agent=b", "").Want(200)
	next, _ := g.JSON["next_cursor"].(string)
	if len(ids(t, g.JSON["events"])) != 0 || next == "" {
		t.Fatalf("%s", g.Text)
	}
	f.Do("GET", "/v1/admin/events?agent=b&cursor="+next, "").Want(200, `next_cursor=null`)
}

// stream reads server-sent events.
type stream struct {
	*http.Response

	t      *testing.T
	lines  *bufio.Scanner
	cancel func()
}

func (f *fixture) stream(t *testing.T, query string, header ...string) *stream {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, f.URL+"/v1/events"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	client := http.Client{Transport: &http.Transport{}}
	t.Cleanup(client.CloseIdleConnections)
	res, err := client.Do(r) //nolint:bodyclose // end closes it
	if err != nil {
		t.Fatal(err)
	}
	s := &stream{Response: res, t: t, lines: bufio.NewScanner(res.Body), cancel: cancel}
	t.Cleanup(s.end)
	return s
}

func (s *stream) end() {
	s.cancel()
	_ = s.Body.Close()
}

// next is the next block of lines; "" at the end.
func (s *stream) next() string {
	var block []string
	for s.lines.Scan() && s.lines.Text() != "" {
		block = append(block, s.lines.Text())
	}
	return strings.Join(block, "\n")
}

func TestStream_TellsWhatComesAndWhereItStands(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.happenMany(3)
	s := f.stream(t, "?kind=gate")
	if s.StatusCode != http.StatusOK || s.Header.Get("Content-Type") != "text/event-stream" || s.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %v", s.StatusCode, s.Header)
	}
	if at := s.next(); at != ":\nid: 1770800400000-2" {
		t.Errorf("first %q", at)
	}
	f.records.happen("1770800409000-0", "a", "1 opened closed>open 00000000000000aa - 0/0/0/0 text")
	f.records.happen("1770800409000-1", "-", "1 gate > 0000000000000000 - 0/0/0/0 a\u2028b")
	var got []string
	for len(got) == 0 || got[len(got)-1] != ":\nid: 1770800409000-1" {
		got = append(got, s.next())
	}
	if text := strings.Join(got, "\n"); !strings.Contains(text, `id: 1770800409000-1`+"\n"+`data: {"id":"1770800409000-1","agent_id":null`) ||
		strings.Contains(text, `"opened"`) {
		t.Errorf("got %q", text)
	}
	again := f.stream(t, "", "Last-Event-ID", "1770800409000-0")
	if text := again.next(); !strings.HasPrefix(text, "id: 1770800409000-1\n") && !strings.HasPrefix(again.next(), "id: 1770800409000-1\n") {
		t.Errorf("again: %q", text)
	}
	full := f.stream(t, "")
	if full.StatusCode != http.StatusServiceUnavailable || full.Header.Get("Retry-After") == "" {
		t.Errorf("a third listener of 2: %d %v", full.StatusCode, full.Header)
	}
	again.end()
	for _, id := range []string{"1770800409000-2", "1-1", "0-0", "1770800400000-7"} {
		var reset *stream
		for range 100 { // until the one before has left
			if reset = f.stream(t, "", "Last-Event-ID", id); reset.StatusCode == http.StatusOK {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		if text := reset.next(); !strings.HasPrefix(text, "event: reset\nid: 1770800409000-1\n") {
			t.Errorf("after %s: %q", id, text)
		}
		reset.end()
	}
	f.Do("GET", "/v1/events?nonsense=1", "").WantProblem(422, problem.InvalidValue)
	f.Do("GET", "/v1/events?agent=a%20b", "").WantProblem(422, problem.InvalidValue)
	f.Do("GET", "/v1/events", "", "Last-Event-ID", "x").WantProblem(422, problem.InvalidValue)
	f.stop()
	for s.next() != "" {
		continue // to its end
	}
	f.Do("GET", "/v1/events", "").WantProblem(503, problem.NotReady)
}

func TestStream_StoreIsDown(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.records.TakeDown(true)
	f.Do("GET", "/v1/events", "").WantProblem(503, problem.StoreUnavailable)
}
