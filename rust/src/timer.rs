//! One hashed timer wheel per worker: all deadlines of all its connections. Time is an argument, never read.
//!
//! A deadline belongs to the tick (64 ms) it falls into, a tick to slot `tick % 512`: one turn is 32.8 s, and a slot can
//! hold ticks of several turns. Each slot is a doubly linked list through the entries, so scheduling and cancelling are
//! O(1), and rescheduling within the same tick (the usual case on a busy connection) is one store. Each slot knows its
//! earliest tick and how many entries that tick has, so that entries of later turns neither wake the loop nor are
//! looked at until their turn comes.
//!
//! Varghese and Lauck, "Hashed and Hierarchical Timing Wheels", scheme 6.

/// Milliseconds per tick: how late a timer may fire.
const TICK: u64 = 64;
const SLOTS: usize = 512;
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
    occupied: [u64; SLOTS / 64],
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
            occupied: [0; SLOTS / 64],
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

    /// When to call [`expire`](Self::expire): not before the earliest deadline and less than 64 ms after it (or after the
    /// clock, for deadlines in the past). `None` when nothing is scheduled.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<u64> {
        let mut earliest = NEVER;
        let start = slot_of(self.current);
        // The occupied slots in the order of the clock: from the current one to the end, then from the first on.
        for (word, mask) in (start / 64..SLOTS / 64)
            .chain(0..=start / 64)
            .zip(std::iter::once(u64::MAX << (start % 64)).chain(std::iter::repeat(u64::MAX)))
        {
            let mut bits = self.occupied[word] & mask;
            while bits != 0 {
                let index = word * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                let tick = self.slots[index].earliest;
                // Of this turn: every slot after it holds later ticks only, and so did every slot before it.
                if tick - self.current < SLOTS as u64 {
                    return Some(tick * TICK + (TICK - 1));
                }
                earliest = earliest.min(tick);
            }
        }
        (earliest != NEVER).then(|| earliest * TICK + (TICK - 1))
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
