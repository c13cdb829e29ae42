//! Who has to do what until when: the deadlines of one connection, and the account of what the client has consumed.
//!
//! Times are milliseconds of a monotonic clock and come as arguments. One row per [`TimerKind`]; the earliest row is
//! what the worker's timer wheel is told.

use std::collections::VecDeque;

/// A deadline's meaning. The order is the order in which simultaneous expiries are reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum TimerKind {
    /// The request's head must be complete (`head_timeout`).
    Head,
    /// The next request must begin (`keep_alive_timeout`).
    KeepAlive,
    /// Content must arrive, and fast enough (`body_timeout`, `min_body_rate`).
    Body,
    /// The response must be made and consumed (`RouteLimits.timeout`).
    Route,
    /// The oldest unconsumed chunk must be consumed (`chunk_timeout`).
    Chunk,
    /// The entire streamed response must be consumed (`complete_timeout`).
    Complete,
    /// What has been written must be consumed before the connection ends.
    Flush,
    /// A peer that has closed its half may wait this long for a response.
    HalfClose,
    /// A closed connection is read this long, so that the last response survives.
    Linger,
    /// A cancelled handler or generator must have cleaned up.
    CleanUp,
    /// A peer that is not being read must be asked whether it is still there.
    Presence,
}

impl TimerKind {
    /// Those that measure what the peer does.
    pub const OF_THE_PEER: [Self; 7] = [
        Self::Head,
        Self::KeepAlive,
        Self::Body,
        Self::Chunk,
        Self::Complete,
        Self::Flush,
        Self::HalfClose,
    ];

    const ALL: [Self; 11] = [
        Self::Head,
        Self::KeepAlive,
        Self::Body,
        Self::Route,
        Self::Chunk,
        Self::Complete,
        Self::Flush,
        Self::HalfClose,
        Self::Linger,
        Self::CleanUp,
        Self::Presence,
    ];
}

/// One deadline per [`TimerKind`], in milliseconds.
#[derive(Clone, Debug)]
pub struct Deadlines {
    at: [u64; TimerKind::ALL.len()],
}

const NEVER: u64 = u64::MAX;

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            at: [NEVER; TimerKind::ALL.len()],
        }
    }
}

impl Deadlines {
    /// Arms `kind`, replacing its former deadline.
    pub fn set(&mut self, kind: TimerKind, deadline: u64) {
        self.at[kind as usize] = deadline;
    }

    /// Disarms `kind`.
    pub fn clear(&mut self, kind: TimerKind) {
        self.at[kind as usize] = NEVER;
    }

    /// Disarms everything.
    pub fn clear_all(&mut self) {
        self.at = [NEVER; TimerKind::ALL.len()];
    }

    /// The deadline of `kind`, if it is armed.
    #[must_use]
    pub fn get(&self, kind: TimerKind) -> Option<u64> {
        Some(self.at[kind as usize]).filter(|at| *at != NEVER)
    }

    /// The earliest deadline.
    #[must_use]
    pub fn next(&self) -> Option<u64> {
        self.at.iter().copied().min().filter(|at| *at != NEVER)
    }

    /// Disarms and returns one kind whose deadline is not after `now`.
    pub fn expire(&mut self, now: u64) -> Option<TimerKind> {
        let kind = TimerKind::ALL
            .into_iter()
            .find(|kind| self.at[*kind as usize] <= now)?;
        self.clear(kind);
        Some(kind)
    }
}

/// How far the client has to keep up with an upload: no pause longer than `idle`, and on average not slower than
/// `min_rate` once `grace` has passed. Time in which the server itself does not read does not count.
#[derive(Clone, Copy, Debug)]
pub struct UploadPace {
    idle: u64,
    min_rate: u64,
    /// When the wait for content began, moved forward by the pauses the server made.
    started: u64,
    paused_at: Option<u64>,
    last: u64,
}

/// How long an upload may be slower than its minimum rate at the start, in milliseconds.
pub const UPLOAD_GRACE: u64 = 5_000;

impl UploadPace {
    /// `idle` in milliseconds (0: off), `min_rate` in bytes per second (0: off).
    #[must_use]
    pub fn new(now: u64, idle: u64, min_rate: u64) -> Self {
        Self {
            idle,
            min_rate,
            started: now,
            paused_at: None,
            last: now,
        }
    }

    /// Content has arrived.
    pub fn progress(&mut self, now: u64) {
        self.last = now;
    }

    /// The server stops reading (the handler is behind).
    pub fn pause(&mut self, now: u64) {
        self.paused_at.get_or_insert(now);
    }

    /// The server reads again.
    pub fn resume(&mut self, now: u64) {
        if let Some(paused) = self.paused_at.take() {
            self.started = self.started.saturating_add(now.saturating_sub(paused));
            self.last = now;
        }
    }

    /// By when more must have arrived, given `received` bytes so far; `None` while paused or without limits.
    #[must_use]
    pub fn deadline(&self, received: u64) -> Option<u64> {
        if self.paused_at.is_some() {
            return None;
        }
        let idle = (self.idle > 0).then(|| self.last.saturating_add(self.idle));
        let earned = received.saturating_mul(1000).checked_div(self.min_rate);
        let grace = if self.idle > 0 {
            UPLOAD_GRACE.min(self.idle)
        } else {
            UPLOAD_GRACE
        };
        let rate = earned.map(|earned| self.started.saturating_add(grace).saturating_add(earned));
        idle.into_iter().chain(rate).min()
    }
}

/// What has been written but not yet consumed by the client: a queue of (end offset, deadline).
///
/// Pieces handed over within [`Unconsumed::MERGE`] of each other share an entry, which is due when the last piece it
/// could hold is: the queue is bounded by time, not by the number of chunks, and no piece is ever due early.
#[derive(Debug, Default)]
pub struct Unconsumed {
    queue: VecDeque<(u64, u64)>,
}

impl Unconsumed {
    /// How long an entry takes in further pieces, in milliseconds.
    pub const MERGE: u64 = 50;

    /// Adds a piece that ends at `end` bytes written and must be consumed by `deadline`.
    pub fn push(&mut self, end: u64, deadline: u64) {
        if let Some(last) = self.queue.back_mut() {
            if deadline <= last.1 {
                last.0 = end;
                return;
            }
        }
        self.queue
            .push_back((end, deadline.saturating_add(Self::MERGE)));
    }

    /// Whether a piece is known that ends at `end` or later.
    #[must_use]
    pub fn covers(&self, end: u64) -> bool {
        self.queue.back().is_some_and(|(known, _)| *known >= end)
    }

    /// Forgets the pieces that end at or before `consumed`, and says whether there were any.
    pub fn consume(&mut self, consumed: u64) -> bool {
        let before = self.queue.len();
        while self.queue.front().is_some_and(|(end, _)| *end <= consumed) {
            self.queue.pop_front();
        }
        self.queue.len() < before
    }

    /// Puts all deadlines off.
    pub fn put_off(&mut self, by: u64) {
        for (_, deadline) in &mut self.queue {
            *deadline = deadline.saturating_add(by);
        }
    }

    /// When the oldest piece is due.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        self.queue.front().map(|(_, deadline)| *deadline)
    }

    /// Whether everything has been consumed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.queue.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_deadline_is_next_and_expires_once() {
        let mut deadlines = Deadlines::default();
        assert_eq!(deadlines.next(), None);
        deadlines.set(TimerKind::Route, 300);
        deadlines.set(TimerKind::Chunk, 200);
        assert_eq!(deadlines.next(), Some(200));
        assert_eq!(deadlines.expire(199), None);
        assert_eq!(deadlines.expire(200), Some(TimerKind::Chunk));
        assert_eq!(deadlines.expire(200), None);
        assert_eq!(deadlines.get(TimerKind::Route), Some(300));
        deadlines.clear_all();
        assert_eq!(deadlines.next(), None);
    }

    #[test]
    fn every_kind_has_its_own_row() {
        for (row, kind) in TimerKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, row);
        }
    }

    #[test]
    fn an_upload_may_not_pause_longer_than_its_idle_limit() {
        let mut pace = UploadPace::new(1_000, 2_000, 0);
        assert_eq!(pace.deadline(0), Some(3_000));
        pace.progress(2_500);
        assert_eq!(pace.deadline(1), Some(4_500));
    }

    #[test]
    fn one_byte_every_nine_seconds_does_not_win() {
        let mut pace = UploadPace::new(0, 30_000, 240);
        pace.progress(9_000);
        let deadline = pace.deadline(1).unwrap();
        assert!(deadline <= UPLOAD_GRACE + 5, "{deadline}");
        // 2,400 bytes earn ten seconds on top of the grace.
        assert_eq!(pace.deadline(2_400), Some(UPLOAD_GRACE + 10_000));
    }

    #[test]
    fn time_in_which_the_server_does_not_read_is_not_the_clients() {
        let mut pace = UploadPace::new(0, 2_000, 1_000);
        pace.pause(1_000);
        assert_eq!(pace.deadline(0), None);
        pace.pause(1_500);
        pace.resume(11_000);
        assert_eq!(pace.deadline(0), Some(10_000 + 2_000));
        assert_eq!(pace.deadline(10_000), Some(13_000));
    }

    #[test]
    fn an_upload_without_limits_has_no_deadline() {
        assert_eq!(UploadPace::new(5, 0, 0).deadline(3), None);
    }

    #[test]
    fn chunks_are_due_in_order_and_forgotten_when_consumed() {
        let mut unconsumed = Unconsumed::default();
        unconsumed.push(10, 1_000);
        unconsumed.push(20, 1_010);
        unconsumed.push(30, 2_000);
        let first = Some(1_000 + Unconsumed::MERGE);
        assert_eq!(unconsumed.deadline(), first);
        unconsumed.consume(19);
        assert_eq!(
            unconsumed.deadline(),
            first,
            "pieces handed over together are due together"
        );
        unconsumed.consume(20);
        assert_eq!(unconsumed.deadline(), Some(2_000 + Unconsumed::MERGE));
        unconsumed.consume(30);
        assert!(unconsumed.is_empty());
    }

    #[test]
    fn all_deadlines_can_be_put_off() {
        let mut unconsumed = Unconsumed::default();
        unconsumed.push(10, 1_000);
        unconsumed.push(20, 2_000);
        unconsumed.put_off(500);
        assert_eq!(unconsumed.deadline(), Some(1_500 + Unconsumed::MERGE));
        assert!(!unconsumed.consume(9));
        assert!(unconsumed.consume(10));
        assert_eq!(unconsumed.deadline(), Some(2_500 + Unconsumed::MERGE));
        assert!(unconsumed.covers(20) && !unconsumed.covers(21));
    }

    #[test]
    fn many_small_chunks_do_not_make_a_long_queue() {
        let mut unconsumed = Unconsumed::default();
        for n in 0..100_000_u64 {
            unconsumed.push(n, 10_000 + n / 100);
        }
        assert!(
            unconsumed.queue.len() <= 1_000 / 50 + 1,
            "{}",
            unconsumed.queue.len()
        );
    }
}
