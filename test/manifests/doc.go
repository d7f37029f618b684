// Package manifests tests deploy/kubernetes: the API server's own validation, what the manifests refer to, and the
// programs with what the manifests give them. It is a module of its own, for Kubernetes requires a hundred others.
package manifests
