//go:build docker

package docs

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestDocker_CommandsDoWhatTheDocumentsSay runs the blocks of each page that need a Docker Engine, in a fresh clone, on
// the ports that the page names. The images are the stand-ins that deploy/offline builds.
func TestDocker_CommandsDoWhatTheDocumentsSay(t *testing.T) {
	repository := origin(t)
	for _, d := range documents(t) {
		of := d.of(docker)
		if len(of) == 0 {
			continue
		}
		t.Run(d.name, func(t *testing.T) {
			dir := t.TempDir()
			clone := filepath.Join(dir, "breakerd")
			t.Cleanup(func() { down(t, clone) })
			tr := runPage(t, repository, dir, nil, 8*time.Minute, append([]string{`eval "$(deploy/offline/build)"`}, d.texts(of)...)...)
			if tr.blocks[0].Exit != 0 {
				t.Fatalf("deploy/offline/build: %+v", tr.blocks[0])
			}
			tr.blocks = tr.blocks[1:]
			out, err := exec.Command("docker", "ps", "-a", "--format", "{{.Names}}", "--filter", "label=com.docker.compose.project.working_dir="+clone).Output()
			if err != nil {
				t.Fatal(err)
			}
			tr.processes = string(out)
			d.check(t, of, tr)
		})
	}
}

// down ends whatever stack a page that failed has left.
func down(t *testing.T, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "docker-compose*.yml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		cmd := exec.Command("docker-compose", "--project-directory", dir, "-f", f, "--profile", "demo", "down", "-v", "--remove-orphans", "-t", "2")
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil && !strings.Contains(f, "tls") { // those lie over others
			t.Errorf("%s: %v\n%s", f, err, out)
		}
	}
}
