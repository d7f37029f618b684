package breakerhttp_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/pkg/breaker"
)

// slowBody is a request's body of so many bytes, an hour apart.
type slowBody struct {
	parts int
	end   error
}

func (s *slowBody) Read(p []byte) (int, error) {
	if s.parts == 0 {
		return 0, s.end
	}
	s.parts--
	<-time.After(time.Hour)
	p[0] = 'x'
	return 1, nil
}

func TestUpload_SlowCallerDoesNotTimeOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newOutbound(t, nil)
		r.serveOnPipes(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-time.After(59 * time.Second)
			_, _ = io.WriteString(w, "done")
		})
		r.Timeout = time.Minute
		req := request(t.Context(), t, http.MethodPost, "http://a")
		req.Body, req.ContentLength = io.NopCloser(&slowBody{parts: 3, end: io.EOF}), -1
		resp, err := r.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(resp.Body); err != nil || string(text) != "done" {
			t.Errorf("read %q, %v", text, err)
		}
		_ = resp.Body.Close()
		r.settledOnce(t, breaker.Success, "")
	})
}

func TestUpload_AgentThatReadsNothingTimesOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newOutbound(t, nil)
		over := make(chan struct{}) // a server that does not read does not notice that its client has left
		defer close(over)
		r.serveOnPipes(t, func(http.ResponseWriter, *http.Request) { <-over })
		r.Timeout = time.Minute
		req := request(t.Context(), t, http.MethodPost, "http://a")
		req.Body, req.ContentLength = io.NopCloser(strings.NewReader(strings.Repeat("x", 1<<20))), 1<<20
		_, err := r.client.Do(req) //nolint:bodyclose // there is none
		checkTimeout(t, err)
		r.settledOnce(t, breaker.Failure, "timeout")
	})
}

func TestUpload_FailedCallerIsIgnored(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		errDisk := errors.New("disk is gone")
		r := newOutbound(t, nil)
		r.serveOnPipes(t, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
		req := request(t.Context(), t, http.MethodPost, "http://a")
		req.Body, req.ContentLength = io.NopCloser(&slowBody{parts: 1, end: errDisk}), -1
		if _, err := r.client.Do(req); !errors.Is(err, errDisk) { //nolint:bodyclose // there is none
			t.Errorf("gave %v", err)
		}
		r.settledOnce(t, breaker.Ignored, "request_body")
	})
}

func TestUpload_AnswerToHalfARequestIsIgnored(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusOK, http.StatusServiceUnavailable} {
		r := newOutbound(t, nil)
		r.Base = base(func(req *http.Request) (*http.Response, error) {
			if status != http.StatusOK { // else it answers before it reads
				_, _ = io.ReadAll(req.Body)
			}
			more := readerFunc(func([]byte) (int, error) {
				_, _ = io.ReadAll(req.Body)
				return 0, io.ErrUnexpectedEOF
			})
			return &http.Response{StatusCode: status, ContentLength: -1, Body: io.NopCloser(more)}, nil
		})
		req := request(t.Context(), t, http.MethodPost, "http://a")
		req.Body = io.NopCloser(readerFunc(func([]byte) (int, error) { return 0, io.ErrClosedPipe }))
		resp, err := r.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("read gave %v", err)
		}
		_ = resp.Body.Close()
		r.settledOnce(t, breaker.Ignored, "request_body")
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestUpload_AgentThatHangsUpFails(t *testing.T) {
	t.Parallel()
	srv := startAgent(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = r.Body.Read(make([]byte, 1))
		panic(http.ErrAbortHandler)
	})
	r := newOutbound(t, nil)
	send, write := io.Pipe()
	go func() { _, _ = io.Copy(write, strings.NewReader(strings.Repeat("x", 8<<20))) }() // ends when send is closed
	req := request(t.Context(), t, http.MethodPost, srv.URL)
	req.Body, req.ContentLength = send, -1
	if _, err := r.client.Do(req); err == nil { //nolint:bodyclose // there is none
		t.Error("no error")
	}
	if o := <-r.seen.settled; o.Kind != breaker.Failure {
		t.Errorf("settled with %+v", o)
	}
}

func TestUpload_ReadAfterCloseIsNotTheCallers(t *testing.T) {
	t.Parallel()
	r := newOutbound(t, nil)
	r.Base = base(func(req *http.Request) (*http.Response, error) {
		read := make(chan error)
		go func() { _, err := req.Body.Read(make([]byte, 1)); read <- err }()
		_ = req.Body.Close()
		if err := <-read; !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("read gave %v", err)
		}
		return nil, io.ErrUnexpectedEOF
	})
	body, _ := io.Pipe()
	req := request(t.Context(), t, http.MethodPost, "http://a")
	req.Body = body
	if _, err := r.RoundTrip(req); !errors.Is(err, io.ErrUnexpectedEOF) { //nolint:bodyclose // there is none
		t.Error(err)
	}
	r.settledOnce(t, breaker.Failure, "connection_error")
}

func TestUpload_CanBeSentAgain(t *testing.T) {
	t.Parallel()
	r := newOutbound(t, nil)
	r.Timeout = time.Hour
	r.Base = base(func(req *http.Request) (*http.Response, error) {
		for range 2 {
			if text, err := io.ReadAll(req.Body); err != nil || string(text) != "text" {
				t.Errorf("sent %q, %v", text, err)
			}
			_ = req.Body.Close()
			req.Body, _ = req.GetBody()
		}
		return httptest.NewRecorder().Result(), nil
	})
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://x", strings.NewReader("text"))
	resp, err := r.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	r.settledOnce(t, breaker.Success, "")
	req.GetBody = func() (io.ReadCloser, error) { return nil, io.ErrNoProgress }
	r.Base = base(func(req *http.Request) (*http.Response, error) { _, err := req.GetBody(); return nil, err })
	if _, err := r.RoundTrip(req); !errors.Is(err, io.ErrNoProgress) { //nolint:bodyclose // there is none
		t.Error(err)
	}
}

// echo answers at once and sends back what comes. After "hush" it stays silent.
func echo(w http.ResponseWriter, r *http.Request) {
	out := http.NewResponseController(w)
	_ = out.EnableFullDuplex()
	w.WriteHeader(http.StatusOK)
	_ = out.Flush()
	part := make([]byte, 100)
	for {
		n, err := r.Body.Read(part)
		if string(part[:n]) == "hush" {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
			return
		}
		_, _ = w.Write(part[:n])
		_ = out.Flush()
		if err != nil {
			return
		}
	}
}

// talk sends words an hour apart to an agent that echoes, and reads what comes back.
func talk(t *testing.T, h2 bool, words ...string) (*outbound, string, error) {
	t.Helper()
	r := newOutbound(t, nil)
	r.serveOnPipesOver(t, echo, h2)
	r.Timeout = time.Minute
	send, write := io.Pipe()
	req := request(t.Context(), t, http.MethodPost, "http://a")
	req.Body, req.ContentLength = send, -1
	resp, err := r.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for _, word := range words {
			<-time.After(time.Hour)
			_, _ = io.WriteString(write, word)
		}
		<-time.After(time.Hour)
		_ = write.Close()
	}()
	text, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	<-time.After(10 * time.Hour) // until the caller has sent all
	return r, string(text), err
}

func TestUpload_SilentCallerDoesNotTimeOut(t *testing.T) {
	t.Parallel()
	for name, h2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		for _, words := range [][]string{nil, {"hello", "world"}} {
			t.Run(name+strings.Join(words, " "), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					r, text, err := talk(t, h2, words...)
					if text != strings.Join(words, "") || err != nil {
						t.Errorf("read %q, %v", text, err)
					}
					if x := r.settledOnce(t, breaker.Success, ""); x.Total < time.Hour {
						t.Errorf("observed %+v", x)
					}
				})
			})
		}
	}
}

func TestUpload_SilentAgentTimesOutAfterIt(t *testing.T) {
	t.Parallel()
	for name, h2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r, text, err := talk(t, h2, "hello", "hush")
				if checkTimeout(t, err); text != "hello" {
					t.Errorf("read %q", text)
				}
				if x := r.settledOnce(t, breaker.Failure, "timeout"); x.Total.Round(time.Second) != 3*time.Hour+time.Minute {
					t.Errorf("observed %+v, want the time-out a minute after the caller's last word", x)
				}
			})
		})
	}
}

// The Read of this body does not notice Close, like that of an HTTP/1.1 server.
func TestUpload_ReadAfterCloseStopsNoClock(t *testing.T) {
	t.Parallel()
	for _, answers := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := newOutbound(t, nil)
			r.Timeout = time.Minute
			gone := make(chan struct{})
			defer close(gone)
			r.Base = base(func(req *http.Request) (*http.Response, error) {
				go func() { _, _ = req.Body.Read(make([]byte, 1)) }()
				synctest.Wait()
				_ = req.Body.Close()
				go func() { _, _ = req.Body.Read(make([]byte, 1)) }() // a stray one
				silent := readerFunc(func([]byte) (int, error) { <-req.Context().Done(); return 0, req.Context().Err() })
				if !answers {
					_, err := silent(nil)
					return nil, err
				}
				return &http.Response{StatusCode: http.StatusFound, ContentLength: -1, Body: io.NopCloser(silent)}, nil
			})
			req := request(t.Context(), t, http.MethodPost, "http://a")
			req.Body = io.NopCloser(readerFunc(func([]byte) (int, error) { <-gone; return 0, io.EOF }))
			start := time.Now()
			resp, err := r.RoundTrip(req)
			if answers && err == nil {
				_, err = io.ReadAll(resp.Body)
				_ = resp.Body.Close()
			}
			checkTimeout(t, err)
			if d := time.Since(start); d != time.Minute {
				t.Errorf("waited %s", d)
			}
			r.settledOnce(t, breaker.Failure, "timeout")
		})
	}
}
