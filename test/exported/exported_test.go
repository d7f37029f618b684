// Package exported checks that each exported name has a user.
package exported

import (
	"go/types"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/go/packages"

	"github.com/breakerd/breakerd/internal/testkit/promised"
)

const module = "github.com/breakerd/breakerd/"

// TestExported_EachNameHasAUser fails for an exported function, type, variable, constant or method of pkg, internal
// and contrib that no other package uses, tests and examples outside the package included. A method that an interface asks for has
// a user, as has a type in the signature of an exported function or in a field, and each constant of a named type of
// which one has. testdata/unused.txt lists the names that stay all the same, each with its reason.
func TestExported_EachNameHasAUser(t *testing.T) {
	t.Parallel()
	own := load(t, "../..")
	promised.Names(t, "go.txt", public(own))
	all := slices.Concat(own, load(t, "../../bench"), load(t, "../../contrib/grpc"), load(t, "../../contrib/otel"))
	used := map[string]bool{}
	var interfaces []*types.Interface
	for _, p := range all {
		for _, o := range p.TypesInfo.Uses {
			if o.Pkg() != nil && o.Pkg().Path() != strings.TrimSuffix(p.Types.Path(), "_test") || strings.HasSuffix(p.Types.Path(), "_test") {
				used[name(o)] = true
			}
		}
		for _, s := range p.TypesInfo.Types {
			if i, ok := s.Type.Underlying().(*types.Interface); ok && i.NumMethods() > 0 {
				interfaces = append(interfaces, i)
			}
		}
	}
	reasons := allowed(t)
	for _, p := range all {
		dir, _, _ := strings.Cut(strings.TrimPrefix(p.PkgPath, module), "/")
		if !slices.Contains([]string{"pkg", "internal", "contrib"}, dir) || p.ForTest != "" {
			continue
		}
		exported := exportedOf(p.Types.Scope())
		for _, o := range exported {
			mention(o, used)
		}
		for _, o := range exported {
			switch n := name(o); {
			case used[n], isAsked(o, interfaces), isOneOfSeveral(o, exported, used):
			case reasons[n]:
				delete(reasons, n)
			default:
				t.Errorf("%s has no user outside its package: delete it, unexport it, or list it in testdata/unused.txt with a reason", n)
			}
		}
	}
	for n := range reasons {
		t.Errorf("testdata/unused.txt: %s has a user, or does not exist", n)
	}
}

// public are the exported names of pkg, each with its type: an interface with its methods, a struct field by field.
func public(all []*packages.Package) (names []string) {
	short := func(p *types.Package) string { return strings.TrimPrefix(p.Path(), module) }
	for _, p := range all {
		if !strings.HasPrefix(p.PkgPath, module+"pkg/") || p.ForTest != "" || strings.Contains(p.PkgPath, "/internal/") {
			continue
		}
		for _, o := range exportedOf(p.Types.Scope()) {
			s, isStruct := o.Type().Underlying().(*types.Struct)
			t, isType := o.(*types.TypeName)
			if !isStruct || !isType || t.IsAlias() {
				names = append(names, types.ObjectString(o, short))
				continue
			}
			names = append(names, "type "+name(o)+" struct")
			for f := range s.Fields() {
				if f.Exported() {
					names = append(names, "field "+name(o)+"."+f.Name()+" "+types.TypeString(f.Type(), short))
				}
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func load(t *testing.T, dir string) []*packages.Package {
	t.Helper()
	all, err := packages.Load(&packages.Config{
		Dir: dir, Tests: true, BuildFlags: []string{"-tags=docker,mutate"},
		Mode: packages.NeedName | packages.NeedTypes | packages.NeedTypesInfo | packages.NeedSyntax | packages.NeedImports |
			packages.NeedForTest,
	}, "./...")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		for _, e := range p.Errors {
			t.Fatal(e)
		}
	}
	return all
}

// exportedOf lists the exported names of a package, and the exported methods of its types.
func exportedOf(s *types.Scope) (out []types.Object) {
	for _, n := range s.Names() {
		o := s.Lookup(n)
		if o.Exported() {
			out = append(out, o)
		}
		t, ok := o.(*types.TypeName)
		if !ok || t.IsAlias() {
			continue
		}
		if named, ok := t.Type().(*types.Named); ok {
			for m := range named.Methods() {
				if o.Exported() && m.Exported() {
					out = append(out, m)
				}
			}
		}
	}
	return out
}

// mention marks the named types in the signature of a function and in the exported fields of a struct as used.
func mention(o types.Object, used map[string]bool) {
	var mark func(t types.Type)
	mark = func(t types.Type) {
		switch t := t.(type) {
		case *types.Named:
			used[name(t.Obj())] = true
			for a := range t.TypeArgs().Types() {
				mark(a)
			}
		case *types.Alias:
			used[name(t.Obj())] = true
		case interface{ Elem() types.Type }: // a pointer, slice, array, channel or map
			mark(t.Elem())
			if m, ok := t.(*types.Map); ok {
				mark(m.Key())
			}
		case *types.Signature:
			for v := range t.Params().Variables() {
				mark(v.Type())
			}
			for v := range t.Results().Variables() {
				mark(v.Type())
			}
		case *types.Struct:
			for f := range t.Fields() {
				if f.Exported() {
					mark(f.Type())
				}
			}
		case *types.Interface:
			for m := range t.Methods() {
				mark(m.Type())
			}
		}
	}
	switch o := o.(type) {
	case *types.Func:
		mark(o.Type())
	case *types.TypeName:
		mark(o.Type().Underlying())
		if n, ok := o.Type().(*types.Named); ok {
			for p := range n.TypeParams().TypeParams() {
				mark(p.Constraint())
			}
		}
	case *types.Var:
		mark(o.Type())
	}
}

// isOneOfSeveral says whether o is a constant of a named type, of which another constant is used.
func isOneOfSeveral(o types.Object, all []types.Object, used map[string]bool) bool {
	if _, ok := o.(*types.Const); !ok {
		return false
	}
	if _, ok := o.Type().(*types.Named); !ok {
		return false
	}
	return slices.ContainsFunc(all, func(other types.Object) bool {
		_, constant := other.(*types.Const)
		return constant && types.Identical(o.Type(), other.Type()) && used[name(other)]
	})
}

// name is the object's, the same in each of the type checks that load does: package.Name or package.Type.Method.
func name(o types.Object) string {
	if o.Pkg() == nil {
		return o.Name()
	}
	path := strings.TrimPrefix(o.Pkg().Path(), module)
	if f, ok := o.(*types.Func); ok {
		if r := f.Signature().Recv(); r != nil {
			t := r.Type()
			if p, ok := t.(*types.Pointer); ok {
				t = p.Elem()
			}
			if n, ok := t.(*types.Named); ok {
				return path + "." + n.Obj().Name() + "." + f.Name()
			}
		}
	}
	if o.Parent() != nil && o.Parent() != o.Pkg().Scope() {
		return "" // a local name
	}
	return path + "." + o.Name()
}

// isAsked says whether o is a method by which its type implements one of the interfaces.
func isAsked(o types.Object, interfaces []*types.Interface) bool {
	f, ok := o.(*types.Func)
	if !ok || f.Signature().Recv() == nil {
		return false
	}
	switch f.Name() { // of interfaces of the standard library that nobody here names
	case "Format", "LogValue", "Error", "Unwrap", "Is", "As", "String", "MarshalJSON", "UnmarshalJSON", "MarshalText", "UnmarshalText":
		return true
	}
	t := f.Signature().Recv().Type()
	return slices.ContainsFunc(interfaces, func(i *types.Interface) bool {
		for m := range i.Methods() {
			if m.Name() == f.Name() {
				return types.Implements(t, i) || types.Implements(types.NewPointer(t), i) || alike(t, i)
			}
		}
		return false
	})
}

// alike is types.Implements by the names of methods: the interface may stem from another type check of the same
// package.
func alike(t types.Type, i *types.Interface) bool {
	if _, pointer := t.(*types.Pointer); !pointer {
		t = types.NewPointer(t)
	}
	set := types.NewMethodSet(t)
	for m := range i.Methods() {
		if set.Lookup(m.Pkg(), m.Name()) == nil {
			return false
		}
	}
	return true
}

// allowed reads "name | reason" lines.
func allowed(t *testing.T) map[string]bool {
	t.Helper()
	text, err := os.ReadFile("testdata/unused.txt")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		n, why, _ := strings.Cut(strings.TrimSpace(line), " | ")
		switch {
		case n == "", n[0] == '#':
		case why == "":
			t.Errorf("testdata/unused.txt: not \"name | reason\": %s", line)
		default:
			out[n] = true
		}
	}
	return out
}
