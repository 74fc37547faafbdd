//! The loop over the in-process bus, in tokio's paused time.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use forge_bus::{
    Bus, Message,
    memory::MemoryBus,
    topology::{SUBMIT_SUBJECT, Stream, TopologySettings},
};
use tokio::{sync::Notify, task::JoinHandle};

use super::*;

const LEASE: Duration = Duration::from_secs(3);

/// Does as the payload says.
#[derive(Default)]
struct Script {
    log: Mutex<Vec<String>>,
    in_hand: AtomicUsize,
    most_in_hand: AtomicUsize,
    stop: CancellationToken,
    called: Notify,
}

impl Script {
    fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }
}

#[async_trait]
impl Handler for Script {
    async fn handle(&self, delivery: Delivery) -> Settlement {
        let text = String::from_utf8(delivery.message.payload.to_vec()).unwrap();
        self.log.lock().unwrap().push(format!("{text} {}", delivery.attempt));
        self.called.notify_one();
        let now = self.in_hand.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_in_hand.fetch_max(now, Ordering::SeqCst);
        let settlement = match text.as_str() {
            "panic" if delivery.attempt == 1 => {
                self.in_hand.fetch_sub(1, Ordering::SeqCst);
                panic!("as asked")
            }
            "retry" if delivery.attempt == 1 => Settlement::Retry(Duration::from_secs(2)),
            "leave" if delivery.attempt == 1 => Settlement::Leave,
            "until stop" => {
                self.stop.cancelled().await;
                Settlement::Ack
            }
            "never" => std::future::pending().await,
            text => {
                if let Some(seconds) = text.strip_prefix("sleep ") {
                    sleep(Duration::from_secs(seconds.parse().unwrap())).await;
                }
                Settlement::Ack
            }
        };
        self.in_hand.fetch_sub(1, Ordering::SeqCst);
        settlement
    }
}

struct Setup {
    bus: Arc<MemoryBus>,
    script: Arc<Script>,
    metrics: Metrics,
    served: JoinHandle<()>,
}

impl Setup {
    fn start(concurrency: Concurrency) -> Self {
        let bus = MemoryBus::new(TopologySettings { lease: LEASE, ..TopologySettings::default() });
        let script = Arc::new(Script::default());
        let metrics = Metrics::new("test");
        let served = tokio::spawn(serve_queue(
            bus.clone() as SharedBus,
            QueueSettings { queue: Queue::Jobs, concurrency, lease: LEASE },
            metrics.clone(),
            script.stop.clone(),
            script.clone(),
        ));
        Self { bus, script, metrics, served }
    }

    async fn prepared(concurrency: Concurrency) -> Self {
        let setup = Self::start(concurrency);
        setup.bus.prepare().await.unwrap();
        setup
    }

    async fn publish(&self, texts: &[&str]) {
        for (number, text) in texts.iter().enumerate() {
            let message = Message::new(SUBMIT_SUBJECT, text.as_bytes().to_vec());
            self.bus.publish(message, &format!("{number} {text}")).await.unwrap();
        }
    }

    /// Waits until the queue is empty.
    async fn done(&self) {
        while self.bus.message_count(Stream::Jobs) > 0 {
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn stop(self) -> Vec<String> {
        self.script.stop.cancel();
        self.served.await.unwrap();
        self.script.log()
    }
}

#[tokio::test(start_paused = true)]
async fn messages_are_acknowledged_and_counted() {
    let setup = Setup::prepared(Concurrency::new(4)).await;
    setup.publish(&["a", "b", "c"]).await;
    setup.done().await;
    let text = setup.metrics.encode();
    assert!(
        text.contains("forge_messages_total{service=\"test\",queue=\"jobs\",outcome=\"ack\"} 3"),
        "{text}"
    );
    assert_eq!(setup.stop().await, ["a 1", "b 1", "c 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_retry_comes_after_its_delay_and_what_is_left_after_the_lease() {
    let setup = Setup::prepared(Concurrency::new(4)).await;
    let start = Instant::now();
    setup.publish(&["retry"]).await;
    setup.done().await;
    let elapsed = start.elapsed().as_millis();
    assert!((2000..2500).contains(&elapsed), "{elapsed} ms");
    setup.publish(&["leave"]).await;
    setup.done().await;
    let elapsed = start.elapsed().as_millis();
    assert!((5000..6000).contains(&elapsed), "{elapsed} ms");
    assert_eq!(setup.stop().await, ["retry 1", "retry 2", "leave 1", "leave 2"]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_survived_and_the_message_tried_again() {
    let setup = Setup::prepared(Concurrency::new(1)).await;
    setup.publish(&["panic", "a"]).await;
    setup.done().await;
    assert_eq!(setup.stop().await, ["panic 1", "a 1", "panic 2"]);
}

#[tokio::test(start_paused = true)]
async fn the_lease_is_renewed_while_a_message_is_handled() {
    let setup = Setup::prepared(Concurrency::new(2)).await;
    setup.publish(&["sleep 30"]).await;
    setup.done().await;
    assert_eq!(setup.stop().await, ["sleep 30 1"]);
}

#[tokio::test(start_paused = true)]
async fn no_more_than_the_limit_are_in_hand() {
    let setup = Setup::prepared(Concurrency::new(3)).await;
    setup.publish(&["sleep 1"; 10]).await;
    setup.done().await;
    assert_eq!(setup.script.most_in_hand.load(Ordering::SeqCst), 3);
    assert_eq!(setup.stop().await.len(), 10);
}

#[tokio::test(start_paused = true)]
async fn the_loop_waits_for_a_queue_that_does_not_exist_yet() {
    let setup = Setup::start(Concurrency::new(1));
    sleep(Duration::from_secs(20)).await;
    setup.bus.prepare().await.unwrap();
    setup.publish(&["a"]).await;
    setup.done().await;
    assert_eq!(setup.stop().await, ["a 1"]);
}

#[tokio::test(start_paused = true)]
async fn at_the_end_messages_in_hand_are_finished_and_no_more_are_taken() {
    let setup = Setup::prepared(Concurrency::new(1)).await;
    setup.publish(&["until stop", "a"]).await;
    setup.script.called.notified().await;
    let bus = setup.bus.clone();
    let start = Instant::now();
    assert_eq!(setup.stop().await, ["until stop 1"]);
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!(bus.message_count(Stream::Jobs), 1);
}

#[tokio::test(start_paused = true)]
async fn at_the_end_what_does_not_finish_is_given_back() {
    let setup = Setup::prepared(Concurrency::new(1)).await;
    setup.publish(&["never"]).await;
    setup.script.called.notified().await;
    let bus = setup.bus.clone();
    let start = Instant::now();
    assert_eq!(setup.stop().await, ["never 1"]);
    let elapsed = start.elapsed();
    assert!(
        elapsed >= SHUTDOWN_GRACE_PERIOD && elapsed < SHUTDOWN_GRACE_PERIOD + RETURN_TIMEOUT,
        "{elapsed:?}"
    );
    let mut pull = bus.open_queue(Queue::Jobs).await.unwrap();
    let again =
        timeout(Duration::from_millis(10), pull.fetch(1)).await.expect("it is there at once").unwrap();
    assert_eq!(again[0].attempt, 2);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_received_during_a_pause() {
    let until = Instant::now() + Duration::from_secs(5);
    let left = move || Some(until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero());
    let setup = Setup::prepared(Concurrency::new(4).with_pause(left)).await;
    setup.publish(&["a", "b"]).await;
    sleep(Duration::from_millis(4900)).await;
    assert_eq!(setup.script.log(), Vec::<String>::new());
    setup.done().await;
    assert!(Instant::now() < until + Duration::from_millis(200));
    assert_eq!(setup.stop().await, ["a 1", "b 1"]);
}
