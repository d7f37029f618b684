// Package stack tests what deploy/Dockerfile and the compose files make: here what the files say, and with the build tag docker the
// stacks themselves, on a real Docker Engine, by docker-compose.
package stack
