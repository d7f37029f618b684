//go:build docker

package stack_test

import (
	"os"
	"strings"
	"testing"
)

func TestImages_KnowTheirVersion(t *testing.T) {
	t.Parallel()
	want := os.Getenv("VERSION")
	for _, variable := range images {
		if version, ok := strings.CutPrefix(variable, "VERSION="); ok {
			want = version
		}
	}
	if want == "" {
		want = "(devel)" // no repository, or images of somebody else's
	}
	for _, program := range []string{"breakerd", "bridge", "demo-agent"} {
		out, err := run(t.Context(), root, nil, "docker", "run", "--rm", "breakerd"+ownTag(), "/usr/local/bin/"+program, "--version")
		if err != nil || out != program+" "+want+"\n" {
			t.Errorf("%q, want version %s; %v", out, want, err)
		}
	}
}
