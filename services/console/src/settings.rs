//! Settings of the console.

use crate::store_access::StoreAccess;

/// What the console shows, and to whom.
#[derive(Debug)]
pub struct ConsoleSettings {
    /// Buckets of job records, the default first.
    pub namespaces: Vec<String>,
    /// Names and addresses, besides those of the loopback interface, under which browsers reach the
    /// console: a request for another host is refused.
    pub hosts: Vec<String>,
    /// The store of the artifacts.
    pub store: StoreAccess,
}
