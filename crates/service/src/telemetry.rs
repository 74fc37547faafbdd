//! Logs to standard error, and traces: one trace follows a job through every service. Traces leave the process only where a
//! collector is configured; contexts are passed on either way.

pub mod trace;

use std::{env, io, io::IsTerminal, time::Duration};

use opentelemetry::{KeyValue, trace::TracerProvider};
use opentelemetry_sdk::{
    Resource,
    trace::{SdkTracerProvider, TracerProviderBuilder},
};
use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{Layer, Registry, filter::Targets, fmt, layer::SubscriberExt, registry::LookupSpan};

use crate::config::{ConfigError, LogFormat, TelemetryArgs};

/// How long the end of a process waits for its last traces to be taken.
const FLUSH: Duration = Duration::from_secs(5);

/// Logs and traces of a process. When it is dropped, traces that wait to be sent are sent, for 5 seconds at most.
#[derive(Debug)]
#[must_use = "traces are sent while it lives"]
pub struct Telemetry {
    provider: SdkTracerProvider,
}

/// Starts logs and traces of the process, under a service's name. To be called once, before anything is logged; if a
/// subscriber has been installed already, that one stays.
///
/// # Errors
/// [`ConfigError`] when the collector's address cannot be used.
pub fn init(service: &'static str, args: &TelemetryArgs) -> Result<Telemetry, ConfigError> {
    let provider = provider(service, args)?;
    let subscriber = Registry::default().with(log_layer(args)).with(trace_layer(&provider));
    if tracing::subscriber::set_global_default(subscriber).is_err() {
        tracing::debug!("logs and traces have been started before");
    }
    Ok(Telemetry { provider })
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Err(error) = self.provider.shutdown_with_timeout(FLUSH) {
            tracing::debug!(%error, "the last traces were not sent");
        }
    }
}

fn log_layer<S>(args: &TelemetryArgs) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let terminal = io::stderr().is_terminal();
    let json = match args.log_format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let layer = fmt::layer().with_writer(io::stderr);
    if json {
        let layer = layer.json().flatten_event(true).with_current_span(true).with_span_list(false);
        layer.with_filter(args.log.clone()).boxed()
    } else {
        let plain = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        layer.with_ansi(terminal && !plain).with_filter(args.log.clone()).boxed()
    }
}

/// Spans from level info on, whatever is logged: a context must be passed on even where nothing is logged.
fn trace_layer<S>(provider: &SdkTracerProvider) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    // What sends the traces must not make any.
    let off =
        ["h2", "hyper", "hyper_util", "opentelemetry", "opentelemetry_otlp", "opentelemetry_sdk", "reqwest"];
    let filter = Targets::new()
        .with_default(LevelFilter::INFO)
        .with_targets(off.into_iter().map(|target| (target, LevelFilter::OFF)));
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("forge"))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(filter)
}

fn provider(service: &'static str, args: &TelemetryArgs) -> Result<SdkTracerProvider, ConfigError> {
    let resource = Resource::builder()
        .with_service_name(format!("forge-{service}"))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let builder = SdkTracerProvider::builder().with_resource(resource);
    let endpoint = args.otlp_endpoint.as_deref().filter(|endpoint| !endpoint.is_empty());
    match endpoint {
        Some(endpoint) => Ok(with_exporter(builder, endpoint)?.build()),
        None => Ok(builder.build()),
    }
}

#[cfg(feature = "otlp")]
fn with_exporter(
    builder: TracerProviderBuilder,
    endpoint: &str,
) -> Result<TracerProviderBuilder, ConfigError> {
    use opentelemetry_otlp::{SpanExporter, WithExportConfig};

    if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
        let message = format!("{endpoint} is not an address that begins with http:// or https://");
        return Err(ConfigError::new(ENDPOINT, message));
    }
    // As the specification has it: the address of traces alone is taken as it is, the common one is a base.
    let traces = env::var("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").ok().filter(|address| !address.is_empty());
    let address = traces.unwrap_or_else(|| format!("{}/v1/traces", endpoint.trim_end_matches('/')));
    // The first to say so decides for the process; everybody here says the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let exporter = SpanExporter::builder().with_http().with_endpoint(address).build();
    Ok(builder.with_batch_exporter(exporter.map_err(|error| ConfigError::new(ENDPOINT, error))?))
}

#[cfg(not(feature = "otlp"))]
fn with_exporter(_: TracerProviderBuilder, _: &str) -> Result<TracerProviderBuilder, ConfigError> {
    Err(ConfigError::new(ENDPOINT, "this build has no OTLP: it was compiled without feature `otlp`"))
}

const ENDPOINT: &str = "--otlp-endpoint";

#[cfg(test)]
mod tests;
