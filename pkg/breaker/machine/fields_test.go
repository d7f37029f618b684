package machine

import (
	"maps"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestLuaHasTheSameFields is [B20]: one table of fields, the same in Lua and in Go.
func TestLuaHasTheSameFields(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../lua/prelude.lua")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "local FIELDS = {")
	table, _, ok := strings.Cut(rest, "\n}")
	if !ok {
		t.Fatal("lua/prelude.lua has no table FIELDS")
	}
	limits := map[string]int64{
		"MAX_RUN": MaxRun, "MAX_REOPENS": maxReopens, "MAX_TIME": maxTimeMs, "MAX_LENGTH": maxLengths,
		"MAX_TOTAL": maxTotal, "MILLION": Million,
	}
	inLua, inGo := map[string]string{}, map[string]string{}
	for _, m := range regexp.MustCompile(`(\w+) = ('(\w+)'|\w+)`).FindAllStringSubmatch(table, -1) {
		value := m[2]
		if most, ok := limits[value]; ok {
			value = strconv.FormatInt(most, 10)
		}
		inLua[m[1]] = strings.Trim(value, "'")
	}
	for _, f := range controlFields() {
		inGo[f.name] = string(f.kind)
		if f.kind == kindInt {
			inGo[f.name] = strconv.FormatInt(f.max, 10)
		}
	}
	if !maps.Equal(inLua, inGo) {
		t.Errorf("Lua %v\nGo  %v", inLua, inGo)
	}
	if text, err = os.ReadFile("../../../lua/plain.lua"); err != nil {
		t.Fatal(err)
	}
	for name, most := range map[string]int64{"MAX_TIME": maxTimeMs, "MAX_LENGTH": maxLengths, "MAX_COUNT": maxCount, "MAX_TOTAL": maxTotal} {
		if !strings.Contains(string(text), strconv.FormatInt(most, 10)) {
			t.Errorf("lua/plain.lua does not name %s = %d", name, most)
		}
	}
}
