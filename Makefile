# Bellwether. `make` prints what there is; every target has its line there.

SHELL    := /bin/sh
GO       ?= go
BIN      := bin
COMMIT   ?= $(shell git rev-parse --short=10 HEAD 2>/dev/null)
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
FUZZTIME ?= 20s
CHECKS   ?= 5000
TOOL     := $(GO) tool -modfile=internal/tools/go.mod

# Our Go files, and the directories of the tests that mention $(1), once each.
# test/agents is a module of its own and is left out of both.
GOFILES = $$(find . -name '*.go' -not -path './.git/*' -not -path './test/agents/*')
dirs_with = $$(grep -rl --include='*_test.go' -e '$(1)' cmd examples gitsource internal opampsrv reconciler rollout test/e2e | sed 's,/[^/]*$$,,' | sort -u)

.DEFAULT_GOAL := help
.PHONY: help build demo test race check fmt vet lint vuln fuzz prop rewrite bench e2e tidy clean

help: ## print this
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

build: ## build bin/bellwether, static
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION) -X main.builtFrom=$(COMMIT)" -o $(BIN)/bellwether ./cmd/bellwether

demo: build ## see a good commit pass and a bad one caught, with 60 simulated agents
	./$(BIN)/bellwether demo

test: ## run all tests with the race detector
	$(GO) test -race -timeout 15m ./...

race: test ## the same: tests never run without it

check: fmt vet lint test ## everything that must hold before a push
	$(GO) mod tidy -diff

fmt: ## list the files that gofmt would change
	@files=$$(gofmt -l $(GOFILES)) || exit 1; if [ -n "$$files" ]; then echo "run gofmt -w on:"; echo "$$files"; exit 1; fi

vet: ## go vet, the end-to-end tests included
	$(GO) vet ./...
	$(GO) vet -tags e2e ./test/e2e

lint: ## golangci-lint, built from internal/tools (minutes, the first time)
	$(TOOL) golangci-lint run ./...

vuln: ## govulncheck; asks vuln.go.dev
	$(TOOL) govulncheck ./...

fuzz: ## run each fuzz test for FUZZTIME (20s)
	@set -e; for dir in $(call dirs_with,^func Fuzz); do \
		for name in $$(cat $$dir/*_test.go | sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p'); do \
			echo "== $$dir $$name"; \
			$(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) "./$$dir"; \
		done; \
	done

prop: ## run the property tests with CHECKS (5000) cases each
	@set -e; for dir in $(call dirs_with,^[[:space:]]*"pgregory.net/rapid"); do \
		echo "== $$dir"; $(GO) test -count=1 -timeout 60m "./$$dir" -rapid.checks=$(CHECKS); \
	done

rewrite: ## write the expected output of scenario files anew; read the diff
	@set -e; for dir in $(call dirs_with,^[[:space:]]*"github.com/cockroachdb/datadriven"\|flag.Bool."rewrite"); do \
		echo "== $$dir"; $(GO) test -count=1 "./$$dir" -rewrite; \
	done

bench: ## run all benchmarks, one package after the other
	@set -e; for dir in $(call dirs_with,^func Benchmark); do \
		echo "== $$dir"; $(GO) test -run '^$$' -bench . -benchmem -timeout 30m "./$$dir"; \
	done

e2e: ## run real Supervisors and Collectors against serve (builds them once, minutes)
	sh test/agents/build.sh
	$(GO) test -tags e2e -race -count=1 -timeout 20m -v ./test/e2e

tidy: ## tidy go.mod and gofmt; not test/agents, which is pinned by hand
	$(GO) mod tidy
	gofmt -w $(GOFILES)

clean: ## remove what was built
	rm -rf $(BIN) test/agents/bin
