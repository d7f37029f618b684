package stack_test

import (
	"errors"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/breakerd/breakerd/internal/config"
)

// digest is a variable of deploy/swarm/stack.yml that names the content of a config or a secret.
var digest = regexp.MustCompile(`\$\{([A-Z_]+_DIGEST):\?`)

// loadSwarm reads the stack, and further files of deploy/swarm, as `docker compose` would.
func loadSwarm(t *testing.T, more ...string) *types.Project {
	t.Helper()
	files := []string{"deploy/swarm/stack.yml"}
	for _, f := range more {
		files = append(files, "deploy/swarm/"+f)
	}
	environ := map[string]string{}
	for _, m := range digest.FindAllStringSubmatch(read(t, files[0]), -1) {
		environ[m[1]] = "0123456789ab"
	}
	return load(t, environ, files...)
}

func TestSwarm_ConfinesLimitsAndReplacesEveryService(t *testing.T) {
	t.Parallel()
	project := loadSwarm(t, "demo.yml")
	if len(project.Services) != 4 {
		t.Errorf("services %q", slices.Collect(maps.Keys(project.Services)))
	}
	for name, s := range project.Services {
		if s.HealthCheck == nil || s.Deploy == nil || s.Deploy.RestartPolicy == nil || s.Deploy.UpdateConfig == nil {
			t.Fatalf("%s: health check %v, deploy %+v", name, s.HealthCheck, s.Deploy)
		}
		if r := s.Deploy.Resources; !within(r.Reservations, r.Limits) {
			t.Errorf("%s: limits %v, reservations %v", name, r.Limits, r.Reservations)
		}
		if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || s.Logging.Options["max-size"] == "" || s.Logging.Options["max-file"] == "" {
			t.Errorf("%s: read-only %v, dropped %q, log %+v", name, s.ReadOnly, s.CapDrop, s.Logging)
		}
		order := "start-first"
		if name == "redis" {
			order = "stop-first" // two would write the same files
		}
		u := s.Deploy.UpdateConfig
		if u.FailureAction != "rollback" || u.Order != order || s.Deploy.EndpointMode != "dnsrr" || len(s.Ports) > 0 {
			t.Errorf("%s: update %+v, endpoint mode %q, ports %v", name, u, s.Deploy.EndpointMode, s.Ports)
		}
		if name == "demo-agent" {
			continue
		}
		if r := s.Deploy.RollbackConfig; *u.Parallelism != 1 || u.Monitor == 0 || u.MaxFailureRatio != 0 || r == nil || *r.Parallelism != 1 || r.Order != order {
			t.Errorf("%s: update %+v, rollback %+v", name, u, r)
		}
	}
	if _, private := project.Services["redis"].Networks["private"]; !private || len(project.Services["redis"].Networks) != 1 || !project.Networks["private"].Internal {
		t.Errorf("networks of Redis: %v; private: %+v", project.Services["redis"].Networks, project.Networks["private"])
	}
}

// within reports whether a service has reservations, and limits that are higher.
func within(reserved, limits *types.Resource) bool {
	return reserved != nil && limits != nil && reserved.MemoryBytes > 0 && reserved.MemoryBytes < limits.MemoryBytes &&
		reserved.NanoCPUs > 0 && reserved.NanoCPUs < limits.NanoCPUs
}

// A port is published on the node itself. So a node runs one task, and an update stops that one before it starts the next.
func TestSwarm_PublishesPortsOfTheNodeStopFirst(t *testing.T) {
	t.Parallel()
	for name, s := range loadSwarm(t, "ports.yml").Services {
		if name == "redis" {
			if len(s.Ports) > 0 {
				t.Errorf("Redis is published: %v", s.Ports)
			}
			continue
		}
		if len(s.Ports) != 1 || s.Ports[0].Mode != "host" || s.Deploy.Placement.MaxReplicas != 1 || s.Deploy.UpdateConfig.Order != "stop-first" || s.Deploy.RollbackConfig.Order != "stop-first" {
			t.Errorf("%s: ports %+v, deploy %+v", name, s.Ports, s.Deploy)
		}
		if u := s.Deploy.UpdateConfig; u.FailureAction != "rollback" || *u.Parallelism != 1 {
			t.Errorf("%s: ports.yml takes away from the update: %+v", name, u)
		}
	}
}

func TestSwarm_ConfiguresProgramsWithoutWarnings(t *testing.T) {
	t.Parallel()
	for name, s := range loadSwarm(t).Services {
		if name == "redis" {
			continue
		}
		targets := map[string]bool{}
		for _, c := range s.Configs {
			targets[c.Target] = true
			targets[filepath.Dir(c.Target)] = true
		}
		for _, c := range s.Secrets {
			targets["/run/secrets/"+c.Target] = true
		}
		var environ []string
		for variable, value := range s.Environment {
			isPath := strings.HasSuffix(variable, "_FILE") || strings.HasSuffix(variable, "_DIR")
			if isPath && !targets[*value] {
				t.Errorf("%s: %s=%s: no config or secret is there", name, variable, *value)
			}
			switch variable {
			case "REDIS_PASSWORD_FILE": // it is read at once
				continue
			case "ENV_FILE":
				*value = filepath.Join(root, ".env")
			case "REPLICA_ID":
				*value = strings.ReplaceAll(*value, "{{.Task.ID}}", "0n7d1o0lwyo2p0akuhi2oh8jn")
			}
			environ = append(environ, variable+"="+*value)
		}
		c, err := config.Load(environ)
		if err != nil || len(c.Warnings) > 0 {
			t.Fatalf("%s: %v; warnings %q", name, err, c.Warnings)
		}
		if err := errors.Join(c.CheckListen(), c.CheckBridge()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		const beyond = 6 * time.Second // docs/bridge.md#operating-it
		if end := c.ShutdownDelay + c.ShutdownTimeout + beyond; time.Duration(*s.StopGracePeriod) < end {
			t.Errorf("%s: it is killed after %v, and may take %v", name, s.StopGracePeriod, end)
		}
	}
}

// A config or a secret that changed needs another name, so each name has a digest that deploy/swarm/deploy sets.
func TestSwarm_NamesConfigsAndSecretsByContent(t *testing.T) {
	t.Parallel()
	script := read(t, "deploy/swarm/deploy")
	project := loadSwarm(t)
	names := map[string]string{}
	for key, c := range project.Configs {
		names["config "+key+" "+c.File] = c.Name
	}
	for key, c := range project.Secrets {
		names["secret "+key+" "+c.File] = c.Name
	}
	for what, name := range names {
		if !strings.HasSuffix(name, "_0123456789ab") {
			t.Errorf("%s is named %s, whatever it holds", what, name)
		}
	}
	variables := digest.FindAllStringSubmatch(read(t, "deploy/swarm/stack.yml"), -1)
	if len(variables) != len(names) {
		t.Errorf("%d digests name %d configs and secrets", len(variables), len(names))
	}
	for _, m := range variables {
		if !strings.Contains(script, "\n"+m[1]+"=$(digest ") {
			t.Errorf("deploy/swarm/deploy does not set %s", m[1])
		}
	}
}
