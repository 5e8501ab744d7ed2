# Everything is installed into .venv and written to build/. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help quickstart lab notebooks book test parity verify-numbers crosscheck records soak slurm lint fmt bench compile-times microbench

SETUP := internal/setup/setup.sh
# The settings that set-up wrote (the backend, where ECharts is), or GoMLX's backend in pure Go.
ENV := if [ -f .venv/carso-env ]; then . .venv/carso-env; else export GOMLX_BACKEND="$${GOMLX_BACKEND:-go}" GOMLX_NO_AUTO_INSTALL=1; fi;
RUN_NOTEBOOKS := .venv/bin/python internal/setup/run_notebooks.py
PYTORCH := [ -x build/bench-venv/bin/python ] || python3 -m venv build/bench-venv; \
	build/bench-venv/bin/python -c 'import torch, numpy, PIL' 2>/dev/null || build/bench-venv/bin/pip install --quiet torch numpy pillow
TEST_TIMEOUT ?= 20m
PKG ?= ./...

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

quickstart: ## set up, build the command carso, run the first notebook and make a page of it
	@$(SETUP) notebooks
	@$(ENV) go build -o .venv/bin/carso ./cmd/carso
	@$(RUN_NOTEBOOKS) --html --out build/quickstart notebooks/01-quickstart.ipynb
	@echo
	@echo "The page to read:       build/quickstart/01-quickstart.html"
	@echo "The executed notebook:  build/quickstart/01-quickstart.ipynb"
	@echo "Next:                   make lab, or .venv/bin/carso help"

lab: ## set up and open JupyterLab
	@$(SETUP) notebooks
	@$(ENV) .venv/bin/python -m jupyterlab

notebooks: ## run every notebook at its smallest scale
	@$(SETUP) notebooks
	@$(RUN_NOTEBOOKS) --set CARSO_SCALE=tiny --html --out build/notebooks notebooks/*.ipynb

book: ## one static site of the committed notebooks and the documents, which opens without network; runs nothing
	@$(SETUP) notebooks
	@$(ENV) .venv/bin/python internal/setup/book.py build/book "$${CARSO_ECHARTS:-}"
	@echo "The book:  build/book/index.html"

test: ## vet and test every package (PKG=./attacks/... for some)
	@$(SETUP) base || echo "make: going on with GoMLX's backend in pure Go: right, but tests of models take minutes instead of seconds; pictures of charts are not tested"
	@$(ENV) go vet $(PKG)
	@$(ENV) go test -timeout $(TEST_TIMEOUT) $(PKG)

parity: ## compare with the values of the reference implementation (CARSO_GOLDEN), number by number
	@$(SETUP) base
	@$(ENV) printf '%-18s %-44s %-12s %-12s %-18s %s\n' fixture quantity 'largest abs' 'and rel' tolerance verdict; \
	CARSO_PARITY=1 go test -count=1 -v -timeout 60m -run 'Golden|Manifest|Stable' ./internal/optim ./models ./carso ./attacks ./checkpoints 2>&1 | awk ' \
	  sub(/^parity /, "") { print; n++; if (/FAIL: /) bad++; next } \
	  /^ *--- (FAIL|SKIP)|^FAIL|^panic|_test.go:|^#|: error/ { print "    " $$0 } \
	  END { printf "%d passed, %d failed\n", n - bad, bad; if (!n) { print "no fixture was found: set CARSO_GOLDEN to their folder"; exit 1 } if (bad) exit 1 }'

verify-numbers: ## recompute every table of documents and notebooks from the committed records
	@GOMLX_BACKEND=go GOMLX_NO_AUTO_INSTALL=1 go test -count=1 -run 'Number|Stray|Reports|Costs|Counts|Pictures|Document' ./cmd/carso ./internal/bench
	@echo "every table of records in the documents and in the notebooks' outputs is what the committed records say"

soak: ## kill an evaluation 200 times and a training 50 times: the same records, table and weights, at most one chunk lost each time; memory at 100 random settings of an attack
	@$(SETUP) base
	@CARSO_KILLS=200 GOMLX_BACKEND=go GOMLX_NO_AUTO_INSTALL=1 go test -count=1 -v -timeout 30m -run TestKills ./carso/eval
	@CARSO_KILLS=50 GOMLX_BACKEND=go GOMLX_NO_AUTO_INSTALL=1 go test -count=1 -v -timeout 30m -run TestKills ./models
	@$(ENV) CARSO_SETTINGS=100 go test -count=1 -v -timeout 60m -run TestMemoryAtAnySetting ./carso/eval

slurm: ## run an evaluation on a real Slurm of one node, which is installed for it (root, Debian): interrupted, requeued, merged, compared
	@$(SETUP) base
	@$(ENV) deploy/slurm-test.sh

lint: ## formatting, go vet, and golangci-lint where it is installed
	@bad=$$(git ls-files -co --exclude-standard '*.go' | xargs -r gofmt -l); \
	if [ -n "$$bad" ]; then echo "not formatted (make fmt):"; echo "$$bad"; exit 1; fi
	@go vet ./...
	@if command -v golangci-lint >/dev/null; then golangci-lint run; else echo "golangci-lint is not installed: skipped"; fi

fmt: ## format the Go files
	@git ls-files -co --exclude-standard '*.go' | xargs -r gofmt -w

bench: ## time operations beside PyTorch, in pairs (BENCH="-compile -rounds 11"); PyTorch goes into build/bench-venv
	@$(SETUP) base
	@$(PYTORCH)
	@$(ENV) go run ./cmd/carso bench $(BENCH)

records: ## put finished records into the program (RECORDS="build/records/NAME.jsonl ..."); needs zip and zstd
	@tmp=$$(mktemp -d); trap 'rm -r "$$tmp"' EXIT; \
	zstd -q -d carso/paper/records.zip.zst -o "$$tmp/records.zip"; \
	zip -q -0 -X -j "$$tmp/records.zip" $(RECORDS); \
	zstd -q -f --ultra -22 "$$tmp/records.zip" -o carso/paper/records.zip.zst

crosscheck: ## attack the shipped CARSO once more in plain PyTorch, without this kit, to compare with its records (some six minutes); PyTorch as for bench
	@$(PYTORCH)
	@build/bench-venv/bin/python internal/bench/crosscheck.py

compile-times: ## run the tests and say how long their graphs took to compile, by package
	@$(SETUP) base
	@mkdir -p build && rm -f build/compiles.tsv
	@$(ENV) CARSO_COMPILES="$(CURDIR)/build/compiles.tsv" go test -count=1 -timeout 60m $(PKG)
	@awk -F '\t' '{ s[$$2] += $$1; n[$$2]++; all += $$1 } END { for (p in s) printf "%8.1f s  %4d graphs  %s\n", s[p], n[p], p; printf "%8.1f s  %4d graphs\n", all, NR }' build/compiles.tsv | sort -rn

microbench: ## Go's benchmarks (PKG=./internal/rng for one package)
	@$(SETUP) base
	@$(ENV) go test -run '^$$' -bench . -benchmem $(PKG)
