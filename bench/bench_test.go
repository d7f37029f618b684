package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/breakerd/breakerd/internal/testkit"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPercentile_IsAMeasuredValue(t *testing.T) {
	v := []float64{5, 1, 4, 2, 3}
	for _, c := range []struct{ share, want float64 }{{0, 1}, {0.2, 1}, {0.5, 3}, {0.99, 5}, {1, 5}} {
		if got := percentile(v, c.share); got != c.want {
			t.Errorf("percentile %v = %v, want %v", c.share, got, c.want)
		}
	}
	if got := median(nil); got != 0 {
		t.Errorf("median of nothing = %v", got)
	}
	if v[0] != 5 {
		t.Error("percentile reorders the values")
	}
}

func TestNanos_ChoosesTheUnit(t *testing.T) {
	for ns, want := range map[float64]string{6.71: "6.71 ns", 36.2: "36.2 ns", 271.4: "271 ns", 18_640: "18.6 µs", 2.5e6: "2.50 ms", 3e9: "3.00 s"} {
		if got := nanos(ns); got != want {
			t.Errorf("nanos(%v) = %q, want %q", ns, got, want)
		}
	}
	for v, want := range map[float64]string{0: "0", 999: "999", 1000: "1,000", 1_208_356: "1,208,356"} {
		if got := count(v); got != want {
			t.Errorf("count(%v) = %q, want %q", v, got, want)
		}
	}
}

func TestDocument_ReplacesBetweenMarkersOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "performance.md")
	text := "# A\n<!-- x:begin -->\nold\n<!-- x:end -->\nkept\n<!-- y:begin -->\nolder\n<!-- y:end -->\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := document(path).replace(map[string]string{"x": "new\n"}); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	want := "# A\n<!-- x:begin -->\n\nnew\n\n<!-- x:end -->\nkept\n<!-- y:begin -->\nolder\n<!-- y:end -->\n"
	if err != nil || string(got) != want {
		t.Fatalf("got %q, %v, want %q", got, err, want)
	}
	if err := document(path).replace(map[string]string{"x": "newer", "z": "none"}); err == nil {
		t.Fatal("missing markers are no error")
	}
	if again, err := os.ReadFile(path); err != nil || !bytes.Equal(again, got) {
		t.Fatalf("a document without the markers changed: %q, %v", again, err)
	}
}

func TestDocument_HasMarkersOfEverySection(t *testing.T) {
	doc, err := os.ReadFile("../docs/performance.md")
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"machine", "goals"}
	for _, s := range sections() {
		names = append(names, s.name)
	}
	for _, name := range names {
		if _, err := between(string(doc), name, "x"); err != nil {
			t.Error(err)
		}
	}
}

func TestParseInfo_ReadsCommandsAndCPU(t *testing.T) {
	r, err := parseInfo("# CPU\r\nused_cpu_sys:1.5\r\nused_cpu_user:2.25\r\nused_cpu_sys_children:7\r\n# Commandstats\r\n" +
		"cmdstat_evalsha:calls=3,usec=30,usec_per_call=10.00\r\ncmdstat_hmget:calls=4,usec=5,usec_per_call=1.25\r\ncmdstat_info:calls=9,usec=900,usec_per_call=100.00\r\n")
	if err != nil || r.cpu != 3750*time.Millisecond || r.scripts() != 3 || r.all() != (stat{7, 35}) {
		t.Fatalf("got %+v, %v", r, err)
	}
}

func TestGoal_IsReachedAtItsBound(t *testing.T) {
	b := &bench{}
	b.atLeast("a", 2.5, 2.5)
	b.atLeast("b", 2.4, 2.5)
	b.atMost("c", 15, 15, " ns")
	b.atMost("d", 15.1, 15, " ns")
	text := goalTable(b.goals)
	if strings.Count(text, "| reached |") != 2 || strings.Count(text, "| **missed** |") != 2 {
		t.Fatal(text)
	}
}

func TestPlot_IsXMLWithEveryFigure(t *testing.T) {
	var bars []bar
	for _, g := range plotGroups() {
		for i, who := range g.who {
			bars = append(bars, bar{who, 1, 11 * math.Pow10(i)}, bar{who, 64, 12 * math.Pow10(i)})
		}
	}
	var svg bytes.Buffer
	draw(&svg, bars)
	var said strings.Builder
	for d := xml.NewDecoder(bytes.NewReader(svg.Bytes())); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if text, ok := token.(xml.CharData); ok {
			said.Write(text)
			said.WriteByte('\n')
		}
	}
	for _, b := range bars {
		if !strings.Contains(said.String(), "\n"+nanos(b.ns)+"\n") || !strings.Contains(said.String(), "\n"+string(b.who)+"\n") {
			t.Errorf("the plot lacks %v", b)
		}
	}
	if plotX(10) >= plotX(100) || plotX(1) != plotLeft || plotX(1e9) != plotRight {
		t.Error("the axis does not run from plotLeft to plotRight")
	}
}

func TestPacer_ReturnsWhatIsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacer(200_000, 20*time.Millisecond)
		sum := 0
		for n := p.wait(t.Context()); n > 0; n = p.wait(t.Context()) {
			sum += n
		}
		if sum < 3900 || sum > 4000 {
			t.Fatalf("%d calls in 20 ms at 200,000 a second", sum)
		}
	})
}

func TestScope_EndsWhatItStartedAndReturnsTheFailure(t *testing.T) {
	var ended []int
	var dir string
	text, err := within(t.Context(), io.Discard, func(s testkit.T) (string, error) {
		dir = s.TempDir()
		s.Cleanup(func() { ended = append(ended, 1) })
		s.Cleanup(func() { ended = append(ended, 2) })
		s.Fatalf("no %s", "Redis")
		return "figures", nil
	})
	if text != "" || err == nil || err.Error() != "no Redis" {
		t.Errorf("text %q, error %v", text, err)
	}
	if !slices.Equal(ended, []int{2, 1}) {
		t.Errorf("cleanups ran in the order %v", ended)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is left: %v", err)
	}
}
