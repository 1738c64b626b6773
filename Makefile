# Systole. `make demo` first; `make test` is the one test command.

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
TOOLS   := go tool -modfile=.ci/tools.mod

.PHONY: build demo test test-deps bench instructions failover soak generate lint deb clean
.DEFAULT_GOAL := build

build: ## the one static binary, build/systole
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o build/systole ./cmd/systole

demo: build ## watch a pair of directors at work (root)
	./build/systole demo $(ARGS)

# Packages whose tests need the machine to themselves (they measure time) run
# after the others, one at a time.
ALONE := cmd/systole/demo test/e2e test/interop test/failover test/chaos test/bench test/vm
test: test-deps build ## everything; as root, on Debian, nothing else is needed
	go vet ./...
	go test $$(go list ./... | grep -v $(ALONE:%=-e '^systole/%'))
	go test -count=1 -p 1 -timeout 10m $(ALONE:%=./%/...)

test-deps: ## install, or name, what the tests need besides Go
	@sh test/deps.sh
	@sh test/vm/fetch.sh

# For people on the terminal; build/bench.json for machines, build/bench.txt for
# benchstat, the plots of the README in docs.
bench: ## what a packet, a configuration and the wire cost, in three minutes (root)
	@mkdir -p build
	go build -o build/bench ./test/bench
	./build/bench -json build/bench.json -go build/bench.txt -svg docs $(ARGS)

instructions: test-deps ## take what a packet costs now, in instructions, for what it may cost
	go test -count=1 ./test/vm -run 'TestInstructions$$' -v -update

failover: ## what a client loses, beside keepalived and heartbeat (root; RUNS=10)
	go test -count=1 -timeout 2h ./test/failover -run '^$$' -bench . -benchtime $(or $(RUNS),10)x

# What takes too long for every change; Ctrl-C stops it with what was found.
SOAK_FUZZ ?= 10m
SOAK_LAB  ?= 10m
soak: build ## fuzz every decoder for SOAK_FUZZ, long simulations, and the lab for SOAK_LAB each (root)
	go run ./test/soak -fuzz $(SOAK_FUZZ) -lab $(SOAK_LAB) $(ARGS)

generate: ## rebuild the committed BPF object (clang-19, llvm-19, libbpf-dev)
	go generate ./...

lint: ## gofmt, vet, staticcheck
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -d $$(git ls-files '*.go'); exit 1; }
	go vet ./...
	$(TOOLS) staticcheck ./...

deb: build ## build/systole_*.deb
	sh deploy/deb.sh build/systole '$(VERSION)'

clean:
	rm -rf build
