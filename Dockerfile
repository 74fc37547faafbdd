# Images of Forge Kernel: the `forge` command, which runs every service, on a slim Debian, as an
# unprivileged user.
#
#   docker build -t forge:cpu .                          compiled here, for machines without a GPU
#   docker build -t forge:gpu --target gpu .             compiled here, with GPU support
#   docker build -t forge:cpu --target prebuilt .        from an existing binary (PREBUILT)
#   docker build -t forge:gpu --target prebuilt-gpu .    the same, with the libraries a GPU needs
#
# The order of the stages matters to builders older than BuildKit, which execute every stage up to
# the target: with this order they compile nothing for `prebuilt`. To compile with such a builder,
# pass any file for `prebuilt`: --build-arg PREBUILT=Cargo.toml

# Both are Debian 12, so that a binary finds the C library that it was linked against.
ARG RUST_IMAGE=rust:1.95-bookworm
ARG RUNTIME_IMAGE=debian:bookworm-slim

# The base of every image: certificates for TLS to NATS and S3, a user, the health check, and
# directories for volumes.
FROM ${RUNTIME_IMAGE} AS runtime
RUN export DEBIAN_FRONTEND=noninteractive \
 && apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/* \
 && install -d -o 65532 -g 65532 \
    /var/lib/forge /var/lib/forge/nats /var/lib/forge/s3 /var/lib/forge/prometheus
COPY deploy/docker/forge-health /usr/local/bin/forge-health
# Those of Debian's packages are in the other directories of /usr/share/doc.
COPY LICENSE THIRD_PARTY_LICENSES.txt /usr/share/doc/forge/
# A number instead of a name, so that Kubernetes can verify that this is not root.
USER 65532:65532
WORKDIR /var/lib/forge
ENTRYPOINT ["forge"]
CMD ["--help"]
LABEL org.opencontainers.image.title="Forge Kernel" \
      org.opencontainers.image.description="Deterministic Monte Carlo: the same envelope gives the same bytes on every machine" \
      org.opencontainers.image.licenses="Apache-2.0"

# From a binary in the build context, compiled on Debian 12 or an older system.
FROM runtime AS prebuilt
ARG PREBUILT=target/image/forge
COPY ${PREBUILT} /usr/local/bin/forge

# The Vulkan loader, and libXext, which NVIDIA's driver requires. NVIDIA's container runtime mounts
# the driver itself from the host, for these capabilities.
FROM runtime AS runtime-gpu
USER 0:0
RUN export DEBIAN_FRONTEND=noninteractive \
 && apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends libvulkan1 libxext6 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility,graphics
USER 65532:65532

FROM runtime-gpu AS prebuilt-gpu
ARG PREBUILT=target/image/forge
COPY ${PREBUILT} /usr/local/bin/forge

# Sources and dependencies, the same for both variants.
FROM ${RUST_IMAGE} AS sources
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY cli cli
COPY crates crates
# `forge credentials` contains the configuration of nats-server.
COPY deploy/nats deploy/nats
COPY python/Cargo.toml python/Cargo.toml
COPY python/src python/src
COPY services services
COPY tests/cluster tests/cluster
COPY tests/architecture tests/architecture
COPY tests/harness tests/harness
# `forge export` puts the second implementation into its archives.
COPY tests/interop tests/interop
COPY tests/simulation tests/simulation
RUN cargo fetch --locked

# Both variants include Object Lock, so that a locked bucket needs no other image, Parquet and Arrow
# files, and workbooks. FORGE_COMMIT is
# what `forge --version` states: the image has no git history.
FROM sources AS build-gpu
ARG FEATURES=columnar,console,object-lock,xlsx
ARG FORGE_COMMIT
RUN cargo build --release --locked --offline -p forge --features "$FEATURES" \
 && strip target/release/forge

FROM sources AS build-cpu
ARG FEATURES=columnar,console,object-lock,xlsx
ARG FORGE_COMMIT
RUN cargo build --release --locked --offline -p forge --no-default-features --features "$FEATURES" \
 && strip target/release/forge

FROM runtime-gpu AS gpu
COPY --from=build-gpu /src/target/release/forge /usr/local/bin/forge

FROM runtime AS cpu
COPY --from=build-cpu /src/target/release/forge /usr/local/bin/forge
