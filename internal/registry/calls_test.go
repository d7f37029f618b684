package registry_test

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/breakerd/breakerd/internal/registry"
	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/breakerhttp"
)

// calls has every field of an entry that says how calls are judged, counted and bounded, none with its default.
const calls = `"classify":"llm","classify_observe":"auto","failure_statuses":[401,"302-303","500-999"],` +
	`"ignored_statuses":["100-299",404],"first_token_timeout_seconds":0.3,"idle_timeout_seconds":3600,` +
	`"count":{"methods":["POST","M-SEARCH"],"path_prefixes":["/v1/","/é x"]}`

func TestCalls_AreParsedAndShownAsTheyWere(t *testing.T) {
	t.Parallel()
	want := registry.Agent{
		Name: "a", Timeout: 2 * time.Second, Classify: breakerhttp.LLM, ClassifyObserve: breakerhttp.Auto,
		Statuses: breakerhttp.Statuses{
			Failure: []breakerhttp.StatusRange{{From: 401, To: 401}, {From: 302, To: 303}, {From: 500, To: 999}},
			Ignored: []breakerhttp.StatusRange{{From: 100, To: 299}, {From: 404, To: 404}},
		},
		FirstToken: 300 * time.Millisecond, IdleTimeout: time.Hour,
		Count:  registry.Count{Methods: []string{"POST", "M-SEARCH"}, PathPrefixes: []string{"/v1/", "/é x"}},
		Origin: registry.FromAPI,
	}
	text := `{"name":"a","timeout_seconds":2,` + calls + `,"origin":"api"}`
	a, err := registry.ParseAgent("a", []byte(text), breaker.DefaultPolicy(), nil)
	if err != nil || !reflect.DeepEqual(a, want) {
		t.Errorf("got %+v, %v, want %+v", a, err, want)
	}
	if got, err := json.Marshal(a.Form()); err != nil || string(got) != text {
		t.Errorf("got %s, %v, want %s", got, err, text)
	}
	for _, c := range breakerhttp.BodyClassifiers() {
		text := `{"classify":"` + string(c) + `","classify_observe":"` + string(c) + `"}`
		if a, err := registry.ParseAgent("a", []byte(text), breaker.DefaultPolicy(), nil); err != nil || a.Classify != c || a.ClassifyObserve != c {
			t.Errorf("%s: got %+v, %v", text, a, err)
		}
	}
}

// An older bridge takes what this one shows of an agent that has no new field.
func TestCalls_DefaultsAreNotShown(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`{}`, `{"failure_statuses":[],"ignored_statuses":[],"idle_timeout_seconds":4.0}`} {
		a, err := registry.ParseAgent("a", []byte(text), breaker.DefaultPolicy(), nil)
		if err != nil || a.IdleTimeout != 4*time.Second || !reflect.DeepEqual(a.Statuses, breakerhttp.Statuses{}) {
			t.Errorf("%s: got %+v, %v", text, a, err)
		}
		const want = `{"name":"a","timeout_seconds":60,"classify":"status","origin":"api"}`
		if got, err := json.Marshal(a.Form()); err != nil || string(got) != want {
			t.Errorf("%s: got %s, %v", text, got, err)
		}
	}
}

func TestCount_SaysWhichCallsCount(t *testing.T) {
	t.Parallel()
	posts, chats := []string{"POST", "PUT"}, []string{"/v1/chat", "/run/"}
	for _, tt := range []struct {
		count        registry.Count
		method, path string
		want         bool
	}{
		{registry.Count{}, "GET", "/", true},
		{registry.Count{}, "PROPFIND", "", true},
		{registry.Count{}, "", "/x", true},
		{registry.Count{}, "OPTIONS", "/x", false},
		{registry.Count{}, "HEAD", "/x", false},
		{registry.Count{}, "head", "/x", true}, // methods are case-sensitive (RFC 9110, section 9.1)
		{registry.Count{Methods: posts}, "POST", "/x", true},
		{registry.Count{Methods: posts}, "PUT", "", true},
		{registry.Count{Methods: posts}, "GET", "/x", false},
		{registry.Count{Methods: posts}, "post", "/x", false},
		{registry.Count{Methods: []string{"GET"}}, "", "/x", true}, // as in http.Request
		{registry.Count{Methods: []string{"HEAD"}}, "HEAD", "/x", false},
		{registry.Count{PathPrefixes: chats}, "GET", "/v1/chat/completions", true},
		{registry.Count{PathPrefixes: chats}, "GET", "/v1/chatter", true},
		{registry.Count{PathPrefixes: chats}, "GET", "/run", false},
		{registry.Count{PathPrefixes: chats}, "GET", "/V1/chat", false},
		{registry.Count{PathPrefixes: chats}, "GET", "/x/v1/chat", false},
		{registry.Count{PathPrefixes: chats}, "OPTIONS", "/v1/chat", false},
		{registry.Count{PathPrefixes: chats}, "GET", "", false},
		{registry.Count{PathPrefixes: []string{"/"}}, "GET", "", true},
		{registry.Count{PathPrefixes: chats}, "GET", "/%761%2Fchat", true},
		{registry.Count{PathPrefixes: chats}, "GET", "/%25761/chat", false}, // decoded once
		{registry.Count{PathPrefixes: chats}, "GET", "/v1/chat/100%", true},
		{registry.Count{PathPrefixes: []string{"/é x"}}, "GET", "/%C3%A9%20x/y", true},
		{registry.Count{Methods: posts, PathPrefixes: chats}, "POST", "/run/1", true},
		{registry.Count{Methods: posts, PathPrefixes: chats}, "POST", "/health", false},
		{registry.Count{Methods: posts, PathPrefixes: chats}, "GET", "/run/1", false},
	} {
		if got := tt.count.Counts(tt.method, tt.path); got != tt.want {
			t.Errorf("%+v, %q %q: got %v", tt.count, tt.method, tt.path, got)
		}
	}
}

// Any valid entry goes through JSON and back; the statuses of both lists are apart.
func TestCalls_GoRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		ranges := func(label string, low, high int) []breakerhttp.StatusRange {
			one := rapid.Custom(func(t *rapid.T) breakerhttp.StatusRange {
				from := rapid.IntRange(low, high).Draw(t, "from")
				return breakerhttp.StatusRange{From: from, To: rapid.IntRange(from, high).Draw(t, "to")}
			})
			if all := rapid.SliceOfN(one, 0, 32).Draw(t, label); len(all) > 0 {
				return all
			}
			return nil
		}
		wait := rapid.Custom(func(t *rapid.T) time.Duration {
			return time.Duration(rapid.IntRange(1, 3_600_000).Draw(t, "ms")) * time.Millisecond
		})
		classifier, split := rapid.SampledFrom(breakerhttp.BodyClassifiers()), rapid.IntRange(100, 998).Draw(t, "split")
		want := registry.Agent{
			Name: "a", Timeout: wait.Draw(t, "timeout"), Classify: classifier.Draw(t, "classify"), Origin: registry.FromAPI,
			ClassifyObserve: rapid.OneOf(rapid.Just(breakerhttp.BodyClassifier("")), classifier).Draw(t, "observe"),
			Statuses:        breakerhttp.Statuses{Failure: ranges("failure", 100, split), Ignored: ranges("ignored", split+1, 999)},
			FirstToken:      rapid.OneOf(rapid.Just(time.Duration(0)), wait).Draw(t, "first token"),
			IdleTimeout:     rapid.OneOf(rapid.Just(registry.DefaultIdleTimeout), wait).Draw(t, "idle"),
		}
		if rapid.Bool().Draw(t, "with methods") {
			want.Count.Methods = rapid.SliceOfN(rapid.SampledFrom([]string{"GET", "POST", "M-SEARCH", "QUERY", "!#"}), 1, 32).Draw(t, "methods")
		}
		if rapid.Bool().Draw(t, "with prefixes") {
			prefix := rapid.StringMatching(`/[a-zA-Z0-9 _.~é/-]{0,20}`)
			want.Count.PathPrefixes = rapid.SliceOfN(prefix, 1, 32).Draw(t, "prefixes")
		}
		text, err := json.Marshal(want.Form())
		if err != nil {
			t.Fatal(err)
		}
		got, err := registry.ParseAgent("a", text, breaker.DefaultPolicy(), nil)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%s: got %+v, %v, want %+v", text, got, err, want)
		}
		if c := got.Form().Calls; !reflect.DeepEqual(c.Or(registry.Calls{}), c) || !reflect.DeepEqual(registry.Calls{}.Or(c), c) {
			t.Fatalf("%+v is not what it is with an empty one", c)
		}
	})
}
