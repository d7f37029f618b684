package manifests

import (
	"maps"
	"strings"
	"testing"
)

// Each of these faults must be found.
func TestManifests_FaultsAreFound(t *testing.T) {
	t.Parallel()
	good := texts(t)
	for name, c := range map[string]struct{ file, before, after, says string }{
		"unknown field":          {"40-breakerd.yaml", "maxSurge:", "maxSurg:", `unknown field "spec.strategy.rollingUpdate.maxSurg"`},
		"field twice":            {"40-breakerd.yaml", "  minReadySeconds: 5", "  minReadySeconds: 5\n  minReadySeconds: 5", "already set"},
		"no such version":        {"40-breakerd.yaml", "apiVersion: policy/v1\n", "apiVersion: policy/v1beta7\n", "no kind"},
		"port out of range":      {"40-breakerd.yaml", "containerPort: 18180", "containerPort: 181800", "must be between 1 and 65535"},
		"selector of others":     {"50-bridge.yaml", "    metadata:\n      labels: {app.kubernetes.io/name: bridge,", "    metadata:\n      labels: {app.kubernetes.io/name: other,", "`selector` does not match template `labels`"},
		"request above limit":    {"40-breakerd.yaml", "requests: {memory: 64Mi", "requests: {memory: 640Mi", "must be less than or equal to memory limit"},
		"no such claim":          {"30-redis.yaml", "- {name: data, mountPath: /data}", "- {name: date, mountPath: /data}", "Not found"},
		"root":                   {"50-bridge.yaml", "        runAsNonRoot: true\n        runAsUser: 65532\n", "", "runAsNonRoot != true"},
		"no seccomp profile":     {"30-redis.yaml", "        seccompProfile: {type: RuntimeDefault}\n", "", "seccompProfile"},
		"a writable root":        {"30-redis.yaml", "            readOnlyRootFilesystem: true\n", "", "can be written"},
		"no such ConfigMap":      {"40-breakerd.yaml", "configMapRef: {name: settings}", "configMapRef: {name: setting}", "no ConfigMap setting"},
		"no such key":            {"40-breakerd.yaml", "items: [{key: auth.yaml, path:", "items: [{key: auth, path:", "Secret auth has no auth"},
		"no such account":        {"30-redis.yaml", "serviceAccountName: redis", "serviceAccountName: rediss", "no ServiceAccount rediss"},
		"no such port":           {"40-breakerd.yaml", "targetPort: http,", "targetPort: web,", "port 18180 leads to web"},
		"Service of others":      {"40-breakerd.yaml", "  selector: {app.kubernetes.io/name: breakerd}", "  selector: {app.kubernetes.io/name: bridge}", "Service breakerd selects"},
		"no such variable":       {"20-config.yaml", "FAILURE_THRESHOLD:", "FAILURE_TRESHOLD:", "is no variable"},
		"a value that is bad":    {"20-config.yaml", `FAILURE_THRESHOLD: "5"`, `FAILURE_THRESHOLD: "500"`, "from 0 to 255"},
		"a file that is nowhere": {"40-breakerd.yaml", "value: /run/secrets/auth/auth.yaml", "value: /run/secrets/auth.yaml", "AUTH_FILE=/run/secrets/auth.yaml"},
		"no such Sentinel":       {"50-bridge.yaml", "sentinel-2.sentinel:26379", "sentinel-3.sentinel:26379", "which is no pod"},
		"no agent of a step":     {"20-config.yaml", `"agent_name": "ExampleAgent"`, `"agent_name": "NoAgent"`, "NoAgent"},
		"no such probe":          {"40-breakerd.yaml", "path: /readyz", "path: /ready", "the readiness probe asks /ready"},
		"killed too early":       {"40-breakerd.yaml", "terminationGracePeriodSeconds: 40", "terminationGracePeriodSeconds: 35", "is killed after 35s, and may take 36s"},
		"an open Redis":          {"60-network.yaml", "        - podSelector: {matchLabels: {app.kubernetes.io/name: redis}}\n        - podSelector: {matchLabels: {app.kubernetes.io/name: sentinel}}\n", "        - namespaceSelector: {}\n", "caller > redis 6379: open true, want false"},
		"a closed Redis":         {"60-network.yaml", "        - podSelector: {matchLabels: {app.kubernetes.io/name: bridge}}\n", "", "bridge > redis 6379: open false, want true"},
		"no refusal":             {"60-network.yaml", "  policyTypes: [Ingress, Egress]\n---", "  policyTypes: [Egress]\n---", "caller > guest"},
		"placeholders gone":      {"examples/secrets.yaml", "auth.yaml: |", "auth.yml: |", "Secret auth has no auth.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := maps.Clone(good)
			if !strings.Contains(bad[c.file], c.before) {
				t.Fatalf("%s has no %q", c.file, c.before)
			}
			bad[c.file] = strings.Replace(bad[c.file], c.before, c.after, 1)
			found := faults(bad)
			for _, err := range found {
				if strings.Contains(err.Error(), c.says) {
					return
				}
			}
			t.Errorf("no fault has %q: %q", c.says, found)
		})
	}
}
