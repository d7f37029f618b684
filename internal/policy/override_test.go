package policy_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/policy"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// full has a value for every field, none the default.
const full = `{"enabled":false,"failure_threshold":3,"failure_rate_threshold":0.7,"timeout_seconds":0.3,"half_open_max_calls":5,` +
	`"window_size_seconds":300,"minimum_calls":20,"half_open_success_threshold":2,"probe_timeout_seconds":1.005,` +
	`"abandoned_probe":"failure","timeout_multiplier":2.5,"timeout_max_seconds":2591999.999,"timeout_jitter":0.25,` +
	`"slow_call_duration_seconds":4.5,"slow_call_rate_threshold":1,"recovery_ramp_seconds":600,"ramp_floor":0,"mode":"observe",` +
	`"retry_after":"open","retry_after_max_seconds":30.5,"abandoned_seconds":0,"probe_settle_seconds":0.25,"minimum_reporters":8,"on_store_error":"deny","consistency":"cached"}`

func parse(t *testing.T, text string) policy.Override {
	t.Helper()
	o, err := policy.Parse([]byte(text))
	if err != nil {
		t.Fatalf("Parse(%s): %v", text, err)
	}
	return o
}

func TestOverride_RoundTrips(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`{}`, full, `{"enabled":true}`, `{"timeout_seconds":0.001}`, `{"failure_threshold":0}`} {
		got, err := json.Marshal(parse(t, text))
		if err != nil || string(got) != text {
			t.Errorf("want %s, got %s, %v", text, got, err)
		}
	}
	for ms := range 3000 {
		want := float64(ms+1) / 1000
		var o policy.Override
		if err := o.Set("timeout_seconds", strconv.FormatFloat(want, 'f', -1, 64)); err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(o)
		if err != nil || parse(t, string(text)) != o || o.Value("timeout_seconds") != want {
			t.Fatalf("%d ms: %s, %v", ms+1, text, err)
		}
	}
}

// A new knob needs nothing in this package.
func TestOverride_CoversEveryField(t *testing.T) {
	t.Parallel()
	o := parse(t, full)
	p, def := reflect.ValueOf(o.Apply(breaker.DefaultPolicy())), reflect.ValueOf(breaker.DefaultPolicy())
	if fields := policy.Fields(breaker.DefaultPolicy()); p.NumField() != len(fields) {
		t.Fatalf("%d fields of Policy, %d knobs", p.NumField(), len(fields))
	}
	for i := range p.NumField() {
		if p.Field(i).Interface() == def.Field(i).Interface() {
			t.Errorf("%s: not parsed, not applied, or the test's value is the default", p.Type().Field(i).Name)
		}
	}
	for _, f := range policy.Fields(o.Apply(breaker.DefaultPolicy())) {
		if o.Value(f.Name) != f.Value {
			t.Errorf("%s: parsed %v, applied %v", f.Name, o.Value(f.Name), f.Value)
		}
	}
}

func TestOverride_WithAndOnlyTakeOneField(t *testing.T) {
	t.Parallel()
	a, b := parse(t, `{"enabled":false,"failure_threshold":3}`), parse(t, `{"enabled":true,"timeout_seconds":1}`)
	for _, tt := range []struct {
		got  policy.Override
		want string
	}{
		{a.With("enabled", b), `{"enabled":true,"failure_threshold":3}`},
		{a.With("timeout_seconds", b), `{"enabled":false,"failure_threshold":3,"timeout_seconds":1}`},
		{a.With("failure_threshold", b), `{"enabled":false}`},
		{a.With("enabled", policy.Override{}), `{"failure_threshold":3}`},
		{a.With("nothing", b), `{"enabled":false,"failure_threshold":3}`},
		{b.Only("enabled"), `{"enabled":true}`},
		{b.Only("mode"), `{}`},
	} {
		if tt.got != parse(t, tt.want) {
			t.Errorf("got %v, want %s", tt.got, tt.want)
		}
	}
}

func TestParse_IsStrict(t *testing.T) {
	t.Parallel()
	tests := []struct{ text, field, allowed string }{
		{`{"failure_treshold":3}`, "failure_treshold", "failure_threshold, "},
		{`{"Enabled":true}`, "Enabled", "enabled"},
		{`{"timeout_seconds":30,"timeout_seconds":30}`, "timeout_seconds", "each field once"},
		{`{"enabled":"true"}`, "enabled", "true or false"},
		{`{"enabled":1}`, "enabled", "true or false"},
		{`{"enabled":null}`, "enabled", "true or false"},
		{`{"failure_threshold":"5"}`, "failure_threshold", "from 0 to 255"},
		{`{"failure_threshold":5.5}`, "failure_threshold", "from 0 to 255"},
		{`{"failure_threshold":256}`, "failure_threshold", "from 0 to 255"},
		{`{"failure_threshold":99999999999999999999}`, "failure_threshold", "from 0 to 255"},
		{`{"failure_rate_threshold":1.01}`, "failure_rate_threshold", "from 0 to 1"},
		{`{"failure_rate_threshold":1e999}`, "failure_rate_threshold", "from 0 to 1"},
		{`{"failure_rate_threshold":"NaN"}`, "failure_rate_threshold", "from 0 to 1"},
		{`{"timeout_seconds":0}`, "timeout_seconds", "0.001"},
		{`{"timeout_seconds":-1}`, "timeout_seconds", "0.001"},
		{`{"timeout_seconds":1.0005}`, "timeout_seconds", "0.001"},
		{`{"timeout_seconds":1e300}`, "timeout_seconds", "0.001"},
		{`{"timeout_seconds":9223372036.855}`, "timeout_seconds", "0.001"},
		{`{"timeout_seconds":{"a":[1]}}`, "timeout_seconds", "0.001"},
		{`{"window_size_seconds":[120]}`, "window_size_seconds", "0.012"},
		{`{"mode":true}`, "mode", `"observe"`},
		{`{"mode":"Observe"}`, "mode", `"observe"`},
		{`{"consistency":""}`, "consistency", `"cached"`},
		{`{"retry_after_max_seconds":0}`, "retry_after_max_seconds", "0.001"},
		{`{"abandoned_seconds":-1}`, "abandoned_seconds", "from 0 to"},
		{`{"probe_settle_seconds":0.0001}`, "probe_settle_seconds", "to 0.001"},
		{`{"minimum_reporters":9}`, "minimum_reporters", "from 1 to 8"},
	}
	for _, tt := range tests {
		_, err := policy.Parse([]byte(tt.text))
		var bad *breaker.PolicyError
		if !errors.As(err, &bad) || bad.Field != tt.field || !strings.Contains(bad.Allowed, tt.allowed) {
			t.Errorf("%s: got %v, want a PolicyError of %s that allows %q", tt.text, err, tt.field, tt.allowed)
		}
	}
}

func TestParse_RefusesWhatIsNoObject(t *testing.T) {
	t.Parallel()
	for _, text := range []string{``, ` `, `null`, `[]`, `"x"`, `5`, `{`, `{}{}`, `{} x`, `{"mode":"enforce",}`, `{1:2}`, "\x00", strings.Repeat(" ", 1<<20) + "{}"} {
		_, err := policy.Parse([]byte(text))
		if bad := (*breaker.PolicyError)(nil); err == nil || errors.As(err, &bad) {
			t.Errorf("%.20q: got %v, want an error that is no PolicyError", text, err)
		}
	}
}

func TestParse_ReportsAllErrorsInPrintableText(t *testing.T) {
	t.Parallel()
	_, err := policy.Parse([]byte(`{"mode":"\u001b[2J` + strings.Repeat("x", 500) + `","failure_threshold":-1,"no\u0007pe":0}`))
	if err == nil || strings.ContainsAny(err.Error(), "\x1b\x07") || len(err.Error()) > 2000 {
		t.Fatalf("got %q", err)
	}
	for _, field := range []string{"mode: ", "failure_threshold: ", "no\ufffdpe: "} {
		if !strings.Contains(err.Error(), field) {
			t.Errorf("%q lacks %q", err, field)
		}
	}
}

// The other field of a rule may be in another layer.
func TestParse_LeavesRulesBetweenFieldsToResolve(t *testing.T) {
	t.Parallel()
	parse(t, `{"timeout_seconds":7200}`)
	parse(t, `{"timeout_max_seconds":1}`)
}

func TestOverride_UnmarshalsInsideOtherJSON(t *testing.T) {
	t.Parallel()
	var agent struct {
		Config policy.Override `json:"circuit_breaker_config"`
	}
	if err := json.Unmarshal([]byte(`{"circuit_breaker_config":{"timeout_seconds":30}}`), &agent); err != nil || agent.Config.Value("timeout_seconds") != 30.0 {
		t.Fatalf("got %+v, %v", agent, err)
	}
	if err := json.Unmarshal([]byte(`{"circuit_breaker_config":{"timeout":30}}`), &agent); err == nil || agent.Config.Value("timeout_seconds") != 30.0 {
		t.Fatalf("an unknown field: got %+v, %v", agent, err)
	}
	if err := json.Unmarshal([]byte(`{"circuit_breaker_config":null}`), &agent); err != nil {
		t.Fatal(err)
	}
}

func TestSet_ParsesTheTextOfAVariable(t *testing.T) {
	t.Parallel()
	var o policy.Override
	for _, s := range [][2]string{{"enabled", "TRUE"}, {"timeout_seconds", "0.25"}, {"timeout_jitter", "-0"}, {"mode", "observe"}, {"failure_threshold", "7"}} {
		if err := o.Set(s[0], s[1]); err != nil {
			t.Error(err)
		}
	}
	want := parse(t, `{"enabled":true,"timeout_seconds":0.25,"timeout_jitter":0,"mode":"observe","failure_threshold":7}`)
	if o != want {
		t.Errorf("got %+v, want %+v", o, want)
	}
	if text, err := json.Marshal(o); err != nil || strings.Contains(string(text), "-0") {
		t.Errorf("minus zero: %s, %v", text, err)
	}
	before := o
	for _, s := range [][2]string{{"enabled", "yes"}, {"timeout_seconds", "1m"}, {"timeout_seconds", "Inf"}, {"timeout_jitter", "NaN"}, {"timeout_jitter", "0x1p-2"}, {"failure_threshold", "1000"}, {"failure_threshold", ""}, {"timeout", "1"}} {
		if bad := (*breaker.PolicyError)(nil); !errors.As(o.Set(s[0], s[1]), &bad) || bad.Field != s[0] {
			t.Errorf("Set(%q, %q) gives no PolicyError of it", s[0], s[1])
		}
	}
	if o != before {
		t.Errorf("a refused value changed something: %+v", o)
	}
}

func TestResolve_LaterLayersWinAndOriginsAreKept(t *testing.T) {
	t.Parallel()
	def := breaker.DefaultPolicy()
	def.WindowSize = time.Minute
	p, origins, err := policy.Resolve(def, map[string]string{"window_size_seconds": "environment"},
		policy.Layer{Origin: "registry", Override: parse(t, `{"failure_threshold":3,"timeout_seconds":30}`)},
		policy.Layer{Origin: "redis", Override: parse(t, `{"failure_threshold":4}`)})
	if err != nil || p.FailureThreshold != 4 || p.Timeout != 30*time.Second || p.WindowSize != time.Minute {
		t.Fatalf("got %+v, %v", p, err)
	}
	want := map[string]string{"failure_threshold": "redis", "timeout_seconds": "registry", "window_size_seconds": "environment", "mode": "default"}
	for field, origin := range want {
		if origins[field] != origin {
			t.Errorf("%s comes from %q, want %q", field, origins[field], origin)
		}
	}
	if len(origins) != len(policy.Fields(p)) {
		t.Errorf("%d origins, want one for each of %d fields", len(origins), len(policy.Fields(p)))
	}
}

func TestResolve_EnabledIsTheAndOfAllLayers(t *testing.T) {
	t.Parallel()
	on, off := parse(t, `{"enabled":true}`), parse(t, `{"enabled":false}`)
	tests := []struct {
		name                  string
		def                   bool
		first, second         policy.Override
		enabled               bool
		origin, ofDefaultName string
	}{
		{"not given", true, policy.Override{}, policy.Override{}, true, "default", ""},
		{"on twice", true, on, on, true, "second", ""},
		{"off, then on", true, off, on, false, "first", ""},
		{"on, then off", true, on, off, false, "second", ""},
		{"off twice", true, off, off, false, "first", ""},
		{"off in the environment", false, on, on, false, "environment", "environment"},
	}
	for _, tt := range tests {
		def := breaker.DefaultPolicy()
		def.Disabled = !tt.def
		p, origins, err := policy.Resolve(def, map[string]string{"enabled": tt.ofDefaultName},
			policy.Layer{Origin: "first", Override: tt.first}, policy.Layer{Origin: "second", Override: tt.second})
		if err != nil || p.Disabled == tt.enabled || origins["enabled"] != tt.origin {
			t.Errorf("%s: %v from %q, %v; want %v from %q", tt.name, !p.Disabled, origins["enabled"], err, tt.enabled, tt.origin)
		}
	}
}

func TestResolve_ChecksTheRuleBetweenFields(t *testing.T) {
	t.Parallel()
	tests := []struct {
		layer  policy.Override
		wanted []string
	}{
		{parse(t, `{"timeout_seconds":7200}`), []string{"timeout_seconds from registry", "timeout_max_seconds from default"}},
		{parse(t, `{"timeout_max_seconds":1}`), []string{"timeout_seconds from default", "timeout_max_seconds from registry"}},
	}
	for _, tt := range tests {
		_, _, err := policy.Resolve(breaker.DefaultPolicy(), nil, policy.Layer{Origin: "registry", Override: tt.layer})
		if bad := (*breaker.PolicyError)(nil); !errors.As(err, &bad) {
			t.Errorf("%+v: got %v, want a PolicyError", tt.layer, err)
			continue
		}
		for _, want := range tt.wanted {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q lacks %q", err, want)
			}
		}
	}
}

func TestFields_AreOfJSONTypesAndNameAllowedValues(t *testing.T) {
	t.Parallel()
	want := map[string]any{"enabled": true, "failure_threshold": 5, "timeout_seconds": 60.0, "mode": "enforce", "ramp_floor": 0.1}
	for _, f := range policy.Fields(breaker.DefaultPolicy()) {
		if v, ok := want[f.Name]; ok && v != f.Value {
			t.Errorf("%s is %#v, want %#v", f.Name, f.Value, v)
		}
		if f.Allowed == "" || strings.Contains(f.Allowed, "timeout_max") {
			t.Errorf("%s allows %q", f.Name, f.Allowed)
		}
		if (f.Allowed == "true or false") != (f.Name == "enabled") {
			t.Errorf("%s allows %q", f.Name, f.Allowed)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(full))
	f.Add([]byte(`{"timeout_seconds":1e-3,"mode":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := policy.Parse(data)
		if err != nil {
			return
		}
		p := o.Apply(breaker.DefaultPolicy())
		if p.Timeout = min(p.Timeout, p.TimeoutMax); p.Validate() != nil {
			t.Fatalf("%q was parsed but is not valid: %v", data, p.Validate())
		}
		text, err := json.Marshal(o)
		if again := parse(t, string(text)); err != nil || again != o {
			t.Fatalf("%q became %s: %v", data, text, err)
		}
	})
}
