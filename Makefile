# make help lists the targets. `make test` proves everything that a machine with Go and make can prove; nothing is skipped.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help build run tools test stack lint mutate bench bench-smoke soak fuzz clean

GOLANGCI_VERSION := 2.15.0
GOLANGCI := bin/tools/golangci-lint-$(GOLANGCI_VERSION)
NEEDED := redis-server redis-cli jq curl openssl cc unshare nsenter ip chromium nginx
STACK_NEEDED := docker docker-compose curl redis-cli jq openssl
FUZZTIME ?= 30s
SOAK ?= 10m
BENCHTIME ?= 1s
HISTORIES := ^TestHistories

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "  %-11s %s\n", $$1, $$2 }'

# The version comes from the tag or commit that Go itself writes into a binary.
build: ## static binaries of all programs in bin/
	@mkdir -p bin
	CGO_ENABLED=0 go build -trimpath -o bin/ ./cmd/...

run: build ## build and start breakerd with its defaults
	bin/breakerd

tools: $(GOLANGCI) ## install what the tests and the linters need
	tools/need $(NEEDED) $(STACK_NEEDED)

# The histories run by themselves, once: with a profile of the machine, from which branchcount shows that they reach every
# branch, and without the race detector, for one goroutine drives each engine. Everything runs, whatever failed before, so that go test's summary is the end of the output.
test: ## vet, all tests with the race detector, branch counts of the histories
	@tools/need $(NEEDED)
	@mkdir -p bin && rm -f bin/histories.out
	@export CGO_ENABLED=1; failed=0; run() { echo "$$*"; "$$@" || failed=1; }; \
	run go vet ./...; \
	run go vet -tags mutate ./pkg/redisstore; \
	run go vet -tags docker ./test/stack ./test/docs; \
	run go -C bench vet ./...; \
	run go test -timeout 10m -covermode=atomic -coverpkg=./pkg/breaker/machine -coverprofile=bin/histories.out \
		-run '$(HISTORIES)' ./pkg/redisstore; \
	run go run ./test/branchcount bin/histories.out; \
	run go test -race -count 1 -timeout 10m -skip '$(HISTORIES)' ./...; \
	exit $$failed

stack: ## the compose stacks on a real Docker Engine, with images from Debian packages
	@tools/need $(STACK_NEEDED)
	go test -tags docker -count 1 -timeout 10m ./test/stack
	go test -tags docker -count 1 -timeout 10m -run '^TestDocker' ./test/docs

lint: $(GOLANGCI) ## golangci-lint, and shellcheck where it is installed
	$(GOLANGCI) run ./...
	cd bench && ../$(GOLANGCI) run ./...
	@if command -v shellcheck >/dev/null; then shellcheck tools/need .ci/run deploy/offline/build deploy/offline/entrypoint deploy/redis/* deploy/tls/*; else echo 'shellcheck is not installed: scripts not checked'; fi

$(GOLANGCI):
	@mkdir -p $(@D)
	@have="$$(go env GOPATH)/bin/golangci-lint"; \
	if [ -x "$$have" ] && "$$have" version --short 2>/dev/null | grep -qx '$(GOLANGCI_VERSION)'; then \
		cp "$$have" $@; \
	else \
		GOBIN='$(CURDIR)/$(@D)' go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v$(GOLANGCI_VERSION) && \
		mv $(@D)/golangci-lint $@; \
	fi

mutate: ## one small fault at a time in the scripts: the suite must notice each (a few minutes)
	@tools/need redis-server
	go test -tags mutate -run '^TestEveryMutantIsKilled$$' -v -count 1 -timeout 90m ./pkg/redisstore

bench: ## us and our peers in turns, in one run (10 minutes of a quiet machine); writes docs/performance.md and its plot
	@tools/need redis-server wrk
	go -C bench run . -write ../docs/performance.md

bench-smoke: ## all of bench in a few seconds: does it run, and does Redis count every call?
	@tools/need redis-server wrk
	go -C bench test -count 1 -timeout 5m ./...
	go -C bench run . -smoke

soak: ## a fleet at work for SOAK (10m), Redis killed on the way: nothing grows, and every count is right
	@tools/need redis-server
	go -C bench test -count 1 -timeout 0 -v -run '^TestSoak$$' . -soak $(SOAK)

fuzz: ## every fuzz target for FUZZTIME (30s)
	@tools/need redis-server
	@set -e; for p in $$(go list ./...); do \
		for f in $$(go test -list '^Fuzz' "$$p" | grep '^Fuzz' || :); do \
			echo "$$p $$f"; go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) "$$p"; \
		done; \
	done

clean: ## remove what make made
	rm -rf bin
