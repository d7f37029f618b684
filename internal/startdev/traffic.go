package startdev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	// mostCalls bounds the calls of one agent that are under way: a hanging agent gets no more.
	mostCalls = 8
	// maxAnswer is how much of an answer is read, in bytes.
	maxAnswer = 1 << 20
)

// call calls an agent through the bridge until ctx ends, at uneven times, as callers do. What comes of it is the
// breaker's to say.
func (f *fleet) call(ctx context.Context, a agent) {
	url := f.bridge.url() + "/agents/" + a.name + "/" + a.path
	places := make(chan struct{}, mostCalls)
	var calls sync.WaitGroup
	defer calls.Wait()
	for {
		pause := time.Duration((0.5 + rand.Float64()) / a.rate * float64(time.Second))
		if !sleepUntil(ctx, time.Now().Add(pause)) {
			return
		}
		select {
		case places <- struct{}{}:
		default:
			continue
		}
		calls.Go(func() {
			defer func() { <-places }()
			_ = f.ask(ctx, http.MethodGet, url, "")
		})
	}
}

// ask makes a request, with a body of JSON if there is one. An answer that is no success is an error.
func (f *fleet) ask(ctx context.Context, method, url, body string) error {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := f.http.Do(req)
	if err != nil {
		return err
	}
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	err = errors.Join(err, res.Body.Close())
	if err == nil && res.StatusCode >= http.StatusBadRequest {
		err = fmt.Errorf("%s %s: %s: %s", method, url, res.Status, answer)
	}
	return err
}
