# Tests, benchmarks, generated files and releases. `make help` lists the targets.
.DEFAULT_GOAL := help
.PHONY: help test lint unit interop test-schemas test-python test-wheel python-models wheel simulate attacks tutorials book test-deploy test-chart test-compose test-images test-partitions
.PHONY: test-aarch64 test-console test-monitoring test-sbom test-notices notices workflows deny sbom bench fuzz schemas reference validation version dist image chart checksums

PYTHON ?= python3
# The command that the tests have built.
FORGE = $(or $(CARGO_TARGET_DIR),target)/debug/forge
# Everything, in the terms of cargo.
WORKSPACE = --workspace --all-features --locked
# Additional options of deploy/sbom.py, such as --variant gpu without an image.
SBOM_FLAGS ?=
# The target of `make dist`: one that ends in -musl gives a static binary.
TARGET ?= x86_64-unknown-linux-musl
# The command of `make dist`, which also writes the completions and manual pages of its archive.
DIST_FORGE = $(or $(CARGO_TARGET_DIR),target)/$(TARGET)/release/forge
# The image that `make image` builds.
VARIANT ?= cpu
# The commit that images and archives state, if this is a git checkout.
COMMIT = $(shell test -e .git && git rev-parse HEAD 2>/dev/null)
# Seeds of `make simulate`.
SEEDS ?= 10000
# Seconds for each fuzz target.
FUZZ_SECONDS ?= 30

help: ## lists the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

test: lint unit interop test-schemas test-python tutorials book ## the tests of every change; `make attacks` and `make test-deploy` are the others

lint: ## checks formatting, clippy, widths of lines, lengths of sentences
	cargo fmt --all --check
	$(PYTHON) tests/prose/check.py self-test
	$(PYTHON) tests/prose/check.py width
	cargo clippy --workspace --all-targets --all-features --locked -- -D warnings
	cargo clippy -p forge --no-default-features --locked -- -D warnings

# With cargo-nextest, tests that need a GPU adapter are skipped on machines without one, unless
# FORGE_REQUIRE_GPU is set. `cargo test` reports them as passed. Two tests run on each core, because
# those with servers wait half of their time.
unit: ## the tests of all crates, with cargo-nextest where it is installed
	@set -e; export FORGE_BINARIES_ARE_BUILT=1; \
	if cargo nextest --version >/dev/null 2>&1; then \
	  cargo nextest run $(WORKSPACE) --no-run; \
	  profile=no-gpu; \
	  if test -n "$$FORGE_REQUIRE_GPU" || $(FORGE) devices --format json | grep -q '"target": "gpu"'; \
	  then profile=default; fi; \
	  cargo nextest run $(WORKSPACE) --profile $$profile --test-threads $$(( 2 * $$(getconf _NPROCESSORS_ONLN) )); \
	  cargo test --doc $(WORKSPACE); \
	else \
	  cargo test $(WORKSPACE); \
	fi

simulate: ## simulates a cluster with faults, for SEEDS seeds from FIRST_SEED on
	SEEDS=$(SEEDS) cargo test -p forge-simulation --locked -- --nocapture no_seed

interop: ## compares the Python implementation of docs/determinism.md with this one; other programs; published data
	test -x $(FORGE) || cargo build --locked -p forge --all-features
	$(PYTHON) tests/interop/forge_reader.py vectors tests/vectors/v1 --check
	$(PYTHON) tests/interop/compare.py $(FORGE)
	$(PYTHON) tests/interop/loss_tables.py $(FORGE)
	$(PYTHON) tests/interop/workbook.py $(FORGE)
	$(PYTHON) tests/interop/real_data.py $(FORGE)

test-schemas: ## compares ajv and Python's jsonschema with `forge envelope check` on random envelopes
	test -x $(FORGE) || cargo build --locked -p forge --all-features
	$(PYTHON) tests/schemas/agree.py $(FORGE)

# With one test among its targets, cargo selects the features of `make unit`, and compiles nothing
# twice.
test-python: ## tests the Python package; needs Python 3.11
	test -x $(FORGE) || cargo build --locked -p forge --all-features
	cargo build $(WORKSPACE) --lib --test architecture
	$(PYTHON) python/test.py $(FORGE) $(dir $(FORGE))lib_native.so

test-wheel: wheel ## tests the wheel in the same way
	test -x $(FORGE) || cargo build --locked -p forge --all-features
	$(PYTHON) python/test.py $(FORGE) target/dist/forge_kernel-*.whl

python-models: ## regenerates the typed models of the Python package from schemas/v1
	$(PYTHON) python/generate_models.py

wheel: ## builds the wheel of the Python package for this machine in target/dist
	$(PYTHON) python/wheel.py

attacks: ## attacks a cluster with the credentials of worker and client; takes a few minutes
	test -x $(FORGE) || cargo build --locked -p forge --all-features
	$(PYTHON) tests/attacks/run.py $(FORGE)

test-deploy: test-chart test-monitoring test-compose test-partitions test-sbom test-notices ## tests the deployment with the real tools

test-chart: ## tests the Helm chart, its pods as processes; needs openssl, docker-compose
	test -x $(FORGE) || cargo build --locked -p forge --all-features
	$(PYTHON) tests/deploy/chart.py $(FORGE)

test-monitoring: ## tests alerts and dashboard on a scraped cluster; needs Prometheus or apt-get
	test -x $(FORGE) || cargo build --locked -p forge --all-features
	$(PYTHON) tests/deploy/monitoring.py $(FORGE)

test-compose: ## tests Compose on a Docker engine of its own; needs root and the packages in .ci/run
	test -x $(FORGE) || cargo build --locked -p forge --all-features
	$(PYTHON) tests/deploy/compose.py $(FORGE)

test-partitions: ## tests partitions of three NATS servers in namespaces; needs root and iproute2
	test -x $(FORGE) || cargo build --locked -p forge --all-features
	$(PYTHON) tests/deploy/partitions.py $(FORGE)

test-images: ## compiles the images on that engine; takes as long as two release builds
	$(PYTHON) tests/deploy/compose.py --compile

test-aarch64: ## compares a command for aarch64, in qemu, with this machine's; needs the packages in .ci/run
	test -x $(FORGE) || cargo build --locked -p forge --all-features
	$(PYTHON) tests/deploy/aarch64.py $(FORGE)

test-sbom: ## compares `make sbom` with cargo's build plan
	$(PYTHON) tests/deploy/sbom.py

test-notices: ## checks THIRD_PARTY_LICENSES.txt against cargo's build plans
	$(PYTHON) tests/deploy/notices.py

notices: ## regenerates THIRD_PARTY_LICENSES.txt from Cargo.lock
	$(PYTHON) deploy/notices.py

deny: ## checks licences, duplicate and banned crates, sources, advisories (ADVISORY_DB=DIR)
	$(PYTHON) tests/deploy/deny.py

sbom: ## writes the CycloneDX SBOM to target/sbom; IMAGE=forge:cpu adds its Debian packages
	$(PYTHON) deploy/sbom.py --output target/sbom/forge.cdx.json $(if $(IMAGE),--image $(IMAGE)) $(SBOM_FLAGS)

bench: ## runs the benchmarks of docs/benchmarks.md
	cargo bench -p forge-kernel --locked
	cargo bench -p forge-bus --locked
	cargo bench -p forge-cluster-tests --locked

fuzz: ## fuzzes envelope, shard result, message and program for FUZZ_SECONDS each
	fuzz/run.sh $(FUZZ_SECONDS)

workflows: ## checks .github/workflows with actionlint
	$(PYTHON) tests/deploy/workflows.py

version: ## prints the version of the workspace
	@cargo metadata --no-deps --locked --format-version 1 | $(PYTHON) -c \
	  'import json, sys; print(next(p["version"] for p in json.load(sys.stdin)["packages"] if p["name"] == "forge"))'

dist: ## archives the command for TARGET in target/dist; static for -musl, without GPU support
	cargo build --release --locked -p forge --no-default-features --features columnar,console,object-lock,xlsx --target $(TARGET)
	rm -rf target/dist-extras && mkdir -p target/dist target/dist-extras/completions
	$(DIST_FORGE) man --dir target/dist-extras/man
	$(DIST_FORGE) completions bash > target/dist-extras/completions/forge.bash
	$(DIST_FORGE) completions zsh > target/dist-extras/completions/_forge
	$(DIST_FORGE) completions fish > target/dist-extras/completions/forge.fish
	tar --create --gzip --file target/dist/forge-$(shell $(MAKE) --silent version)-$(TARGET).tar.gz \
	  --directory $(dir $(abspath $(DIST_FORGE))) forge \
	  --directory $(CURDIR)/target/dist-extras completions man \
	  --directory $(CURDIR) LICENSE THIRD_PARTY_LICENSES.txt README.md
	$(PYTHON) deploy/sbom.py --variant cpu --output target/dist/forge-$(TARGET).cdx.json

image: ## builds the image IMAGE of VARIANT cpu or gpu
	docker build --tag $(IMAGE) --target $(VARIANT) --build-arg FORGE_COMMIT=$(COMMIT) .

chart: ## packages the chart in target/dist
	$(PYTHON) tests/deploy/package_chart.py target/dist

checksums: ## writes SHA256SUMS of all files in target/dist
	cd target/dist && rm -f SHA256SUMS && sha256sum * > SHA256SUMS

schemas: ## regenerates schemas/v1 from the types
	cargo run --locked -p forge -- schema --write schemas/v1

reference: ## regenerates docs/reference from the types and the command line
	FORGE_WRITE_REFERENCE=1 cargo test --locked -p forge --all-features --lib reference

validation: ## regenerates docs/validation.md from runs of tests/validation
	FORGE_WRITE_VALIDATION=1 cargo test --locked -p forge-kernel --test validation

test-console: ## looks at the pages of the console in Chromium, which must be installed
	test -x $(FORGE) || cargo build --locked -p forge --all-features
	$(PYTHON) tests/console/run.py $(FORGE) $(if $(SCREENSHOTS),--screenshots $(SCREENSHOTS))

tutorials: ## runs the commands of tutorials and compares what they print
	test -x $(FORGE) || cargo build --locked -p forge --all-features
	$(PYTHON) tests/prose/tutorials.py $(FORGE)

book: ## builds docs as a book into target/book and checks its links
	$(PYTHON) tests/prose/check.py links
	$(PYTHON) tests/prose/book.py
