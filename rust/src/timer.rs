//! One hashed timer wheel per worker: all deadlines of all its connections. Time is an argument, never read.
//!
//! A deadline belongs to the tick (64 ms) it falls into, a tick to slot `tick % 512`: one turn is 32.8 s, and a slot
//! can hold ticks of several turns. Each slot is a doubly linked list through the entries, so scheduling and cancelling are
//! O(1), and rescheduling within the same tick (the usual case on a busy connection) is one store. Each slot knows its
//! earliest tick and how many entries that tick has, so that entries of later turns neither wake the loop nor are
//! looked at until their turn comes.
//!
//! Varghese and Lauck, "Hashed and Hierarchical Timing Wheels", scheme 6.

/// Milliseconds per tick: how late a timer may fire.
const TICK: u64 = 64;
const SLOTS: usize = 512;
/// Words of the bitmap.
const WORDS: usize = SLOTS / 64;
/// The end of a list.
const NONE: u32 = u32::MAX;
/// The earliest tick of an empty slot. No deadline has it: `u64::MAX / TICK` is smaller.
const NEVER: u64 = u64::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    Idle,
    Scheduled,
}

#[derive(Clone, Debug)]
struct Entry {
    deadline: u64,
    /// The tick it is filed under: the deadline's, or the current one for a deadline in the past.
    tick: u64,
    previous: u32,
    /// The next entry of the slot, or of the free list.
    next: u32,
    state: State,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    earliest: u64,
    /// How many entries are filed under `earliest`.
    count: u32,
    head: u32,
}

/// Deadlines by key, in milliseconds of any monotonic clock.
///
/// A key nobody registered is ignored everywhere.
///
/// ```
/// use vibora::timer::TimerWheel;
///
/// let mut wheel = TimerWheel::new(1_000);
/// let key = wheel.register();
/// wheel.schedule(key, 6_000);
/// let wakeup = wheel.next_wakeup().unwrap_or_default();
/// assert!((6_000..6_064).contains(&wakeup));
///
/// let mut fired = Vec::new();
/// wheel.expire(wakeup, &mut fired);
/// assert_eq!(fired, [key]);
/// assert_eq!(wheel.next_wakeup(), None);
/// ```
#[derive(Clone, Debug)]
pub struct TimerWheel {
    entries: Vec<Entry>,
    free: u32,
    slots: Box<[Slot; SLOTS]>,
    /// One bit per slot that is not empty.
    occupied: [u64; WORDS],
    /// The tick of the latest [`expire`](Self::expire): no entry is filed under an earlier one.
    current: u64,
    len: usize,
}

impl TimerWheel {
    /// Returns a wheel without keys whose clock stands at `now`.
    #[must_use]
    pub fn new(now: u64) -> Self {
        let empty = Slot {
            earliest: NEVER,
            count: 0,
            head: NONE,
        };
        Self {
            entries: Vec::new(),
            free: NONE,
            slots: Box::new([empty; SLOTS]),
            occupied: [0; WORDS],
            current: now / TICK,
            len: 0,
        }
    }

    /// Returns a key with nothing scheduled; one that was released, if there is any.
    ///
    /// # Panics
    ///
    /// When 4,294,967,295 keys are in use.
    pub fn register(&mut self) -> u32 {
        if let Some(entry) = self.entries.get_mut(self.free as usize) {
            let key = self.free;
            self.free = entry.next;
            entry.state = State::Idle;
            return key;
        }
        let key = u32::try_from(self.entries.len()).unwrap_or(NONE);
        assert!(key != NONE, "too many timers");
        self.entries.push(Entry {
            deadline: 0,
            tick: 0,
            previous: NONE,
            next: NONE,
            state: State::Idle,
        });
        key
    }

    /// Cancels and gives the key back, to be returned by a later [`register`](Self::register).
    pub fn release(&mut self, key: u32) {
        self.cancel(key);
        if let Some(entry) = self.entries.get_mut(key as usize) {
            if entry.state == State::Idle {
                entry.state = State::Free;
                entry.next = self.free;
                self.free = key;
            }
        }
    }

    /// Sets the key's deadline, in place of the one it has. A deadline in the past fires on the next
    /// [`expire`](Self::expire).
    pub fn schedule(&mut self, key: u32, deadline: u64) {
        let tick = (deadline / TICK).max(self.current);
        let Some(entry) = self.entries.get_mut(key as usize) else {
            return;
        };
        match entry.state {
            State::Free => return,
            State::Scheduled => {
                entry.deadline = deadline;
                if entry.tick == tick {
                    return;
                }
                self.unlink(key);
            }
            State::Idle => {
                entry.deadline = deadline;
            }
        }
        self.link(key, tick);
    }

    /// Forgets the key's deadline.
    pub fn cancel(&mut self, key: u32) {
        if self
            .entries
            .get(key as usize)
            .is_some_and(|entry| entry.state == State::Scheduled)
        {
            self.unlink(key);
        }
    }

    /// The key's deadline, as it was scheduled.
    #[must_use]
    pub fn deadline(&self, key: u32) -> Option<u64> {
        self.entries
            .get(key as usize)
            .filter(|entry| entry.state == State::Scheduled)
            .map(|entry| entry.deadline)
    }

    /// When to call [`expire`](Self::expire): not before the earliest deadline and less than 64 ms after it (or after
    /// the clock, for deadlines in the past). `None` when nothing is scheduled.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<u64> {
        let start = slot_of(self.current);
        let mut earliest = NEVER;
        // The occupied slots in the order of the clock: from the current one to the end, then from the first on. The
        // current word comes first for the slots from the current one on and last for those before it.
        let mut bits = self.occupied[start / 64] & (u64::MAX << (start % 64));
        for step in 0..=WORDS {
            let word = (start / 64 + step) % WORDS;
            if step > 0 {
                bits = self.occupied[word];
            }
            while bits != 0 {
                let tick = self.slots[word * 64 + bits.trailing_zeros() as usize].earliest;
                // Of this turn: the slots after it hold later ticks only, and so did those before it.
                if tick - self.current < SLOTS as u64 {
                    return Some(last_millisecond(tick));
                }
                earliest = earliest.min(tick);
                bits &= bits - 1;
            }
        }
        (earliest != NEVER).then(|| last_millisecond(earliest))
    }

    /// Moves the clock to `now` and appends every key whose deadline has come to `fired`, earliest deadline first. They
    /// stay registered and have no deadline any more.
    pub fn expire(&mut self, now: u64, fired: &mut Vec<u32>) {
        let target = (now / TICK).max(self.current);
        let first = fired.len();
        if self.len > 0 {
            // A jump of more than a turn visits each slot once.
            let steps = (target - self.current).min(SLOTS as u64 - 1);
            for tick in self.current..=self.current + steps {
                let index = slot_of(tick);
                if self.slots[index].earliest <= target {
                    self.expire_slot(index, now, fired);
                }
            }
        }
        self.current = target;
        if let Some(fired) = fired.get_mut(first..) {
            fired.sort_unstable_by_key(|&key| (self.entries[key as usize].deadline, key));
        }
    }

    /// The number of scheduled deadlines.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no deadline is scheduled.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn expire_slot(&mut self, index: usize, now: u64, fired: &mut Vec<u32>) {
        let mut key = self.slots[index].head;
        while let Some(entry) = self.entries.get(key as usize) {
            let next = entry.next;
            if entry.deadline <= now {
                self.unlink(key);
                fired.push(key);
            }
            key = next;
        }
    }

    /// Files an entry that is in no list.
    fn link(&mut self, key: u32, tick: u64) {
        let index = slot_of(tick);
        let slot = &mut self.slots[index];
        let next = slot.head;
        slot.head = key;
        if tick < slot.earliest {
            slot.earliest = tick;
            slot.count = 1;
        } else if tick == slot.earliest {
            slot.count += 1;
        }
        self.occupied[index / 64] |= 1 << (index % 64);
        self.len += 1;
        let entry = &mut self.entries[key as usize];
        entry.tick = tick;
        entry.previous = NONE;
        entry.next = next;
        entry.state = State::Scheduled;
        if let Some(next) = self.entries.get_mut(next as usize) {
            next.previous = key;
        }
    }

    /// Takes a scheduled entry out of its list.
    fn unlink(&mut self, key: u32) {
        let entry = &mut self.entries[key as usize];
        let (tick, previous, next) = (entry.tick, entry.previous, entry.next);
        entry.state = State::Idle;
        self.len -= 1;
        if let Some(next) = self.entries.get_mut(next as usize) {
            next.previous = previous;
        }
        let index = slot_of(tick);
        let slot = &mut self.slots[index];
        if let Some(previous) = self.entries.get_mut(previous as usize) {
            previous.next = next;
        } else {
            slot.head = next;
        }
        if tick == slot.earliest {
            slot.count -= 1;
            if slot.count == 0 {
                self.find_earliest(index);
            }
        }
    }

    /// Looks for the earliest tick of a slot whose entries are all of later turns, or gone.
    fn find_earliest(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        slot.earliest = NEVER;
        slot.count = 0;
        let mut key = slot.head;
        while let Some(entry) = self.entries.get(key as usize) {
            if entry.tick < slot.earliest {
                slot.earliest = entry.tick;
                slot.count = 0;
            }
            if entry.tick == slot.earliest {
                slot.count += 1;
            }
            key = entry.next;
        }
        if slot.head == NONE {
            self.occupied[index / 64] &= !(1 << (index % 64));
        }
    }
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "the remainder is below 512"
)]
fn slot_of(tick: u64) -> usize {
    (tick % SLOTS as u64) as usize
}

/// When every deadline of a tick has come. `u64::MAX` for the last tick there is.
fn last_millisecond(tick: u64) -> u64 {
    tick * TICK + (TICK - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    /// One turn of the wheel.
    const TURN: u64 = TICK * SLOTS as u64;

    struct Random(u64);

    impl Random {
        /// `SplitMix64`.
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }

        fn below(&mut self, bound: u64) -> u64 {
            self.next() % bound
        }
    }

    fn expired(wheel: &mut TimerWheel, now: u64) -> Vec<u32> {
        let mut fired = Vec::new();
        wheel.expire(now, &mut fired);
        fired
    }

    #[test]
    fn fires_at_the_deadline_and_not_before() {
        for deadline in [
            0,
            1,
            63,
            64,
            65,
            1_000,
            TURN - 1,
            TURN,
            TURN + 1,
            10 * TURN + 7,
            u64::MAX,
        ] {
            let mut wheel = TimerWheel::new(0);
            let key = wheel.register();
            wheel.schedule(key, deadline);
            assert_eq!(wheel.deadline(key), Some(deadline));
            if let Some(before) = deadline.checked_sub(1) {
                assert!(expired(&mut wheel, before).is_empty(), "{deadline}");
                assert_eq!(wheel.len(), 1);
            }
            assert_eq!(expired(&mut wheel, deadline), [key], "{deadline}");
            assert_eq!((wheel.deadline(key), wheel.next_wakeup()), (None, None));
            assert!(wheel.is_empty());
        }
    }

    #[test]
    fn a_deadline_in_the_past_fires_on_the_next_expire() {
        let mut wheel = TimerWheel::new(1_000_000);
        let (late, soon) = (wheel.register(), wheel.register());
        wheel.schedule(soon, 1_000_001);
        wheel.schedule(late, 3);
        assert_eq!(wheel.deadline(late), Some(3));
        assert!(wheel.next_wakeup().unwrap() < 1_000_000 + TICK);
        assert_eq!(expired(&mut wheel, 1_000_000), [late]);
        assert_eq!(expired(&mut wheel, 1_000_001), [soon]);
    }

    #[test]
    fn fires_in_the_order_of_deadlines_even_after_a_long_sleep() {
        let mut wheel = TimerWheel::new(0);
        let deadlines = [5 * TURN, 70, 65, TURN + 1, 3, 2 * TURN + 65, 66];
        let keys: Vec<u32> = deadlines.iter().map(|_| wheel.register()).collect();
        for (key, deadline) in keys.iter().zip(deadlines) {
            wheel.schedule(*key, deadline);
        }
        let mut fired = vec![99];
        wheel.expire(u64::MAX, &mut fired);
        assert_eq!(fired, [99, 4, 2, 6, 1, 3, 5, 0]);
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_fires_nothing_early() {
        let mut wheel = TimerWheel::new(5_000);
        let key = wheel.register();
        wheel.schedule(key, 5_010);
        for now in [5_000, 5_009, 5_009, 4_000, 0] {
            assert!(expired(&mut wheel, now).is_empty());
        }
        assert_eq!(expired(&mut wheel, 5_010), [key]);
    }

    #[test]
    fn rescheduling_replaces_the_deadline() {
        let mut wheel = TimerWheel::new(0);
        let key = wheel.register();
        for deadline in [100, 101, 5_000, 90, TURN + 90, 200] {
            wheel.schedule(key, deadline);
            assert_eq!((wheel.deadline(key), wheel.len()), (Some(deadline), 1));
        }
        assert!(expired(&mut wheel, 199).is_empty());
        assert_eq!(expired(&mut wheel, 200), [key]);
        wheel.schedule(key, 300);
        wheel.cancel(key);
        wheel.cancel(key);
        assert_eq!((wheel.next_wakeup(), wheel.len()), (None, 0));
        assert!(expired(&mut wheel, u64::MAX).is_empty());
    }

    #[test]
    fn keys_are_used_again_and_unknown_ones_are_ignored() {
        let mut wheel = TimerWheel::new(0);
        let (a, b) = (wheel.register(), wheel.register());
        wheel.schedule(a, 10);
        wheel.release(a);
        wheel.release(a);
        assert_eq!(wheel.len(), 0);
        wheel.schedule(a, 10);
        assert_eq!((wheel.deadline(a), wheel.len()), (None, 0));
        assert_eq!(wheel.register(), a);
        assert_eq!(wheel.deadline(a), None);
        let c = wheel.register();
        assert!(c != a && c != b);
        for unknown in [c + 1, u32::MAX] {
            wheel.schedule(unknown, 1);
            wheel.cancel(unknown);
            wheel.release(unknown);
            assert_eq!(wheel.deadline(unknown), None);
        }
        assert!(expired(&mut wheel, u64::MAX).is_empty());
    }

    #[test]
    fn later_turns_do_not_wake_the_loop() {
        let mut wheel = TimerWheel::new(0);
        let deadlines: Vec<u64> = (1..=200_u64).map(|n| n * TURN / 3 + n).collect();
        for deadline in &deadlines {
            let key = wheel.register();
            wheel.schedule(key, *deadline);
        }
        let (mut wakeups, mut fired) = (0, Vec::new());
        while let Some(now) = wheel.next_wakeup() {
            let before = fired.len();
            wheel.expire(now, &mut fired);
            assert!(fired.len() > before, "woken at {now} for nothing");
            wakeups += 1;
        }
        assert_eq!((wakeups, fired.len()), (200, 200));
    }

    #[test]
    fn an_emptied_turn_does_not_wake_the_loop() {
        let mut wheel = TimerWheel::new(0);
        let (near, far, farther) = (wheel.register(), wheel.register(), wheel.register());
        wheel.schedule(far, 100 + 2 * TURN);
        wheel.schedule(near, 100);
        wheel.schedule(farther, 100 + 9 * TURN);
        wheel.cancel(near);
        assert!((100 + 2 * TURN..100 + 2 * TURN + TICK).contains(&wheel.next_wakeup().unwrap()));
    }

    #[test]
    fn behaves_like_a_sorted_map() {
        for seed in 0..8 {
            let mut random = Random(seed);
            let mut now = if seed % 2 == 0 { 0 } else { random.next() >> 8 };
            let mut wheel = TimerWheel::new(now);
            let mut keys: Vec<u32> = Vec::new();
            let mut model: BTreeMap<u32, u64> = BTreeMap::new();
            for _ in 0..20_000 {
                let key = (!keys.is_empty())
                    .then(|| keys[usize::try_from(random.below(keys.len() as u64)).unwrap()]);
                match (random.below(16), key) {
                    (0, _) if keys.len() < 300 => {
                        let key = wheel.register();
                        assert!(!keys.contains(&key));
                        keys.push(key);
                    }
                    (1, Some(key)) => {
                        wheel.release(key);
                        keys.retain(|other| *other != key);
                        model.remove(&key);
                    }
                    (2..=8, Some(key)) => {
                        let deadline = match random.below(20) {
                            0 => 0,
                            1 => u64::MAX,
                            2 => u64::MAX - random.below(200),
                            3 => now,
                            4 => now.saturating_sub(random.below(2 * TURN)),
                            5 | 6 => now.saturating_add(random.below(20 * TURN)),
                            7..=9 => now.saturating_add(TURN * random.below(4) + random.below(3)),
                            10..=13 => now.saturating_add(random.below(200)),
                            _ => now.saturating_add(random.below(TURN)),
                        };
                        wheel.schedule(key, deadline);
                        model.insert(key, deadline);
                    }
                    (9, Some(key)) => {
                        wheel.cancel(key);
                        model.remove(&key);
                    }
                    (10.., _) => {
                        now = match random.below(40) {
                            0 => now.saturating_add(random.below(30 * TURN)),
                            1..=4 => wheel
                                .next_wakeup()
                                .unwrap_or(now)
                                .min(now + 40 * TURN)
                                .max(now),
                            5..=9 => now,
                            10..=20 => now.saturating_add(random.below(2_000)),
                            _ => now.saturating_add(random.below(70)),
                        };
                        let fired = expired(&mut wheel, now);
                        let due: BTreeSet<(u64, u32)> = model
                            .iter()
                            .filter(|(_, deadline)| **deadline <= now)
                            .map(|(key, deadline)| (*deadline, *key))
                            .collect();
                        assert_eq!(fired, due.iter().map(|(_, key)| *key).collect::<Vec<_>>());
                        model.retain(|_, deadline| *deadline > now);
                    }
                    _ => {}
                }
                assert_eq!(wheel.len(), model.len());
                if let Some(key) = key {
                    assert_eq!(wheel.deadline(key), model.get(&key).copied());
                }
                match (wheel.next_wakeup(), model.values().min().copied()) {
                    (None, None) => {}
                    (Some(wakeup), Some(earliest)) => {
                        assert!(wakeup >= earliest, "{wakeup} is before {earliest}");
                        assert!(
                            wakeup - earliest.max(now) < TICK,
                            "{wakeup} is long after {earliest}, {now}"
                        );
                    }
                    (wakeup, earliest) => panic!("{wakeup:?} for {earliest:?}"),
                }
            }
            let left: BTreeSet<(u64, u32)> = model
                .iter()
                .map(|(key, deadline)| (*deadline, *key))
                .collect();
            assert_eq!(
                expired(&mut wheel, u64::MAX),
                left.iter().map(|(_, key)| *key).collect::<Vec<_>>()
            );
        }
    }
}
