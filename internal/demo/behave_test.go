package demo

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/problem"
)

func TestHealthy_RepeatsWhatItWasAsked(t *testing.T) {
	t.Parallel()
	p := start(t, "")
	p.do("POST", "/Weather/v1/a%20b?x=1", `{"city":"Ulm","n":12345678901234567890}`).want(200, `agent="Weather"`, `method="POST"`,
		`path="/v1/a%20b"`, `query="x=1"`, `default=null`)
	if g := p.do("PUT", "/Weather/x", `{"n":12345678901234567890}`); !strings.Contains(g.text, `"input":{"n":12345678901234567890}`) {
		t.Error(g.text)
	}
	g := p.do("GET", "/Weather", "").want(200, `path="/"`, `input=null`)
	if at, err := time.Parse(time.RFC3339, g.json["at"].(string)); err != nil || at.Location() != time.UTC {
		t.Error(g.text)
	}
	p.do("PATCH", "/Weather/", "plain <words>", "Content-Type", "text/plain").want(200, `path="/"`, `method="PATCH"`, `input="plain \u003cwords\u003e"`)
	p.do("DELETE", "/Weather//x/../y", "").want(200, `path="//x/../y"`)
	p.do("POST", "/Weather/x", strings.Repeat("x", maxInput)).want(200)
	p.do("POST", "/Weather/x", strings.Repeat("x", maxInput+1)).wantProblem(413, problem.BodyTooLarge)
	p.do("GET", "/modes/Weather", "").want(200, "calls=7", "in_flight=0", `mode="healthy"`, "default=true")
}

func TestName_DecidesTheFirstMode(t *testing.T) {
	t.Parallel()
	p := start(t, "")
	for name, want := range map[string]string{
		"FailingAgent": "failing", "my-failing": "failing", "slowpoke": "slow", "FlakyOne": "flaky", "a.RateLimited": "rate-limited",
		"StreamingAgent": "streaming", "HangingAgent": "hanging", "BrokenAgent": "broken", "Fail": "healthy", "Rate-Limited": "healthy", "Modes": "healthy",
	} {
		p.do("GET", "/modes/"+name, "").want(200, `mode="`+want+`"`, "default=true", "calls=0")
	}
}

func TestFailing_AnswersItsStatus(t *testing.T) {
	t.Parallel()
	p := start(t, "")
	if g := p.do("POST", "/FailingAgent/echo", `{}`).want(500); g.json["error"] == nil || g.header.Get("Retry-After") != "" {
		t.Errorf("%v %s", g.header, g.text)
	}
	p.mode("FailingAgent", `{"mode":"failing","status":503,"retry_after":7}`)
	if g := p.do("GET", "/FailingAgent/x", "").want(503); g.header.Get("Retry-After") != "7" {
		t.Errorf("%v", g.header)
	}
}

func TestRateLimited_SaysWhenToComeBack(t *testing.T) {
	t.Parallel()
	p := start(t, "")
	if g := p.do("GET", "/RateLimitedAgent", "").want(429); g.header.Get("Retry-After") != "5" {
		t.Errorf("%v", g.header)
	}
	p.mode("RateLimitedAgent", `{"mode":"rate-limited","retry_after":0}`)
	if g := p.do("GET", "/RateLimitedAgent", "").want(429); g.header.Get("Retry-After") != "0" {
		t.Errorf("%v", g.header)
	}
}

func TestFlaky_FailsAsOftenAsItsSettingsSay(t *testing.T) {
	t.Parallel()
	p := start(t, "")
	statuses := func() string {
		var out strings.Builder
		for range 7 {
			out.WriteByte(p.do("GET", "/F", "").text[2]) // the first letter of "agent" or "error"
		}
		return out.String()
	}
	for body, want := range map[string]string{
		`{"mode":"flaky","fail_every":3}`:              "aaeaaea",
		`{"mode":"flaky","fail_every":1}`:              "eeeeeee",
		`{"mode":"flaky","failure_rate":1}`:            "eeeeeee",
		`{"mode":"flaky","failure_rate":0}`:            "aaaaaaa",
		`{"mode":"flaky","fail_every":2,"status":408}`: "aeaeaea",
	} {
		p.mode("F", body)
		if have := statuses(); have != want {
			t.Errorf("%s: %s, want %s", body, have, want)
		}
	}
	p.mode("F", `{"mode":"flaky","fail_every":1,"status":408}`)
	p.do("GET", "/F", "").want(408)
}

func TestSlow_AnswersAfterItsDelay(t *testing.T) {
	t.Parallel()
	p := start(t, "SlowAgent=slow:30")
	begun := time.Now()
	p.do("POST", "/SlowAgent", `"hello"`).want(200, `input="hello"`)
	if took := time.Since(begun); took < 30*time.Millisecond {
		t.Errorf("answered after %v", took)
	}
	p.mode("SlowAgent", `{"mode":"failing","delay_ms":30}`)
	begun = time.Now()
	p.do("POST", "/SlowAgent", "").want(500)
	if took := time.Since(begun); took < 30*time.Millisecond {
		t.Errorf("failed after %v", took)
	}
}

func TestSlowAndHanging_EndWhenTheClientLeaves(t *testing.T) {
	t.Parallel()
	p := start(t, "")
	p.mode("SlowAgent", `{"mode":"slow","delay_ms":3600000}`)
	for _, agent := range []string{"SlowAgent", "HangingAgent"} {
		for _, client := range []*http.Client{p.client, p.h2c} {
			ctx, leave := context.WithCancel(t.Context())
			left := make(chan error, 1)
			go func() {
				res, err := client.Do(p.request("POST", "/"+agent+"/x", strings.NewReader(strings.Repeat("x", 3<<20))).WithContext(ctx))
				if err == nil {
					_ = res.Body.Close()
				}
				left <- err
			}()
			p.wantInFlight(agent, 1)
			leave()
			if err := <-left; !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", agent, err)
			}
			p.wantInFlight(agent, 0)
		}
	}
}

func TestBroken_ClosesWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	p := start(t, "")
	conn := p.dial()
	_, _ = io.WriteString(conn, "GET /BrokenAgent HTTP/1.1\r\nHost: x\r\n\r\n")
	if text, err := io.ReadAll(conn); err != nil || len(text) > 0 {
		t.Errorf("%q %v", text, err)
	}
	for _, client := range []*http.Client{p.client, p.h2c} {
		res, err := client.Do(p.request("POST", "/BrokenAgent", strings.NewReader("x")))
		if err == nil {
			_ = res.Body.Close()
			t.Errorf("answered %d", res.StatusCode)
		}
	}
}

func TestRPC_ErrorsInsideA200(t *testing.T) {
	t.Parallel()
	p := start(t, "Rpc=jsonrpc-error, Mcp=mcp-error")
	p.do("POST", "/Rpc", `{"jsonrpc":"2.0","id":"q-7","method":"m"}`).want(200, `id="q-7"`, `jsonrpc="2.0"`, `result=null`,
		`error={"code":-32000,"message":"Rpc fails, as its mode says"}`)
	p.do("POST", "/Rpc", `not json`).want(200, `id=null`)
	g := p.do("POST", "/Mcp", `{"jsonrpc":"2.0","id":7}`).want(200, `id=7`, `error=null`)
	if result, ok := g.json["result"].(map[string]any); !ok || result["isError"] != true || len(result["content"].([]any)) != 1 {
		t.Error(g.text)
	}
}

func TestStreaming_FlushesEachEvent(t *testing.T) {
	t.Parallel()
	p := start(t, "")
	p.mode("StreamingAgent", `{"mode":"streaming","interval_ms":3600000,"events":2}`) // the second event is an hour away
	for _, client := range []*http.Client{p.client, p.h2c} {
		res, err := client.Do(p.request("POST", "/StreamingAgent", strings.NewReader("{}")))
		if err != nil {
			t.Fatal(err)
		}
		if res.Header.Get("Content-Type") != "text/event-stream" {
			t.Errorf("%v", res.Header)
		}
		lines := bufio.NewReader(res.Body)
		for _, want := range []string{"id: 1\n", `data: {"agent":"StreamingAgent","event":1,"of":2,"at":`, "\n"} {
			if line, err := lines.ReadString('\n'); err != nil || !strings.HasPrefix(line, want) {
				t.Errorf("%q %v, want %q", line, err, want)
			}
		}
		p.wantInFlight("StreamingAgent", 1)
		_ = res.Body.Close()
		p.wantInFlight("StreamingAgent", 0)
	}
}

func TestStreaming_EndsOrBreaksWhereItsSettingsSay(t *testing.T) {
	t.Parallel()
	p := start(t, "")
	for body, want := range map[string]struct {
		events int
		whole  bool
	}{
		`{"mode":"streaming","interval_ms":1,"events":3}`:                 {3, true},
		`{"mode":"streaming","interval_ms":0,"events":3,"break_after":2}`: {2, false},
		`{"mode":"streaming","interval_ms":0,"events":3,"break_after":3}`: {3, false},
	} {
		p.mode("S", body)
		for _, client := range []*http.Client{p.client, p.h2c} {
			res, err := client.Do(p.request("GET", "/S", http.NoBody))
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if strings.Count(string(text), "\n\n") != want.events || (err == nil) != want.whole {
				t.Errorf("%s over %s: %v\n%s", body, res.Proto, err, text)
			}
		}
	}
}
