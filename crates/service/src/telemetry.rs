//! Logs to standard error, and traces: one trace follows a job through every service. Traces leave
//! the process only if a collector is configured; trace contexts are propagated either way.

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

/// Time limit for exporting the last traces when the process ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// The logs and traces of a process. Dropping it exports pending traces, for at most 5 seconds.
#[derive(Debug)]
#[must_use = "dropping it ends the export of traces"]
pub struct Telemetry {
    provider: SdkTracerProvider,
}

/// Starts logs and traces of the process under a service's name. Call it once, before anything is
/// logged; a subscriber that is already installed stays.
///
/// # Errors
/// [`ConfigError`] when the collector's address is not a URL, or the build has no OTLP exporter.
pub fn init(service: &'static str, args: &TelemetryArgs) -> Result<Telemetry, ConfigError> {
    let provider = provider(service, args)?;
    let subscriber = Registry::default().with(log_layer(args)).with(trace_layer(&provider));
    if tracing::subscriber::set_global_default(subscriber).is_err() {
        tracing::debug!("a tracing subscriber is already installed; keeping it");
    }
    Ok(Telemetry { provider })
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Err(error) = self.provider.shutdown_with_timeout(FLUSH_TIMEOUT) {
            tracing::debug!(%error, "exporting the last traces failed; they are lost");
        }
    }
}

fn log_layer<S>(args: &TelemetryArgs) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let is_terminal = io::stderr().is_terminal();
    let json = match args.log_format {
        LogFormat::Auto => !is_terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let layer = fmt::layer().with_writer(io::stderr);
    if json {
        let layer = layer.json().flatten_event(true).with_current_span(true).with_span_list(false);
        layer.with_filter(args.log.clone()).boxed()
    } else {
        let no_color = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        layer.with_ansi(is_terminal && !no_color).with_filter(args.log.clone()).boxed()
    }
}

/// Traces spans of level info and above, whatever the log filter: contexts must be propagated even
/// if nothing is logged.
fn trace_layer<S>(provider: &SdkTracerProvider) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    // The exporter must not trace itself.
    let exporter_targets =
        ["h2", "hyper", "hyper_util", "opentelemetry", "opentelemetry_otlp", "opentelemetry_sdk", "reqwest"];
    let filter = Targets::new()
        .with_default(LevelFilter::INFO)
        .with_targets(exporter_targets.into_iter().map(|target| (target, LevelFilter::OFF)));
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
        let message = format!("{endpoint} is not a URL: it must begin with http:// or https://");
        return Err(ConfigError::new(ENDPOINT, message));
    }
    // As the OpenTelemetry specification requires: the endpoint for traces is used as it is, the
    // common one is a base URL.
    let traces = env::var("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").ok().filter(|address| !address.is_empty());
    let address = traces.unwrap_or_else(|| format!("{}/v1/traces", endpoint.trim_end_matches('/')));
    // The first call in a process decides; every caller in this workspace installs ring.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let exporter = SpanExporter::builder().with_http().with_endpoint(address).build();
    Ok(builder.with_batch_exporter(exporter.map_err(|error| ConfigError::new(ENDPOINT, error))?))
}

#[cfg(not(feature = "otlp"))]
fn with_exporter(_: TracerProviderBuilder, _: &str) -> Result<TracerProviderBuilder, ConfigError> {
    Err(ConfigError::new(ENDPOINT, "this build has no OTLP exporter: it was compiled without feature `otlp`"))
}

const ENDPOINT: &str = "--otlp-endpoint";

#[cfg(test)]
mod tests;
