//! `forge devices`: what can execute shards on this machine, and whether it computes rightly.

use std::{sync::Arc, time::Duration};

use clap::{Args, ValueEnum};
use forge_documents::number_format::format_rate;
use forge_kernel::backend::{Backend, scalar::Scalar, simd::Simd};
use serde::Serialize;

use crate::{
    engine,
    failure::Failure,
    gpu,
    output::{self, Style},
    text::table,
};

const EXAMPLES: &str = "\
Examples:
  forge devices
  forge run job.json --backend gpu-0

Every GPU executes one leaf of an example and is refused unless it gives the bytes of the scalar reference.
The rate is that of the same example, on one thread of a CPU or the whole of a GPU.";

/// A call that tells how fast a backend is takes at least so long.
const LONG: Duration = Duration::from_millis(50);

/// List what can execute shards here
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DevicesArgs {
    /// What is written to standard output
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A table
    Text,
    /// One JSON object
    Json,
}

/// A backend of this machine.
#[derive(Debug, Serialize)]
struct Device {
    /// As `--backend` takes it.
    backend: String,
    /// The hardware: cpu or gpu.
    target: &'static str,
    /// What it is: a kind of GPU, or `cpu`.
    kind: &'static str,
    /// The device and its driver; null for the CPU.
    adapter: Option<String>,
    /// Whether its results are those of the scalar reference.
    usable: bool,
    /// Why it cannot be used.
    reason: Option<String>,
    /// Iterations a second of the example.
    iterations_per_second: Option<f64>,
}

/// Carries out the command.
///
/// # Errors
/// Standard output cannot be written.
pub fn execute(args: &DevicesArgs) -> Result<(), Failure> {
    let devices = devices();
    if args.format == Format::Json {
        let json = serde_json::json!({"schema": "forge.devices.v1", "devices": devices});
        return output::print(format!("{json:#}\n").as_bytes());
    }
    let style = Style::of_stdout();
    let row = |device: &Device| {
        let rate = device.iterations_per_second.map_or_else(|| "-".to_owned(), format_rate);
        let passed = if device.usable { "passed" } else { "FAILED" };
        vec![device.backend.clone(), device.kind.to_owned(), passed.to_owned(), rate]
    };
    let rows: Vec<_> = devices.iter().map(row).collect();
    let table = table::lines(&["Backend", "Kind", "Self-test", "Iterations/s"], &rows);
    let adapters = devices.iter().map(|device| device.adapter.as_deref().unwrap_or("this processor"));
    let mut lines = vec![style.heading("What executes shards here")];
    lines.extend(
        table.iter().zip(["Device"].into_iter().chain(adapters)).map(|(row, name)| format!("{row}   {name}")),
    );
    for device in devices.iter().filter(|device| !device.usable) {
        lines.push(format!("{}: {}", device.backend, device.reason.as_deref().unwrap_or_default()));
    }
    if !devices.iter().any(|device| device.target == "gpu")
        && let Err(reason) = gpu::open("gpu")
    {
        lines.push(format!("No GPU: {reason}"));
    }
    output::print(format!("{}\n", lines.join("\n")).as_bytes())
}

/// Everything that can execute shards: the CPU's backends, the best first, then the GPUs.
fn devices() -> Vec<Device> {
    let simd = Simd::supported().into_iter().map(|level| Arc::new(level) as Arc<dyn Backend>);
    let cpu = simd.chain([Arc::new(Scalar) as Arc<dyn Backend>]);
    let cpu = cpu.map(|backend| tried(backend.name().to_owned(), "cpu", None, Ok(backend.clone())));
    let gpus = gpu::list().into_iter();
    let gpus = gpus.map(|found| tried(found.name, found.kind, Some(found.adapter), found.opened));
    cpu.chain(gpus).collect()
}

fn tried(
    backend: String,
    kind: &'static str,
    adapter: Option<String>,
    opened: Result<Arc<dyn Backend>, String>,
) -> Device {
    let measure = |opened: &Arc<dyn Backend>| {
        engine::rate(opened.as_ref(), &engine::example(), LONG).map_err(|error| error.to_string())
    };
    let rate = opened.as_ref().map_err(String::clone).and_then(measure);
    Device {
        backend,
        target: if adapter.is_some() { "gpu" } else { "cpu" },
        kind,
        adapter,
        usable: rate.is_ok(),
        reason: rate.as_ref().err().cloned(),
        iterations_per_second: rate.ok(),
    }
}
