//! A domain in one thread: processes that do what they like with their leases and are killed at any access to shared
//! memory, a gateway that buries, reaps and admits, links that lose what the dead have sent. Everything is chosen by a
//! seed. loom looks at how few accesses interleave; this looks at how many deaths and successors add up.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use remotemedia_ipc::descriptor::BlockRef;
use remotemedia_ipc::lease::pool::CountOverflow;
use remotemedia_ipc::lease::reap::{self, Remains, Tenancy, Vacancy};
use remotemedia_ipc::lease::rules::{Rules, Sound};
use remotemedia_ipc::lease::state::{Phase, SlotState};
use remotemedia_ipc::lease::{
    AcceptError, Counts, Flight, Intake, LinkSequence, PoolLeases, References, Refused,
};
use remotemedia_ipc::slot::{Member, PoolId, Slot};

use crate::memory::{Blocks, Domain, Killed, Life, Mortal};

const SLOTS: usize = 4;
const BLOCKS: usize = 2;
const LIVES: usize = 20;
const CREDIT: usize = 4;
const QUEUE: usize = 3;
const STEPS: usize = 400;
/// More handles than this are let go first, or all blocks are soon held for good.
const HANDLES: usize = 2;

/// What must never be seen.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Violation {
    /// I1, I3: a held block's content is not the one that was accepted.
    Torn { holder: Member },
    /// I5: a block of a destroyed pool is held.
    Revived { holder: Member },
    /// I2: when all is done, a block has a holder.
    Leaked { pool: PoolId },
    /// I2: when all is done, a message is in flight.
    NeverReclaimed { sender: Member },
    /// I4: a bit was cleared that was clear already.
    Stolen { holder: Member },
    /// I6: a refused push left a trace.
    RefusalLeftTrace { sender: Member },
    /// I7: a frame was refused while its sender lives.
    Lost { sender: Member, refusal: Refusal },
    /// L1: a process's bits are not those of the blocks that it holds.
    BitsAreNotCounts { holder: Member },
    /// A process found shared memory damaged, or an assertion of its own broken.
    Panicked { message: String },
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Refusal {
    UnknownPool,
    Refused(AcceptError),
}

struct World<R: Rules> {
    dice: Dice,
    domain: Arc<Domain>,
    pools: Vec<Pool>,
    processes: BTreeMap<Slot, Process<R>>,
    links: BTreeMap<(Member, Member), VecDeque<Message>>,
    vacancies: Vec<Vacancy>,
    /// Killed, and the gateway has not seen it yet.
    unburied: Vec<Tenancy>,
    remains: Vec<Remains>,
    /// Pools in which a slot is reaped although it was given out: under broken rules only.
    belated: Vec<(Slot, PoolId)>,
    admitted: usize,
    losses: usize,
    may_lose: bool,
    /// Each seed has its own habits: what is rare in one is common in another.
    events: Vec<(u32, Event)>,
    /// One act in so many is somebody's last.
    mortality: u32,
    acts: Vec<(u32, Act)>,
}

#[derive(Clone, Copy)]
enum Event {
    Act,
    Bury,
    Reap,
    Vacate,
    Admit,
    Lose,
    Destroy,
}

#[derive(Clone, Copy)]
enum Act {
    Produce,
    Send,
    Reclaim,
    Release,
    Receive,
}

struct Pool {
    id: PoolId,
    owner: Member,
    blocks: Arc<Blocks>,
    fate: Fate,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Active,
    Destroyed,
}

/// One process's private state: gone when it is killed.
struct Process<R: Rules> {
    member: Member,
    tenancy: Tenancy,
    domain: Mortal<Domain>,
    pool: PoolId,
    books: Books<R>,
    flights: BTreeMap<Slot, Flight<R>>,
    handles: Vec<BlockRef>,
}

struct Books<R: Rules>(BTreeMap<PoolId, PoolLeases<Mortal<Blocks>, R>>);

#[derive(Clone, Copy)]
struct Message {
    sequence: LinkSequence,
    references: References,
}

/// A small generator of numbers that are random enough.
struct Dice(u64);

/// The first seed that goes wrong.
fn first_violation<R: Rules>(seeds: std::ops::Range<u64>) -> Option<(u64, Violation)> {
    seeds.into_iter().find_map(|seed| Some((seed, World::<R>::new(seed).run().err()?)))
}

// === impl World ===

impl<R: Rules> World<R> {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let mut vacancies = reap::vacancies();
        vacancies.truncate(SLOTS);
        let events = [Event::Bury, Event::Reap, Event::Vacate, Event::Admit, Event::Lose, Event::Destroy];
        let acts = [Act::Produce, Act::Send, Act::Reclaim, Act::Release, Act::Receive];
        let mut events: Vec<_> = events.map(|event| (1 << dice.below(4), event)).into();
        events.push((32, Event::Act));
        let mut world = Self {
            acts: acts.map(|act| (1 << dice.below(5), act)).into(),
            events,
            mortality: 8 + dice.below(40),
            dice,
            domain: Domain::new(),
            pools: Vec::new(),
            processes: BTreeMap::new(),
            links: BTreeMap::new(),
            vacancies,
            unburied: Vec::new(),
            remains: Vec::new(),
            belated: Vec::new(),
            admitted: 0,
            losses: 0,
            may_lose: seed.is_multiple_of(4),
        };
        (0..SLOTS).for_each(|_| world.admit());
        world
    }

    fn run(mut self) -> Result<(), Violation> {
        for _ in 0..STEPS {
            match self.dice.weighted(&self.events) {
                Event::Act => self.let_somebody_act()?,
                Event::Bury => self.bury(),
                Event::Reap => self.reap(),
                Event::Vacate => self.vacate(),
                Event::Admit => self.admit(),
                Event::Lose => self.lose(),
                Event::Destroy => self.destroy_idle(),
            }
            self.check()?;
        }
        self.come_to_rest()
    }

    // What processes do.

    fn let_somebody_act(&mut self) -> Result<(), Violation> {
        let slots: Vec<_> = self.processes.keys().copied().collect();
        let slot = *self.dice.pick(&slots);
        let Some(mut process) = self.processes.remove(&slot) else { return Ok(()) };
        if slot != Slot::GATEWAY && self.dice.below(self.mortality) == 0 {
            process.domain.life.end_after(self.dice.below(9));
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| self.act(&mut process)));
        let was_killed = match outcome {
            Ok(done) => {
                done?;
                process.domain.life.is_ending()
            }
            Err(payload) if payload.is::<Killed>() => true,
            Err(payload) => return Err(Violation::panicked(payload.as_ref())),
        };
        if was_killed {
            self.links.retain(|&(_, receiver), _| receiver != process.member);
            self.unburied.push(process.tenancy);
        } else {
            self.processes.insert(slot, process);
        }
        Ok(())
    }

    fn act(&mut self, process: &mut Process<R>) -> Result<(), Violation> {
        if process.handles.len() > HANDLES {
            process.release_one(&mut self.dice);
            return Ok(());
        }
        let act = self.dice.weighted(&self.acts);
        match act {
            Act::Produce => self.produce(process),
            Act::Send | Act::Release if process.handles.is_empty() => self.produce(process),
            Act::Send => self.send(process)?,
            Act::Reclaim => {
                let _ended = process.reclaim();
            }
            Act::Release => process.release_one(&mut self.dice),
            Act::Receive => {
                if !self.receive(process)? {
                    self.send(process)?;
                }
            }
        }
        Ok(())
    }

    fn produce(&mut self, process: &mut Process<R>) {
        let _ended = process.reclaim();
        let leases = &process.books.0[&process.pool];
        let Some(taken) = leases.allocate(0..BLOCKS.try_into().expect("a small number")) else { return };
        leases.cells().cells.write(taken.block, taken.generation.0);
        let (pool, block, generation) = (process.pool.0, taken.block.0, taken.generation.0);
        process.handles.push(BlockRef { generation, offset: 0, len: 8, pool, block });
    }

    fn send(&mut self, process: &mut Process<R>) -> Result<(), Violation> {
        let slots: Vec<_> = Slot::all().take(SLOTS).filter(|&slot| slot != process.member.slot).collect();
        let receiver = *self.dice.pick(&slots);
        let Ok(SlotState { incarnation, phase: Phase::Live }) = SlotState::load(&process.domain, receiver)
        else {
            return Ok(());
        };
        let receiver = Member { slot: receiver, incarnation };
        let references = self.choose_references(&process.handles);
        if references.is_empty() {
            return Ok(());
        }
        let before = (self.words(), process.outstanding());
        if let Err(Refused::Push(())) = self.push(process, receiver, &references)
            && (self.words(), process.outstanding()) != before
        {
            return Err(Violation::RefusalLeftTrace { sender: process.member });
        }
        Ok(())
    }

    fn choose_references(&mut self, handles: &[BlockRef]) -> References {
        if handles.is_empty() {
            return References::NONE;
        }
        let payload = *self.dice.pick(handles);
        let metadata = if self.dice.below(3) == 0 { *self.dice.pick(handles) } else { BlockRef::NONE };
        References { payload, metadata }
    }

    fn push(
        &mut self,
        process: &mut Process<R>,
        receiver: Member,
        references: &References,
    ) -> Result<(), Refused<()>> {
        let Process { member, domain, books, flights, .. } = process;
        let flight =
            flights.entry(receiver.slot).or_insert_with(|| Flight::under_rules(*member, receiver, CREDIT));
        if flight.receiver() != receiver {
            flight.rebind(receiver.incarnation);
        }
        let is_heard = self.processes.values().any(|process| process.member == receiver);
        let queue = self.links.entry((*member, receiver)).or_default();
        let has_room = queue.len() < QUEUE;
        let life = Arc::clone(&domain.life);
        let push = |sequence| {
            life.spend();
            if !has_room {
                return Err(());
            }
            if is_heard {
                queue.push_back(Message { sequence, references: *references });
            }
            life.spend();
            Ok(())
        };
        flight.send(domain, books, references, Instant::now(), push).map(|_| ())
    }

    /// Whether there was a message.
    fn receive(&mut self, process: &mut Process<R>) -> Result<bool, Violation> {
        let links = self.links.iter().filter(|((_, to), queue)| *to == process.member && !queue.is_empty());
        let senders: Vec<_> = links.map(|(&(from, _), _)| from).collect();
        if senders.is_empty() {
            return Ok(false);
        }
        let sender = *self.dice.pick(&senders);
        let Some(message) = self.links.get_mut(&(sender, process.member)).and_then(|queue| queue.pop_front())
        else {
            return Ok(false);
        };
        self.map_pools(process, &message.references);
        let intake = Intake::<R>::under_rules(process.member.slot, sender);
        match intake.receive(&process.domain, &process.books, message.sequence, &message.references) {
            Ok(()) => process.handles.extend(message.references.iter()),
            Err(refusal) => {
                let lives = self.processes.values().any(|process| process.member == sender);
                let is_corrupt = matches!(refusal, Refusal::Refused(AcceptError::Corrupt(_)));
                if lives || is_corrupt {
                    return Err(Violation::Lost { sender, refusal });
                }
            }
        }
        Ok(true)
    }

    fn map_pools(&self, process: &mut Process<R>, references: &References) {
        for reference in references.iter() {
            let pool = self.pools.iter().find(|pool| pool.id == reference.pool());
            if let Some(pool) = pool.filter(|pool| pool.fate == Fate::Active) {
                process.map(pool);
            }
        }
    }

    // What the gateway does.

    fn admit(&mut self) {
        if self.admitted >= LIVES || self.vacancies.is_empty() {
            return;
        }
        self.admitted += 1;
        let tenancy = self.vacancies.swap_remove(0).admit(&self.domain);
        let id = PoolId(u32::try_from(self.pools.len()).expect("a small number"));
        let owner = tenancy.member();
        self.pools.push(Pool { id, owner, blocks: Blocks::new(BLOCKS), fate: Fate::Active });
        let process = Process::new(tenancy, &self.domain, &self.pools[self.pools.len() - 1]);
        self.processes.insert(owner.slot, process);
    }

    fn bury(&mut self) {
        if let Some(tenancy) = self.dice.take(&mut self.unburied) {
            let pools = self.pools.iter().filter(|pool| pool.fate == Fate::Active).map(|pool| pool.id);
            self.remains.push(tenancy.bury(&self.domain, pools));
        }
    }

    fn reap(&mut self) {
        if let Some((slot, pool)) = self.dice.take(&mut self.belated) {
            reap::clear_bits(&self.pool(pool).blocks, slot);
        }
        if let Some(mut remains) = self.dice.take(&mut self.remains) {
            let unreaped: Vec<_> = remains.unreaped().collect();
            let some = 1 + self.dice.below(6);
            for &pool in unreaped.iter().take(some.try_into().expect("a small number")) {
                remains.reap(pool, &self.pool(pool).blocks);
            }
            self.remains.push(remains);
        }
    }

    fn vacate(&mut self) {
        if let Some(remains) = self.dice.take(&mut self.remains) {
            let slot = remains.member().slot;
            let unreaped: Vec<_> = remains.unreaped().collect();
            match remains.vacate_under::<R>(&self.domain) {
                Ok(vacancy) => {
                    self.vacancies.extend(vacancy);
                    self.belated.extend(unreaped.into_iter().map(|pool| (slot, pool)));
                }
                Err(remains) => self.remains.push(remains),
            }
        }
    }

    fn lose(&mut self) {
        let links: Vec<_> = self.links.keys().copied().collect();
        if !links.is_empty() {
            let (sender, receiver) = *self.dice.pick(&links);
            let lives = self.processes.values().any(|process| process.member == sender);
            if !lives || (self.may_lose && self.dice.below(4) == 0) {
                let queue = self.links.entry((sender, receiver)).or_default();
                self.losses += usize::from(queue.pop_front().is_some() && lives);
            }
        }
    }

    /// A pool is retired once its owner's slot is clean of it.
    fn destroy_idle(&mut self) {
        let in_use: Vec<_> = self
            .processes
            .values()
            .map(|process| process.member)
            .chain(self.unburied.iter().map(Tenancy::member))
            .chain(self.remains.iter().map(Remains::member))
            .collect();
        for pool in self.pools.iter_mut().filter(|pool| !in_use.contains(&pool.owner)) {
            if pool.fate == Fate::Active && reap::is_idle(&pool.blocks) {
                pool.fate = Fate::Destroyed;
                self.remains.iter_mut().for_each(|remains| remains.pool_destroyed(pool.id));
            }
        }
    }

    fn pool(&self, id: PoolId) -> &Pool {
        &self.pools[usize::try_from(id.0).expect("a small number")]
    }

    // What must hold.

    fn words(&self) -> Vec<Vec<remotemedia_ipc::lease::HolderMask>> {
        self.pools.iter().map(|pool| pool.blocks.holders()).collect()
    }

    fn check(&self) -> Result<(), Violation> {
        for process in self.processes.values() {
            let holder = process.member;
            for handle in &process.handles {
                let pool = self.pool(handle.pool());
                if pool.blocks.read(handle.block()) != handle.generation {
                    return Err(Violation::Torn { holder });
                }
                if pool.fate == Fate::Destroyed {
                    return Err(Violation::Revived { holder });
                }
            }
            for pool in &self.pools {
                self.check_books(process, pool)?;
            }
        }
        Ok(())
    }

    fn check_books(&self, process: &Process<R>, pool: &Pool) -> Result<(), Violation> {
        let holder = process.member;
        let leases = process.books.0.get(&pool.id);
        if leases.is_some_and(|leases| leases.stolen_bits() > 0) {
            return Err(Violation::Stolen { holder });
        }
        let bits = pool.blocks.holders().iter().filter(|holders| holders.contains(holder.slot)).count();
        let is_reaped_late = self.belated.iter().any(|&(slot, _)| slot == holder.slot);
        let held = leases.map_or(0, PoolLeases::held);
        if usize::try_from(held).expect("a small number") != bits && !is_reaped_late {
            return Err(Violation::BitsAreNotCounts { holder });
        }
        Ok(())
    }

    /// Nobody dies any more, and everybody finishes.
    fn come_to_rest(mut self) -> Result<(), Violation> {
        while !self.unburied.is_empty() {
            self.bury();
        }
        while self.remains.iter().any(|remains| remains.unreaped().next().is_some())
            || !self.belated.is_empty()
        {
            self.reap();
        }
        while !self.remains.is_empty() {
            self.vacate();
        }
        for _ in 0..2 {
            self.let_all_finish()?;
        }
        self.destroy_idle();
        self.check()?;
        self.check_rest()
    }

    /// Everybody takes what has come and lets go of all; then everybody polls, and fences what was lost.
    fn let_all_finish(&mut self) -> Result<(), Violation> {
        let slots: Vec<_> = self.processes.keys().copied().collect();
        for &slot in &slots {
            let Some(mut process) = self.processes.remove(&slot) else { continue };
            let finished = self.finish(&mut process);
            self.processes.insert(slot, process);
            finished?;
        }
        for slot in slots {
            let Some(mut process) = self.processes.remove(&slot) else { continue };
            let _ended = process.reclaim();
            if self.losses > 0 {
                self.fence(&mut process);
            }
            self.processes.insert(slot, process);
        }
        Ok(())
    }

    fn finish(&mut self, process: &mut Process<R>) -> Result<(), Violation> {
        while self.receive(process)? {}
        while !process.handles.is_empty() {
            process.release_one(&mut self.dice);
        }
        let _ended = process.reclaim();
        Ok(())
    }

    fn fence(&mut self, process: &mut Process<R>) {
        let late = process.flights.values().filter(|flight| flight.outstanding() > 0);
        let receivers: Vec<_> = late.map(Flight::receiver).collect();
        for receiver in receivers {
            let refused = self.push(process, receiver, &References::NONE);
            assert_eq!(refused, Ok(()), "an emptied link has room for a fence");
        }
    }

    fn check_rest(&self) -> Result<(), Violation> {
        if let Some(process) = self.processes.values().find(|process| process.outstanding() > 0) {
            return Err(Violation::NeverReclaimed { sender: process.member });
        }
        let lives = |member| self.processes.values().any(|process| process.member == member);
        let leaked =
            |pool: &&Pool| !reap::is_idle(&pool.blocks) || (pool.fate == Fate::Active && !lives(pool.owner));
        match self.pools.iter().find(leaked) {
            Some(pool) => Err(Violation::Leaked { pool: pool.id }),
            None => Ok(()),
        }
    }
}

// === impl Process ===

impl<R: Rules> Process<R> {
    fn new(tenancy: Tenancy, domain: &Arc<Domain>, pool: &Pool) -> Self {
        let domain = Mortal { cells: Arc::clone(domain), life: Life::endless() };
        let mut process = Self {
            member: tenancy.member(),
            tenancy,
            domain,
            pool: pool.id,
            books: Books(BTreeMap::new()),
            flights: BTreeMap::new(),
            handles: Vec::new(),
        };
        process.map(pool);
        process
    }

    fn map(&mut self, pool: &Pool) {
        let Self { member, domain, .. } = self;
        self.books.0.entry(pool.id).or_insert_with(|| {
            let cells = Mortal { cells: Arc::clone(&pool.blocks), life: Arc::clone(&domain.life) };
            PoolLeases::under_rules(member.slot, cells)
        });
    }

    fn reclaim(&mut self) -> usize {
        let Self { domain, books, flights, .. } = self;
        flights.values_mut().map(|flight| flight.reclaim(domain, books)).sum()
    }

    fn release_one(&mut self, dice: &mut Dice) {
        if let Some(handle) = dice.take(&mut self.handles) {
            self.books.release(&handle);
        }
    }

    fn outstanding(&self) -> usize {
        self.flights.values().map(Flight::outstanding).sum()
    }
}

// === impl Books ===

impl<R: Rules> Counts for Books<R> {
    type Refusal = Refusal;

    fn accept(&self, reference: &BlockRef) -> Result<(), Refusal> {
        let leases = self.0.get(&reference.pool()).ok_or(Refusal::UnknownPool)?;
        leases.accept(reference.block(), reference.generation()).map_err(Refusal::Refused)
    }

    fn retain(&self, reference: &BlockRef) -> Result<(), CountOverflow> {
        self.0[&reference.pool()].retain(reference.block())
    }

    fn release(&self, reference: &BlockRef) {
        self.0[&reference.pool()].release(reference.block());
    }
}

// === impl Dice ===

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u32) -> u32 {
        u32::try_from(self.roll() % u64::from(limit)).expect("below a u32")
    }

    fn weighted<T: Copy>(&mut self, among: &[(u32, T)]) -> T {
        let mut left = self.below(among.iter().map(|(weight, _)| weight).sum());
        let chosen = among.iter().find(|(weight, _)| {
            let found = left < *weight;
            left = left.saturating_sub(*weight);
            found
        });
        chosen.expect("the weights add up").1
    }

    fn pick<'a, T>(&mut self, among: &'a [T]) -> &'a T {
        let limit = u32::try_from(among.len()).expect("a small number");
        &among[usize::try_from(self.below(limit)).expect("a small number")]
    }

    fn take<T>(&mut self, from: &mut Vec<T>) -> Option<T> {
        let limit = u32::try_from(from.len()).ok().filter(|&limit| limit > 0)?;
        Some(from.swap_remove(usize::try_from(self.below(limit)).expect("a small number")))
    }
}

// === impl Violation ===

impl Violation {
    fn panicked(payload: &(dyn std::any::Any + Send)) -> Self {
        let literal = payload.downcast_ref::<&str>().map(ToString::to_string);
        let message = literal.or_else(|| payload.downcast_ref::<String>().cloned());
        Self::Panicked { message: message.unwrap_or_else(|| "no message".to_string()) }
    }
}

// === tests ===

/// Declares protocols with one rule broken each, and their rows in the table of what must be noticed.
macro_rules! broken {
    ($($name:ident { $($rule:ident: $kind:ty = $value:expr),+ })+) => { $(
        struct $name;
        impl Rules for $name { $(const $rule: $kind = $value;)+ }
    )+ };
}

broken! {
    Wrapping { GENERATION_BITS: u32 = 1 }
    WrappingWithoutStamp { GENERATION_BITS: u32 = 1, ACCEPT_CHECKS_STAMP: bool = false }
    AcceptWithoutGeneration { ACCEPT_CHECKS_GENERATION: bool = false, ACCEPT_CHECKS_STAMP: bool = false }
    AcceptOfFree { ACCEPT_REFUSES_FREE: bool = false }
    AckWithoutIncarnation { ACK_NAMES_INCARNATION: bool = false }
    AckOverwritten { ACK_ONLY_RAISES: bool = false }
    SequenceRestarts { SEQUENCE_SURVIVES_RECEIVER: bool = false }
    SlotReusedEarly { SLOT_WAITS_FOR_REAP: bool = false }
}

/// Seconds in either build; a broken rule shows far earlier than the last seed.
const SEEDS: u64 = if cfg!(debug_assertions) { 1_000 } else { 10_000 };
const SEEDS_TO_CATCH: u64 = 10_000;

#[track_caller]
fn assert_caught<R: Rules>(expected: impl Fn(&Violation) -> bool) {
    let caught = first_violation::<R>(0..SEEDS_TO_CATCH);
    assert!(caught.as_ref().is_some_and(|(_, violation)| expected(violation)), "{caught:?}");
}

#[test]
fn deaths_at_every_access_neither_tear_nor_lose_nor_leak() {
    assert_eq!(first_violation::<Sound>(0..SEEDS), None);
}

#[test]
fn wrapping_generations_are_told_apart_by_their_stamps() {
    assert_eq!(first_violation::<Wrapping>(0..SEEDS), None);
}

#[test]
fn wrap_without_the_stamp_is_caught() {
    assert_caught::<WrappingWithoutStamp>(|violation| matches!(violation, Violation::Torn { .. }));
}

#[test]
fn accept_without_the_generation_is_caught() {
    assert_caught::<AcceptWithoutGeneration>(|violation| matches!(violation, Violation::Torn { .. }));
}

#[test]
fn accept_of_a_free_block_is_caught() {
    assert_caught::<AcceptOfFree>(|violation| matches!(violation, Violation::Revived { .. }));
}

#[test]
fn ack_without_the_incarnation_is_caught() {
    assert_caught::<AckWithoutIncarnation>(|violation| matches!(violation, Violation::Lost { .. }));
}

#[test]
fn ack_that_overwrites_a_newer_one_is_caught() {
    assert_caught::<AckOverwritten>(|violation| matches!(violation, Violation::NeverReclaimed { .. }));
}

#[test]
fn sequence_that_restarts_with_its_receiver_is_caught() {
    assert_caught::<SequenceRestarts>(|violation| matches!(violation, Violation::Lost { .. }));
}

#[test]
fn slot_reused_before_the_reap_is_caught() {
    assert_caught::<SlotReusedEarly>(|violation| {
        matches!(violation, Violation::Torn { .. } | Violation::Stolen { .. } | Violation::Lost { .. })
    });
}
