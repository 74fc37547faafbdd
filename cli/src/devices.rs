//! `forge devices`: lists the backends of this machine, with the outcome of their self-test and
//! their speed.

use std::{sync::Arc, time::Duration};

use clap::Args;
use forge_documents::number_format::format_rate;
use forge_kernel::backend::{Backend, scalar::Scalar, simd::Simd};
use serde::Serialize;

use crate::{
    engine,
    error::CommandError,
    gpu::{self, GpuError},
    output::{self, OutputFormat, TextStyle},
    text::table,
};

const EXAMPLES: &str = "\
Examples:
  forge devices
  forge run job.json --backend gpu-0

The self-test executes one leaf of an example on every GPU and compares the bytes of its result with those of
the scalar reference; a GPU that fails is not used. The rate is measured with the same example, on one thread
of a CPU or on the whole GPU.";

/// Minimum duration of the call that measures the speed of a backend.
const CALIBRATION: Duration = Duration::from_millis(50);

/// List the backends of this machine, their self-test and their speed
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DevicesArgs {
    /// Output format: text is a table, json is one object
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    format: OutputFormat,
}

/// One backend in the output.
#[derive(Debug, Serialize)]
struct BackendListing {
    /// Value for `--backend`.
    backend: String,
    /// Hardware: cpu or gpu.
    target: &'static str,
    /// Kind of GPU, or `cpu`.
    kind: &'static str,
    /// Name of the device and its driver; null for the CPU.
    adapter: Option<String>,
    /// Whether its results equal those of the scalar reference.
    usable: bool,
    /// Why it cannot be used; null if it can.
    reason: Option<String>,
    /// Iterations of the example per second; null if it cannot be used.
    iterations_per_second: Option<f64>,
}

/// Runs the command.
///
/// # Errors
/// Writing to standard output failed.
pub fn execute(args: &DevicesArgs) -> Result<(), CommandError> {
    let listings = list_backends();
    match args.format {
        OutputFormat::Json => {
            let json = serde_json::json!({"schema": "forge.devices.v1", "devices": listings});
            output::print(output::to_json_document(&json).as_bytes())
        }
        OutputFormat::Text => output::print(render(&listings, TextStyle::of_stdout()).as_bytes()),
    }
}

fn render(listings: &[BackendListing], style: TextStyle) -> String {
    let row = |listing: &BackendListing| {
        let rate = listing.iterations_per_second.map_or_else(|| "-".to_owned(), format_rate);
        let self_test = if listing.usable { "passed" } else { "FAILED" };
        vec![listing.backend.clone(), listing.kind.to_owned(), self_test.to_owned(), rate]
    };
    let rows: Vec<_> = listings.iter().map(row).collect();
    let table = table::render_table(&["Backend", "Kind", "Self-test", "Iterations/s"], &rows);
    // The device column is left-aligned, so it is appended to the rendered rows.
    let adapters = listings.iter().map(|listing| listing.adapter.as_deref().unwrap_or("this CPU"));
    let devices = ["Device"].into_iter().chain(adapters);
    let mut lines = vec![style.heading("Backends of this machine")];
    lines.extend(table.iter().zip(devices).map(|(row, device)| format!("{row}   {device}")));
    for listing in listings.iter().filter(|listing| !listing.usable) {
        lines.push(format!("{}: {}", listing.backend, listing.reason.as_deref().unwrap_or_default()));
    }
    if !listings.iter().any(|listing| listing.target == "gpu")
        && let Err(reason) = gpu::open("gpu")
    {
        lines.push(format!("No GPU: {reason}"));
    }
    format!("{}\n", lines.join("\n"))
}

/// All backends of this machine: those of the CPU from best to worst, then the GPUs.
fn list_backends() -> Vec<BackendListing> {
    let simd_levels = Simd::supported().into_iter().map(|level| Arc::new(level) as Arc<dyn Backend>);
    let cpu = simd_levels.chain([Arc::new(Scalar) as Arc<dyn Backend>]);
    let cpu = cpu.map(|backend| measure(backend.name().to_owned(), "cpu", None, Ok(backend.clone())));
    let gpus = gpu::list().into_iter();
    let gpus = gpus.map(|gpu| measure(gpu.name, gpu.kind, Some(gpu.adapter), gpu.backend));
    cpu.chain(gpus).collect()
}

fn measure(
    name: String,
    kind: &'static str,
    adapter: Option<String>,
    backend: Result<Arc<dyn Backend>, GpuError>,
) -> BackendListing {
    let rate = backend.map_err(|error| error.to_string()).and_then(|backend| {
        engine::iterations_per_second(backend.as_ref(), &engine::example_program(), CALIBRATION)
            .map_err(|error| error.to_string())
    });
    BackendListing {
        backend: name,
        target: if adapter.is_some() { "gpu" } else { "cpu" },
        kind,
        adapter,
        usable: rate.is_ok(),
        reason: rate.as_ref().err().cloned(),
        iterations_per_second: rate.ok(),
    }
}
