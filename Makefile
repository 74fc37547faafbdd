# The tests, the benchmark and the generated files. `make help` lists the targets.
.DEFAULT_GOAL := help
.PHONY: help test lint unit interop tutorials book reference workflows version dist image chart checksums test-deploy test-chart test-compose test-images test-sbom deny sbom bench fuzz schemas

PYTHON ?= python3
# The command as the tests have built it.
FORGE = $(or $(CARGO_TARGET_DIR),target)/debug/forge
# More for deploy/sbom.py: --variant gpu, without an image.
SBOM_FLAGS ?=
# The target of `make dist`: one that ends in -musl gives a static binary.
TARGET ?= x86_64-unknown-linux-musl
# The image that `make image` builds.
VARIANT ?= cpu
# Seconds for each fuzz target.
FUZZ_SECONDS ?= 30

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

test: lint unit interop ## everything that has to pass before a change lands

lint: ## formatting, lints, widths of lines, lengths of sentences
	cargo fmt --all --check
	$(PYTHON) tests/prose/check.py self-test
	$(PYTHON) tests/prose/check.py width
	cargo clippy --workspace --all-targets --all-features --locked -- -D warnings
	cargo clippy -p forge --no-default-features --locked -- -D warnings

unit: ## tests of all crates, the binary included
	FORGE_BINARIES_ARE_BUILT=1 cargo test --workspace --all-features --locked

interop: ## the second implementation, in Python from docs/determinism.md alone, agrees with this one
	test -x $(FORGE) || cargo build --locked -p forge --all-features
	$(PYTHON) tests/interop/forge_reader.py vectors tests/vectors/v1 --check
	$(PYTHON) tests/interop/compare.py $(FORGE)

test-deploy: test-chart test-compose test-sbom ## the deployment with the real tools

test-chart: ## the Helm chart: schemas, refused values, its pods as processes; needs openssl and docker-compose
	test -x $(FORGE) || cargo build --locked -p forge --all-features
	$(PYTHON) tests/deploy/chart.py $(FORGE)

test-compose: ## Compose on a Docker engine of its own; needs root, docker.io, docker-compose, debootstrap, busybox-static, iptables
	test -x $(FORGE) || cargo build --locked -p forge --all-features
	$(PYTHON) tests/deploy/compose.py $(FORGE)

test-images: ## the stages of Dockerfile that compile, on the same engine; takes as long as two release builds
	$(PYTHON) tests/deploy/compose.py --compile

test-sbom: ## what `make sbom` lists, against the plan of the build
	$(PYTHON) tests/deploy/sbom.py

deny: ## licences, doubled and banned crates, sources, advisories; ADVISORY_DB=DIR is a clone of their database
	$(PYTHON) tests/deploy/deny.py

sbom: ## what is in the image, as CycloneDX, in target/sbom; IMAGE=forge:cpu adds its Debian packages
	$(PYTHON) deploy/sbom.py --output target/sbom/forge.cdx.json $(if $(IMAGE),--image $(IMAGE)) $(SBOM_FLAGS)

bench: ## iterations a second on this machine, and what the services cost (docs/benchmarks.md)
	cargo bench -p forge-kernel --locked
	cargo bench -p forge-bus --locked
	cargo bench -p forge-cluster-tests --locked

fuzz: ## strangers' bytes against envelope, shard result and program, FUZZ_SECONDS each
	fuzz/run.sh $(FUZZ_SECONDS)

workflows: ## checks .github/workflows with actionlint
	$(PYTHON) tests/deploy/workflows.py

version: ## the version of the workspace
	@cargo metadata --no-deps --locked --format-version 1 | $(PYTHON) -c \
	  'import json, sys; print(next(p["version"] for p in json.load(sys.stdin)["packages"] if p["name"] == "forge"))'

dist: ## the command for TARGET as an archive in target/dist, without GPU support, so that it can be static
	cargo build --release --locked -p forge --no-default-features --features object-lock --target $(TARGET)
	mkdir -p target/dist
	tar --create --gzip --file target/dist/forge-$(shell $(MAKE) --silent version)-$(TARGET).tar.gz \
	  --directory $(or $(CARGO_TARGET_DIR),target)/$(TARGET)/release forge --directory $(CURDIR) LICENSE README.md
	$(PYTHON) deploy/sbom.py --variant cpu --output target/dist/forge-$(TARGET).cdx.json

image: ## the image IMAGE of VARIANT cpu or gpu, compiled by Docker
	docker build --tag $(IMAGE) --target $(VARIANT) .

chart: ## the chart as a package in target/dist
	$(PYTHON) tests/deploy/package_chart.py target/dist

checksums: ## SHA256SUMS of everything in target/dist
	cd target/dist && rm -f SHA256SUMS && sha256sum * > SHA256SUMS

schemas: ## writes schemas/v1 anew from the types
	cargo run --locked -p forge -- schema --write schemas/v1

reference: ## writes docs/reference anew from the types and the command line
	FORGE_WRITE_REFERENCE=1 cargo test --locked -p forge --all-features --bin forge reference

tutorials: ## runs the commands of docs/start and compares what they print
	test -x $(FORGE) || cargo build --locked -p forge --all-features
	$(PYTHON) tests/prose/tutorials.py $(FORGE)

book: ## builds docs as a book into target/book; its links are checked
	$(PYTHON) tests/prose/check.py links
	$(PYTHON) tests/prose/book.py
