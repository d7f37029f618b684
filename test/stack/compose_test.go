package stack_test

import (
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/breakerd/breakerd/internal/config"
	"github.com/breakerd/breakerd/internal/registry"
	"github.com/breakerd/breakerd/internal/workflow"
	"github.com/breakerd/breakerd/pkg/breaker"
)

const root = "../.."

// stacks are the combinations in which the compose files are used.
func stacks() map[string][]string {
	return map[string][]string{
		"single":     {"docker-compose.yml"},
		"single TLS": {"docker-compose.yml", "docker-compose.tls.yml"},
		"production": {"docker-compose.prod.yml"},
		"prod. TLS":  {"docker-compose.prod.yml", "docker-compose.prod-tls.yml"},
	}
}

// load reads compose files as `docker compose` does, with the schema and with every profile on.
func load(t *testing.T, environ map[string]string, files ...string) *types.Project {
	t.Helper()
	dir, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	details := types.ConfigDetails{WorkingDir: dir, Environment: environ}
	for _, f := range files {
		details.ConfigFiles = append(details.ConfigFiles, types.ConfigFile{Filename: filepath.Join(dir, f)})
	}
	project, err := loader.LoadWithContext(t.Context(), details, loader.WithProfiles([]string{"*"}), func(o *loader.Options) {
		o.SetProjectName("stack", true)
	})
	if err != nil {
		t.Fatalf("%q: %v", files, err)
	}
	return project
}

// each runs a test for every service of every stack.
func each(t *testing.T, test func(t *testing.T, project *types.Project, s types.ServiceConfig)) {
	t.Helper()
	for name, files := range stacks() {
		project := load(t, nil, files...)
		if len(project.Services) < 4 {
			t.Errorf("%s: services %q", name, slices.Collect(maps.Keys(project.Services)))
		}
		for _, s := range project.Services {
			t.Run(name+"/"+s.Name, func(t *testing.T) {
				t.Parallel()
				test(t, project, s)
			})
		}
	}
}

func TestCompose_ConfinesAndLimitsEveryService(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, _ *types.Project, s types.ServiceConfig) {
		if s.HealthCheck == nil || len(s.HealthCheck.Test) == 0 || s.HealthCheck.Disable {
			t.Error("no health check")
		}
		if s.Restart != types.RestartPolicyUnlessStopped {
			t.Errorf("restart %q", s.Restart)
		}
		if s.MemLimit <= 0 || s.CPUS <= 0 {
			t.Errorf("limits: %d bytes, %v CPUs", s.MemLimit, s.CPUS)
		}
		if s.MemReservation < 16<<20 || s.MemReservation >= s.MemLimit || s.CPUShares < 128 {
			t.Errorf("reserved: %d of %d bytes, %v shares", s.MemReservation, s.MemLimit, s.CPUShares)
		}
		if !s.ReadOnly || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") || !slices.Equal(s.CapDrop, []string{"ALL"}) || s.Privileged {
			t.Errorf("read-only %v, options %q, dropped %q", s.ReadOnly, s.SecurityOpt, s.CapDrop)
		}
		for _, v := range s.Volumes {
			if v.Type == types.VolumeTypeBind && !v.ReadOnly {
				t.Errorf("%s can be written at %s", v.Source, v.Target)
			}
		}
		if s.ContainerName != "" {
			t.Errorf("container name %q: it could not be scaled, nor run twice", s.ContainerName)
		}
	})
}

func TestCompose_PublishesOnLoopbackOnly(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, _ *types.Project, s types.ServiceConfig) {
		for _, p := range s.Ports {
			if ip, err := netip.ParseAddr(p.HostIP); err != nil || !ip.IsLoopback() {
				t.Errorf("port %s is published on %q", p.Published, p.HostIP)
			}
		}
	})
}

func TestCompose_KeepsRedisOnThePrivateNetwork(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, project *types.Project, s types.ServiceConfig) {
		if !project.Networks["private"].Internal {
			t.Error("the private network leads outside")
		}
		if strings.HasPrefix(s.Name, "redis") && s.Name != "redis-exporter" && (len(s.Ports) > 0 || len(s.Networks) != 1 || s.User != "redis") {
			t.Errorf("ports %v, networks %v, user %q", s.Ports, slices.Collect(maps.Keys(s.Networks)), s.User)
		}
		if _, private := s.Networks["private"]; private == (s.Name == "demo-agent") {
			t.Errorf("networks %v", slices.Collect(maps.Keys(s.Networks)))
		}
	})
}

// imagesOf returns the image of a service for each variable that names one.
func imagesOf(t *testing.T, s types.ServiceConfig) map[string]string {
	t.Helper()
	if slices.Contains(s.Profiles, "observability") {
		return map[string]string{strings.ToUpper(strings.ReplaceAll(s.Name, "-", "_")) + "_IMAGE": s.Image}
	}
	if strings.HasPrefix(s.Name, "redis") {
		return map[string]string{"REDIS_IMAGE": s.Image}
	}
	if s.Build == nil {
		t.Fatal("is neither Redis nor built")
	}
	image := "BREAKERD_IMAGE"
	if s.Name == "bridge" {
		image = "BRIDGE_IMAGE"
	}
	return map[string]string{image: s.Image, "BUILD_IMAGE": *s.Build.Args["BUILD_IMAGE"], "RUNTIME_IMAGE": *s.Build.Args["RUNTIME_IMAGE"], "VERSION": *s.Build.Args["VERSION"]}
}

func TestCompose_TakesImagesFromVariables(t *testing.T) {
	t.Parallel()
	defaults := map[string]string{
		"REDIS_IMAGE": "redis:7-alpine", "BUILD_IMAGE": "golang:1.26-alpine", "RUNTIME_IMAGE": "redis:7-alpine",
		"BREAKERD_IMAGE": "breakerd:local", "BRIDGE_IMAGE": "breakerd-bridge:local", "VERSION": "",
		"PROMETHEUS_IMAGE": "prom/prometheus:v3.5.0", "ALERTMANAGER_IMAGE": "prom/alertmanager:v0.28.1",
		"GRAFANA_IMAGE": "grafana/grafana:12.1.1", "REDIS_EXPORTER_IMAGE": "oliver006/redis_exporter:v1.74.0-alpine",
	}
	others := map[string]string{}
	for name := range defaults {
		others[name] = "other:" + strings.ToLower(name)
	}
	for stack, files := range stacks() {
		for _, want := range []map[string]string{defaults, others} {
			for _, s := range load(t, want, files...).Services {
				for name, image := range imagesOf(t, s) {
					if image != want[name] {
						t.Errorf("%s: %s: %s is %q, want %q", stack, s.Name, name, image, want[name])
					}
				}
			}
		}
		for _, s := range load(t, nil, files...).Services {
			for name, image := range imagesOf(t, s) {
				if image != defaults[name] {
					t.Errorf("%s: %s: %s is %q by default, want %q", stack, s.Name, name, image, defaults[name])
				}
			}
		}
	}
	dockerfile := read(t, "deploy/Dockerfile")
	for _, name := range []string{"BUILD_IMAGE", "RUNTIME_IMAGE", "VERSION"} {
		if !strings.Contains(dockerfile, "\nARG "+name+"="+defaults[name]+"\n") {
			t.Errorf("deploy/Dockerfile has another default for %s", name)
		}
	}
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, "go.mod"))
	if want := "golang:" + version[1] + "-alpine"; defaults["BUILD_IMAGE"] != want {
		t.Errorf("go.mod wants to be built by %s", want)
	}
}

func read(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// assignments are the NAME=VALUE lines of a file.
func assignments(t *testing.T, path string) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^([A-Z_]+)=(.*)$`).FindAllStringSubmatch(read(t, path), -1) {
		found[m[1]] = m[2]
	}
	return found
}

// A fresh clone starts with `docker-compose up`, so .env is committed. Another test compares the profile with the
// guide.
func TestDotEnv_HasTheEightVariablesOfTheGuide(t *testing.T) {
	t.Parallel()
	have, want, known := assignments(t, ".env"), assignments(t, "deploy/profiles/workflow.env"), assignments(t, ".env.example")
	if len(want) != 8 || !maps.Equal(have, want) {
		t.Errorf("got  %v\nwant %v", have, want)
	}
	for name := range have {
		if _, ok := known[name]; !ok {
			t.Errorf("%s is in .env, and unknown", name)
		}
	}
}

// The variables of .env must not lead the programs in the containers to another Redis than that of the stack.
func TestCompose_ConfiguresProgramsWithoutWarnings(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, _ *types.Project, s types.ServiceConfig) {
		if s.Name != "breakerd" && s.Name != "bridge" {
			return
		}
		password := filepath.Join(t.TempDir(), "password")
		if err := os.WriteFile(password, []byte("secret"), 0o600); err != nil {
			t.Fatal(err)
		}
		var environ []string
		for name, value := range s.Environment {
			switch { // files that have another path in the container
			case name == "ENV_FILE":
				*value = filepath.Join(root, ".env")
			case strings.HasSuffix(name, "PASSWORD_FILE"):
				*value = password
			}
			environ = append(environ, name+"="+*value)
		}
		c, err := config.Load(environ)
		if err != nil || len(c.Warnings) > 0 {
			t.Fatalf("%v; warnings %q", err, c.Warnings)
		}
		if err := c.CheckListen(); err != nil && s.Name == "breakerd" {
			t.Error(err)
		}
		if err := c.CheckBridge(); err != nil && s.Name == "bridge" {
			t.Error(err)
		}
		tls := slices.ContainsFunc(s.Volumes, func(v types.ServiceVolumeConfig) bool { return v.Target == "/run/tls" })
		switch url := c.RedisURL.Reveal(); {
		case strings.Contains(url, "localhost") || url != *s.Environment["REDIS_URL"]:
			t.Errorf("goes to %s", url)
		case strings.HasPrefix(url, "rediss://") != tls || strings.Contains(url, "ca_file=/run/tls/ca.crt") != tls:
			t.Errorf("goes to %s; certificates are mounted: %v", url, tls)
		}
	})
}

// Every step of a workflow that comes with the stacks calls an agent that is registered.
func TestCompose_AgentsAndWorkflowsAreValid(t *testing.T) {
	t.Parallel()
	agents, err := registry.New(registry.Options{Path: filepath.Join(root, "deploy/compose/agents.json"), Default: breaker.DefaultPolicy()})
	if err != nil {
		t.Fatal(err)
	}
	known := func(name string) bool {
		agent, err := agents.Agent(t.Context(), name)
		return err == nil && agent.URL != nil
	}
	files, err := filepath.Glob(filepath.Join(root, "deploy/compose/workflows/*.json"))
	if err != nil || len(files) < 2 {
		t.Fatalf("%q, %v: want two workflows", files, err)
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if d, err := workflow.ParseDefinition(text, known); err != nil || d.ID+".json" != filepath.Base(path) {
			t.Errorf("%s holds %q: %v", path, d.ID, err)
		}
	}
}
