# make help lists the targets. `make quick` is the loop while you edit, `make test` proves all that needs no Docker, `.ci/run` runs
# the legs that a change must pass, `make nightly` runs everything.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help build run tools quick page page-all test vet contrib commands race histories faults faults-choice stack swarm lint mutate mutate-changed bench bench-smoke soak fuzz manifests nightly clean stack-page boards slow

GOLANGCI_VERSION := 2.15.0
GOLANGCI := bin/tools/golangci-lint-$(GOLANGCI_VERSION)
NEEDED := redis-server redis-cli jq tmux curl openssl cc script unshare nsenter ip chromium nginx haproxy caddy systemctl logrotate prometheus promtool prometheus-alertmanager amtool py:requests py:httpx py:h2
STACK_NEEDED := docker docker-compose curl redis-cli jq openssl
SWARM_NEEDED := docker dockerd docker-compose fuse-overlayfs nsenter ip
MANIFESTS_NEEDED := redis-server redis-cli curl unshare nsenter setpriv ip
PAGE_NEEDED := chromium firefox tsc redis-server
FUZZTIME ?= 30s
SOAK ?= 10m
BENCHTIME ?= 1s
SCRIPTS := ^Test(Histories|Transcripts)
BIN ?= bin
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null)

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "  %-15s %s\n", $$1, $$2 }'

build: ## static binaries of all programs in bin/
	@mkdir -p $(BIN)
	CGO_ENABLED=0 go build -trimpath -ldflags '-X github.com/breakerd/breakerd/internal/daemon.version=$(VERSION)' -o $(BIN)/ ./cmd/...

run: build ## build and start breakerd with its defaults
	$(BIN)/breakerd

tools: ## install what the tests need; make lint builds its linter itself
	tools/need $(NEEDED) $(PAGE_NEEDED)

quick: vet ## the loop while you edit, in a minute: vet, and all tests but those of test/, with 200 histories
	go test -short ./pkg/... ./internal/... ./lua/... ./test/branchcount ./test/clauses

# Every leg runs, whatever failed before it, so that go test's summary is the end of the output.
test: ## all that needs no Docker: vet, 10,000 histories and their branch counts, every test under the race detector
	@tools/need $(NEEDED) $(PAGE_NEEDED)
	@failed=0; for leg in vet histories faults-choice contrib page commands race; do $(MAKE) --no-print-directory $$leg || failed=1; done; exit $$failed

vet:
	go vet -tags docker,swarm,mutate,nightly ./...
	go -C bench vet ./...
	go -C contrib/grpc vet ./...
	go -C contrib/otel vet ./...
	go -C test/page vet ./...

# The histories and transcripts run without the race detector, for one goroutine drives an engine. Their profile of the machine shows
# that the histories reach every branch.
histories:
	@mkdir -p bin && rm -f bin/histories.out
	go test -timeout 10m -covermode=atomic -coverpkg=./pkg/breaker/machine -coverprofile=bin/histories.out \
		-run '^TestHistories' ./pkg/redisstore
	go run ./test/branchcount bin/histories.out
	go test -run '^TestTranscripts' ./pkg/redisstore

# Modules of their own, which no ./... of this one reaches.
contrib: export CGO_ENABLED := 1
contrib:
	go -C contrib/grpc test -race -count 1 -timeout 5m ./...
	go -C contrib/otel test -race -count 1 -timeout 5m ./...

# These start processes, and type-check all of the module: the race detector would find nothing, and make them three times as slow.
COMMANDS := internal/ctl test/docs test/exported test/monitoring
commands:
	go test -count 1 -timeout 8m -p 4 $(COMMANDS:%=./%)

# The longest ones, which mostly wait, begin first.
race: export CGO_ENABLED := 1
race:
	go test -race -count 1 -timeout 15m -skip '$(SCRIPTS)' \
		$$(go list ./... | grep -v -e '/test/faults$$' $(COMMANDS:%=-e '/%$$') | sort -t / -k 4,4r)

# The page in Chromium and Firefox, its scripts by their types. What fills both cores, or is looked at, is in page-all.
page:
	@tools/need $(PAGE_NEEDED)
	tsc -p internal/ui
	go -C test/page test -short -parallel 2 -count 1 -timeout 8m -skip '^Test(Scale|Screens)' ./...

page-all: ## the page with 10,000 agents, watched for ten minutes; pictures of each screen in bin/page
	@tools/need $(PAGE_NEEDED)
	tsc -p internal/ui
	go -C test/page test -count 1 -timeout 30m -v ./... -watched 10m

# Faults measure time, so nothing else runs meanwhile.
faults: ## every fault of Redis and of the way to it, under load (six minutes)
	@tools/need redis-server
	go test -count 1 -timeout 30m -v ./test/faults -all

faults-choice: # a choice of them, in a minute
	@tools/need redis-server
	go test -count 1 -timeout 5m ./test/faults

stack: ## the compose stacks on a real Docker Engine, with images from Debian packages
	@tools/need $(STACK_NEEDED)
	go test -tags docker -count 1 -timeout 15m ./test/stack

stack-page: ## the commands of docs/deploy-compose.md, likewise
	@tools/need $(STACK_NEEDED)
	go test -tags docker -count 1 -timeout 10m -run '^TestDocker' ./test/docs

swarm: ## the stack for Docker Swarm, on an engine of its own beside the one at hand (eight minutes; as root)
	@tools/need $(SWARM_NEEDED)
	go test -tags docker,swarm -count 1 -timeout 20m -v -run '^TestSwarm_Updates' ./test/stack

lint: $(GOLANGCI) ## golangci-lint and shellcheck
	$(GOLANGCI) run ./...
	cd bench && ../$(GOLANGCI) run ./...
	cd contrib/grpc && ../../$(GOLANGCI) run ./...
	cd contrib/otel && ../../$(GOLANGCI) run ./...
	cd test/page && ../../$(GOLANGCI) run ./...
	@tools/need shellcheck
	shellcheck tools/* .ci/run deploy/backup/backup deploy/backup/restore-drill deploy/offline/build deploy/offline/entrypoint deploy/redis/* deploy/swarm/deploy \
		deploy/swarm/rotate-redis-password deploy/tls/* test/manifests/testdata/node test/manifests/testdata/pod

$(GOLANGCI):
	@mkdir -p $(@D)
	@have="$$(go env GOPATH)/bin/golangci-lint"; \
	if [ -x "$$have" ] && "$$have" version --short 2>/dev/null | grep -qx '$(GOLANGCI_VERSION)'; then \
		cp "$$have" $@; \
	else \
		GOBIN='$(CURDIR)/$(@D)' go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v$(GOLANGCI_VERSION) && \
		mv $(@D)/golangci-lint $@; \
	fi

# Modules of their own again, whose dependencies take minutes to compile.
manifests: $(GOLANGCI) ## what is deployed elsewhere, against the APIs that it is for; the pods of Kubernetes, in namespaces (as root)
	@tools/need $(MANIFESTS_NEEDED)
	go -C test/envoy test -count 1 -timeout 5m ./...
	cd test/envoy && ../../$(GOLANGCI) run ./...
	go -C test/manifests test -count 1 -timeout 10m ./...
	cd test/manifests && ../../$(GOLANGCI) run ./...

MUTATE := go test -tags mutate -run '^TestEveryMutantIsKilled$$' -v -count 1 -timeout 90m ./pkg/redisstore

mutate: ## one small fault at a time in the scripts: the suite must notice each (five minutes)
	@tools/need redis-server
	$(MUTATE)

mutate-changed: ## the same for the scripts that changed since all of their mutants were killed
	@tools/need redis-server
	MUTATE_CHANGED=1 $(MUTATE)

bench: ## breakerd and its peers in turns, in one run (10 minutes of a quiet machine); writes docs/performance.md and its plot
	@tools/need redis-server wrk
	go -C bench run . -write ../docs/performance.md

bench-smoke: ## all of bench in a few seconds: does it run, and does Redis count every call?
	@tools/need redis-server wrk
	go -C bench test -count 1 -timeout 5m ./...
	go -C bench run . -smoke

soak: ## a fleet at work for SOAK (10m), Redis killed once: nothing grows, and every count is right
	@tools/need redis-server
	go -C bench test -count 1 -timeout 0 -v -run '^TestSoak$$' . -soak $(SOAK)

fuzz: ## every fuzz target for FUZZTIME (30s)
	@tools/need redis-server
	@set -e; for p in $$(go list ./...); do \
		for f in $$(go test -list '^Fuzz' "$$p" | grep '^Fuzz' || :); do \
			echo "$$p $$f"; go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) "$$p"; \
		done; \
	done

boards: ## write the boards of Grafana anew; fails if they have changed
	go -C deploy/monitoring/grafana vet ./...
	go -C deploy/monitoring/grafana run .
	git diff --exit-code deploy/monitoring/grafana/dashboards

# What keeps both cores of a machine busy for a minute: a build of the version before, and a bridge at the limit of its memory.
slow: export CGO_ENABLED := 1
slow: ## two versions on one Redis, systemd itself, proxies, and the attacks on a bridge's memory
	@tools/need $(NEEDED)
	go test -race -tags nightly -count 1 -timeout 10m -run '^Test(Upgrade|Memory|Systemd_Runs|Proxies)' ./test/e2e

nightly: ## everything: each leg of .ci/run, all mutants and faults, every fuzz target for ten minutes, an hour's soak
	@failed=0; for leg in lint mutate stack stack-page swarm boards bench-smoke manifests test page-all slow faults; do $(MAKE) --no-print-directory $$leg || failed=1; done; \
	$(MAKE) --no-print-directory fuzz FUZZTIME=10m || failed=1; \
	$(MAKE) --no-print-directory soak SOAK=1h || failed=1; exit $$failed

clean: ## remove what make made
	rm -rf bin
