//! How a guest's end is told from another.
#![expect(
    clippy::unwrap_used,
    reason = "the lint knows functions that are tests, and not a test's own helpers"
)]

use std::time::{Duration, Instant};

use remotemedia_core::fault::DeathCause;
use remotemedia_ipc::memory::{Geometry, SizeClass};
use remotemedia_ipc::slot::Member;
use remotemedia_tests::storm::{Act, Dice, Field, Parcel, Role, Route, Stop};

/// What takes milliseconds must be done in this.
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn guest_that_ends_its_connection_and_lives_on_is_killed_for_that() {
    check(&Role::Part, DeathCause::Protocol);
}

#[test]
fn guest_that_exits_is_reported_with_its_code() {
    check(&Role::Quit(7), DeathCause::Exit(7));
}

#[test]
fn guest_that_does_not_run_and_so_does_not_map_its_end_of_a_link_is_killed_as_one_that_hangs() {
    let (mut field, [leaver, other]) = field(&Role::Serve);
    let [leaving, staying] = [leaver, other].map(|pid| member(&field, pid));
    field.stop(leaver);
    field.expect(leaver, DeathCause::Hang);
    field.mesh();
    check_end(&mut field, leaving, staying);
}

/// One guest ends when it is sent a parcel; another serves before and after.
fn check(role: &Role, cause: DeathCause) {
    let (mut field, [leaver, other]) = field(role);
    let [leaving, staying] = [leaver, other].map(|pid| member(&field, pid));
    round_trip(&mut field, staying);
    field.expect(leaver, cause);
    parcel(&field, leaving).send(&field.plane(), Instant::now() + PATIENCE).unwrap();
    check_end(&mut field, leaving, staying);
}

/// Two guests, the second of which serves.
fn field(role: &Role) -> (Field, [i32; 2]) {
    let pool = Geometry::new(vec![SizeClass { block_bytes: 4 << 10, blocks: 64 }]).unwrap();
    let mut field = Field::start(env!("CARGO_BIN_EXE_storm-guest"), pool.clone(), pool);
    let guests = [role, &Role::Serve].map(|role| field.spawn(role));
    field.until("both have joined", PATIENCE, &mut |_| {}, |field| field.joined().count() == 2);
    (field, guests)
}

fn member(field: &Field, pid: i32) -> Member {
    field.joined().find(|member| field.pid_of(*member) == Some(pid)).unwrap()
}

/// One of them dies as is expected, and nothing is left of it.
fn check_end(field: &mut Field, leaving: Member, staying: Member) {
    // The field checks that every death is reported once, and with the cause expected.
    field.until("its death is reported", PATIENCE, &mut |_| {}, |field| field.dead().contains(&leaving));
    round_trip(field, staying);
    field.until("nothing is left of it", PATIENCE, &mut |_| {}, |field| {
        field.is_clean()
            && field.plane().pools().len() == 2
            && field.plane().pools().iter().all(|pool| pool.is_idle())
    });
    assert!(field.exits().is_empty(), "{:?}", field.exits());
}

fn round_trip(field: &mut Field, by_way_of: Member) {
    parcel(field, by_way_of).send(&field.plane(), Instant::now() + PATIENCE).unwrap();
    let give_up = Instant::now() + PATIENCE;
    let mut came = false;
    while !came {
        assert!(Instant::now() < give_up, "no answer from {by_way_of} in {PATIENCE:?}");
        field.turn(Duration::from_millis(5), &mut |arrival| came |= Parcel::open(arrival).unwrap().is_some());
    }
}

fn parcel(field: &Field, by_way_of: Member) -> Parcel {
    let route = Route(vec![Stop { at: by_way_of, act: Act::Forward }]);
    let (plane, deadline) = (field.plane(), Instant::now() + PATIENCE);
    Parcel::produce(&plane, &mut Dice::seeded(1), 1, 1_000, route, deadline).unwrap()
}
