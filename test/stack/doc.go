// Package stack tests deploy/Dockerfile and the compose files: their text, and with the build tag docker the stacks
// that they make, by docker-compose on a real Docker Engine.
package stack
