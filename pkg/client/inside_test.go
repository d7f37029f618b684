package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// transport answers requests without a network.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// quiet is a body in which nothing comes after its text, as of a host that is gone.
type quiet struct {
	io.Reader

	request context.Context //nolint:containedctx // as a body of net/http has it
}

func (q quiet) Read(p []byte) (int, error) {
	if n, err := q.Reader.Read(p); err == nil {
		return n, nil
	}
	<-q.request.Done()
	return 0, q.request.Err()
}

func (quiet) Close() error { return nil }

// A stream in which nothing comes is opened again where it was, and a server that does not answer is left.
func TestStream_LeavesAServerThatIsSilent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, err := New(Options{Servers: []string{"http://a", "http://b"}})
		if err != nil {
			t.Fatal(err)
		}
		var asked []string
		c.http.Transport = transport(func(r *http.Request) (*http.Response, error) {
			asked = append(asked, r.URL.Host+" "+r.Header.Get("Last-Event-ID"))
			text := ":\nid: 1-0\n\n"
			switch len(asked) {
			case 1:
				<-r.Context().Done()
				return nil, r.Context().Err()
			case 3:
				text = "id: 2-0\ndata: {\"id\":\"2-0\",\"event\":\"opened\"}\n\n"
			}
			body := quiet{strings.NewReader(text), r.Context()}
			return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: body, Request: r}, nil
		})
		began := time.Now()
		for item, err := range c.StreamEvents(t.Context(), StreamQuery{}) {
			if err != nil || item.ID != "2-0" {
				t.Error(item, err)
			}
			break
		}
		if took := time.Since(began); took < silence || took > silence+defaultTimeout+time.Second {
			t.Errorf("it took %v", took)
		}
		if have := fmt.Sprint(asked); have != "[a  b  a 1-0]" {
			t.Error(have)
		}
	})
}

// net/http begins again by itself when a connection of its pool turns out to be closed before anything was written. What
// counts is how the last try ended.
func TestSend_KnowsWhetherItWasSent(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		last func(*httptrace.ClientTrace)
		want bool
	}{
		{"refused at the second try", func(trace *httptrace.ClientTrace) { trace.GetConn("a:80") }, false},
		{"lost at the second try", func(trace *httptrace.ClientTrace) {
			trace.GetConn("a:80")
			trace.GotConn(httptrace.GotConnInfo{})
		}, true},
		{"lost", func(*httptrace.ClientTrace) {}, true},
	} {
		client, err := New(Options{Servers: []string{"http://a"}})
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		client.http.Transport = transport(func(r *http.Request) (*http.Response, error) {
			n++
			trace := httptrace.ContextClientTrace(r.Context())
			trace.GetConn("a:80")
			trace.GotConn(httptrace.GotConnInfo{Reused: true})
			c.last(trace)
			return nil, io.ErrUnexpectedEOF
		})
		_, err = client.Acquire(t.Context(), "a", AcquireRequest{})
		if unknown := errors.Is(err, ErrUnknown); unknown != c.want || unknown != (n == 1) {
			t.Errorf("%s: %v, after %d requests", c.name, err, n)
		}
	}
}

// A context that ends in a pause says so, and so does what the last server said.
func TestSend_EndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, err := New(Options{Servers: []string{"http://a"}})
		if err != nil {
			t.Fatal(err)
		}
		c.http.Transport = transport(func(*http.Request) (*http.Response, error) { return nil, syscall.ECONNREFUSED })
		ctx, cancel := context.WithTimeout(t.Context(), firstPause/4)
		defer cancel()
		if _, err = c.GetSummary(ctx); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, syscall.ECONNREFUSED) {
			t.Error(err)
		}
		began := time.Now()
		if _, err = c.GetSummary(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) || time.Since(began) < firstPause {
			t.Error(err)
		}
	})
}
