# make help lists the targets. Everything that is made lies in .tools and examples/*/tinybert,
# which git ignores.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

GO ?= go
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

# Time of each fuzz target in make test, for example 60s; empty leaves fuzzing out.
FUZZTIME ?=
# Flags for go test, for example -short or -run Variants.
TESTFLAGS ?=

TOOLS := $(CURDIR)/.tools
LOG := $(TOOLS)/log
BERTC := $(TOOLS)/bin/bertc
PLATFORMS := linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64
# NVIDIA's assembler and disassembler, from PyPI; they need no GPU. ptxas 13.0 takes the PTX that driver 580 takes.
CUDA_WHEELS := nvidia-cuda-nvcc==13.0.88 nvidia-cuda-nvdisasm==13.2.51 nvidia-cuda-runtime==13.0.96
# The packages that have files behind the build tag cuda, and the programs of it.
CUDA := ./runtime/cuda ./internal/pipeline ./cmd/bertc
EXAMPLES := fillmask encode classify answer embedserver

export PATH := $(TOOLS)/bin:$(PATH)

# Prints the packages and failed tests of a "go test -v" log.
define show_tests
/^# / { compiling = 1; print; next }
compiling && /^[^ ]+:[0-9]+:/ { print; next }
{ compiling = 0 }
/^=== RUN   [^\/]*$$/ { text = "" }
/^FAIL\t/ && crashed { printf "%s", text }
/^(ok  |FAIL)\t/ { print; text = ""; crashed = 0; next }
/^\?   \t/ { next }
{ text = text $$0 "\n" }
/^--- FAIL/ { printf "%s", text; text = "" }
/^(panic:|fatal error:)/ { crashed = 1 }
endef
export show_tests

# Counts results in "go test -v" logs and names what was skipped.
define count_tests
/^=== (RUN|CONT|NAME) / { running = $$3 }
/^ +[a-z0-9_]+\.go:[0-9]+: / { said[running] = $$0; sub(/^ +/, "", said[running]) }
/^ *--- PASS/ { pass++ }
/^ *--- FAIL/ || /^FAIL\t.*\[/ { fail++ }
/^ *--- SKIP/ { skip++; print "skipped " $$3 ": " said[$$3] }
END { printf "%d passed, %d failed, %d skipped\n", pass, fail, skip }
endef
export count_tests

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile
	@echo "FUZZTIME=60s make test fuzzes each target for a minute, as CI does."

.PHONY: demo
demo: ## compile the model that ships with bertc and fill masks with it
	@$(GO) run ./cmd/bertc demo

.PHONY: test
test: ## install what the tests need, then lint, test, cross-check and run the examples
	@rm -rf $(LOG)
	@$(MAKE) deps
	@status=0; for t in lint unit cross examples; do $(MAKE) $$t || status=1; done; \
	if [ -n "$(FUZZTIME)" ]; then $(MAKE) fuzz || status=1; else echo "fuzzing was left out (FUZZTIME=60s make test)"; fi; \
	$(MAKE) summary || status=1; exit $$status

.PHONY: deps
deps: ## install Debian packages (as root), ptxas and Go modules
	@need=""; \
	for pair in as:binutils objcopy:binutils aarch64-linux-gnu-as:binutils-aarch64-linux-gnu \
		qemu-aarch64:qemu-user llvm-mca-19:llvm-19 python3:python3 pip3:python3-pip \
		gcc:gcc gcc:libc6-dev; do \
		command -v $${pair%:*} > /dev/null || need="$$need $${pair#*:}"; \
	done; \
	need=$$(printf '%s\n' $$need | sort -u | tr '\n' ' '); \
	if [ -z "$${need// }" ]; then echo "Debian packages: all there"; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
		echo "Debian packages: installing $$need"; mkdir -p $(LOG); \
		apt-get update > $(LOG)/apt.txt 2>&1 < /dev/null || tail -5 $(LOG)/apt.txt; \
		for p in $$need; do \
			DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $$p >> $(LOG)/apt.txt 2>&1 < /dev/null \
				|| { tail -2 $(LOG)/apt.txt; echo "not installed: tests that need $$p are skipped"; }; \
		done; \
	else echo "not there, and not installed without apt-get and root: $$need(tests that need them are skipped)"; fi
	@$(MAKE) ptxas
	@$(GO) mod download

.PHONY: ptxas
ptxas: ## install ptxas, nvdisasm and cuda.h (Linux on x86-64, 48 MB)
	@if [ -x $(TOOLS)/bin/ptxas ]; then echo "ptxas: there"; \
	elif mkdir -p $(LOG) $(TOOLS)/bin && rm -rf $(TOOLS)/cuda && python3 -m pip install --no-deps --target $(TOOLS)/cuda $(CUDA_WHEELS) > $(LOG)/pip.txt 2>&1 < /dev/null; then \
		ln -sf $(TOOLS)/cuda/nvidia/cu13/bin/ptxas $(TOOLS)/cuda/nvidia/cu13/bin/nvdisasm $(TOOLS)/bin/; echo "ptxas: installed $(CUDA_WHEELS)"; \
	else tail -2 $(LOG)/pip.txt; echo "not installed: tests that need ptxas are skipped"; fi

.PHONY: lint
lint: ## gofmt, go vet and staticcheck
	@out=$$(gofmt -l $$(find . -name '*.go' -not -path './.*')); if [ -n "$$out" ]; then echo "not formatted by gofmt:"; echo "$$out"; exit 1; fi
	@diff <(sed -n '/^package main/,$$p' examples/fillmask/main.go) <(awk '/^```go/ { on = 1; next } /^```/ { on = 0 } on' README.md) \
		|| { echo "README.md does not quote examples/fillmask/main.go as it is"; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	@if command -v gcc > /dev/null; then \
		$(GO) vet -tags cuda ./... && $(GO) run $(STATICCHECK) -tags cuda $(CUDA) && $(GO) build -tags cuda -o /dev/null ./cmd/bertc && \
		echo "vet, staticcheck and build with the tag cuda: ok"; \
	else echo "the tag cuda was left out: there is no gcc"; fi

.PHONY: unit
unit: ## all tests of this module
	@mkdir -p $(LOG)
	$(GO) test -v -timeout 30m $(TESTFLAGS) ./... 2>&1 | tee $(LOG)/unit.txt | awk "$$show_tests"

.PHONY: long
long: ## the conformance suite of the kernels with more plans and row counts, and 10,000 calls under load
	@mkdir -p $(LOG)
	$(GO) test -v -timeout 2h ./codegen/... ./internal/pipeline -long 2>&1 | tee $(LOG)/long.txt | awk "$$show_tests"
	@$(MAKE) summary

.PHONY: race
race: ## tests of the concurrent packages under the race detector (needs a C compiler)
	$(GO) test -race ./runtime ./tokenizer/... ./checkpoint

$(BERTC): FORCE
	@mkdir -p $(@D)
	@$(GO) build -buildvcs=auto -o $@ ./cmd/bertc
FORCE:

.PHONY: cross
cross: $(BERTC) ## test a generated package here, and vet and build it for every platform
	@mkdir -p $(LOG)
	@rm -rf $(TOOLS)/cross && mkdir -p $(TOOLS)/cross && printf 'module example.com/cross\n\ngo 1.24\n' > $(TOOLS)/cross/go.mod
	@$(BERTC) compile --model models/tiny --out $(TOOLS)/cross/tinybert
	@cd $(TOOLS)/cross/tinybert && status=0; \
	$(GO) test -v ./... 2>&1 | tee $(LOG)/generated.txt | awk "$$show_tests" || status=1; \
	$(GO) run $(STATICCHECK) ./... && echo "staticcheck of the generated package: ok" || status=1; \
	for p in $(PLATFORMS); do \
		export CGO_ENABLED=0 GOOS=$${p%/*} GOARCH=$${p#*/}; \
		if $(GO) vet ./... && $(GO) build ./...; then echo "vet and build of the generated package for $$p: ok"; \
		else echo "the generated package fails on $$p"; status=1; fi; \
	done; exit $$status
	@$(BERTC) compile --model models/tiny --dtype bf16 --targets ptx --out $(TOOLS)/cross/tinygpu
	@cd $(TOOLS)/cross/tinygpu && $(GO) vet ./... && $(GO) run $(STATICCHECK) ./... && \
	if command -v gcc > /dev/null; then $(GO) vet -tags cuda ./... && $(GO) run $(STATICCHECK) -tags cuda ./...; fi && \
	echo "vet and staticcheck of the generated package for the GPU: ok"

.PHONY: examples
examples: $(BERTC) ## generate, vet and run the examples
	@set -e; for e in $(EXAMPLES); do \
		(cd examples/$$e && PATH="$(TOOLS)/bin:$$PATH" $(GO) generate && $(GO) vet ./... && $(GO) build -o $(TOOLS)/bin/example-$$e .); \
	done
	@cd examples/fillmask && out=$$($(TOOLS)/bin/example-fillmask '昨日は<MASK|LLM-jp>が降りました。') && echo "$$out" && grep -q 雨 <<< "$$out"
	@cd examples/encode && $(TOOLS)/bin/example-encode '昨日は雨が降りました。' '今日は雪が降ります。' '彼女は歌が上手だ。'
	@cd examples/classify && printf 'この映画はとても面白い。\n' | $(TOOLS)/bin/example-classify
	@cd examples/answer && $(TOOLS)/bin/example-answer 'どこですか？' ../README.md
	@cd examples/embedserver && $(GO) test ./...

.PHONY: h100
h100: ## one program that checks and times the kernels on a machine with an H100 (needs gcc, there the driver alone)
	@mkdir -p $(TOOLS)/bin
	CGO_ENABLED=1 GOOS=linux $(GO) build -buildvcs=auto -trimpath -tags cuda -o $(TOOLS)/bin/bertc-h100 ./cmd/bertc
	@echo "copy $(TOOLS)/bin/bertc-h100 to the machine and run: bertc-h100 ptx check --json ours.json (docs/h100.md)"

.PHONY: fuzz
fuzz: ## fuzz every target for FUZZTIME (default 60s)
# Go 1.26 may report the end of -fuzztime as a failure, without an input (go.dev/issue/75804).
	@mkdir -p $(LOG)/fuzz; rm -f $(LOG)/fuzz/*
	@grep -r --include='*_test.go' '^func Fuzz' . | sed -E 's|^(.*)/[^/]*:func (Fuzz[A-Za-z0-9_]*).*|\1 \2|' | sort | \
	xargs -P 2 -L 1 bash -c ' \
		log=$(LOG)/fuzz/$$(tr / . <<< "$${0#./}").$$1.txt; \
		if $(GO) test -run "^$$" -fuzz "^$$1$$" -fuzztime $(or $(FUZZTIME),60s) -fuzzminimizetime 20x -parallel 1 $$0 > $$log 2>&1; \
		then echo "fuzz $$0 $$1: $$(grep "^fuzz: " $$log | tail -1 | cut -d" " -f2-)"; \
		elif grep -qx "    context deadline exceeded" $$log && ! grep -q "Failing input written" $$log; \
		then echo "fuzz $$0 $$1: $$(grep "^fuzz: " $$log | tail -1 | cut -d" " -f2-), ended by its time (go.dev/issue/75804)"; \
		else echo "fuzz $$0 $$1: FAILED"; tail -40 $$log; \
			for f in $$(git ls-files -o --exclude-standard "$$0/testdata/fuzz/$$1"); do echo "$$f:"; head -c 2000 $$f; done; exit 1; fi'

.PHONY: bench
bench: ## benchmarks of this module and of a generated package of the tiny model
	$(GO) test -run '^$$' -bench . ./...
	@$(MAKE) $(BERTC)
	@$(BERTC) compile --model models/tiny --out $(TOOLS)/bench/tinybert
	cd $(TOOLS)/bench/tinybert && $(GO) test -run '^$$' -bench .

.PHONY: golden
golden: ## rewrite the expected results in text tests and the generated documents
	$(GO) test $$(grep -rl --include='*_test.go' bertc/internal/filetest . | xargs -n 1 dirname | sort -u) -update

.PHONY: summary
summary: ## counts and skipped tests of the last run
	@awk "$$count_tests" $$(ls $(LOG)/*.txt | grep -v apt.txt)

.PHONY: clean
clean: ## remove what make made
	rm -rf $(LOG) $(TOOLS)/bin $(TOOLS)/cross $(TOOLS)/bench $(addprefix examples/,$(addsuffix /tinybert,$(EXAMPLES)))
