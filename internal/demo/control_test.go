package demo

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/breakerd/breakerd/internal/problem"
)

func TestModes_SwitchWhileAgentsRun(t *testing.T) {
	t.Parallel()
	p := start(t, "Preset=failing:503")
	p.do("GET", "/FailingAgent", "").want(500)
	p.mode("FailingAgent", `{"mode":"healthy"}`).want(200, `agent="FailingAgent"`, `mode="healthy"`, "default=false", "calls=1", "delay_ms=0", "status=null")
	p.do("GET", "/FailingAgent", "").want(200)
	p.mode("FailingAgent", `{"mode":"slow"}`).want(200, "delay_ms=1000")
	p.mode("FailingAgent", `{"mode":"flaky","fail_every":2}`).want(200, "failure_rate=0.5", "fail_every=2", "status=500", "calls=2")
	p.do("GET", "/FailingAgent", "").want(200)
	p.do("GET", "/FailingAgent", "").want(500)
	p.do("DELETE", "/modes/FailingAgent", "").want(200, `mode="failing"`, "default=true", "calls=0")
	p.do("GET", "/FailingAgent", "").want(500)
	p.mode("Preset", `{"mode":"healthy"}`)
	p.do("GET", "/Preset", "").want(200)
	p.do("DELETE", "/modes/Preset", "").want(200, `mode="failing"`, "status=503", "default=true", "calls=0")
	p.do("GET", "/Preset", "").want(503)
	p.do("DELETE", "/modes/Nobody", "").want(200, `mode="healthy"`)
	if lines := strings.Count(p.log.String(), `"event":"demo_agent.switched"`); lines != 7 {
		t.Errorf("%d lines of switches, want 7:\n%s", lines, p.log.String())
	}
	for _, want := range []string{`"agent":"Preset","from":"failing status=503","to":"healthy"`} {
		if !strings.Contains(p.log.String(), want) {
			t.Errorf("no %s in\n%s", want, p.log.String())
		}
	}
}

func TestModes_SwitchDoesNotTouchCallsUnderWay(t *testing.T) {
	t.Parallel()
	p := start(t, "")
	p.mode("A", `{"mode":"streaming","interval_ms":50,"events":3}`)
	res, err := p.client.Do(p.request("GET", "/A", http.NoBody))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	p.mode("A", `{"mode":"failing"}`)
	p.do("GET", "/A", "").want(500)
	if text, err := io.ReadAll(res.Body); err != nil || strings.Count(string(text), "data:") != 3 {
		t.Errorf("%v\n%s", err, text)
	}
}

func TestModes_ShowsEveryAgentOnce(t *testing.T) {
	t.Parallel()
	p := start(t, "Zed=slow:250")
	p.do("GET", "/B", "").want(200)
	p.do("GET", "/B/x", "").want(200)
	p.mode("A", `{"mode":"hanging"}`)
	want := `{"agents":[` +
		`{"agent":"A","calls":0,"default":false,"delay_ms":0,"in_flight":0,"mode":"hanging"},` +
		`{"agent":"B","calls":2,"default":true,"delay_ms":0,"in_flight":0,"mode":"healthy"},` +
		`{"agent":"Zed","calls":0,"default":true,"delay_ms":250,"in_flight":0,"mode":"slow"}]}` + "\n"
	if g := p.do("GET", "/modes", "").want(200); g.text != want {
		t.Errorf("%s", g.text)
	}
	p.do("GET", "/modes/Unseen", "").want(200, "calls=0")
	if g := p.do("GET", "/modes", ""); g.text != want {
		t.Errorf("looking at an agent has made one: %s", g.text)
	}
}

func TestHealth_Paths(t *testing.T) {
	t.Parallel()
	p := start(t, "")
	p.do("GET", "/livez", "").want(200, `status="ok"`)
	p.do("GET", "/readyz", "").want(200, `status="ready"`)
	p.do("POST", "/readyz", "").wantProblem(405, problem.MethodNotAllowed)
	p.do("HEAD", "/livez", "").want(200)
}

func TestControl_RefusesBadInput(t *testing.T) {
	t.Parallel()
	p := start(t, "")
	put := func(body string, header ...string) got { return p.do("PUT", "/modes/A", body, header...) }
	put("").wantProblem(400, problem.BodyRequired)
	put(`{"mode":"healthy"}`, "Content-Type", "text/plain").wantProblem(415, problem.UnsupportedMediaType)
	put(`{"mode":"healthy"}`+strings.Repeat(" ", maxSwitch)).wantProblem(413, problem.BodyTooLarge)
	for _, body := range []string{
		`{`, `{"mode":"healthy"} x`, `{"mode":"healthy"}{}`, `{"mode":"slow","mode":"slow"}`, `{"mode":"slow","delay_ms":1,"delay_ms":2}`,
		"{\"mode\":\"\xff\"}", `{mode:"slow"}`, `{"mode":"slow",}`, strings.Repeat("[", 20000),
	} {
		put(body).wantProblem(400, problem.InvalidJSON)
	}
	for _, body := range []string{
		`[]`, `null`, `"slow"`, `7`, `{}`, `{"mode":null}`, `{"mode":7}`, `{"mode":["slow"]}`, `{"mode":"Slow"}`, `{"mode":""}`, `{"mode":"dead"}`,
		`{"Mode":"slow"}`, `{"delay_ms":5}`, `{"mode":"healthy","colour":1}`, `{"mode":"healthy","status":500}`, `{"mode":"slow","delay_ms":null}`,
		`{"mode":"slow","delay_ms":"5"}`, `{"mode":"slow","delay_ms":-1}`, `{"mode":"slow","delay_ms":1.5}`, `{"mode":"slow","delay_ms":3600001}`,
		`{"mode":"slow","delay_ms":1e999}`, `{"mode":"slow","DELAY_MS":5}`, `{"mode":"failing","status":200}`, `{"mode":"failing","status":600}`,
		`{"mode":"flaky","failure_rate":1.1}`, `{"mode":"flaky","failure_rate":true}`, `{"mode":"flaky","fail_every":-1}`,
		`{"mode":"rate-limited","retry_after":86401}`, `{"mode":"streaming","events":0}`, `{"mode":"streaming","events":2,"break_after":3}`,
	} {
		put(body).wantProblem(422, problem.InvalidValue)
	}
	p.do("GET", "/modes", "").want(200, "agents=[]")
	for _, name := range []string{"", "a/b", "a%2Fb", "-a", "a%20b", "a%00", strings.Repeat("a", 129), "modes", "livez", "readyz", "health", "%6Dodes", "%C3%A4"} {
		p.do("PUT", "/modes/"+name, `{"mode":"healthy"}`).wantProblem(400, problem.InvalidAgentName)
	}
	for _, path := range []string{"//x", "/health", "/livez/x", "/readyz/", "/%6Dodes", "/a%2Fb/x", "/-a", "/a$/x", "/" + strings.Repeat("a", 129)} {
		p.do("GET", path, "").wantProblem(400, problem.InvalidAgentName)
	}
	p.do("GET", "/", "").wantProblem(404, problem.NotFound)
	if g := p.do("POST", "/modes/A", `{"mode":"healthy"}`); g.header.Get("Allow") != "GET, HEAD, PUT, DELETE" {
		t.Errorf("%v", g.header)
	}
	p.do("PUT", "/modes", `{}`).wantProblem(405, problem.MethodNotAllowed)
	p.do("GET", "/modes", "").want(200, "agents=[]")
}

// handler is a demo agent without a listener, for thousands of calls.
func handler(t *testing.T, list string) (*server, func(method, path, body string) int) {
	t.Helper()
	a, err := newAgents(list)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{a, slog.New(slog.DiscardHandler)}
	return s, func(method, path, body string) int {
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		s.ServeHTTP(w, r)
		return w.Code
	}
}

func TestAgents_KeepsAtMostAThousand(t *testing.T) {
	t.Parallel()
	s, do := handler(t, "Preset=failing")
	do("PUT", "/modes/Switched", `{"mode":"failing"}`)
	do("GET", "/Preset", "")
	do("GET", "/oldest", "")
	for i := range 2 * maxAgents {
		do("GET", fmt.Sprintf("/a%d", i), "")
		do("GET", "/often", "")
	}
	if n := len(s.agents.list()); n != maxAgents {
		t.Errorf("%d agents", n)
	}
	if s.agents.look("often").calls != 2*maxAgents || s.agents.look("oldest").calls != 0 || s.agents.look("a1999").calls != 1 {
		t.Error("not the agent that was called longest ago was forgotten")
	}
	if s.agents.look("Preset").calls != 1 || do("GET", "/Switched", "") != 500 {
		t.Error("an agent that somebody named was forgotten")
	}
}

func TestAgents_KeepsTheSwitchedOnes(t *testing.T) {
	t.Parallel()
	s, do := handler(t, "")
	for i := range maxAgents {
		if got := do("PUT", fmt.Sprintf("/modes/a%d", i), `{"mode":"failing"}`); got != 200 {
			t.Fatal(got)
		}
	}
	if got := do("PUT", "/modes/more", `{"mode":"failing"}`); got != 429 {
		t.Errorf("one more than there are places for: %d", got)
	}
	if got := do("GET", "/FailingAgent", ""); got != 500 {
		t.Errorf("an agent without a place: %d", got)
	}
	do("DELETE", "/modes/a7", "")
	if got := do("PUT", "/modes/more", `{"mode":"failing"}`); got != 200 || len(s.agents.list()) != maxAgents {
		t.Errorf("into the free place: %d", got)
	}
}

func TestAgents_RefusesBadLists(t *testing.T) {
	t.Parallel()
	for list, want := range map[string]string{
		"A": "Name=mode", "A=": "one of healthy", "A=dead": "one of healthy", "A=slow:": "a number", "A=slow:x": "a number", "A=slow:-1": "from 0 to",
		"A=slow:NaN": "whole number", "A=healthy:5": "takes no number", "A=slow,A=slow": "twice", "modes=slow": "modes", "-A=slow": "bad agent name",
		"A=slow,,B=slow": "Name=mode", "A=failing:200": "from 400 to 599", "=slow": "bad agent name", "A=slow:1:2": "a number",
	} {
		if _, err := newAgents(list); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "DEMO_AGENTS") {
			t.Errorf("%q: %v, want %q", list, err, want)
		}
	}
	var many strings.Builder
	for i := range maxAgents + 1 {
		fmt.Fprintf(&many, "a%d=slow,", i)
	}
	if _, err := newAgents(strings.TrimSuffix(many.String(), ",")); err == nil {
		t.Error("1001 agents are too many")
	}
}
