package jsondoc_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/go-json-experiment/json/jsontext"
	"go.uber.org/goleak"

	"github.com/breakerd/breakerd/internal/jsondoc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// faults is what is wrong with a text by itself.
func faults(text string, o jsondoc.Options) string {
	d, ok := jsondoc.Parse([]byte(text), o)
	if err := d.Err(); err != nil {
		return err.Error()
	} else if !ok {
		return "not ok, and no fault"
	}
	return ""
}

func TestParse_SaysWhatIsWrongAndWhere(t *testing.T) {
	t.Parallel()
	bounds := jsondoc.Options{Bytes: 60, Depth: 3, Values: 8, Root: "body"}
	file := jsondoc.Options{File: "f.json", Mark: true}
	for _, c := range []struct {
		text string
		o    jsondoc.Options
		want string
	}{
		{"", bounds, "line 1:1: unexpected end of JSON input"},
		{"{\n", file, "f.json:1:2: unexpected end of JSON input"},
		{"[1,\n 2] []", file, "f.json:2:5: want nothing after the value"},
		{"[\n \"é\", }", file, "f.json:2:7: invalid character '}' after a comma"},
		{"[\n \"é\xff\"]", file, "f.json:2:4: not UTF-8 text"},
		{"\xff\xfe[\x00]\x00", file, "f.json:1:1: the text is UTF-16: save it as UTF-8"},
		{"\ufeff[]", file, ""},
		{"\ufeff[]", bounds, "line 1:1: invalid character '\\ufeff' at start of value"},
		{`"` + strings.Repeat("x", 60) + `"`, bounds, "larger than 60 bytes"},
		{`[{"a": []}]`, bounds, ""},
		{`[0, {"a": [[]]}]`, bounds, "body[1].a[0]: nested deeper than 3 levels"},
		{`[0, {"a": [{"b": 1}], "c": 2}, 3]`, bounds, "body[1].a[0]: nested deeper than 3 levels"},
		{`{"a": [1,2,3,4], "b": {"c": 1, "d": 2}}`, bounds, "body.b.d: more than 8 values"},
		{`{"a": 1, "A": 2}`, bounds, ""},
		{`{"a": {"b": 1, "\u0062": 2}}`, bounds, "body.a.b: given twice: want each field once"},
		{`{"a": {"b": 1, "B": 2, "b": 3}}`, jsondoc.Options{Names: jsondoc.Folded}, "a.B: given twice: want each field once\na.b: given twice: want each field once"},
		{`{"a": 1, "a": 2}`, jsondoc.Options{Names: jsondoc.Free}, ""},
		{`{"": 1, "": 2}`, bounds, `body[""]: given twice: want each field once`},
		{`[[], {"a.b\u001b": [{}, {"x": 1, "x": 2}]}]`, jsondoc.Options{}, `[1]["a.b\x1b"][1].x: given twice: want each field once`},
	} {
		if got := faults(c.text, c.o); got != c.want {
			t.Errorf("%q\n got %s\nwant %s", c.text, got, c.want)
		}
	}
	for i := 2; i < 40; i++ { // few names are compared one by one, many are looked up
		var all strings.Builder
		for n := range i {
			fmt.Fprintf(&all, `"n%d": 0, `, n)
		}
		text := "{" + all.String()
		for _, n := range []int{0, i / 2, i - 1} {
			want := fmt.Sprintf("n%d: given twice: want each field once", n)
			if got := faults(text+fmt.Sprintf(`"n%d": 0}`, n), jsondoc.Options{}); got != want {
				t.Errorf("%d names: got %q, want %q", i, got, want)
			}
		}
		if got := faults(text+`"other": 0}`, jsondoc.Options{}); got != "" {
			t.Errorf("%d names: %s", i, got)
		}
	}
}

func TestFaults_AreTheFirstOfTheText(t *testing.T) {
	t.Parallel()
	d, _ := jsondoc.Parse([]byte("["+strings.Repeat("0,\n", 99)+"0]"), jsondoc.Options{File: "f"})
	items := slices.Collect(d.Root().Members())
	for _, i := range []int{50, 99, 7} { // whatever the order in which they are found
		for n := range 30 {
			d.Addf(items[(i+n)%100].Value, "bad %d", (i+n)%100)
		}
	}
	d.Missingf(d.Root(), "x", "missing")
	bad, _ := errors.AsType[*jsondoc.Faults](d.Err())
	if len(bad.Faults) != 20 || bad.More != 71 || bad.Faults[0].String() != "f:1: x: missing" || bad.Faults[1].String() != "f:1: [0]: bad 0" ||
		!strings.HasSuffix(bad.Error(), "\nf:13: [12]: bad 12\nand 71 more faults") {
		t.Errorf("%d more of %v", bad.More, bad)
	}
	d.Under("items")
	if err := d.Err().Error(); !strings.Contains(err, "f:13: items[12]: bad 12\n") {
		t.Error(err)
	}
}

func TestValue_IsAsWritten(t *testing.T) {
	t.Parallel()
	d, ok := jsondoc.Parse([]byte(" {\"t\": \"a\\u00e9\\n\", \"n\":-1.50e3 ,\"b\":false,\n\"0\" : null, \"o\":{\"x\" : [ 1 ]} , \"a\":[ ],\"e\\\"\":{}} "), jsondoc.Options{})
	if !ok || d.Err() != nil {
		t.Fatal(d.Err())
	}
	var got []string
	for m := range d.Root().Members() {
		got = append(got, fmt.Sprintf("%s/%s/%s/%s/%s/%d", m.Name, m.Kind(), m.Raw(), m.Show(), m.Text(), m.Line()))
	}
	want := []string{
		`t/text/"a\u00e9\n"/"aé\n"/` + "aé\n/1", `n/a number/-1.50e3/-1.50e3//1`, `b/a boolean/false/false//1`, `0/null/null/null//2`,
		`o/an object/{"x" : [ 1 ]}/an object//2`, `a/an array/[ ]/an array//2`, `e"/an object/{}/an object//2`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	var all []string
	for v := range d.Root().Leaves() {
		all = append(all, v.Path()+"="+v.Raw())
	}
	if want := []string{`t="a\u00e9\n"`, "n=-1.50e3", "b=false", "0=null", "o.x[0]=1"}; !slices.Equal(all, want) {
		t.Errorf("got  %q\nwant %q", all, want)
	}
}

// allocated is how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// hostile are texts of 1 MB that are dear to those who are careless.
func hostile() map[string]string {
	deep, end := "", ""
	for range 29 {
		deep, end = deep+`{"`+strings.Repeat("ü", 100)+`":`, end+"}"
	}
	return map[string]string{
		"many values below long names": deep + "[" + strings.Repeat("0,", 499_000) + "0]" + end,
		"many small objects":           "[" + strings.Repeat(`{"a":1,"b":2},`, 74_000) + "0]",
		"many names":                   "{" + strings.Repeat(`"\u0061":1,`, 95_000) + `"b":2}`,
		"one long text":                `["` + strings.Repeat(`\"`, 520_000) + `"]`,
		"deep":                         strings.Repeat("[", 9_999) + strings.Repeat("]", 9_999),
	}
}

// Not parallel: what other tests allocate would count.
func TestParse_TakesMemoryInProportion(t *testing.T) { //nolint:paralleltest // see above
	for name, text := range hostile() {
		var bad *jsondoc.Faults
		n := allocated(func() {
			d, ok := jsondoc.Parse([]byte(text), jsondoc.Options{})
			if !ok {
				t.Error("not ok")
			}
			values := 0
			for v := range d.Root().Leaves() {
				d.Addf(v, "bad %s", v.Kind())
				values++
			}
			bad, _ = errors.AsType[*jsondoc.Faults](d.Err())
			if bad != nil && len(bad.Faults) != min(20, values+bad.More) {
				t.Errorf("%s: %d faults", name, len(bad.Faults))
			}
		})
		if n > 80<<20 {
			t.Errorf("%s: %d bytes of text have %d bytes allocated", name, len(text), n)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{`{"a": [1, {"b": null}], "a": "x"}`, "\ufeff[]", `{"\ud800": "\u0000"}`, "[[[[[", "\xff", `"\"`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, ok := jsondoc.Parse([]byte(text), jsondoc.Options{Names: jsondoc.Free})
		if ok != jsontext.Value(text).IsValid(jsontext.AllowDuplicateNames(true)) {
			t.Fatalf("%q: %v", text, ok)
		}
		if err := d.Err(); err != nil {
			if strings.ContainsFunc(err.Error(), func(r rune) bool { return !unicode.IsPrint(r) }) || len(err.Error()) > 1000 {
				t.Fatalf("%q", err)
			}
			return
		}
		for v := range d.Root().Leaves() {
			if !json.Valid([]byte(v.Raw())) {
				t.Fatalf("%q holds %q at %s", text, v.Raw(), v.Path())
			}
		}
	})
}
