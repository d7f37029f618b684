//go:build docker

package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestDockerCommandsOfTheDocuments runs every block that needs a Docker Engine, document by document, in a copy of the working
// tree, on the ports that the documents name. The images are the stand-ins that deploy/offline builds.
func TestDockerCommandsOfTheDocuments(t *testing.T) {
	programs := t.TempDir() // none: the documents build their own
	ran := 0
	for _, d := range documents(t) {
		var of []int
		for i, b := range d.blocks {
			if b.lang == docker {
				of = append(of, i)
			}
		}
		if len(of) == 0 {
			continue
		}
		ran++
		t.Run(d.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "breakerd")
			if err := copyTree(dir, programs); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { down(t, dir) })
			d.check(t, of, d.inTerminal(t, dir, of))
		})
	}
	if ran == 0 {
		t.Error("no document has a command for Docker")
	}
}

// inTerminal runs the blocks one after the other in one shell, until one fails.
func (d document) inTerminal(t *testing.T, dir string, of []int) []result {
	t.Helper()
	shell, err := startShell(dir)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := shell.run("offline", `eval "$(deploy/offline/build)"`); err != nil || r.Exit != 0 {
		t.Fatalf("deploy/offline/build: exit %d, %v\n%s", r.Exit, err, r.Stderr)
	}
	var results []result
	for _, i := range of {
		r, err := shell.run("docker", d.blocks[i].text)
		if err != nil {
			t.Fatalf("%s:%d: %v\n%s", d.name, d.blocks[i].line, err, d.blocks[i].text)
		}
		if results = append(results, r); r.Exit != 0 {
			break
		}
	}
	return results
}

// down ends whatever stack the document has brought up.
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
	_ = os.RemoveAll(dir)
}
