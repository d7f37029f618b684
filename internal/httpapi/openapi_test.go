package httpapi

import (
	"fmt"
	"net/http"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/breakerd/breakerd/internal/problem"
)

// patternsOf reads the mux's own patterns. It looks into net/http, so that a route which bypasses serve is seen too.
func patternsOf(t testing.TB, mux *http.ServeMux) (out []string) {
	t.Helper()
	tree := reflect.ValueOf(mux).Elem().FieldByName("tree")
	if !tree.IsValid() {
		t.Fatal("net/http changed: find the patterns elsewhere")
	}
	var walk func(v reflect.Value, depth int)
	walk = func(v reflect.Value, depth int) {
		switch {
		case depth > 40:
		case v.Kind() == reflect.Pointer && !v.IsNil() && v.Elem().Type().Name() == "pattern":
			out = append(out, v.Elem().FieldByName("str").String())
		case v.Kind() == reflect.Pointer && !v.IsNil() && v.Elem().Kind() == reflect.Struct:
			walk(v.Elem(), depth+1)
		case v.Kind() == reflect.Struct && v.Type().PkgPath() == "net/http":
			for _, field := range v.Fields() {
				walk(field, depth+1)
			}
		case v.Kind() == reflect.Slice:
			for i := range v.Len() {
				walk(v.Index(i), depth+1)
			}
		case v.Kind() == reflect.Map:
			for _, k := range v.MapKeys() {
				walk(v.MapIndex(k), depth+1)
			}
		}
	}
	walk(tree, 0)
	return out
}

// documentsItself checks that the document has just what is on the mux, and the gateway, which is not.
func (f *fixture) documentsItself(count int) {
	f.t.Helper()
	doc := f.do("GET", "/openapi.json", "").want(200, `openapi="3.1.0"`)
	var documented []string
	paths, _ := doc.json["paths"].(map[string]any)
	for path, item := range paths {
		methods, _ := item.(map[string]any)
		for m := range methods {
			documented = append(documented, strings.ToUpper(m)+" "+path)
		}
	}
	served := slices.DeleteFunc(patternsOf(f.t, f.api.mux), func(p string) bool { return p == "/" })
	if f.api.gate != nil {
		served = append(served, "GET /v1/gate/{agent}", "GET /v1/gate/{agent}/{path}")
	}
	if f.api.gateway != nil {
		served = append(served, "GET /agents/{agent}/{path}", "POST /agents/{agent}/{path}")
	}
	slices.Sort(served)
	slices.Sort(documented)
	served = slices.Compact(served)
	if !slices.Equal(served, documented) || len(served) != count {
		f.t.Errorf("%d served:\n%s\ndocumented:\n%s", len(served), strings.Join(served, "\n"), strings.Join(documented, "\n"))
	}
}

func TestTheDocumentListsExactlyWhatIsServed(t *testing.T) {
	t.Parallel()
	newFixture(t).documentsItself(26)
	newBridgeFixture(t).documentsItself(20)
}

// resolves checks that the document's references lead somewhere, and gives it.
func (f *fixture) resolves() got {
	f.t.Helper()
	doc := f.do("GET", "/openapi.json", "").want(200)
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, x := range v {
				walk(x)
			}
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok && doc.at(strings.ReplaceAll(strings.TrimPrefix(ref, "#/"), "/", ".")) == nil {
				f.t.Errorf("%s leads nowhere", ref)
			}
			for _, x := range v {
				walk(x)
			}
		}
	}
	walk(doc.json)
	return doc
}

func TestTheDocumentsResolveAndNameTheirCodes(t *testing.T) {
	t.Parallel()
	doc, bridge := newFixture(t).resolves(), newBridgeFixture(t).resolves()
	source, err := os.ReadFile("../problem/code.go")
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := []problem.Code{problem.NotFound, problem.MethodNotAllowed, problem.InvalidToken, problem.TooManyAgents}
	codes := regexp.MustCompile(`Code = "(\w+)"`).FindAllStringSubmatch(string(source), -1)
	for _, c := range codes {
		if !strings.Contains(doc.text, c[1]) && !strings.Contains(bridge.text, c[1]) && !slices.Contains(elsewhere, problem.Code(c[1])) {
			t.Errorf("code %s is in no document", c[1])
		}
	}
	if len(codes) < 40 {
		t.Errorf("only %d codes found", len(codes))
	}
	for _, field := range []string{"agent_id", "opened_at", "failure_count", "failure_rate", "timeout_until", "hold", "probes", "policy", "epoch"} {
		if doc.at("components.schemas.BreakerDetail.properties."+field) == nil {
			t.Errorf("BreakerDetail lacks %s: %v", field, fmt.Sprint(doc.at("components.schemas.BreakerDetail"))[:200])
		}
	}
}
