package e2e

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
)

// A certificate's end shows before it comes, and no more once the file is another one.
func TestHealth_CertificateEndsSoon(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	ca := testkit.NewCA(t)
	served := ca.ClientPairUntil(t, time.Now().Add(90*day))
	d := start(t, "TLS_CERT_FILE="+served.CertFile, "TLS_KEY_FILE="+served.KeyFile)
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	t.Cleanup(tr.CloseIdleConnections)
	for _, c := range []struct {
		left     time.Duration
		status   string
		score    float64
		warnings int
	}{
		{90 * day, "healthy", 1, 0},
		{20 * day, "healthy", 1, 1},
		{5 * day, "degraded", 0.6, 0},
		{-time.Hour, "degraded", 0.3, 0},
		{90 * day, "healthy", 1, 0},
	} {
		ca.ClientPairUntil(t, time.Now().Add(c.left)).CopyTo(t, served)
		testkit.Eventually(t, fmt.Sprintf("the health of a certificate that has %s left", c.left), 20*time.Second, func() error {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+d.addr+"/health/checks", http.NoBody)
			if err != nil {
				return err
			}
			res, err := tr.RoundTrip(req)
			if err != nil {
				return err
			}
			defer func() { _ = res.Body.Close() }()
			var h struct {
				Checks map[string]struct {
					Status   string   `json:"status"`
					Score    float64  `json:"score"`
					Warnings []string `json:"warnings"`
				} `json:"checks"`
			}
			err = json.NewDecoder(res.Body).Decode(&h)
			if got := h.Checks["tls"]; got.Status != c.status || got.Score != c.score || len(got.Warnings) != c.warnings {
				return fmt.Errorf("%+v %w", got, err)
			}
			return err
		})
	}
}
