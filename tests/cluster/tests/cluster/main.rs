//! The services as processes, against a real NATS server and a real S3 store. Every job ends in one
//! terminal record and, if it completes, with the result hash that `forge run` gives.

mod bus_observer;
mod cheating_workers;
mod command_output;
mod commands;
mod console;
mod crashes_and_duplicates;
mod gpu_adapter;
mod happy_path;
mod hostile_messages;
mod jetstream_limits;
mod job_mix;
mod manifest_log;
mod metrics_catalog;
mod networks;
mod permissions;
mod policies_and_rejections;
mod python_clients;
mod quotas;
mod raw_nats;
mod server_outages;
mod service_operations;
mod support;
