package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const adopting = "docs/adopting.md"

// runbookNames are the metrics, settings, fields and headers that the StemeDB runbook names.
func runbookNames() []string {
	return []string{
		"stemedb_circuit_breaker_state", "stemedb_circuit_breaker_transitions_total", "stemedb_circuit_breakers",
		"stemedb_ingest_rejected_total", "stemedb_requests_rejected_total",
		"STEMEDB_CIRCUIT_BREAKER_HALF_OPEN_SUCCESS_THRESHOLD",
		"[circuit_breaker]", "timeout_seconds", "half_open_success_threshold", "half_open_request_count",
		"agent_id", "state", "opened_at", "reason", "failure_count", "failure_rate", "timeout_until",
		"target_state", "force", "x-circuit-breaker-state", "retry-after", "journalctl -u stemedb-api",
	}
}

// othersNames are what the tables translate: the settings, verbs, errors, states and events of four libraries.
func othersNames() []string {
	return []string{
		"MaxRequests", "Interval", "BucketPeriod", "Timeout", "ReadyToTrip", "OnStateChange", "IsSuccessful", "IsExcluded",
		"ErrOpenState", "ErrTooManyRequests", "TwoStepCircuitBreaker.Allow", "DistributedCircuitBreaker", "SharedDataStore",
		"failureRateThreshold", "slidingWindowType", "slidingWindowSize", "minimumNumberOfCalls",
		"permittedNumberOfCallsInHalfOpenState", "maxWaitDurationInHalfOpenState", "waitDurationInOpenState",
		"waitIntervalFunctionInOpenState", "slowCallRateThreshold", "slowCallDurationThreshold", "recordExceptions",
		"ignoreExceptions", "CallNotPermittedException", "DISABLED", "FORCED_OPEN", "METRICS_ONLY",
		"FailureRatio", "SamplingDuration", "MinimumThroughput", "BreakDuration", "BreakDurationGenerator", "ShouldHandle",
		"ManualControl.IsolateAsync", "ManualControl.CloseAsync", "BrokenCircuitException", "IsolatedCircuitException",
		"StateProvider.CircuitState", "OnOpened", "OnClosed", "OnHalfOpened",
		"fail_max", "reset_timeout", "success_threshold", "exclude", "listeners", "fallback_circuit_state",
		"CircuitBreakerError",
	}
}

func TestAdopting_HasARowForEachNameOfTheOthers(t *testing.T) {
	t.Parallel()
	rows := strings.Join(regexp.MustCompile(`(?m)^\|.*$`).FindAllString(read(t, adopting), -1), "\n")
	for _, name := range slices.Concat(runbookNames(), othersNames()) {
		if !regexp.MustCompile("`" + regexp.QuoteMeta(name) + "[`{ ]").MatchString(rows) {
			t.Errorf("no row of %s names %s", adopting, name)
		}
	}
}

var (
	ourVariable = regexp.MustCompile(`\b(?:CIRCUIT_BREAKER_[A-Z_]+|REDIS_[A-Z_]+|ENV_FILE)\b`)
	ourMetric   = regexp.MustCompile(`\bcircuit_breaker_(\w+)`)
	ourSymbol   = regexp.MustCompile("[`(]((?:breaker|breakerhttp|breakerlog|fleet|Fleet|Policy|Options|Manager|Permit|OpenError|Observer|Transport)" +
		`\.[A-Z]\w+)`)
)

func TestAdopting_OurNamesExist(t *testing.T) {
	t.Parallel()
	page, variables, metrics := read(t, adopting), read(t, ".env.example"), metricsSource(t)
	found := ourVariable.FindAllString(page, -1)
	for _, v := range found {
		if !regexp.MustCompile(`(?m)^#? ?` + v + "=").MatchString(variables) {
			t.Errorf("%s: there is no variable %s", adopting, v)
		}
	}
	checked := 0
	for _, m := range ourMetric.FindAllStringSubmatch(page, -1) {
		if m[1] == "config" || m[1] == "open" { // a field, a code
			continue
		}
		checked++
		if !strings.Contains(metrics, `"`+m[1]+`"`) && !strings.Contains(metrics, `"`+m[0]+`"`) {
			t.Errorf("%s: there is no metric %s", adopting, m[0])
		}
	}
	symbols := exported(t, "pkg/breaker", "pkg/breakerhttp", "pkg/breakerlog", "pkg/fleet")
	named := ourSymbol.FindAllStringSubmatch(page, -1)
	for _, m := range named {
		if !symbols[m[1]] {
			t.Errorf("%s: there is no %s", adopting, m[1])
		}
	}
	if len(found) < 25 || checked < 8 || len(named) < 40 {
		t.Errorf("%d variables, %d metrics, %d symbols found: a pattern is wrong", len(found), checked, len(named))
	}
}

// metricsSource is the text of the packages in which metrics have their names.
func metricsSource(t *testing.T) string {
	t.Helper()
	var text strings.Builder
	for _, pattern := range []string{"internal/metrics/*.go", "pkg/breakerprom/*.go"} {
		for _, name := range sources(t, pattern) {
			text.WriteString(read(t, name))
		}
	}
	return text.String()
}

// sources lists the files of a pattern but for tests, relative to root.
func sources(t *testing.T, pattern string) (names []string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(root, pattern))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range paths {
		if !strings.HasSuffix(p, "_test.go") {
			names = append(names, strings.TrimPrefix(p, root+string(os.PathSeparator)))
		}
	}
	return names
}

// exported has what packages export, as package.Name, and the fields and methods of their types, as Type.Name.
func exported(t *testing.T, dirs ...string) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	for _, dir := range dirs {
		for _, name := range sources(t, dir+"/*.go") {
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, name), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range file.Decls {
				declared(all, file.Name.Name, d)
			}
		}
	}
	return all
}

func declared(all map[string]bool, pkg string, d ast.Decl) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		of := pkg
		if d.Recv != nil {
			of = strings.TrimPrefix(typeName(d.Recv.List[0].Type), "*")
		}
		all[of+"."+d.Name.Name] = true
	case *ast.GenDecl:
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.ValueSpec:
				for _, n := range s.Names {
					all[pkg+"."+n.Name] = true
				}
			case *ast.TypeSpec:
				all[pkg+"."+s.Name.Name] = true
				for _, n := range members(s.Type) {
					all[s.Name.Name+"."+n.Name] = true
				}
			}
		}
	}
}

func typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return typeName(e.X)
	case *ast.Ident:
		return e.Name
	}
	return ""
}

// members are the fields of a struct, or the methods of an interface.
func members(e ast.Expr) (names []*ast.Ident) {
	var list *ast.FieldList
	switch e := e.(type) {
	case *ast.StructType:
		list = e.Fields
	case *ast.InterfaceType:
		list = e.Methods
	default:
		return nil
	}
	for _, f := range list.List {
		names = append(names, f.Names...)
	}
	return names
}
