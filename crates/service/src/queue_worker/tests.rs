//! The message loop on the in-process bus, in tokio's paused time.

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

/// A handler that does what the payload of a message says.
#[derive(Default)]
struct ScriptedHandler {
    log: Mutex<Vec<String>>,
    in_flight: AtomicUsize,
    max_in_flight: AtomicUsize,
    stop: CancellationToken,
    called: Notify,
}

impl ScriptedHandler {
    fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }
}

#[async_trait]
impl Handler for ScriptedHandler {
    async fn handle(&self, delivery: Delivery) -> Settlement {
        let text = String::from_utf8(delivery.message.payload.to_vec()).unwrap();
        self.log.lock().unwrap().push(format!("{text} {}", delivery.attempt));
        self.called.notify_one();
        let now = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        self.max_in_flight.fetch_max(now, Ordering::SeqCst);
        let settlement = match text.as_str() {
            "panic" if delivery.attempt == 1 => {
                self.in_flight.fetch_sub(1, Ordering::SeqCst);
                panic!("requested by the message")
            }
            "always panic" => {
                self.in_flight.fetch_sub(1, Ordering::SeqCst);
                panic!("requested by the message")
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
                let attempts = text.strip_prefix("backoff ").map_or(0, |attempts| attempts.parse().unwrap());
                if delivery.attempt < attempts { Settlement::Backoff } else { Settlement::Ack }
            }
        };
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        settlement
    }

    async fn give_up(&self, delivery: Delivery, reason: String) -> Settlement {
        self.log.lock().unwrap().push(format!("given up {}: {reason}", delivery.attempt));
        // As a service whose bus is down at the first attempt.
        assert!(delivery.attempt > u64::from(MAX_PANICS), "requested by the test");
        Settlement::Ack
    }
}

struct QueueFixture {
    bus: Arc<MemoryBus>,
    handler: Arc<ScriptedHandler>,
    metrics: Metrics,
    service: JoinHandle<()>,
}

impl QueueFixture {
    fn new_bus() -> Arc<MemoryBus> {
        MemoryBus::new(TopologySettings { lease: LEASE, ..TopologySettings::default() })
    }

    fn start(concurrency: Concurrency) -> Self {
        Self::start_on(Self::new_bus(), concurrency)
    }

    fn start_on(bus: Arc<MemoryBus>, concurrency: Concurrency) -> Self {
        let handler = Arc::new(ScriptedHandler::default());
        let metrics = Metrics::new("test");
        let service = tokio::spawn(serve_queue(
            bus.clone() as SharedBus,
            QueueSettings { queue: Queue::Jobs, concurrency, lease: LEASE },
            metrics.clone(),
            handler.stop.clone(),
            handler.clone(),
        ));
        Self { bus, handler, metrics, service }
    }

    async fn start_prepared(concurrency: Concurrency) -> Self {
        let fixture = Self::start(concurrency);
        fixture.bus.prepare().await.unwrap();
        fixture
    }

    async fn publish(&self, texts: &[&str]) {
        publish(&self.bus, texts).await;
    }

    /// Waits until the queue is empty.
    async fn wait_until_empty(&self) {
        while self.bus.message_count(Stream::Jobs) > 0 {
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn stop(self) -> Vec<String> {
        self.handler.stop.cancel();
        self.service.await.unwrap();
        self.handler.log()
    }
}

async fn publish(bus: &MemoryBus, texts: &[&str]) {
    for (number, text) in texts.iter().enumerate() {
        let message = Message::new(SUBMIT_SUBJECT, text.as_bytes().to_vec());
        bus.publish(message, &format!("{number} {text}")).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn messages_are_acknowledged_and_counted() {
    let fixture = QueueFixture::start_prepared(Concurrency::new(4)).await;
    fixture.publish(&["a", "b", "c"]).await;
    fixture.wait_until_empty().await;
    let text = fixture.metrics.encode();
    assert!(
        text.contains("forge_messages_total{service=\"test\",queue=\"jobs\",outcome=\"ack\"} 3"),
        "{text}"
    );
    assert_eq!(fixture.stop().await, ["a 1", "b 1", "c 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_retry_is_redelivered_after_its_delay_and_an_unsettled_message_after_its_lease() {
    let fixture = QueueFixture::start_prepared(Concurrency::new(4)).await;
    let start = Instant::now();
    fixture.publish(&["retry"]).await;
    fixture.wait_until_empty().await;
    let elapsed = start.elapsed().as_millis();
    assert!((2000..2500).contains(&elapsed), "{elapsed} ms");
    fixture.publish(&["leave"]).await;
    fixture.wait_until_empty().await;
    let elapsed = start.elapsed().as_millis();
    assert!((5000..6000).contains(&elapsed), "{elapsed} ms");
    assert_eq!(fixture.stop().await, ["retry 1", "retry 2", "leave 1", "leave 2"]);
}

#[tokio::test(start_paused = true)]
async fn a_panicking_handler_is_survived_and_its_message_redelivered() {
    let fixture = QueueFixture::start_prepared(Concurrency::new(1)).await;
    fixture.publish(&["panic", "a"]).await;
    fixture.wait_until_empty().await;
    assert_eq!(fixture.stop().await, ["panic 1", "a 1", "panic 2"]);
}

#[tokio::test(start_paused = true)]
async fn a_message_whose_handler_always_panics_is_given_up() {
    let fixture = QueueFixture::start_prepared(Concurrency::new(1)).await;
    let start = Instant::now();
    fixture.publish(&["always panic"]).await;
    fixture.wait_until_empty().await;
    // The upper halves of 1, 2, 4, 8 and 16 s: the first attempt to give the message up panics too.
    let elapsed = start.elapsed().as_secs_f64();
    assert!((15.5..32.0).contains(&elapsed), "{elapsed} s");
    let text = fixture.metrics.encode();
    let panics = r#"forge_messages_total{service="test",queue="jobs",outcome="panic"} 6"#;
    assert!(text.contains(panics), "{text}");
    let attempts = (1..=6).map(|attempt| format!("always panic {attempt}"));
    let given_up = |panics| {
        let last = "last with: requested by the message";
        format!("given up {panics}: handling a message of queue jobs panicked {panics} times, {last}")
    };
    let log: Vec<_> = attempts.clone().take(5).chain([given_up(5)]).chain(attempts.skip(5)).collect();
    assert_eq!(fixture.stop().await, [log, vec![given_up(6)]].concat());
}

#[tokio::test(start_paused = true)]
async fn the_lease_is_renewed_while_a_message_is_handled() {
    let fixture = QueueFixture::start_prepared(Concurrency::new(2)).await;
    fixture.publish(&["sleep 30"]).await;
    fixture.wait_until_empty().await;
    assert_eq!(fixture.stop().await, ["sleep 30 1"]);
}

#[tokio::test(start_paused = true)]
async fn messages_that_were_received_and_wait_keep_their_leases() {
    let bus = QueueFixture::new_bus();
    bus.prepare().await.unwrap();
    publish(&bus, &["a", "b", "c", "d"]).await;
    // All four messages are fetched at once. Then a pause begins, longer than their leases.
    let checks = AtomicUsize::new(0);
    let pause = move || (checks.fetch_add(1, Ordering::SeqCst) == 1).then_some(10 * LEASE);
    let fixture = QueueFixture::start_on(bus, Concurrency::new(4).with_pause(pause));
    sleep(9 * LEASE).await;
    assert_eq!(fixture.handler.log(), ["a 1"]);
    fixture.wait_until_empty().await;
    assert_eq!(fixture.stop().await, ["a 1", "b 1", "c 1", "d 1"]);
}

#[tokio::test(start_paused = true)]
async fn shutdown_returns_messages_that_wait_at_once() {
    let bus = QueueFixture::new_bus();
    bus.prepare().await.unwrap();
    publish(&bus, &["a", "b"]).await;
    let checks = AtomicUsize::new(0);
    let pause = move || (checks.fetch_add(1, Ordering::SeqCst) == 1).then_some(10 * LEASE);
    let fixture = QueueFixture::start_on(bus.clone(), Concurrency::new(4).with_pause(pause));
    sleep(LEASE / 10).await;
    assert_eq!(fixture.stop().await, ["a 1"]);
    let mut pull = bus.open_queue(Queue::Jobs).await.unwrap();
    let redelivered = timeout(Duration::from_millis(10), pull.fetch(1)).await.unwrap().unwrap();
    assert_eq!((redelivered[0].message.payload.as_ref(), redelivered[0].attempt), (b"b".as_slice(), 2));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_cannot_be_handled_comes_back_after_growing_delays() {
    let fixture = QueueFixture::start_prepared(Concurrency::new(4)).await;
    let start = Instant::now();
    fixture.publish(&["backoff 8"]).await;
    fixture.wait_until_empty().await;
    // The upper halves of 1, 2, 4, 8, 16, 32 and 60 s.
    let elapsed = start.elapsed().as_secs_f64();
    assert!((61.5..124.0).contains(&elapsed), "{elapsed} s");
    assert_eq!(fixture.stop().await.len(), 8);
}

#[tokio::test(start_paused = true)]
async fn in_flight_messages_never_exceed_the_concurrency() {
    let fixture = QueueFixture::start_prepared(Concurrency::new(3)).await;
    fixture.publish(&["sleep 1"; 10]).await;
    fixture.wait_until_empty().await;
    assert_eq!(fixture.handler.max_in_flight.load(Ordering::SeqCst), 3);
    assert_eq!(fixture.stop().await.len(), 10);
}

#[tokio::test(start_paused = true)]
async fn the_loop_retries_until_the_queue_exists() {
    let fixture = QueueFixture::start(Concurrency::new(1));
    sleep(Duration::from_secs(20)).await;
    fixture.bus.prepare().await.unwrap();
    fixture.publish(&["a"]).await;
    fixture.wait_until_empty().await;
    assert_eq!(fixture.stop().await, ["a 1"]);
}

#[tokio::test(start_paused = true)]
async fn shutdown_completes_in_flight_messages_and_receives_no_more() {
    let fixture = QueueFixture::start_prepared(Concurrency::new(1)).await;
    fixture.publish(&["until stop", "a"]).await;
    fixture.handler.called.notified().await;
    let bus = fixture.bus.clone();
    let start = Instant::now();
    assert_eq!(fixture.stop().await, ["until stop 1"]);
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!(bus.message_count(Stream::Jobs), 1);
}

#[tokio::test(start_paused = true)]
async fn shutdown_returns_messages_that_exceed_the_grace_period() {
    let fixture = QueueFixture::start_prepared(Concurrency::new(1)).await;
    fixture.publish(&["never"]).await;
    fixture.handler.called.notified().await;
    let bus = fixture.bus.clone();
    let start = Instant::now();
    assert_eq!(fixture.stop().await, ["never 1"]);
    let elapsed = start.elapsed();
    assert!(
        elapsed >= SHUTDOWN_GRACE_PERIOD && elapsed < SHUTDOWN_GRACE_PERIOD + RETURN_TIMEOUT,
        "{elapsed:?}"
    );
    let mut pull = bus.open_queue(Queue::Jobs).await.unwrap();
    let redelivered = timeout(Duration::from_millis(10), pull.fetch(1))
        .await
        .expect("the message is redelivered at once")
        .unwrap();
    assert_eq!(redelivered[0].attempt, 2);
}

#[tokio::test(start_paused = true)]
async fn no_messages_are_received_during_a_pause() {
    let until = Instant::now() + Duration::from_secs(5);
    let left = move || Some(until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero());
    let fixture = QueueFixture::start_prepared(Concurrency::new(4).with_pause(left)).await;
    fixture.publish(&["a", "b"]).await;
    sleep(Duration::from_millis(4900)).await;
    assert_eq!(fixture.handler.log(), Vec::<String>::new());
    fixture.wait_until_empty().await;
    assert!(Instant::now() < until + Duration::from_millis(200));
    assert_eq!(fixture.stop().await, ["a 1", "b 1"]);
}
