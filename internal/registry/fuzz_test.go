package registry_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode"

	"github.com/breakerd/breakerd/internal/registry"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// FuzzParseFile: no text makes parsing panic, faults are short and printable, and a good file survives a round trip.
func FuzzParseFile(f *testing.F) {
	f.Add(`[{"name": "a", "url": "http://h:1/b%2fc", "circuit_breaker_config": {"enabled": false, "timeout_seconds": 0.3}}]`)
	f.Add(`{"agents": [{"name": "a", "labels": {"x": "é"}, "timeout_seconds": 1e1, "classify": "jsonrpc", "contact": "\ud800 & <>"}, {"name": "b"}]}`)
	f.Add(`[{"name": "a", ` + calls + `}, {"name": "b", "failure_statuses": [], "count": {"path_prefixes": ["/"]}}]`)
	for text := range badFiles() {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		agents, err := registry.ParseFile(text)
		if err != nil {
			if len(err.Error()) > 40_000 || strings.ContainsFunc(err.Error(), func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
				t.Fatalf("%q", err)
			}
			return
		}
		forms := []registry.Form{}
		for _, a := range agents {
			forms = append(forms, a.Form())
		}
		again, err := json.Marshal(forms)
		if err != nil {
			t.Fatal(err)
		}
		got, err := registry.ParseFile(string(again))
		if err != nil || len(got) != len(agents) {
			t.Fatalf("%s: %v", again, err)
		}
		for i, a := range agents {
			if a.URL != nil && got[i].URL != nil && a.URL.String() == got[i].URL.String() {
				got[i].URL = a.URL // net/url may hold the same address in two ways
			}
			if !reflect.DeepEqual(got[i], a) {
				t.Fatalf("%+v became %+v by %s", a, got[i], again)
			}
			if one, err := json.Marshal(a.Form()); err != nil {
				t.Fatal(err)
			} else if _, err := registry.ParseAgent(a.Name, one, breaker.DefaultPolicy(), nil); err != nil {
				t.Fatalf("%s: %v", one, err)
			}
		}
	})
}
