package manifests

import (
	"fmt"
	"maps"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
)

// party is a pod that may talk to others: one of ours, or one of another namespace.
type party struct {
	name            string
	labels          map[string]string
	namespaceLabels map[string]string
	ours            bool
}

// ways are all that must be possible between pods. Everything else is refused.
func ways() []string {
	return []string{
		"redis > redis 6379", "sentinel > redis 6379", "sentinel > sentinel 26379",
		"breakerd > redis 6379", "breakerd > sentinel 26379", "bridge > redis 6379", "bridge > sentinel 26379",
		"caller > breakerd 18180", "caller > bridge 8000",
		"bridge > agent 53", "bridge > agent 80", "bridge > agent 443", "bridge > agent 6379", "bridge > agent 8000",
		"bridge > agent 9000", "bridge > agent 18180", "bridge > agent 26379",
		"redis > dns 53", "sentinel > dns 53", "breakerd > dns 53", "bridge > dns 53", "guest > dns 53",
	}
}

// connect compares what the NetworkPolicies allow with ways.
func connect(s *set) (errs []error) {
	parties := s.parties()
	ports := []int32{53, 80, 443, 6379, 8000, 9000, 18180, 26379}
	want := map[string]bool{}
	for _, w := range ways() {
		want[w] = true
	}
	for _, from := range parties {
		for _, to := range parties {
			for _, port := range ports {
				if !from.ours && !to.ours {
					continue
				}
				way := fmt.Sprintf("%s > %s %d", from.name, to.name, port)
				open := (!from.ours || s.allows(networkingv1.PolicyTypeEgress, from, to, port)) &&
					(!to.ours || s.allows(networkingv1.PolicyTypeIngress, to, from, port))
				if open != want[way] {
					errs = append(errs, fmt.Errorf("%s: open %v, want %v", way, open, want[way]))
				}
			}
		}
	}
	for name, p := range s.policies {
		if p.Namespace != ourNamespace {
			errs = append(errs, fmt.Errorf("NetworkPolicy %s is in namespace %q", name, p.Namespace))
		}
	}
	return errs
}

// parties are one pod of each kind of ours, callers, agents, the name server, and one that nobody knows.
func (s *set) parties() []party {
	all := []party{
		{"caller", nil, map[string]string{"kubernetes.io/metadata.name": "shop", "breakerd-callers": "true"}, false},
		{"agent", nil, map[string]string{"kubernetes.io/metadata.name": "agents", "breakerd-agents": "true"}, false},
		{"dns", map[string]string{"k8s-app": "kube-dns"}, map[string]string{"kubernetes.io/metadata.name": "kube-system"}, false},
		{"stranger", map[string]string{"app.kubernetes.io/name": "redis"}, map[string]string{"kubernetes.io/metadata.name": "other"}, false},
	}
	for _, name := range slices.Sorted(maps.Keys(s.podsOf)) {
		all = append(all, party{name, s.podsOf[name].Labels, s.namespaces[0].Labels, true})
	}
	return append(all, party{"guest", nil, s.namespaces[0].Labels, true}) // a pod of ours that no policy knows
}

// allows reports whether the policies of one of our pods let it talk with a peer. For Ingress the port is the pod's, for
// Egress the peer's. Kubernetes lets a pod that no policy selects do everything. Of a pod that some select, each policy
// allows something more.
func (s *set) allows(way networkingv1.PolicyType, ours, peer party, port int32) bool {
	selected, allowed := false, false
	for _, p := range s.policies {
		if !matches(&p.Spec.PodSelector, ours.labels) || !slices.Contains(p.Spec.PolicyTypes, way) {
			continue
		}
		selected = true
		if way == networkingv1.PolicyTypeIngress {
			for _, r := range p.Spec.Ingress {
				allowed = allowed || s.covers(r.From, r.Ports, peer, ours, port)
			}
			continue
		}
		for _, r := range p.Spec.Egress {
			allowed = allowed || s.covers(r.To, r.Ports, peer, peer, port)
		}
	}
	return allowed || !selected
}

// covers reports whether a rule names the peer, and the port of the pod that owns it.
func (s *set) covers(peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort, peer, owner party, port int32) bool {
	named := len(peers) == 0
	for _, p := range peers {
		if p.IPBlock != nil {
			continue // of addresses outside of the cluster
		}
		namespace := peer.ours
		if p.NamespaceSelector != nil {
			namespace = matches(p.NamespaceSelector, peer.namespaceLabels)
		}
		named = named || namespace && (p.PodSelector == nil || matches(p.PodSelector, peer.labels))
	}
	open := len(ports) == 0
	for _, p := range ports {
		number := p.Port.IntVal
		if p.Port.StrVal != "" && s.podsOf[owner.name] != nil {
			number = portOf(s.podsOf[owner.name], p.Port.StrVal)
		}
		open = open || number == port
	}
	return named && open
}
