package manifests

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// ourNamespace is where everything is.
const ourNamespace = "breakerd"

// refer checks that whatever a manifest names is there, and that nothing is there that none names.
func refer(s *set) (errs []error) {
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	used := map[string]bool{}
	for name, pod := range s.podsOf {
		if s.accounts[pod.Spec.ServiceAccountName] == nil {
			fault("%s: no ServiceAccount %s", name, pod.Spec.ServiceAccountName)
		}
		if a := pod.Spec.AutomountServiceAccountToken; a == nil || *a {
			fault("%s: it gets a token of the API server", name)
		}
		for _, v := range pod.Spec.Volumes {
			switch {
			case v.ConfigMap != nil:
				used["ConfigMap "+v.ConfigMap.Name] = true
				if s.configMaps[v.ConfigMap.Name] == nil {
					fault("%s: no ConfigMap %s", name, v.ConfigMap.Name)
				}
			case v.Secret != nil:
				used["Secret "+v.Secret.SecretName] = true
				secret := s.secrets[v.Secret.SecretName]
				if secret == nil {
					fault("%s: no example of Secret %s", name, v.Secret.SecretName)
					continue
				}
				for _, item := range v.Secret.Items {
					if _, ok := secret.StringData[item.Key]; !ok {
						fault("%s: Secret %s has no %s", name, secret.Name, item.Key)
					}
				}
			}
		}
		for _, c := range pod.Spec.Containers {
			for _, from := range c.EnvFrom {
				used["ConfigMap "+from.ConfigMapRef.Name] = true
				if s.configMaps[from.ConfigMapRef.Name] == nil {
					fault("%s: no ConfigMap %s", name, from.ConfigMapRef.Name)
				}
			}
		}
		for _, c := range pod.Spec.TopologySpreadConstraints {
			if !matches(c.LabelSelector, pod.Labels) {
				fault("%s: its spread over %s is of other pods", name, c.TopologyKey)
			}
		}
	}
	for name := range s.configMaps {
		if !used["ConfigMap "+name] {
			fault("nothing uses ConfigMap %s", name)
		}
	}
	for name := range s.secrets {
		if !used["Secret "+name] {
			fault("nothing uses Secret %s", name)
		}
	}
	for name, account := range s.accounts {
		if a := account.AutomountServiceAccountToken; a == nil || *a {
			fault("ServiceAccount %s: its pods get a token of the API server", name)
		}
	}
	return slices.Concat(errs, referServices(s))
}

// referServices checks what selects pods: each Service and PodDisruptionBudget selects one kind of pod, by its own name.
func referServices(s *set) (errs []error) {
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for name, pod := range s.podsOf {
		service, budget := s.services[name], s.budgets[name]
		if service == nil || budget == nil {
			fault("%s has no Service or no PodDisruptionBudget", name)
			continue
		}
		if set := s.statefulSets[name]; set != nil && (set.Spec.ServiceName != name || service.Spec.ClusterIP != corev1.ClusterIPNone) {
			fault("StatefulSet %s: its Service %s must be headless", name, set.Spec.ServiceName)
		}
		for _, p := range service.Spec.Ports {
			if number := portOf(pod, p.TargetPort.StrVal); number == 0 || number != p.Port {
				fault("Service %s: port %d leads to %s, which is %d of the pod", name, p.Port, p.TargetPort.String(), number)
			}
		}
		for other, pod := range s.podsOf {
			if labels.SelectorFromSet(service.Spec.Selector).Matches(labels.Set(pod.Labels)) != (name == other) {
				fault("Service %s selects pods of %s: %v", name, other, name != other)
			}
			if matches(budget.Spec.Selector, pod.Labels) != (name == other) {
				fault("PodDisruptionBudget %s selects pods of %s: %v", name, other, name != other)
			}
		}
	}
	if len(s.services) != len(s.podsOf) || len(s.budgets) != len(s.podsOf) {
		fault("%d kinds of pods, %d Services, %d PodDisruptionBudgets", len(s.podsOf), len(s.services), len(s.budgets))
	}
	return errs
}

func matches(selector *metav1.LabelSelector, of map[string]string) bool {
	s, err := metav1.LabelSelectorAsSelector(selector)
	return err == nil && s.Matches(labels.Set(of))
}

// portOf returns the number of a named port, 0 if the pod has none of that name.
func portOf(pod *corev1.PodTemplateSpec, name string) int32 {
	for _, c := range pod.Spec.Containers {
		for _, p := range c.Ports {
			if p.Name == name {
				return p.ContainerPort
			}
		}
	}
	return 0
}

// limit checks what each container is given, and that it has the time that its end takes.
func limit(s *set) (errs []error) {
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for name, pod := range s.podsOf {
		for _, c := range pod.Spec.Containers {
			for _, r := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
				if c.Resources.Requests[r] == c.Resources.Limits[r] || c.Resources.Requests.Name(r, "").IsZero() {
					fault("%s: %s: requests and limits, or one of them, are missing", name, r)
				}
			}
			if c.SecurityContext == nil || c.SecurityContext.ReadOnlyRootFilesystem == nil || !*c.SecurityContext.ReadOnlyRootFilesystem {
				fault("%s: its root file system can be written", name)
			}
		}
		if len(pod.Spec.TopologySpreadConstraints) == 0 {
			fault("%s: all of its pods may be on one node", name)
		}
	}
	const beyond = 6 * time.Second // docs/bridge.md#operating-it
	for _, name := range s.namesOfPrograms {
		pod, c := s.podsOf[name], s.container(name)
		environ := s.environ(name, name+"-0")
		var drain time.Duration
		for _, variable := range []string{"SHUTDOWN_DELAY_SECONDS", "SHUTDOWN_TIMEOUT_SECONDS"} {
			d, err := time.ParseDuration(environ[variable] + "s")
			if err != nil || d == 0 {
				fault("%s: %s=%q", name, variable, environ[variable])
			}
			drain += d
		}
		if grace := time.Duration(*pod.Spec.TerminationGracePeriodSeconds) * time.Second; grace < drain+beyond {
			fault("%s: it is killed after %v, and may take %v", name, grace, drain+beyond)
		}
		update := s.deployments[name].Spec.Strategy.RollingUpdate
		if update == nil || update.MaxUnavailable.IntValue() != 0 || update.MaxSurge.IntValue() != 1 {
			fault("%s: an update does not start a pod before it stops one", name)
		}
		if c.Lifecycle != nil {
			fault("%s: a hook delays SIGTERM, which SHUTDOWN_DELAY_SECONDS is for", name)
		}
	}
	return errs
}

// container returns the only container of a Deployment or StatefulSet.
func (s *set) container(name string) *corev1.Container { return &s.podsOf[name].Spec.Containers[0] }

// environ returns the variables that a pod of this name would have.
func (s *set) environ(of, pod string) map[string]string {
	out := map[string]string{}
	c := s.container(of)
	for _, from := range c.EnvFrom {
		if m := s.configMaps[from.ConfigMapRef.Name]; m != nil {
			maps.Copy(out, m.Data)
		}
	}
	for _, e := range c.Env {
		value := e.Value
		if e.ValueFrom != nil && e.ValueFrom.FieldRef != nil && e.ValueFrom.FieldRef.FieldPath == "metadata.name" {
			value = pod
		}
		for name, known := range out {
			value = strings.ReplaceAll(value, "$("+name+")", known)
		}
		out[e.Name] = value
	}
	return out
}
