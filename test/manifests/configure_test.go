package manifests

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/breakerd/breakerd/internal/config"
	"github.com/breakerd/breakerd/internal/registry"
	"github.com/breakerd/breakerd/internal/workflow"
	"github.com/breakerd/breakerd/pkg/breaker"
)

// configure checks what the programs and Redis go by.
func configure(s *set) (errs []error) {
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	reference, err := os.ReadFile(filepath.Join(root, "docs/configuration.md"))
	if err != nil {
		return []error{err}
	}
	start, err := os.ReadFile(filepath.Join(root, "deploy/redis/start"))
	if err != nil {
		return []error{err}
	}
	if m := s.configMaps["redis-start"]; m == nil || m.Data["start"] != string(start) {
		fault("ConfigMap redis-start is not deploy/redis/start")
	}
	for name := range s.podsOf {
		for variable, value := range s.environ(name, name+"-0") {
			known := strings.Contains(string(reference), "\n| `"+variable+"` |")
			if s.statefulSets[name] != nil {
				known = variable == "POD_NAME" || strings.Contains(string(start), "${"+variable+":-") || strings.Contains(string(start), "$"+variable+"\"")
			}
			if !known {
				fault("%s: %s is no variable of the program", name, variable)
			}
			if path := variable == "AGENTS_FILE" || strings.HasSuffix(variable, "_FILE") || strings.HasSuffix(variable, "_DIR"); path && !s.holds(name, value) {
				fault("%s: %s=%s: no ConfigMap or Secret is mounted that has it", name, variable, value)
			}
		}
	}
	return slices.Concat(errs, configurePrograms(s))
}

// holds reports whether a path in the container is a file or a directory of a ConfigMap or a Secret.
func (s *set) holds(name, path string) bool {
	for dir, files := range s.files(name) {
		if path == dir {
			return true
		}
		for file := range files {
			if path == dir+"/"+file {
				return true
			}
		}
	}
	return false
}

// files returns what is mounted into the containers of a Deployment or StatefulSet: by directory, then by name.
func (s *set) files(name string) map[string]map[string]string {
	volumes := map[string]map[string]string{}
	for _, v := range s.podsOf[name].Spec.Volumes {
		switch {
		case v.ConfigMap != nil && s.configMaps[v.ConfigMap.Name] != nil:
			volumes[v.Name] = s.configMaps[v.ConfigMap.Name].Data
		case v.Secret != nil && s.secrets[v.Secret.SecretName] != nil:
			files := map[string]string{}
			for _, item := range v.Secret.Items {
				files[item.Path] = s.secrets[v.Secret.SecretName].StringData[item.Key]
			}
			volumes[v.Name] = files
		}
	}
	mounted := map[string]map[string]string{}
	for _, m := range s.container(name).VolumeMounts {
		if files, ok := volumes[m.Name]; ok {
			mounted[m.MountPath] = files
		}
	}
	return mounted
}

// sentinelHost is a pod of StatefulSet sentinel by its name in DNS.
var sentinelHost = regexp.MustCompile(`(\w+)-(\d+)\.(\w+):(\d+)`)

// configurePrograms has the programs' own packages read their variables, agents and workflows.
func configurePrograms(s *set) (errs []error) {
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for _, name := range s.namesOfPrograms {
		environ := s.environ(name, name+"-0")
		var list []string
		for variable, value := range environ {
			if !strings.HasSuffix(variable, "PASSWORD_FILE") { // it is read at once
				list = append(list, variable+"="+value)
			}
		}
		c, err := config.Load(list)
		if err != nil || len(c.Warnings) > 0 {
			fault("%s: %w; warnings %q", name, err, c.Warnings)
			continue
		}
		check := map[string]func() error{"breakerd": c.CheckListen, "bridge": c.CheckBridge}[name]
		if check == nil || check() != nil {
			fault("%s is none of our programs, or listens nowhere: %q", name, c.Warnings)
		}
		if want := "/usr/local/bin/" + name; !slices.Equal(s.container(name).Command, []string{want}) {
			fault("%s: command %q, want %s", name, s.container(name).Command, want)
		}
		hosts := sentinelHost.FindAllStringSubmatch(environ["REDIS_URL"], -1)
		for i, h := range hosts {
			set := s.statefulSets[h[1]]
			if set == nil || h[2] != strconv.Itoa(i) || set.Spec.ServiceName != h[3] || h[4] != strconv.Itoa(int(s.services[h[3]].Spec.Ports[0].Port)) {
				fault("%s: REDIS_URL names %s, which is no pod", name, h[0])
			}
		}
		if set := s.statefulSets["sentinel"]; set == nil || len(hosts) != int(*set.Spec.Replicas) {
			fault("%s: REDIS_URL names %d Sentinels", name, len(hosts))
		}
	}
	return slices.Concat(errs, configureFiles(s))
}

// configureFiles reads agents and workflows as the programs do. Every step calls an agent that is registered.
func configureFiles(s *set) []error {
	dir, err := os.MkdirTemp("", "manifests")
	if err != nil {
		return []error{err}
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "agents.json")
	if err := os.WriteFile(path, []byte(s.configMaps["agents"].Data["agents.json"]), 0o600); err != nil {
		return []error{err}
	}
	agents, err := registry.New(registry.Options{Path: path, Default: breaker.DefaultPolicy()})
	if err != nil {
		return []error{err}
	}
	known := func(name string) bool {
		agent, err := agents.Agent(context.Background(), name)
		return err == nil && agent.URL != nil
	}
	var errs []error
	for _, file := range slices.Sorted(maps.Keys(s.configMaps["workflows"].Data)) {
		d, err := workflow.ParseDefinition([]byte(s.configMaps["workflows"].Data[file]), known)
		if err != nil || d.ID+".json" != file {
			errs = append(errs, fmt.Errorf("%s holds %q: %w", file, d.ID, err))
		}
	}
	return errs
}
