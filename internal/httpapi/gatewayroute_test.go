package httpapi

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestTheGatewayGetsItsPathsAsTheyWereSent(t *testing.T) {
	t.Parallel()
	f := newBridgeFixture(t)
	for _, target := range []string{
		"/agents", "/agents/", "/agents/a", "/agents/a/", "/agents//", "/agents/a/../b", "/agents/a//b/./c", "/agents/a%2Fb/c", "/agents/a%20b", "/agents/%2e%2e/x",
		"/agents/../api/v1/agents", "/agents/a?x=%zz;y", "/agents/a/b?q=1#", "/agents/" + strings.Repeat("a", 5000),
	} {
		for _, method := range []string{"GET", "POST", "DELETE", "PATCH", "OPTIONS", "BREW"} {
			if g := f.rawRequest(method, target, ""); g.status != 200 || g.text != "gateway "+target {
				t.Errorf("%s %s: %d %s", method, target, g.status, g.text)
			}
		}
	}
	g := f.do("GET", "/agents/a", "", "Sec-Fetch-Site", "cross-site").want(200)
	if g.header.Get("Cache-Control") != "" || g.header.Get("X-Content-Type-Options") != "" {
		t.Errorf("headers were added to an agent's answer: %v", g.header)
	}
	f.do("POST", "/agents/a", "{}", "Origin", "https://another.example").want(200)
}

func TestALoopbackGatewayIsClosedToOtherSites(t *testing.T) {
	t.Parallel()
	f := newBridgeFixture(t, func(o *BridgeOptions) { o.LoopbackOnly = true })
	f.do("GET", "/agents/a", "", "Host", "evil.example").wantProblem(421, codeHostNotAllowed)
	f.do("POST", "/agents/a", "{}", "Host", "evil.example:8000").wantProblem(421, codeHostNotAllowed)
	f.do("POST", "/agents/a", "{}", "Origin", "https://evil.example").wantProblem(403, codeCrossOrigin)
	f.do("POST", "/agents/a", "{}", "Sec-Fetch-Site", "cross-site").wantProblem(403, codeCrossOrigin)
	f.do("POST", "/agents/a", "{}").want(200)
	f.do("GET", "/agents/a", "").want(200)
}

func TestWithoutAGatewayThereIsNothingUnderAgents(t *testing.T) {
	t.Parallel()
	f := newBridgeFixture(t, func(o *BridgeOptions) { o.Gateway = nil })
	f.do("GET", "/agents/a", "").wantProblem(404, codeNotFound)
	if doc := f.do("GET", "/openapi.json", "").want(200); strings.Contains(doc.text, "callAgent") {
		t.Error("the document has a gateway")
	}
}

func TestTheGatewayReachesTheConnectionAndItsPanicsAreCaught(t *testing.T) {
	t.Parallel()
	f := newBridgeFixture(t, func(o *BridgeOptions) {
		o.Gateway = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c := http.NewResponseController(w)
			switch r.URL.Path {
			case "/agents/panics":
				panic("the gateway panics")
			case "/agents/flushes":
				w.WriteHeader(http.StatusOK)
				if err := c.Flush(); err != nil {
					_, _ = io.WriteString(w, err.Error())
				}
			case "/agents/hijacks":
				conn, _, err := c.Hijack()
				if err != nil {
					panic(err)
				}
				_, _ = io.WriteString(conn, "HTTP/1.1 299 Mine\r\nContent-Length: 0\r\n\r\n")
				conn.Close()
			}
		})
	})
	f.rawRequest("GET", "/agents/panics", "").wantProblem(500, codeInternal)
	if g := f.rawRequest("GET", "/agents/flushes", "").want(200); g.text != "" {
		t.Error(g.text)
	}
	f.rawRequest("GET", "/agents/hijacks", "").want(299)
}
