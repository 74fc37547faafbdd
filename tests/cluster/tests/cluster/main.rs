//! The services as processes, against a real NATS server and a real S3 store: every job ends in one terminal record and,
//! where it completes, in the result hash that `forge run` gives.

mod cheats;
mod clients;
mod commands;
mod distributed;
mod faults;
mod flow;
mod gpu;
mod mix;
mod permissions;
mod quotas;
mod servers;
mod settings;
mod support;
mod wire;
