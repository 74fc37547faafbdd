# Images of Forge Kernel: the `forge` command, which is every service, on a small Debian, as a user without rights.
#
#   docker build -t forge:cpu .                                      compiled here, for machines without a GPU
#   docker build -t forge:gpu --target gpu .                         compiled here, with execution on GPUs by Vulkan
#   docker build -t forge:cpu --target prebuilt .                    from a binary that is already there (PREBUILT)
#   docker build -t forge:gpu --target prebuilt-gpu .                the same with what a GPU needs
#
# Stages stand in this order so that a builder that goes through the file from the top, as the one before BuildKit does,
# compiles nothing for `prebuilt`. To compile with such a builder, give it some file for `prebuilt`: --build-arg PREBUILT=Cargo.toml

# Both are Debian 12, so that a binary finds the C library that it was linked against.
ARG RUST_IMAGE=rust:1.95-bookworm
ARG RUNTIME_IMAGE=debian:bookworm-slim

# What every image has: certificates for TLS to NATS and S3, a user, the health check, and a place for volumes.
FROM ${RUNTIME_IMAGE} AS runtime
RUN export DEBIAN_FRONTEND=noninteractive \
 && apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/* \
 && install -d -o 65532 -g 65532 /var/lib/forge /var/lib/forge/nats /var/lib/forge/s3
COPY deploy/docker/forge-health /usr/local/bin/forge-health
# A number, not a name: Kubernetes can tell from it that this is not root.
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

# The Vulkan loader, and libXext, without which NVIDIA's driver does not load. The driver itself comes from the machine:
# NVIDIA's container runtime puts it into the container, for these capabilities.
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
COPY services services
COPY tests/cluster tests/cluster
COPY tests/architecture tests/architecture
COPY tests/harness tests/harness
RUN cargo fetch --locked

# Object Lock is in both: an operator who wants a locked bucket should not need another image.
FROM sources AS build-gpu
ARG FEATURES=object-lock
RUN cargo build --release --locked --offline -p forge --features "$FEATURES" \
 && strip target/release/forge

FROM sources AS build-cpu
ARG FEATURES=object-lock
RUN cargo build --release --locked --offline -p forge --no-default-features --features "$FEATURES" \
 && strip target/release/forge

FROM runtime-gpu AS gpu
COPY --from=build-gpu /src/target/release/forge /usr/local/bin/forge

FROM runtime AS cpu
COPY --from=build-cpu /src/target/release/forge /usr/local/bin/forge
