package breakerhttp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breakerhttp"
)

// memory makes a Manager for one process; one of a fleet has a redisstore.Store.
func memory() *breaker.Manager {
	m, err := breaker.NewManager(breaker.Options{Store: breaker.NewMemory(nil, 0)})
	if err != nil {
		panic(err)
	}
	return m
}

// A client whose calls pass the breaker of the agent that they call.
func ExampleTransport() {
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "out of order", http.StatusInternalServerError)
	}))
	defer agent.Close()

	client := &http.Client{Transport: &breakerhttp.Transport{
		Manager: memory(),
		Agent:   func(*http.Request) string { return "reader" },
		Timeout: 30 * time.Second,
	}}
	ctx := context.Background()
	for range 6 {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, agent.URL, http.NoBody)
		if err != nil {
			fmt.Println(err)
			return
		}
		resp, err := client.Do(req)
		if open, refused := errors.AsType[*breaker.OpenError](err); refused {
			fmt.Println("refused:", open.Reason, "- ask again in", open.RetryAfter().Round(time.Second))
			continue
		}
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(resp.Status)
		_ = resp.Body.Close()
	}
	// Output:
	// 500 Internal Server Error
	// 500 Internal Server Error
	// 500 Internal Server Error
	// 500 Internal Server Error
	// 500 Internal Server Error
	// refused: open - ask again in 1m0s
}

// Classify may start from the default outcome: here an agent that does not know its own resource has failed.
func ExampleOutcome() {
	classify := func(resp *http.Response, err error) breaker.Outcome {
		o := breakerhttp.Outcome(resp, err)
		if err == nil && resp.StatusCode == http.StatusNotFound {
			o.Kind = breaker.Failure
		}
		return o
	}
	transport := &breakerhttp.Transport{Manager: memory(), Classify: classify}
	fmt.Println(transport.Classify(&http.Response{StatusCode: http.StatusNotFound}, nil).Kind)
	fmt.Println(transport.Classify(&http.Response{StatusCode: http.StatusBadRequest}, nil).Kind)
	// Output:
	// failure
	// ignored
}

// Classify may start from the default outcome: here an API that calls for credentials does not blame the caller.
func ExampleInboundOutcome() {
	classify := func(status int) breaker.Outcome {
		if status == http.StatusUnauthorized {
			return breaker.Outcome{Kind: breaker.Ignored}
		}
		return breakerhttp.InboundOutcome(status)
	}
	guard := &breakerhttp.Middleware{Manager: memory(), Agent: breakerhttp.FromPath(2), Classify: classify}
	fmt.Println(guard.Classify(http.StatusUnauthorized).Kind, guard.Classify(http.StatusBadRequest).Kind)
	// Output: ignored failure
}

// An API that keeps out agents which send it nothing but bad requests.
func ExampleMiddleware() {
	guard := &breakerhttp.Middleware{Manager: memory(), Agent: breakerhttp.FromHeader("X-Agent")}
	api := guard.Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no such predicate", http.StatusUnprocessableEntity)
	}))
	for range 6 {
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(context.Background(), http.MethodPost, "/assert", http.NoBody)
		r.Header.Set("X-Agent", "flooder")
		api.ServeHTTP(w, r)
		fmt.Println(w.Code, w.Header()["retry-after"]) //nolint:staticcheck // in lower case, as on the wire
	}
	// Output:
	// 422 []
	// 422 []
	// 422 []
	// 422 []
	// 422 []
	// 429 [60]
}

// An MCP server reports a failed tool inside a response of status 200; MCPStrict counts it.
func ExampleBodyClassifier() {
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"jsonrpc":"2.0","id":1,"result":{"isError":true}}`+"\n")
	}))
	defer agent.Close()
	transport := &breakerhttp.Transport{
		Manager: memory(), Body: breakerhttp.MCPStrict,
		Observe: func(x breakerhttp.Timing) { fmt.Println(x.Status, x.Outcome.Kind, x.Outcome.Class) },
	}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, agent.URL, http.NoBody)
	if err != nil {
		fmt.Println(err)
		return
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = io.Copy(os.Stdout, resp.Body) // settled as soon as the error has passed
	_ = resp.Body.Close()
	fmt.Println(err)
	// Output:
	// 200 failure tool_error
	// {"jsonrpc":"2.0","id":1,"result":{"isError":true}}
	// <nil>
}
