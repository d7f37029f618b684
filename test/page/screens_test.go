package page_test

import (
	"fmt"
	"testing"
	"time"
)

// mixed is a fleet with a breaker of each kind.
func mixed(t testing.TB, environ ...string) *server {
	t.Helper()
	s := serve(t, append([]string{"HISTORY_MINUTES=60"}, environ...)...)
	for i := range 40 {
		name := fmt.Sprintf("agent-%02d", i)
		s.report(name, "success", 3+i%7)
		s.do("PUT", "/v1/admin/agents/"+name, fmt.Sprintf(`{"contact":"team-%d@example.org","labels":{"team":"t%d"}}`, i%3, i%3), "If-None-Match", "*")
	}
	s.do("PUT", breakers+"search/config", `{"mode":"observe","_reason":"rolling out"}`, "If-None-Match", "*", "X-Actor", "bob")
	s.report("search", "success", 9)
	s.report("payments", "success", 8)
	s.trip("payments")
	s.trip("llm-gpt")
	s.do("POST", breakers+"mailer/open", `{"reason":"floods its users <script>alert(1)</script>","timeout_seconds":3600}`, "X-Actor", "alice")
	s.do("POST", breakers+"geo/open", `{"reason":"x","timeout_seconds":3600}`, "X-Actor", "alice")
	s.do("POST", breakers+"geo/reset", `{"target_state":"HALF_OPEN","reason":"try it"}`, "X-Actor", "alice")
	s.do("POST", "/v1/circuit_breakers/geo/acquire", "{}")
	s.do("POST", breakers+"agent-07/close", `{"reason":"known noise"}`, "X-Actor", "bob")
	s.do("POST", breakers+"agent-08/open", `{"reason":"y"}`, "X-Actor", "bob")
	s.do("POST", breakers+"agent-08/reset", `{"target_state":"CLOSED","gradual_seconds":600,"reason":"back"}`, "X-Actor", "bob")
	return s
}

// screens are the addresses of all screens.
func screens() map[string]string {
	return map[string]string{
		"fleet": "", "agent": "agent?name=payments", "events": "events", "replicas": "replicas", "controls": "controls", "audit": "audit",
	}
}

// TestScreens_ArePictured keeps a picture of each screen, in both themes, on a desk, a tablet and a telephone.
func TestScreens_ArePictured(t *testing.T) {
	s := mixed(t)
	for _, how := range []look{
		{width: 1440, height: 900},
		{width: 1024, height: 768},
		{width: 390, height: 844},
		{width: 1440, height: 900, dark: true},
		{width: 1024, height: 768, dark: true},
		{width: 390, height: 844, dark: true},
	} {
		p := blank(t, how)
		for name, at := range screens() {
			p.to(s.url + "/ui/" + at)
			p.sees("#sentence", "OPEN", 5*soon/2)
			time.Sleep(200 * time.Millisecond)
			p.keep(fmt.Sprintf("%s-%d-%t", name, how.width, how.dark))
			if wide := eval[bool](p, "document.documentElement.scrollWidth > innerWidth"); wide {
				t.Errorf("%s is wider than %d px", name, how.width)
			}
		}
		p.quiet()
	}
}
