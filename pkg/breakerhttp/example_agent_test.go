package breakerhttp_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breakerhttp"
)

// The client of an agent that obeys the bans of an API. The first 429 with a Retry-After opens a breaker in the agent
// itself for as long, so that nothing is sent meanwhile.
func ExampleTransport_banned() {
	requests := 0
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests++
		w.Header().Set("X-Circuit-Breaker-State", "OPEN")
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusTooManyRequests)
	}))
	defer api.Close()

	m, err := breaker.NewManager(breaker.Options{
		Store: breaker.NewMemory(nil, 0), // of this agent alone
		Policy: breaker.Policy{
			RetryAfter:       breaker.RetryAfterOpen, // a Retry-After opens at once
			RetryAfterMax:    time.Hour,              // the longest that counts; the default is 15 minutes
			HalfOpenMaxCalls: 1,                      // afterwards one request decides;
			// if it fails, the wait is twice the last, and up to a fifth more, or a longer Retry-After
			TimeoutMultiplier: 2, TimeoutJitter: 0.2,
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	client := &http.Client{Transport: &breakerhttp.Transport{Manager: m}}

	for range 3 {
		resp, err := get(client, api.URL)
		var open *breaker.OpenError
		switch {
		case errors.As(err, &open):
			fmt.Println("not sent:", open.State, "- again in", open.RetryAfter().Round(time.Minute))
		case err != nil:
			fmt.Println(err)
		default:
			fmt.Println(resp.Status, resp.Header.Get("X-Circuit-Breaker-State")) // for the operator
			_ = resp.Body.Close()
		}
	}
	fmt.Println("requests:", requests)
	// Output:
	// 429 Too Many Requests OPEN
	// not sent: open - again in 1h0m0s
	// not sent: open - again in 1h0m0s
	// requests: 1
}

func get(client *http.Client, url string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	return client.Do(req)
}
