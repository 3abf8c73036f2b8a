//! The page about operating a service does what it says: its files are written and its commands typed, in its order, by
//! root of a machine with systemd, in this checkout.

use std::time::Duration;

use remotemedia_tests::Machine;
use remotemedia_tests::deadline::until;
use remotemedia_tests::machine::CHECKOUT;
use remotemedia_tests::page::{Block, Command, Page};

/// For what is shown to be so: a process that was killed is back, a log is written.
const SOON: Duration = Duration::from_secs(15);

/// Where the page has the programs, and where this build has them in there.
const PROGRAMS: (&str, &str) = ("--programs target/release", "--programs /opt/built");

#[tokio::test]
async fn the_page_about_operations_does_what_it_says() {
    let page = Page::read("docs/operations.md");
    let machine = Machine::boot();
    let mut is_installed = false;
    for block in &page.blocks {
        match block {
            Block::File { name, text } => machine.write(name, text),
            Block::Console(commands) => {
                for command in commands {
                    type_in(&machine, command).await;
                    if !std::mem::replace(&mut is_installed, true) {
                        machine.tell_of_python();
                    }
                }
            }
            Block::Service(command) => panic!("systemd has the services here, not a terminal: {command:?}"),
            Block::Shown => panic!("all of this page is run"),
        }
    }
    machine.finish();
}

/// What shows how things are is typed again until they are as the page says.
async fn type_in(machine: &Machine, command: &Command) {
    let line = command.line.replace(PROGRAMS.0, PROGRAMS.1);
    let limit = if command.shows.is_empty() { Duration::ZERO } else { SOON };
    until(limit, async || {
        let done = machine.run(&format!("cd {CHECKOUT}; {line}")).await;
        let said = [done.stdout, done.stderr.lines().map(str::to_owned).collect()].concat();
        let is_as_told = (done.code == Some(0)) != command.fails && command.is_shown_by(&said);
        if is_as_told { Ok(()) } else { Err(format!("`{line}` ended with {:?}: {said:#?}", done.code)) }
    })
    .await;
}
