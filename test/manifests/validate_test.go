package manifests

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/apis/apps"
	_ "k8s.io/kubernetes/pkg/apis/apps/install" // registers its types, versions and defaults
	"k8s.io/kubernetes/pkg/apis/core"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	"k8s.io/kubernetes/pkg/apis/networking"
	_ "k8s.io/kubernetes/pkg/apis/networking/install"
	"k8s.io/kubernetes/pkg/apis/policy"
	_ "k8s.io/kubernetes/pkg/apis/policy/install"
	"k8s.io/kubernetes/pkg/registry/apps/deployment"
	"k8s.io/kubernetes/pkg/registry/apps/statefulset"
	"k8s.io/kubernetes/pkg/registry/core/configmap"
	"k8s.io/kubernetes/pkg/registry/core/namespace"
	"k8s.io/kubernetes/pkg/registry/core/secret"
	"k8s.io/kubernetes/pkg/registry/core/service"
	"k8s.io/kubernetes/pkg/registry/core/serviceaccount"
	"k8s.io/kubernetes/pkg/registry/networking/networkpolicy"
	"k8s.io/kubernetes/pkg/registry/policy/poddisruptionbudget"
	"k8s.io/pod-security-admission/api"
	psapolicy "k8s.io/pod-security-admission/policy"
)

// validate has the API server's own strategies prepare and validate each object as they do before it is created. A
// warning is a fault too.
func validate(s *set) (errs []error) {
	for _, object := range s.all {
		internal, err := legacyscheme.Scheme.ConvertToVersion(object.DeepCopyObject(), runtime.InternalGroupVersioner)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		strategy, err := strategyOf(internal)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		accessor, err := meta.Accessor(internal)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		rest.FillObjectMetaSystemFields(accessor)
		if service, ok := internal.(*core.Service); ok && service.Spec.ClusterIP != "" { // as the server's storage does
			service.Spec.ClusterIPs = []string{service.Spec.ClusterIP}
		}
		ctx := genericapirequest.WithNamespace(context.Background(), accessor.GetNamespace())
		if err := rest.BeforeCreate(strategy, ctx, internal); err != nil {
			errs = append(errs, fmt.Errorf("%T %s: %w", object, accessor.GetName(), err))
			continue
		}
		for _, w := range strategy.WarningsOnCreate(ctx, internal) {
			errs = append(errs, fmt.Errorf("%T %s: warning: %s", object, accessor.GetName(), w))
		}
	}
	return errs
}

func strategyOf(internal runtime.Object) (rest.RESTCreateStrategy, error) {
	switch internal.(type) {
	case *core.Namespace:
		return namespace.Strategy, nil
	case *core.ConfigMap:
		return configmap.Strategy, nil
	case *core.Secret:
		return secret.Strategy, nil
	case *core.ServiceAccount:
		return serviceaccount.Strategy, nil
	case *core.Service:
		return service.Strategy, nil
	case *apps.Deployment:
		return deployment.Strategy, nil
	case *apps.StatefulSet:
		return statefulset.Strategy, nil
	case *policy.PodDisruptionBudget:
		return poddisruptionbudget.Strategy, nil
	case *networking.NetworkPolicy:
		return networkpolicy.Strategy, nil
	}
	return nil, fmt.Errorf("%T: the test knows no strategy for it", internal)
}

// secure has the policy of pod security that the namespace asks for judge each pod.
func secure(s *set) (errs []error) {
	if len(s.namespaces) != 1 {
		return []error{fmt.Errorf("%d namespaces, want one", len(s.namespaces))}
	}
	evaluator, err := psapolicy.NewEvaluator(psapolicy.DefaultChecks())
	if err != nil {
		return []error{err}
	}
	asked, invalid := api.PolicyToEvaluate(s.namespaces[0].Labels, api.Policy{})
	if len(invalid) > 0 || asked.Enforce.Level != api.LevelRestricted {
		errs = append(errs, fmt.Errorf("the namespace enforces %v; %v", asked.Enforce, invalid))
	}
	for name, pod := range s.podsOf {
		results := psapolicy.AggregateCheckResults(evaluator.EvaluatePod(asked.Enforce, &pod.ObjectMeta, &pod.Spec))
		if !results.Allowed {
			errs = append(errs, fmt.Errorf("pod %s is refused: %s", name, results.ForbiddenDetail()))
		}
	}
	return errs
}
