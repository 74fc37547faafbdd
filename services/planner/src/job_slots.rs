//! Slots for driven jobs, shared fairly between submitters: a free slot is given at once, and a
//! slot that becomes free goes to the waiting submitter with the fewest slots. So a submitter with
//! many jobs cannot keep others out. Running jobs are never interrupted. Knows nothing about jobs.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use forge_contract::ids::Submitter;
use tokio::sync::oneshot;

/// Submissions of one submitter that may wait here for a slot. With two, a submitter that is next
/// again finds its next submission already received.
const MAX_WAITING_PER_SUBMITTER: usize = 2;

/// The slots of one planner.
#[derive(Debug)]
pub struct JobSlots {
    state: Mutex<SlotState>,
}

#[derive(Debug)]
struct SlotState {
    free: usize,
    /// Slots in use, by submitter.
    used: HashMap<Submitter, usize>,
    /// In order of arrival.
    waiting: Vec<WaitingSubmission>,
}

#[derive(Debug)]
struct WaitingSubmission {
    submitter: Submitter,
    /// Takes the slot. Closed if the submission no longer waits.
    sender: oneshot::Sender<JobSlot>,
}

/// A slot in use; dropping it frees the slot.
#[derive(Debug)]
pub struct JobSlot {
    slots: Arc<JobSlots>,
    submitter: Submitter,
}

impl JobSlots {
    /// Provides `max_jobs` slots, at least one.
    pub fn new(max_jobs: usize) -> Arc<Self> {
        let state = SlotState { free: max_jobs.max(1), used: HashMap::new(), waiting: Vec::new() };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// Waits for a slot. Returns `None` at once if too many submissions of this submitter wait
    /// already: the submission should go back to its queue, so that others are received.
    pub async fn acquire(self: &Arc<Self>, submitter: &Submitter) -> Option<JobSlot> {
        let receiver = {
            let mut state = self.lock();
            if state.free > 0 {
                state.free -= 1;
                return Some(self.take(&mut state, submitter));
            }
            state.waiting.retain(|waiting| !waiting.sender.is_closed());
            let waiting = state.waiting.iter().filter(|waiting| waiting.submitter == *submitter);
            if waiting.count() >= MAX_WAITING_PER_SUBMITTER {
                return None;
            }
            let (sender, receiver) = oneshot::channel();
            state.waiting.push(WaitingSubmission { submitter: submitter.clone(), sender });
            receiver
        };
        receiver.await.ok()
    }

    /// Counts a slot as used by `submitter`.
    fn take(self: &Arc<Self>, state: &mut SlotState, submitter: &Submitter) -> JobSlot {
        *state.used.entry(submitter.clone()).or_default() += 1;
        JobSlot { slots: Arc::clone(self), submitter: submitter.clone() }
    }

    /// Frees a slot of `submitter`: passes it to the next submission that still waits.
    fn release(self: &Arc<Self>, submitter: &Submitter) {
        let mut state = self.lock();
        if let Some(used) = state.used.get_mut(submitter) {
            *used -= 1;
            if *used == 0 {
                state.used.remove(submitter);
            }
        }
        state.waiting.retain(|waiting| !waiting.sender.is_closed());
        let Some(next) = state.next_waiting() else {
            state.free += 1;
            return;
        };
        let WaitingSubmission { submitter, sender } = state.waiting.remove(next);
        let slot = self.take(&mut state, &submitter);
        drop(state);
        // If the submission stopped waiting just now, the slot is returned here and its drop
        // releases it again; so the lock must not be held.
        drop(sender.send(slot));
    }

    fn lock(&self) -> MutexGuard<'_, SlotState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SlotState {
    /// Index of the first waiting submission of a submitter with the fewest slots.
    fn next_waiting(&self) -> Option<usize> {
        let used = |index: &usize| self.used.get(&self.waiting[*index].submitter).copied().unwrap_or(0);
        (0..self.waiting.len()).min_by_key(used)
    }
}

impl Drop for JobSlot {
    fn drop(&mut self) {
        self.slots.release(&self.submitter);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        task::JoinHandle,
        time::{sleep, timeout},
    };

    use super::*;

    fn submitter(name: &str) -> Submitter {
        name.parse().unwrap()
    }

    /// Starts waiting for a slot.
    async fn wait(slots: &Arc<JobSlots>, name: &str) -> JoinHandle<Option<JobSlot>> {
        let (slots, submitter) = (Arc::clone(slots), submitter(name));
        let waiting = tokio::spawn(async move { slots.acquire(&submitter).await });
        sleep(Duration::from_millis(1)).await;
        waiting
    }

    #[tokio::test(start_paused = true)]
    async fn freed_slots_go_to_the_submitter_with_the_fewest() {
        let slots = JobSlots::new(4);
        let mut of_alice = Vec::new();
        for _ in 0..4 {
            of_alice.push(slots.acquire(&submitter("alice")).await.unwrap());
        }
        let alice = wait(&slots, "alice").await;
        let bobs = [wait(&slots, "bob").await, wait(&slots, "bob").await];
        assert!(!alice.is_finished());
        let mut of_bob = Vec::new();
        for bob in bobs {
            of_alice.pop();
            of_bob.push(bob.await.unwrap().unwrap());
        }
        // Both have two now, and alice has waited longer than bob's next submission.
        let bob = wait(&slots, "bob").await;
        of_bob.pop();
        assert!(bob.await.unwrap().is_some(), "bob has one slot, and alice has two");
        assert!(!alice.is_finished());
        of_alice.pop();
        assert!(alice.await.unwrap().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_few_submissions_of_a_submitter_wait() {
        let slots = JobSlots::new(1);
        let first = slots.acquire(&submitter("alice")).await.unwrap();
        let mut waiting = Vec::new();
        for _ in 0..MAX_WAITING_PER_SUBMITTER {
            waiting.push(wait(&slots, "alice").await);
        }
        assert!(slots.acquire(&submitter("alice")).await.is_none());
        let bob = wait(&slots, "bob").await;
        assert!(!bob.is_finished());
        // A submission that no longer waits makes room, and is passed over.
        waiting.remove(0).abort();
        sleep(Duration::from_millis(1)).await;
        let again = wait(&slots, "alice").await;
        assert!(!again.is_finished());
        drop(first);
        drop(waiting.remove(0).await.unwrap());
        drop(bob.await.unwrap());
        drop(again.await.unwrap());
        assert!(slots.acquire(&submitter("carol")).await.is_some(), "every slot is free again");
    }

    #[tokio::test(start_paused = true)]
    async fn slot_of_a_submission_that_stops_waiting_is_not_lost() {
        let slots = JobSlots::new(1);
        let first = slots.acquire(&submitter("alice")).await.unwrap();
        let (bob, carol) = (submitter("bob"), submitter("carol"));
        {
            let mut waiting = Box::pin(slots.acquire(&bob));
            assert!(timeout(Duration::from_millis(1), &mut waiting).await.is_err());
            // The slot is sent, but the future that waits for it is dropped before it runs.
            drop(first);
        }
        let acquired = timeout(Duration::from_secs(1), slots.acquire(&carol)).await;
        assert!(acquired.unwrap().is_some());
    }
}
