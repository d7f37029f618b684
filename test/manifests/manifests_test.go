package manifests

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
)

const (
	root     = "../.."
	examples = "examples/secrets.yaml"
)

// set is all that is applied to the namespace, by kind and name, with the defaults of the API server.
type set struct {
	namespaces      []*corev1.Namespace
	configMaps      map[string]*corev1.ConfigMap
	secrets         map[string]*corev1.Secret
	accounts        map[string]*corev1.ServiceAccount
	services        map[string]*corev1.Service
	budgets         map[string]*policyv1.PodDisruptionBudget
	policies        map[string]*networkingv1.NetworkPolicy
	deployments     map[string]*appsv1.Deployment
	statefulSets    map[string]*appsv1.StatefulSet
	all             []runtime.Object
	podsOf          map[string]*corev1.PodTemplateSpec // of each Deployment and StatefulSet
	namesOfPrograms []string                           // the Deployments, sorted
}

// texts reads the manifests, by their paths below deploy/kubernetes, the examples of Secrets too.
func texts(t *testing.T) map[string]string {
	t.Helper()
	dir := filepath.Join(root, "deploy/kubernetes")
	found := map[string]string{}
	paths, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil || len(paths) < 6 {
		t.Fatalf("manifests %q, %v", paths, err)
	}
	for _, path := range append(paths, filepath.Join(dir, examples)) {
		text, err := os.ReadFile(path)
		name, relErr := filepath.Rel(dir, path)
		if err := errors.Join(err, relErr); err != nil {
			t.Fatal(err)
		}
		found[name] = string(text)
	}
	return found
}

// parse decodes manifests strictly: an unknown field, or one that is given twice, is an error.
func parse(texts map[string]string) (*set, error) {
	s := &set{
		configMaps: map[string]*corev1.ConfigMap{}, secrets: map[string]*corev1.Secret{}, accounts: map[string]*corev1.ServiceAccount{},
		services: map[string]*corev1.Service{}, budgets: map[string]*policyv1.PodDisruptionBudget{},
		policies: map[string]*networkingv1.NetworkPolicy{}, deployments: map[string]*appsv1.Deployment{},
		statefulSets: map[string]*appsv1.StatefulSet{}, podsOf: map[string]*corev1.PodTemplateSpec{},
	}
	decoder := json.NewSerializerWithOptions(json.DefaultMetaFactory, legacyscheme.Scheme, legacyscheme.Scheme,
		json.SerializerOptions{Yaml: true, Strict: true})
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		documents := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader([]byte(texts[name]))))
		for {
			text, err := documents.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			object, _, err := decoder.Decode(text, nil, nil)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			legacyscheme.Scheme.Default(object)
			if err := s.add(object); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	s.namesOfPrograms = slices.Sorted(maps.Keys(s.deployments))
	return s, nil
}

func (s *set) add(object runtime.Object) error {
	s.all = append(s.all, object)
	switch o := object.(type) {
	case *corev1.Namespace:
		s.namespaces = append(s.namespaces, o)
		return nil
	case *corev1.ConfigMap:
		return put(s.configMaps, o.Name, o)
	case *corev1.Secret:
		return put(s.secrets, o.Name, o)
	case *corev1.ServiceAccount:
		return put(s.accounts, o.Name, o)
	case *corev1.Service:
		return put(s.services, o.Name, o)
	case *policyv1.PodDisruptionBudget:
		return put(s.budgets, o.Name, o)
	case *networkingv1.NetworkPolicy:
		return put(s.policies, o.Name, o)
	case *appsv1.Deployment:
		return errors.Join(put(s.deployments, o.Name, o), put(s.podsOf, o.Name, &o.Spec.Template))
	case *appsv1.StatefulSet:
		return errors.Join(put(s.statefulSets, o.Name, o), put(s.podsOf, o.Name, &o.Spec.Template))
	default:
		return fmt.Errorf("%T is not expected", object)
	}
}

func put[T any](of map[string]T, name string, object T) error {
	if _, twice := of[name]; twice {
		return fmt.Errorf("%T %s is there twice", object, name)
	}
	of[name] = object
	return nil
}

// faults returns what is wrong with manifests.
func faults(texts map[string]string) []error {
	s, err := parse(texts)
	if err != nil {
		return []error{err}
	}
	var errs []error
	for _, check := range []func(*set) []error{validate, secure, refer, limit, configure, probe, connect} {
		errs = append(errs, check(s)...)
	}
	return errs
}

func TestManifests_AreWithoutFault(t *testing.T) {
	t.Parallel()
	for _, err := range faults(texts(t)) {
		t.Error(err)
	}
}
