//! The console: web pages that show the jobs, agents and artifacts of a cluster. It reads the
//! planners' API, the registry of agents and the store, as the commands do, and changes nothing.
//!
//! Reading order: [`settings`](ConsoleSettings) → `server` → `request_policy` → `route` → `pages`,
//! which show what `cluster_reader` and `store_access` read; `response` sets the headers of every
//! answer.
//!
//! # Example
//!
//! ```no_run
//! use forge_bus::{MemoryBus, topology::TopologySettings};
//! use forge_console::{ConsoleSettings, StoreAccess};
//! use forge_store::{S3Options, StoreLocation};
//! use tokio_util::sync::CancellationToken;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let listener = forge_service::http_server::bind("127.0.0.1:8225".parse().unwrap()).await?;
//! let settings = ConsoleSettings {
//!     namespaces: vec!["jobs".to_owned()],
//!     hosts: Vec::new(),
//!     store: StoreAccess::new(StoreLocation::Directory("forge-out".into()), S3Options::default()),
//! };
//! let bus = MemoryBus::new(TopologySettings::default());
//! forge_console::run(listener, bus, settings, CancellationToken::new()).await;
//! # Ok(())
//! # }
//! ```

mod assets;
mod cached;
mod cluster_reader;
mod document_thread;
mod job_view;
mod pages;
mod request_policy;
mod response;
mod route;
mod server;
mod settings;
mod shown_document;
mod store_access;
mod text;

pub use self::{server::run, settings::ConsoleSettings, store_access::StoreAccess};
