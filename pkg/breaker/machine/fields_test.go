package machine

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// [B20]: one table of fields, the same in Lua and in Go.
func TestFields_SameInLua(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../lua/load.lua")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "local FIELDS = {")
	table, _, ok := strings.Cut(rest, "\n}")
	if !ok {
		t.Fatal("lua/load.lua has no table FIELDS")
	}
	limits := map[string]string{}
	if m := regexp.MustCompile(`local TIME, LENGTH, TOTAL, PROBES, RUN = (\d+), (\d+), (\d+), (\d+), (\d+)`).FindStringSubmatch(string(text)); m != nil {
		limits = map[string]string{"TIME": m[1], "LENGTH": m[2], "TOTAL": m[3], "PROBES": m[4], "RUN": m[5]}
	}
	inLua, inGo := map[string]string{}, map[string]string{}
	for _, m := range regexp.MustCompile(`(\w+) = ('(\w+)'|\w+)`).FindAllStringSubmatch(table, -1) {
		inLua[m[1]] = strings.Trim(m[2], "'")
		if most, named := limits[m[2]]; named {
			inLua[m[1]] = most
		}
	}
	for _, f := range controlFields() {
		inGo[f.name] = string(f.kind)
		if f.num != nil {
			inGo[f.name] = strconv.FormatInt(f.max, 10)
		}
	}
	if !maps.Equal(inLua, inGo) {
		t.Errorf("Lua %v\nGo  %v", inLua, inGo)
	}
	if text, err = os.ReadFile("../../../lua/numbers.lua"); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("local MAX_TIME, MAX_COUNT = %d, %d", int64(maxTimeMs), int64(maxCount)); !strings.Contains(string(text), want) {
		t.Errorf("lua/numbers.lua lacks %q", want)
	}
}
