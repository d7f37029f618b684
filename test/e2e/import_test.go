package e2e

import (
	"bytes"
	"debug/buildinfo"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// userModule is a module of a user's; {root} is this repository.
const userModule = `module example.com/user

go 1.26.0

require github.com/breakerd/breakerd v0.0.0

replace github.com/breakerd/breakerd => {root}
`

const userProgram = `package main

import (
	"context"
	"fmt"
	"os"

	"github.com/breakerd/breakerd/pkg/breaker"
	"github.com/breakerd/breakerd/pkg/fleet"
	{import}
)

func main() {
	ctx := context.Background()
	f, err := fleet.Join(ctx, os.Getenv("REDIS_URL"), fleet.Options{{options}})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer func() { _ = f.Close(ctx) }()
	fmt.Println(breaker.Call(ctx, f, "payments", func(context.Context) (int, error) { return 42, nil }))
}
`

// A program that imports package fleet links no in-process Redis, no Lua interpreter and no tracing, and its go.sum has
// none; with embedded:// it links the first two.
func TestImport_FleetLinksNoEmbeddedRedis(t *testing.T) {
	t.Parallel()
	inProcess := []string{"github.com/alicebob/miniredis/v2", "github.com/yuin/gopher-lua"}
	for _, c := range []struct {
		name, imports, options string
		embeds                 bool
	}{
		{name: "redis"},
		{"embedded", `"github.com/breakerd/breakerd/pkg/redisstore/embedded"`, "Embedded: embedded.Start", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			user := newUser(t, c.imports, c.options)
			linked := user.modules()
			if !c.embeds { // a link takes seconds
				linked = user.build()
			}
			for what, modules := range map[string][]string{"the program": linked, "go.sum": user.sums()} {
				for _, module := range modules {
					if strings.Contains(module, "opentelemetry") || strings.Contains(module, "prometheus") ||
						slices.Contains(inProcess, module) && !c.embeds {
						t.Errorf("%s has %s", what, module)
					}
				}
				if !slices.Contains(modules, "github.com/redis/go-redis/v9") {
					t.Errorf("%s lacks go-redis: %q", what, modules)
				}
				for _, module := range inProcess {
					if c.embeds && !slices.Contains(modules, module) {
						t.Errorf("%s lacks %s: %q", what, module, modules)
					}
				}
			}
		})
	}
}

// user is a directory with a module of a user's. Its commands find all modules in the module cache.
type user struct {
	t   *testing.T
	dir string
}

func newUser(t *testing.T, imports, options string) *user {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	u := &user{t, t.TempDir()}
	for file, text := range map[string]string{
		"go.mod":  strings.ReplaceAll(userModule, "{root}", root),
		"main.go": strings.NewReplacer("{import}", imports, "{options}", options).Replace(userProgram),
	} {
		if err := os.WriteFile(filepath.Join(u.dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return u
}

// run runs the go command.
func (u *user) run(args ...string) string {
	u.t.Helper()
	cmd := exec.CommandContext(u.t.Context(), "go", args...)
	cmd.Dir = u.dir
	cmd.Env = append(os.Environ(), "GOPROXY=off", "GOSUMDB=off", "GOWORK=off", "GOFLAGS=-mod=mod -buildvcs=false")
	out, err := cmd.CombinedOutput()
	if err != nil {
		u.t.Fatalf("%q: %v\n%s", cmd.Args, err, out)
	}
	return string(out)
}

// modules lists the modules of the packages that the program links.
func (u *user) modules() []string {
	u.t.Helper()
	return strings.Fields(u.run("list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", "."))
}

// build builds the program, and returns the modules that its binary names.
func (u *user) build() (modules []string) {
	u.t.Helper()
	u.run("build", "-ldflags=-s -w", "-o", "user", ".")
	binary := filepath.Join(u.dir, "user")
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		u.t.Fatal(err)
	}
	for _, dep := range info.Deps {
		modules = append(modules, dep.Path)
	}
	stat, err := os.Stat(binary)
	if err != nil {
		u.t.Fatal(err)
	}
	u.t.Logf("%d bytes, %q", stat.Size(), modules)
	return modules
}

// sums lists the modules of whose content go.sum has the hash. It has the hash of go.mod of more.
func (u *user) sums() (modules []string) {
	u.t.Helper()
	sum, err := os.ReadFile(filepath.Join(u.dir, "go.sum"))
	if err != nil {
		u.t.Fatal(err)
	}
	for line := range bytes.Lines(sum) {
		if module, version, _ := strings.Cut(string(line), " "); !strings.Contains(version, "/go.mod ") {
			modules = append(modules, module)
		}
	}
	return modules
}
