// Package webhook tells other programs of the fleet's events, by HTTP: the hooks of WEBHOOKS_FILE.
//
// One replica at a time sends for a hook, the one that has its lease in Redis, in the order of the fleet's stream. The
// hook's place in the stream moves once the receiver has taken a message, so each event is sent at least once, with
// the same X-Event-ID, whichever replica dies.
package webhook

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/breakerd/breakerd/internal/events"
	"github.com/breakerd/breakerd/internal/filewatch"
	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/internal/view"
)

// Store is what hooks keep in Redis, and the fleet's stream: [redisdocs.Docs].
type Store interface {
	events.Reader
	ClaimHook(ctx context.Context, hook, holder string, lease time.Duration, all bool) (redisdocs.Hook, error)
	SaveHook(ctx context.Context, hook, holder string, lease time.Duration, set map[string]string, del []string,
	) (held bool, err error)
	ReadHook(ctx context.Context, hook string, fields ...string) (redisdocs.Hook, error)
}

// The results that Options.Count counts.
const (
	resultSent   = "sent"   // a message was taken
	resultFailed = "failed" // a try was in vain
	resultDead   = "dead"   // a message was given up, or lost with the stream
)

// Options configures Hooks. Store, Replica, Log and Count are required.
type Options struct {
	Path    string // of WEBHOOKS_FILE; "": there are no hooks
	Store   Store
	Replica string // this one's id
	Version string
	Log     *slog.Logger
	Count   func(hook, result string, n int) // n is 0 once for each result, before the first message
}

// Hooks are those of a file, which is read again when it changes. It is safe for concurrent use.
type Hooks struct {
	timing

	path    string
	store   Store
	holder  string // of leases: this replica's id, a blank, and what no other process of that id has
	version string
	log     *slog.Logger
	count   func(hook, result string, n int)
	client  *http.Client

	hooks atomic.Pointer[[]hook]
	file  filewatch.File

	mu      sync.Mutex
	running map[string]*running // by name
}

// running is a sender at work.
type running struct {
	*sender

	end func() // returns when it has ended
}

const (
	pollEvery = time.Second
	// connectWithin and headerWithin bound parts of a request.
	connectWithin = 3 * time.Second
	headerWithin  = 5 * time.Second
)

// New reads the file. A bad one is an error.
func New(o Options) (*Hooks, error) {
	h := &Hooks{
		timing: usualTiming(), path: o.Path, store: o.Store, holder: o.Replica + " " + rand.Text(), version: o.Version,
		log: o.Log, count: o.Count, running: map[string]*running{},
		client: &http.Client{
			Transport: &http.Transport{
				Proxy:               http.ProxyFromEnvironment,
				DialContext:         (&net.Dialer{Timeout: connectWithin}).DialContext,
				TLSHandshakeTimeout: connectWithin, ResponseHeaderTimeout: headerWithin, ForceAttemptHTTP2: true,
				MaxResponseHeaderBytes: maxAnswer, IdleConnTimeout: time.Minute,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	h.hooks.Store(new([]hook))
	h.file = filewatch.File{Path: o.Path, Most: maxFile, Settle: true, Take: h.take}
	if o.Path == "" {
		return h, nil
	}
	_, err := h.file.Look()
	return h, err
}

// take puts the text of the file in force, if it is good.
func (h *Hooks) take(text []byte) error {
	hooks, err := parse(text)
	if err != nil {
		return fmt.Errorf("%s: %w", h.path, err)
	}
	h.hooks.Store(&hooks)
	return nil
}

// Problem is why the file as it is now is not in force; nil: it is.
func (h *Hooks) Problem() error { return h.file.Problem() }

// Wake has all hooks look for events now. It does not block.
func (h *Hooks) Wake() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.running {
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
}

// Run sends until ctx ends.
func (h *Hooks) Run(ctx context.Context) {
	defer h.client.CloseIdleConnections()
	defer h.follow(ctx, nil)
	h.follow(ctx, *h.hooks.Load())
	if h.path == "" {
		<-ctx.Done()
		return
	}
	h.file.Follow(ctx, pollEvery, func(err error) {
		if err != nil {
			h.log.Error("webhooks not taken, the last good ones stay",
				"event", "circuit_breaker.webhooks_bad", "path", h.path, "error", err)
			return
		}
		h.log.Info("webhooks loaded", "event", "circuit_breaker.webhooks_loaded", "path", h.path,
			"webhooks", len(*h.hooks.Load()))
		h.follow(ctx, *h.hooks.Load())
	})
}

// follow has a sender run for each hook: one that runs for a hook that is gone, or another one now, ends first.
func (h *Hooks) follow(ctx context.Context, hooks []hook) {
	wanted := map[string]*hook{}
	for i := range hooks {
		wanted[hooks[i].Name] = &hooks[i]
	}
	var ending sync.WaitGroup
	h.mu.Lock()
	for name, r := range h.running {
		if now := wanted[name]; now != nil && now.same(&r.hook) {
			delete(wanted, name)
			continue
		}
		delete(h.running, name)
		ending.Go(r.end)
	}
	h.mu.Unlock()
	ending.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, now := range wanted {
		s := &sender{Hooks: h, hook: *now, secrets: secrets{path: now.SecretFile}, wake: make(chan struct{}, 1)}
		ctx, cancel := context.WithCancel(ctx)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			s.run(ctx)
		}()
		h.running[name] = &running{s, func() { cancel(); <-ended }}
	}
}

// View is a hook as it is shown.
type View struct {
	Name   string   `json:"name"`
	Host   string   `json:"host"   doc:"Of its url, the rest of which may be a secret."`
	Format string   `json:"format" enum:"json,slack"`
	Kinds  []string `json:"kinds"  nullable:"false"`
	Agents []string `json:"agents" doc:"Patterns; none: all." nullable:"false"`
	Signed bool     `json:"signed"`

	Sender     *string `json:"sender"      doc:"The replica that sends now; null: none."`
	Cursor     *string `json:"cursor"      doc:"Id of the last event that was seen to; null: no replica has begun."`
	LagEvents  int     `json:"lag_events"  doc:"Events behind the cursor, of all kinds; 1000: or more."`
	LagSeconds float64 `json:"lag_seconds" doc:"Age of the oldest of them."`
	Sent       int64   `json:"sent"        doc:"Messages that were taken."`

	Tries       int     `json:"tries"         doc:"Of the message that was not taken yet; 0: none is tried again."`
	NextTryAt   *string `json:"next_try_at"   format:"date-time"`
	LastError   *string `json:"last_error"`
	LastErrorAt *string `json:"last_error_at" format:"date-time"`

	DeadLetters int64        `json:"dead_letters" doc:"Messages that were given up. Events that the stream lost before they were read count as one."`
	Dead        []DeadLetter `json:"dead"         doc:"The newest 50 of them, newest first." nullable:"false"`
}

// maxLag bounds the events that List counts.
const maxLag = 1000

// List shows all hooks, by name.
func (h *Hooks) List(ctx context.Context) ([]View, error) {
	views := []View{}
	for _, k := range *h.hooks.Load() {
		v, err := h.show(ctx, &k)
		if err != nil {
			return nil, err
		}
		views = append(views, v)
	}
	slices.SortFunc(views, func(a, b View) int { return cmp.Compare(a.Name, b.Name) })
	return views, nil
}

func (h *Hooks) show(ctx context.Context, k *hook) (v View, err error) {
	v = View{
		Name: k.Name, Host: k.host, Format: k.Format, Kinds: slices.Sorted(maps.Keys(k.kinds)),
		Agents: append([]string{}, k.Agents...), Signed: k.SecretFile != "", Dead: []DeadLetter{},
	}
	held, err := h.store.ReadHook(ctx, k.Name,
		fieldCursor, fieldTrying, fieldSent, fieldError, fieldDead, fieldLetters)
	if err != nil {
		return v, err
	}
	st, begun := readState(held.Fields)
	if held.Holder != "" {
		replica, _, _ := strings.Cut(held.Holder, " ")
		v.Sender = &replica
	}
	v.Sent, v.DeadLetters = st.sent, st.dead
	v.Dead = append(v.Dead, st.letters...)
	if st.trying != nil {
		v.Tries, v.NextTryAt = st.trying.Tries, view.Stamp(st.trying.NextMs)
	}
	if st.err != nil {
		v.LastError, v.LastErrorAt = view.TextOrNull(st.err.Text), view.Stamp(st.err.AtMs)
	}
	if !begun {
		return v, nil
	}
	v.Cursor = new(st.cursor.String())
	behind, err := h.store.Entries(ctx, events.All, st.cursor.Next(), events.Last(), maxLag)
	if v.LagEvents = len(behind); len(behind) > 0 {
		v.LagSeconds = max(0, float64(held.NowMs-idMs(behind[0].ID))/1000)
	}
	return v, err
}
