// Package envoy checks deploy/proxies/envoy-gate.yaml against Envoy's own API. It is a module of its own, for that API
// is large and nothing else needs it.
package envoy

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	bootstrap "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// validate reads a bootstrap as Envoy does, and checks every message in it, also those inside of others' Any. It gives
// the names of those.
func validate(text []byte) (inside []string, err error) {
	var tree map[string]any
	if err := yaml.Unmarshal(text, &tree); err != nil {
		return nil, err
	}
	object, err := json.Marshal(tree)
	if err != nil {
		return nil, err
	}
	var b bootstrap.Bootstrap
	if err := protojson.Unmarshal(object, &b); err != nil { // refuses unknown fields
		return nil, err
	}
	return inside, check(&b, &inside)
}

func check(m proto.Message, inside *[]string) error {
	var errs []error
	if v, ok := m.(interface{ ValidateAll() error }); ok {
		errs = append(errs, v.ValidateAll())
	}
	visit := func(v protoreflect.Value) {
		one := v.Message().Interface()
		if packed, ok := one.(*anypb.Any); ok {
			opened, err := packed.UnmarshalNew()
			if err != nil {
				errs = append(errs, err)
				return
			}
			*inside = append(*inside, string(opened.ProtoReflect().Descriptor().Name()))
			one = opened
		}
		errs = append(errs, check(one, inside))
	}
	m.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap() && f.MapValue().Message() != nil:
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
				visit(v)
				return true
			})
		case f.IsMap() || f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				visit(v.List().Get(i))
			}
		default:
			visit(v)
		}
		return true
	})
	return errors.Join(errs...)
}

func TestGate_IsAValidBootstrap(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../deploy/proxies/envoy-gate.yaml")
	if err != nil {
		t.Fatal(err)
	}
	inside, err := validate(text)
	if err != nil {
		t.Error(err)
	}
	slices.Sort(inside)
	if got := fmt.Sprint(inside); got != "[ExtAuthz HttpConnectionManager Router]" {
		t.Errorf("filters: %s", got)
	}
	// What must not pass does not: the test looks inside.
	for _, bad := range [][2]string{
		{"path_prefix: /v1/gate/payments", "path_suffix: /v1/gate/payments"},
		{"value: \"1\"", "value: [1]"},
		{"uri: http://breakerd.internal:18180\n                          cluster: breakerd", "uri: http://breakerd.internal:18180"},
		{"stat_prefix: calls", "stat_prefix: \"\""},
		{"port_value: 9000", "port_value: 900000"},
		{"timeout: 2s", "timeout: -2s"},
	} {
		broken := strings.Replace(string(text), bad[0], bad[1], 1)
		if broken == string(text) {
			t.Fatalf("the file has no %q", bad[0])
		}
		if _, err := validate([]byte(broken)); err == nil {
			t.Errorf("%q is taken", bad[1])
		}
	}
}
