package e2e

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/breakerd/breakerd/internal/testkit"
)

// Profiles are at DEBUG_LISTEN alone, which speaks no TLS.
func TestDebug_ServesProfilesThereAlone(t *testing.T) {
	t.Parallel()
	ca := testkit.NewCA(t)
	pair := ca.ServerPair(t, "127.0.0.1")
	tr := &http.Transport{TLSClientConfig: ca.ClientConfig(t, pair, "127.0.0.1")}
	t.Cleanup(tr.CloseIdleConnections)
	status := func(url, host string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		res, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		return res.StatusCode
	}
	for _, p := range []program{breakerd, bridge} {
		d := p.start(t, "DEBUG_LISTEN=127.0.0.1:0", "TLS_CERT_FILE="+pair.CertFile, "TLS_KEY_FILE="+pair.KeyFile)
		var line struct {
			Address string `json:"address"`
		}
		if err := json.Unmarshal([]byte(d.awaitText(`"msg":"listening"`, `"for":"DEBUG_LISTEN"`)), &line); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/goroutine?debug=1", "/debug/pprof/cmdline"} {
			if got := status("http://"+line.Address+path, ""); got != http.StatusOK {
				t.Errorf("%s: %s: %d", p.name, path, got)
			}
			if got := status("https://"+d.addr+path, ""); got != http.StatusNotFound {
				t.Errorf("%s: its own listener answers %s with %d", p.name, path, got)
			}
		}
		if got := status("http://"+line.Address+"/debug/pprof/heap", "evil.example.com"); got != http.StatusMisdirectedRequest {
			t.Errorf("%s: a page whose name was rebound to it: %d", p.name, got)
		}
	}
}
