package registry_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/internal/redisdocs"
	"github.com/breakerd/breakerd/internal/registry"
	"github.com/breakerd/breakerd/internal/testkit"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/redisstore"
	"github.com/breakerd/breakerd/pkg/redisstore/embedded"
)

// redisProfiles are Profiles in Redis, with hooks.
type redisProfiles struct {
	*redisdocs.Docs
	mu        sync.Mutex
	reads     int
	beforePut func() // runs before the next PutBoth
	beforeAll func() // runs before every PutBoth
	putError  error  // of the next PutBoth
}

func (s *redisProfiles) Profile(ctx context.Context, agent string) (string, error) {
	s.mu.Lock()
	s.reads++
	s.mu.Unlock()
	return s.Docs.Profile(ctx, agent)
}

func (s *redisProfiles) PutBoth(ctx context.Context, agent string, profile, override [2]string, actor string) error {
	s.mu.Lock()
	before, beforeAll, putError := s.beforePut, s.beforeAll, s.putError
	s.beforePut, s.putError = nil, nil
	s.mu.Unlock()
	if before != nil {
		before()
	}
	if beforeAll != nil {
		beforeAll()
	}
	if putError != nil {
		return putError
	}
	return s.Docs.PutBoth(ctx, agent, profile, override, actor)
}

// set writes a profile or an override as somebody else does.
func set(t *testing.T, put func(ctx context.Context, agent, expected, text, actor string) error, agent, text string) {
	t.Helper()
	if err := put(context.WithoutCancel(t.Context()), agent, redisstore.AnyVersion, text, "other"); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, address string) *redisProfiles {
	t.Helper()
	conn, err := redisstore.Open(t.Context(), address, redisstore.Options{Timeout: soon, Embedded: embedded.Start})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	store, err := redisstore.New(conn.Client, conn.Cluster, redisstore.Config{Timeout: soon})
	if err != nil {
		t.Fatal(err)
	}
	return &redisProfiles{Docs: redisdocs.New(store, conn.Client, redisdocs.Config{MaxAgents: 1000, Timeout: soon})}
}

// on runs a test on Redis and on miniredis.
func on(t *testing.T, test func(t *testing.T, s *redisProfiles)) {
	t.Helper()
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		test(t, open(t, testkit.Start(t).URL()))
	})
	t.Run("miniredis", func(t *testing.T) {
		t.Parallel()
		test(t, open(t, "embedded://"))
	})
}

func merged(t *testing.T, s registry.Profiles, file string, log *logLines) *registry.Registry {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agents.json")
	write(t, path, file)
	r, err := registry.New(registry.Options{Path: path, Default: breaker.DefaultPolicy(), Profiles: s, Logger: log.logger(), Timeout: soon})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func parsed(t *testing.T, r *registry.Registry, name, body string) registry.Agent {
	t.Helper()
	a, err := r.ParseAgent(name, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func put(t *testing.T, r *registry.Registry, a registry.Agent) (created bool) {
	t.Helper()
	created, err := r.Put(t.Context(), a, "tester")
	if err != nil {
		t.Fatal(err)
	}
	return created
}

func document(t *testing.T, read func(ctx context.Context, agent string) (string, error), agent, want string) {
	t.Helper()
	if got, err := read(t.Context(), agent); err != nil || got != want {
		t.Errorf("of %s: got %s, %v, want %s", agent, got, err, want)
	}
}

func TestPut_CountsAtOnceAndOnOtherReplicas(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, s *redisProfiles) {
		r, other := merged(t, s, "[]", &logLines{}), merged(t, s, "[]", &logLines{})
		for _, replica := range []*registry.Registry{r, other} {
			if _, err := replica.Agent(t.Context(), "a"); !errors.Is(err, registry.ErrUnknown) {
				t.Fatalf("got %v", err)
			}
		}
		a := parsed(t, r, "a", `{"url": "http://h:1/x", "contact": "c", "labels": {"l": "v"}, "timeout_seconds": 5, "classify": "jsonrpc",
			"circuit_breaker_config": {"failure_threshold": 2}}`)
		if !put(t, r, a) {
			t.Error("created is false")
		}
		if got, err := r.Agent(t.Context(), "a"); err != nil || !reflect.DeepEqual(got, a) {
			t.Errorf("got %+v, %v, want %+v", got, err, a)
		}
		document(t, s.Docs.Profile, "a", `{"classify":"jsonrpc","contact":"c","labels":{"l":"v"},"timeout_seconds":5,"url":"http://h:1/x"}`)
		document(t, s.Override, "a", `{"failure_threshold":2}`)
		testkit.Eventually(t, "the other replica", soon, func() error {
			got, err := other.Agent(t.Context(), "a")
			if err == nil && !reflect.DeepEqual(got, a) {
				err = fmt.Errorf("got %+v", got)
			}
			return err
		})
		if put(t, r, parsed(t, r, "a", `{"url": "http://h:2"}`)) {
			t.Error("created is true")
		}
		document(t, s.Docs.Profile, "a", `{"url":"http://h:2"}`)
		waitForHost(t, other, "a", "h:2")
		if err := r.Delete(t.Context(), "a", "tester"); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Agent(t.Context(), "a"); !errors.Is(err, registry.ErrUnknown) {
			t.Errorf("got %v", err)
		}
		document(t, s.Docs.Profile, "a", "")
		document(t, s.Override, "a", "")
		if err := r.Delete(t.Context(), "a", "tester"); !errors.Is(err, registry.ErrUnknown) {
			t.Errorf("deleted twice: %v", err)
		}
	})
}

func TestFile_WinsOverTheAPI(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, s *redisProfiles) {
		r := merged(t, s, one("a", "file"), &logLines{})
		set(t, s.PutProfile, "a", `{"url": "http://api"}`)
		waitForHost(t, r, "a", "file")
		if _, err := r.Put(t.Context(), parsed(t, r, "a", `{}`), "tester"); !errors.Is(err, registry.ErrInFile) {
			t.Errorf("Put: %v", err)
		}
		if err := r.Delete(t.Context(), "a", "tester"); !errors.Is(err, registry.ErrInFile) {
			t.Errorf("Delete: %v", err)
		}
		document(t, s.Docs.Profile, "a", `{"url": "http://api"}`)
	})
}

func TestList_IsOfFileAndAPIByName(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, s *redisProfiles) {
		r := merged(t, s, `[{"name": "m", "url": "http://m"}, {"name": "z", "circuit_breaker_config": {"enabled": false}}]`, &logLines{})
		set(t, s.PutProfile, "b", `{"url": "http://b"}`)
		set(t, s.PutOverride, "b", `{"failure_threshold": 7}`)
		set(t, s.PutProfile, "contact", `{"contact": "a person"}`)
		set(t, s.PutProfile, "damaged", `{"url": 5}`)
		set(t, s.PutProfile, "m", `{"url": "http://other"}`)
		set(t, s.PutProfile, "n", `{"url": "http://n"}`)
		list, err := r.List(t.Context())
		var got []string
		for _, a := range list {
			got = append(got, fmt.Sprint(a.Name, " ", a.Origin, " ", a.URL))
		}
		want := []string{"b api http://b", "m file http://m", "n api http://n", "z file <nil>"}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("got %q, %v, want %q", got, err, want)
		}
		if list[0].Config.Value("failure_threshold") != 7 || list[2].Config != nil {
			t.Errorf("got %+v", list)
		}
	})
}

func TestPut_KeepsHowCallsCount(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, s *redisProfiles) {
		r, other := merged(t, s, "[]", &logLines{}), merged(t, s, "[]", &logLines{})
		a := parsed(t, r, "a", `{"url": "http://h", `+calls+`}`)
		put(t, r, a)
		document(t, s.Docs.Profile, "a", `{"classify":"llm","classify_observe":"auto",`+
			`"count":{"methods":["POST","M-SEARCH"],"path_prefixes":["/v1/","/é x"]},"failure_statuses":[401,"302-303","500-999"],`+
			`"first_token_timeout_seconds":0.3,"idle_timeout_seconds":3600,"ignored_statuses":["100-299",404],"url":"http://h"}`)
		testkit.Eventually(t, "the other replica", soon, func() error {
			got, err := other.Agent(t.Context(), "a")
			if err == nil && !reflect.DeepEqual(got, a) {
				err = fmt.Errorf("got %+v, want %+v", got, a)
			}
			return err
		})
		put(t, r, parsed(t, r, "a", `{"url": "http://h"}`)) // what it lacks is the default again
		document(t, s.Docs.Profile, "a", `{"url":"http://h"}`)
	})
}

func TestAgent_ProfileWithoutAddressIsKnown(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, s *redisProfiles) {
		r := merged(t, s, "[]", &logLines{})
		set(t, s.PutProfile, "a", `{"contact": "a person"}`)
		if a, err := r.Agent(t.Context(), "a"); err != nil || a.URL != nil || a.Contact != "a person" || a.Timeout != registry.DefaultTimeout {
			t.Errorf("got %+v, %v", a, err)
		}
	})
}

func TestPut_KeepsForeignFieldsAndTheOverride(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, s *redisProfiles) {
		r := merged(t, s, "[]", &logLines{})
		set(t, s.PutProfile, "a", `{"contact": "x", "colour": {"of": ["a", "newer", "version"]}}`)
		set(t, s.PutOverride, "a", `{"enabled": false}`)
		put(t, r, parsed(t, r, "a", `{"url": "http://h"}`))
		document(t, s.Docs.Profile, "a", `{"colour":{"of":["a","newer","version"]},"url":"http://h"}`)
		document(t, s.Override, "a", `{"enabled": false}`)
		if a, err := r.Agent(t.Context(), "a"); err != nil || a.Config.Value("enabled") != false {
			t.Errorf("got %+v, %v", a, err)
		}
		put(t, r, parsed(t, r, "a", `{"url": "http://h", "circuit_breaker_config": null}`)) // null deletes it
		document(t, s.Override, "a", "")
	})
}

// override parses an override.
func override(text string) *policy.Override {
	o, err := policy.Parse([]byte(text))
	if err != nil {
		panic(err)
	}
	return &o
}

func TestPut_StartsAgainAfterAnotherChange(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, s *redisProfiles) {
		r := merged(t, s, "[]", &logLines{})
		s.beforePut = func() { set(t, s.PutProfile, "a", `{"colour":"red","contact":"x"}`) }
		if put(t, r, parsed(t, r, "a", `{"url": "http://h"}`)) {
			t.Error("created is true, but the other change was first")
		}
		document(t, s.Docs.Profile, "a", `{"colour":"red","url":"http://h"}`)
	})
}

func TestPut_ManyAtOnceAllSucceed(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, s *redisProfiles) {
		r := merged(t, s, "[]", &logLines{})
		created := atomic.Int32{}
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				a := registry.Agent{Name: "a", Contact: strconv.Itoa(i), Config: override(fmt.Sprintf(`{"failure_threshold":%d}`, i+1))}
				if first, err := r.Put(t.Context(), a, "tester"); err != nil {
					t.Error(err)
				} else if first {
					created.Add(1)
				}
			})
		}
		wg.Wait()
		a, err := r.Agent(t.Context(), "a")
		if err != nil || created.Load() != 1 {
			t.Fatalf("%v, created %d times", err, created.Load())
		}
		contact, _ := strconv.Atoi(a.Contact)
		document(t, s.Docs.Profile, "a", `{"contact":"`+a.Contact+`"}`) // both documents are of the same Put
		document(t, s.Override, "a", fmt.Sprintf(`{"failure_threshold":%d}`, a.Config.Value("failure_threshold")))
		if *a.Config != *override(fmt.Sprintf(`{"failure_threshold":%d}`, contact+1)) {
			t.Errorf("a mixture: %+v", a)
		}
	})
}

func TestPut_ConflictAtEachAttemptIsAnError(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, s *redisProfiles) {
		r, n := merged(t, s, "[]", &logLines{}), 0
		s.beforeAll = func() { n++; set(t, s.PutProfile, "a", fmt.Sprintf(`{"contact":"%d"}`, n)) }
		if _, err := r.Put(t.Context(), registry.Agent{Name: "a"}, "tester"); !errors.Is(err, registry.ErrConflict) || n < 3 {
			t.Errorf("got %v after %d attempts", err, n)
		}
	})
}

func TestDelete_WaitsNoLongerThanItsContext(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, s *redisProfiles) {
		r := merged(t, s, "[]", &logLines{})
		ctx, cancel := context.WithCancel(t.Context())
		s.beforePut = func() {
			cancel()
			if err := r.Delete(ctx, "a", "tester"); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v while another changes it", err)
			}
		}
		put(t, r, registry.Agent{Name: "a"})
	})
}

func TestDelete_KeepsAnOverrideWithoutRegistration(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, s *redisProfiles) {
		r := merged(t, s, "[]", &logLines{})
		set(t, s.PutOverride, "a", `{"enabled": false}`)
		if err := r.Delete(t.Context(), "a", "tester"); !errors.Is(err, registry.ErrUnknown) {
			t.Errorf("got %v", err)
		}
		document(t, s.Override, "a", `{"enabled": false}`)
	})
}

func TestDelete_CanBeRepeatedWhenCut(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, s *redisProfiles) {
		r := merged(t, s, "[]", &logLines{})
		put(t, r, parsed(t, r, "a", `{"url": "http://h", "circuit_breaker_config": {"enabled": false}}`))
		s.putError = &breaker.StoreError{Verb: "register", Agent: "a", Err: errors.New("cut")}
		if err := r.Delete(t.Context(), "a", "tester"); !errors.Is(err, breaker.ErrStoreUnavailable) {
			t.Errorf("got %v", err)
		}
		if err := r.Delete(t.Context(), "a", "tester"); err != nil {
			t.Errorf("again: %v", err)
		}
		document(t, s.Docs.Profile, "a", "")
		document(t, s.Override, "a", "")
	})
}

func TestPut_ChecksTheAgent(t *testing.T) {
	t.Parallel()
	on(t, func(t *testing.T, s *redisProfiles) {
		r := merged(t, s, "[]", &logLines{})
		u, _ := url.Parse("http://user:pw@h/?q")
		tests := map[string]registry.Agent{
			"name":                   {Name: "a b"},
			"url":                    {Name: "a", URL: u},
			"timeout_seconds":        {Name: "a", Timeout: 2 * time.Hour},
			"circuit_breaker_config": {Name: "a", Config: override(`{"timeout_seconds":7200}`)},
		}
		for path, a := range tests {
			_, err := r.Put(t.Context(), a, "tester")
			if faults, is := errors.AsType[*registry.Faults](err); !is || faults.Faults[0].Path != path {
				t.Errorf("%s: %v", path, err)
			}
		}
		document(t, s.Docs.Profile, "a", "")
		if created := put(t, r, registry.Agent{Name: "a"}); !created {
			t.Error("the zero agent was not created")
		}
		document(t, s.Docs.Profile, "a", "{}")
	})
}

func TestAgent_DamagedProfileIsUnknownAndLoggedOnce(t *testing.T) {
	t.Parallel()
	damaged := []string{`{"url": "http://u:geheim@h"}`, `{"url": 5}`, `[]`, `null`, `x`, "\xff", `{"url": "http://h", "url": "http://i"}`, `{"labels": {"": 1}}`, strings.Repeat(" ", 2<<20) + "{}"}
	on(t, func(t *testing.T, s *redisProfiles) {
		log := &logLines{}
		r := merged(t, s, "[]", log)
		for i, text := range damaged {
			name := fmt.Sprint("agent", i)
			set(t, s.PutProfile, name, text)
			if _, err := r.Agent(t.Context(), name); !errors.Is(err, registry.ErrUnknown) {
				t.Errorf("%.50q: %v", text, err)
			}
		}
		logged := log.with("bad_profile")
		if len(logged) != len(damaged) || strings.Contains(strings.Join(logged, ""), "geheim") {
			t.Errorf("%d lines: %q", len(logged), logged)
		}
		reads := s.reads
		testkit.Eventually(t, "another read", soon, func() error {
			if _, err := r.Agent(t.Context(), "agent0"); !errors.Is(err, registry.ErrUnknown) || s.reads == reads {
				return fmt.Errorf("not yet: %w", err)
			}
			return nil
		})
		if n := len(log.with("bad_profile")); n != len(damaged) {
			t.Errorf("logged again: %d lines", n)
		}
		if put(t, r, parsed(t, r, "agent0", `{"url": "http://h"}`)) {
			t.Error("created is true")
		}
		document(t, s.Docs.Profile, "agent0", `{"url":"http://h"}`)
	})
}

func TestAgent_KeyOfAnotherTypeIsNoRegistration(t *testing.T) {
	t.Parallel()
	server := testkit.Start(t)
	s, client, keys := open(t, server.URL()), server.Client(t), redisstore.Keys{Prefix: "circuit_breaker"}
	r := merged(t, s, "[]", &logLines{})
	if err := client.LPush(t.Context(), keys.Profile("a"), "x").Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Agent(t.Context(), "a"); !errors.Is(err, registry.ErrUnknown) {
		t.Errorf("got %v", err)
	}
	if !put(t, r, parsed(t, r, "a", `{"url": "http://h"}`)) {
		t.Error("created is false")
	}
	document(t, s.Docs.Profile, "a", `{"url":"http://h"}`)
}

func TestAgent_LastAnswerHoldsWhileRedisIsDown(t *testing.T) {
	t.Parallel()
	server := testkit.Start(t)
	s := open(t, server.URL())
	r := merged(t, s, one("f", "file"), &logLines{})
	put(t, r, parsed(t, r, "a", `{"url": "http://h"}`))
	server.Kill()
	for range 3 {
		waitForHost(t, r, "a", "h")
		waitForHost(t, r, "f", "file")
	}
	if _, err := r.Agent(t.Context(), "new"); !errors.Is(err, breaker.ErrStoreUnavailable) {
		t.Errorf("got %v", err)
	}
	if list, err := r.List(t.Context()); !errors.Is(err, breaker.ErrStoreUnavailable) || len(list) != 1 || list[0].Name != "f" {
		t.Errorf("got %+v, %v", list, err)
	}
	if _, err := r.Put(t.Context(), parsed(t, r, "a", `{}`), "tester"); !errors.Is(err, breaker.ErrStoreUnavailable) {
		t.Errorf("Put: %v", err)
	}
	if err := r.Delete(t.Context(), "a", "tester"); !errors.Is(err, breaker.ErrStoreUnavailable) {
		t.Errorf("Delete: %v", err)
	}
	waitForHost(t, r, "a", "h") // the failed Put and Delete do not count
	server.Restart()
	testkit.Eventually(t, "the truth of an empty Redis", soon, func() error {
		if _, err := r.Agent(t.Context(), "a"); !errors.Is(err, registry.ErrUnknown) {
			return fmt.Errorf("got %w", err)
		}
		return nil
	})
}
