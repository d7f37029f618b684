package client_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/breakerd/breakerd/internal/clientgen"
	"github.com/breakerd/breakerd/internal/problem"
	"github.com/breakerd/breakerd/pkg/client"
)

// asked is what a method sent.
type asked struct {
	method, path string
	query        map[string]bool
	header       http.Header
	body         map[string]json.RawMessage
}

// listener takes every request down, and refuses it.
func listener(t *testing.T) (url string, got func() []asked) {
	t.Helper()
	var all []asked
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := asked{r.Method, r.URL.Path, map[string]bool{}, r.Header, nil}
		for name := range r.URL.Query() {
			a.query[name] = true
		}
		if text, _ := io.ReadAll(r.Body); len(text) > 0 {
			_ = json.Unmarshal(text, &a.body)
		}
		all = append(all, a)
		problem.New(problem.InvalidValue, "no").Write(w)
	}))
	t.Cleanup(server.Close)
	return server.URL, func() []asked { return all }
}

// fill sets every field of a value.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.UnixMilli(1)))
			return
		}
		for _, f := range v.Fields() {
			fill(f)
		}
	case reflect.Slice:
		if v.Type() == reflect.TypeFor[json.RawMessage]() {
			v.SetBytes([]byte("1"))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key)
		fill(value)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Interface:
		switch v.Type() {
		case reflect.TypeFor[io.Writer]():
			v.Set(reflect.ValueOf(io.Discard))
			return
		case reflect.TypeFor[io.ReaderAt]():
			v.Set(reflect.ValueOf(strings.NewReader("1234567")))
			return
		}
		v.Set(reflect.ValueOf("x"))
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Float64:
		v.SetFloat(7)
	default:
		v.SetInt(7)
	}
}

// run calls a method with arguments that are all filled, or only where the path needs them, and returns its error.
func run(ctx context.Context, m reflect.Value, names int, full bool) (err error) {
	args := []reflect.Value{reflect.ValueOf(ctx)}
	for i := 1; i < m.Type().NumIn(); i++ {
		arg := reflect.New(m.Type().In(i)).Elem()
		if named := i <= names; full || named {
			fill(arg)
		}
		args = append(args, arg)
	}
	for _, out := range m.Call(args) {
		if out.Kind() == reflect.Func { // an iterator
			for range out.Seq2() {
				break
			}
		} else {
			err, _ = reflect.TypeAssert[error](out)
		}
	}
	return err
}

// notSent are parameters that no method sends, by operation.
func notSent() map[string]string {
	return map[string]string{
		"gate": "deny_status", // as the header, which gateBelow has too
		// For the page, which many look at, and which looks at any part of a list. A program has cursors, and sends
		// an override to have it checked.
		"healthChecks": "max_age_seconds", "getSummary": "max_age_seconds", "listCircuitBreakers": "offset", "putConfig": "dry_run",
	}
}

func TestOperations_EachIsAMethodAndEachMethodAnOperation(t *testing.T) {
	t.Parallel()
	breakerd, bridge := clientgen.Documents(t)
	types := clientgen.New(t, breakerd, bridge)
	url, got := listener(t)
	o := client.Options{Servers: []string{url}, Token: "t0ken", Actor: "alice", UserAgent: "test"}
	c, err := client.New(o)
	if err != nil {
		t.Fatal(err)
	}
	b, err := client.NewBridge(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, program := range []struct {
		clientgen.Document
		client reflect.Value
	}{{breakerd, reflect.ValueOf(c)}, {bridge, reflect.ValueOf(b)}} {
		operations := program.Operations()
		methods := map[string]reflect.Value{}
		for i := range program.client.NumMethod() {
			name := program.client.Type().Method(i).Name
			methods[strings.ToLower(name)] = program.client.Method(i)
			all, isAll := strings.CutPrefix(name, "All")
			isOperation := slices.ContainsFunc(slices.Collect(maps.Keys(operations)), func(id string) bool {
				return strings.EqualFold(id, name) || isAll && strings.EqualFold(id, "list"+all)
			})
			if !isOperation && !slices.Contains([]string{"Do", "As", "CloseIdleConnections"}, name) {
				t.Errorf("method %s is no operation", name)
			}
		}
		for id, op := range operations {
			m, ok := methods[strings.ToLower(id)]
			if !ok {
				t.Errorf("operation %s (%s %s) has no method", id, op.Method, op.Path)
				continue
			}
			before := len(got())
			run(t.Context(), m, strings.Count(op.Path, "{"), true)
			run(t.Context(), m, strings.Count(op.Path, "{"), false)
			sent := got()[before:]
			if len(sent) != 2 {
				t.Errorf("%s sent %d requests, want one a call", id, len(sent))
				continue
			}
			checkSent(t, op, sent)
			checkTypes(t, types, op, m.Type())
		}
	}
}

// checkSent compares what a method sent with its operation.
func checkSent(t *testing.T, op *clientgen.Operation, sent []asked) {
	t.Helper()
	full := sent[0]
	same := slices.EqualFunc(strings.Split(op.Path, "/"), strings.Split(full.path, "/"), func(want, have string) bool {
		return want == have || strings.HasPrefix(want, "{") && have == "x"
	})
	gate := full.method == "POST" && strings.HasPrefix(op.Path, "/v1/gate/") // which takes every method
	if !gate && !strings.EqualFold(full.method, op.Method) || !same {
		t.Errorf("%s sent %s %s, want %s %s", op.OperationID, full.method, full.path, op.Method, op.Path)
	}
	if full.header.Get("Authorization") != "Bearer t0ken" || full.header.Get("User-Agent") != "test" {
		t.Errorf("%s sent the header %v", op.OperationID, full.header)
	}
	for _, p := range op.Parameters {
		was := p.In == "path" || notSent()[op.OperationID] == p.Name
		for _, one := range sent {
			was = was || p.In == "query" && one.query[p.Name] || p.In == "header" && one.header.Get(p.Name) != ""
		}
		if !was {
			t.Errorf("%s never sends %s", op.OperationID, p.Name)
		}
		delete(full.query, p.Name)
	}
	for name := range full.query {
		t.Errorf("%s sends %s, which is not documented", op.OperationID, name)
	}
}

// checkTypes compares the types of a method with the schemas of its operation.
func checkTypes(t *testing.T, types *clientgen.Generator, op *clientgen.Operation, m reflect.Type) {
	t.Helper()
	name := func(t reflect.Type) string { return strings.ReplaceAll(t.String(), "client.", "") }
	if s := op.Body(); s != nil {
		want, found := types.TypeOf(s), false
		for in := range m.Ins() {
			found = found || name(in) == want
		}
		if !found {
			t.Errorf("%s takes no %s", op.OperationID, want)
		}
	}
	if s := op.Answer(); s != nil {
		if want := types.TypeOf(s); name(m.Out(0)) != want {
			t.Errorf("%s gives a %s, want %s", op.OperationID, name(m.Out(0)), want)
		}
	}
}

// A method sends each field that its operation documents, and no other.
func TestOperations_SendEachField(t *testing.T) {
	t.Parallel()
	breakerd, bridge := clientgen.Documents(t)
	for _, row := range []struct {
		doc  clientgen.Document
		id   string
		body any
	}{
		{breakerd, "acquire", &client.AcquireRequest{}},
		{breakerd, "report", &client.ReportRequest{}},
		{breakerd, "renew", &client.RenewRequest{}},
		{breakerd, "openCircuitBreaker", &client.HoldRequest{}},
		{breakerd, "resetCircuitBreaker", &client.ResetRequest{}},
		{breakerd, "putConfig", &client.Override{}},
		{breakerd, "putAgent", &client.Profile{}},
		{breakerd, "putFleet", &client.FleetRequest{}},
		{breakerd, "postAction", &client.ActionRequest{}},
		{bridge, "registerAgent", &client.Registration{}},
		{bridge, "putWorkflow", &client.Workflow{}},
		{bridge, "executeWorkflow", &client.ExecuteRequest{}},
	} {
		fill(reflect.ValueOf(row.body).Elem())
		text, err := json.Marshal(row.body)
		if err != nil {
			t.Fatal(err)
		}
		var sent map[string]json.RawMessage
		if err := json.NewDecoder(bytes.NewReader(text)).Decode(&sent); err != nil {
			t.Fatal(err)
		}
		s := row.doc.Operations()[row.id].Body()
		if name, ok := strings.CutPrefix(s.Ref, "#/components/schemas/"); ok {
			s = row.doc.Components.Schemas[name]
		}
		have, want := slices.Sorted(maps.Keys(sent)), slices.Sorted(maps.Keys(s.Properties))
		if !slices.Equal(have, want) {
			t.Errorf("%s sends %v, want %v", row.id, have, want)
		}
	}
}
