package manifests

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// probe checks that the probes ask what is there. TestManifests_RunAsPods has them asked.
func probe(s *set) (errs []error) {
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for name, pod := range s.podsOf {
		c := s.container(name)
		for kind, p := range map[string]*corev1.Probe{"startup": c.StartupProbe, "readiness": c.ReadinessProbe, "liveness": c.LivenessProbe} {
			switch {
			case p == nil:
				fault("%s has no %s probe", name, kind)
			case p.HTTPGet != nil:
				want := map[string]string{"startup": "/livez", "readiness": "/readyz", "liveness": "/livez"}[kind]
				if p.HTTPGet.Path != want || portOf(pod, p.HTTPGet.Port.StrVal) == 0 {
					fault("%s: the %s probe asks %s of port %s, want %s of a port that is there", name, kind, p.HTTPGet.Path, p.HTTPGet.Port.StrVal, want)
				}
			case p.TCPSocket != nil:
				if portOf(pod, p.TCPSocket.Port.StrVal) == 0 {
					fault("%s: the %s probe asks port %s, which is not there", name, kind, p.TCPSocket.Port.StrVal)
				}
			case p.Exec != nil:
				start, err := os.ReadFile(filepath.Join(root, "deploy/redis/start"))
				if err != nil || !slices.Contains(p.Exec.Command, "--health") || !strings.Contains(string(start), "'"+strings.Join(p.Exec.Command[2:], " ")+"')") {
					fault("%s: the %s probe runs %q, which deploy/redis/start does not know; %w", name, kind, p.Exec.Command, err)
				}
			}
		}
	}
	return errs
}
