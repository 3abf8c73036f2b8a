//! Replacing workers, one after the other: the heir is started beside the old one, which goes when the heir is ready.

use std::time::{Duration, Instant};

use remotemedia_core::launching::{LaunchRefusal, MAX_PROBLEM, Rollout};

use super::{GATEWAY, Role, SELF, Supervised, Supervisor};
use crate::launch::restart::Event;

/// How long a worker may take to become ready: it may load the largest model there is.
const START: Duration = Duration::from_secs(600);

/// How far it is.
#[derive(Debug)]
pub(super) struct Roll {
    /// As it is told.
    told: Rollout,
    step: Step,
}

/// What happens to the first of those that are left. Children are named by their ids.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    // Next => Starting
    Next,
    // Starting => Retiring, or it is given up
    Starting { old: u64, heir: u64, until: Instant },
    // Retiring => Next
    Retiring { old: u64 },
}

// === impl Roll ===

impl Roll {
    pub(super) fn told(&self) -> Rollout {
        self.told.clone()
    }
}

// === impl Supervisor ===

impl Supervisor {
    /// Begins with it, if there is such a pool and nothing of the kind is under way.
    pub(super) fn restart(&mut self, pool: Option<&str>) -> Result<(), LaunchRefusal> {
        if let Some(roll) = self.roll.as_ref().filter(|roll| !roll.told.is_over()) {
            return Err(LaunchRefusal::Restarting { left: roll.told.left.clone() });
        }
        let kinds = || self.plan.pools.iter().map(|plan| plan.kind.as_str());
        if let Some(pool) = pool
            && !kinds().any(|kind| kind == pool)
        {
            let pools = kinds().map(str::to_owned).collect();
            return Err(LaunchRefusal::NoPool { pool: pool.to_owned(), pools });
        }
        let is_meant = |child: &&Supervised| {
            let kind = child.pool.map(|place| self.plan.pools[place].kind.as_str());
            child.role == Role::Lasting && kind.is_some_and(|kind| pool.is_none_or(|pool| pool == kind))
        };
        let left: Vec<String> =
            self.children.iter().filter(is_meant).map(|child| child.name.clone()).collect();
        self.journal.line(SELF, &format!("{} are replaced, one after the other", left.join(", ")));
        let told = Rollout { left, ..Rollout::default() };
        self.herald.restarting(told.clone());
        self.roll = Some(Roll { told, step: Step::Next });
        Ok(())
    }

    /// Goes on with it, as far as it can.
    pub(super) fn roll(&mut self) {
        while self.roll_on() {}
    }

    /// Whether more may be done at once.
    fn roll_on(&mut self) -> bool {
        let over = |child: &Supervised| child.role == Role::Retired && child.life.is_over() && !child.mourned;
        self.children.retain(|child| !over(child));
        let Some(mut roll) = self.roll.take_if(|roll| !roll.told.is_over()) else { return false };
        let before = roll.step;
        roll.step = match roll.step {
            Step::Next => self.start_heir(&roll.told.left[0]),
            Step::Starting { old, heir, until } => match self.heir(heir, until) {
                Ok(true) => self.replace(old, heir),
                Ok(false) => roll.step,
                Err(problem) => {
                    self.give_up(heir, &mut roll.told, &problem);
                    Step::Next
                }
            },
            Step::Retiring { old } if self.place_of(old).is_some() => roll.step,
            Step::Retiring { .. } => {
                let name = roll.told.left.remove(0);
                self.journal.line(SELF, &format!("{name} is replaced"));
                roll.told.done.push(name);
                self.herald.restarting(roll.told.clone());
                Step::Next
            }
        };
        let is_further = roll.step != before;
        self.roll = Some(roll);
        is_further
    }

    fn start_heir(&mut self, name: &str) -> Step {
        let is_it = |child: &Supervised| child.name == name && child.role == Role::Lasting;
        let place = self.children.iter().position(is_it).expect("a worker of the plan is always there");
        let old = &self.children[place];
        let (old, pool) = (old.id, old.pool);
        let heir = self.next_id;
        self.next_id += 1;
        let mut child = Supervised::new(heir, name.to_owned(), pool, self.patience);
        (child.role, child.deaths) = (Role::Heir, self.children[place].deaths);
        self.children.push(child);
        self.feed(self.children.len() - 1, Event::Tick);
        Step::Starting { old, heir, until: Instant::now() + START }
    }

    /// Whether it is ready; or why it will not be.
    fn heir(&self, id: u64, until: Instant) -> Result<bool, String> {
        let Some(heir) = self.place_of(id).map(|place| &self.children[place]) else {
            return Err("it is gone".to_owned());
        };
        match heir.life.running() {
            Some(false) if Instant::now() >= until => {
                Err(format!("it was not ready within {} s", START.as_secs()))
            }
            Some(is_ready) => Ok(is_ready),
            // Its last words come a moment later.
            None if heir.mourned => Ok(false),
            None => Err(heir.last.as_ref().map_or_else(String::new, |(cause, line)| {
                if line.is_empty() {
                    format!("it {cause}")
                } else {
                    format!("it {cause}, and wrote '{line}'")
                }
            })),
        }
    }

    fn replace(&mut self, old: u64, heir: u64) -> Step {
        if let Some(place) = self.place_of(heir) {
            self.children[place].role = Role::Lasting;
        }
        if let Some(place) = self.place_of(old) {
            self.children[place].role = Role::Retired;
            self.feed(place, Event::Retire);
        }
        Step::Retiring { old }
    }

    fn give_up(&mut self, heir: u64, told: &mut Rollout, why: &str) {
        if let Some(place) = self.place_of(heir) {
            self.children[place].role = Role::Retired;
            self.feed(place, Event::Kill);
        }
        let name = &told.left[0];
        let problem = format!("the successor of '{name}' did not become ready: {why}; '{name}' serves on");
        self.journal.line(SELF, &problem);
        told.problem = problem[..problem.floor_char_boundary(MAX_PROBLEM)].to_owned();
        self.herald.restarting(told.clone());
    }

    fn place_of(&self, id: u64) -> Option<usize> {
        self.children.iter().position(|child| child.id == id).filter(|place| *place != GATEWAY)
    }
}
