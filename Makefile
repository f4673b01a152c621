# Everything a developer or a first-time user needs. `make help` lists the targets.

CARGO ?= cargo
OUT   ?= target/traces.ndjson
SEEDS ?= 1000
FIRST ?= 0
CASES ?= 20000
BENCH_OUT ?= target/bench
HOST  := $(shell rustc -vV | sed -n 's/^host: //p')

.PHONY: run test lint lint-peers doc loom tsan bench bench-peers bench-parts bench-compare callgrind callgrind-refresh fuzz sim planted test-numa soak deny ci help

run: ## The main job: spans recorded from a real application, assembled into traces, on all cores
	@mkdir -p $(dir $(OUT))
	$(CARGO) run --release --quiet -p corelane-tools -- run trace-assembly tools/traces/webshop.otlp.zst --output $(OUT)

test: ## All tests, doc tests included
	$(CARGO) test --workspace --features corelane/prometheus,corelane/opentelemetry

lint: ## Formatting and clippy, warnings denied
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --features corelane/prometheus,corelane/opentelemetry -- -D warnings

lint-peers: ## Clippy over the peers of the bench too; many dependencies, so not in CI
	$(CARGO) clippy -p corelane-bench --lib --features peers,corelane/prometheus,corelane/opentelemetry -- -D warnings

doc: ## API documentation, warnings denied
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --features corelane/prometheus,corelane/opentelemetry

loom: ## The lock-free code under every interleaving that the loom model checker finds
	RUSTFLAGS="--cfg corelane_loom" CARGO_TARGET_DIR=target/loom $(CARGO) test --release -p corelane --test 'loom_*'

tsan: ## The lock-free code under ThreadSanitizer, on the stable compiler
	for example in tsan_ring tsan_pool; do \
	  TSAN_OPTIONS=suppressions=runtime/examples/tsan.supp CARGO_PROFILE_DEV_DEBUG=line-tables-only RUSTC_BOOTSTRAP=1 RUSTFLAGS="--cfg corelane_tsan -Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer" CARGO_TARGET_DIR=target/tsan \
	    $(CARGO) run --config profile.dev.package.corelane.opt-level=1 --target $(HOST) -p corelane --example $$example || exit 1; done

bench: ## What this machine can do, beside hand-written programs in the same run
	$(CARGO) run --release --quiet -p corelane-bench -- all

bench-peers: ## The same beside other people's systems, with JSON, plots and a page in BENCH_OUT (default target/bench); minutes to build
	$(CARGO) run --release --quiet -p corelane-bench --features peers -- all --out $(BENCH_OUT)

bench-parts: ## Ring, pool, timer wheel and keyed table by themselves, by criterion
	$(CARGO) bench -p corelane-bench --bench micro

bench-compare: ## corelane at commit BASE and now, in turn: make bench-compare BASE=... WORKLOAD=chain
	bench/compare.py $(BASE) $(WORKLOAD)

callgrind: ## Instructions per item of the main loops, held against the committed counts (needs valgrind)
	@command -v valgrind >/dev/null || { echo "make callgrind: skipped, there is no valgrind"; exit 0; }; \
	  $(CARGO) run --release --quiet -p corelane-instructions -- check bench/instructions/counts.toml

callgrind-refresh: ## Counts anew what `callgrind` compares with
	$(CARGO) run --release --quiet -p corelane-instructions -- refresh bench/instructions/counts.toml

fuzz: ## CASES random inputs (default 20000) into every reader of outside input, and into the ring and the wheel
	PROPTEST_CASES=$(CASES) $(CARGO) test --release --workspace any_

sim: ## SEEDS random graphs on the simulator (default 1000), from seed FIRST on (default 0); and 1000 made-up machines to tune on
	CORELANE_SEEDS=$(SEEDS) CORELANE_FIRST_SEED=$(FIRST) $(CARGO) test --release -p corelane --test simulation --test strategies --test deadlocks --test rebalancing
	$(CARGO) test --release -p corelane-tools --lib tune::search

planted: ## How many seeds the simulator needs to find each planted bug; writes the table of them
	runtime/tests/planted.sh

test-numa: ## Memory and pins on machines with several NUMA nodes, emulated; fetches a kernel and QEMU once; not in CI
	runtime/tests/numa/run.sh

soak: ## What takes long: a policy swapped on a pipeline under full load for 30 seconds, on each driver
	$(CARGO) test --release -p corelane --test edges -- --ignored --nocapture

deny: ## Licences and advisories of everything we link (needs cargo-deny)
	$(CARGO) deny check

ci: ## What CI runs
	.ci/run

help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST)
