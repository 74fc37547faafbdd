//! What happens to a message apart from the request that carries it: it is stored after its sender
//! has given it up, or a stream loses it.

use std::{sync::Arc, time::Duration};

use forge_bus::{Message, SharedBus, topology::Stream};
use tokio::time::sleep;

use crate::{process::Process, world::World};

/// Upper bound of the time after which a message is stored that its sender has given up: a client
/// library keeps it while it reconnects, and so does a proxy.
const MAX_LATENESS: Duration = Duration::from_secs(60);
/// Upper bound of the time after which a stored message is lost.
const MAX_TIME_TO_LOSS: Duration = Duration::from_secs(30);

/// Stores messages some time from now, even if their sender is dead by then.
pub fn deliver_late(
    sender: &Arc<Process>,
    bus: &SharedBus,
    operation: &str,
    messages: Vec<(Message, String)>,
) {
    let (world, bus, sender) = (Arc::clone(&sender.world), bus.clone(), sender.name.clone());
    let (operation, time) = (operation.to_owned(), world.up_to(MAX_LATENESS));
    world.record(&sender, format_args!("{operation} is late by {time:?}"));
    world.note_late_message();
    tokio::spawn(async move {
        sleep(time).await;
        // Garbage may be larger than its stream permits.
        let outcome = if bus.publish_all(messages).await.is_ok() { "late" } else { "late, and refused" };
        world.record(&sender, format_args!("{operation}: {outcome}"));
        world.note_late_arrival();
    });
}

/// Lets a stream lose a message some time from now, if it is a result. A shard without a result is
/// executed again; no service could make up for another message.
pub fn lose_result(world: &Arc<World>, bus: &SharedBus, message: &Message) {
    if Stream::for_subject(&message.subject) != Some(Stream::Results)
        || !world.happens(world.options.faults.lost_result)
    {
        return;
    }
    let (world, bus, subject) = (Arc::clone(world), bus.clone(), message.subject.clone());
    let time = world.up_to(MAX_TIME_TO_LOSS);
    tokio::spawn(async move {
        sleep(time).await;
        if world.is_healed() {
            return;
        }
        world.record("world", format_args!("{subject} is lost"));
        bus.purge(Stream::Results, &subject).await.expect("the in-process bus does not fail");
    });
}
