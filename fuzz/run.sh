#!/bin/sh
# Fuzzes every target for some seconds each (default 30): `fuzz/run.sh [SECONDS [TARGET…]]`. Exits
# with an error when a target crashes and keeps the input in target/fuzz/crashes/. Requires only
# stable Rust and a C++ compiler: it uses libFuzzer with the instrumentation of `cargo fuzz`,
# without the sanitizers.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-30}
[ $# -eq 0 ] || shift
host=$(rustc -vV | sed -n 's/^host: //p')
out=${CARGO_TARGET_DIR:-target}/fuzz

cargo run --quiet --manifest-path fuzz/Cargo.toml --target-dir "$out" --bin seeds -- "$out/seeds"
RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing" \
    cargo build --manifest-path fuzz/Cargo.toml --target-dir "$out" --release --target "$host" \
    --bin envelope --bin shard_result --bin message --bin program

mkdir -p "$out/crashes"
for target in ${@:-envelope shard_result message program}; do
    echo "fuzzing $target for $seconds s"
    mkdir -p "$out/corpus/$target"
    log=$out/$target.log
    if ! "$out/$host/release/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=16384 \
        -artifact_prefix="$out/crashes/$target-" "$out/corpus/$target" "$out/seeds/$target" >"$log" 2>&1; then
        tail -n 40 "$log"
        echo "$target failed; the input is in $out/crashes" >&2
        exit 1
    fi
    tail -n 1 "$log"
done
