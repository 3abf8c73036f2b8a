//! The units as systemd reads them.

use std::fs;
use std::path::Path;
use std::process::Command;

use remotemedia_tests::Machine;

use crate::WORKERS;

/// By unit: what the offline analysis may print at most.
const SCORES: [(&str, f32); 3] = [
    ("remotemedia-gateway.service", 1.5),
    ("remotemedia-worker@.service", 1.0),
    ("remotemedia-python@.service", 1.0),
];

#[tokio::test]
async fn systemd_understands_every_unit_without_a_word() {
    let machine = Machine::installed().await;
    let names = machine.succeed("cd /etc/systemd/system && ls -d remotemedia*.target remotemedia*.slice remotemedia*.socket remotemedia*.service").await;
    assert_eq!(names.lines().count(), 7, "{names}");
    let instances = names.replace("@.", "@some.").replace('\n', " ");
    let done = machine.run(&format!("systemd-analyze verify {instances}")).await;
    assert_eq!((done.code, done.stdout, done.stderr.as_str()), (Some(0), Vec::new(), ""));
    machine.finish();
}

#[test]
fn the_units_are_exposed_as_little_as_the_specification_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let specification = fs::read_to_string(root.join("SPECIFICATION.md")).unwrap();
    for (unit, at_most) in SCORES {
        let path = format!("./deploy/systemd/{unit}");
        let words = ["security", "--offline=true", "--no-pager", path.as_str()];
        let done = Command::new("systemd-analyze").args(words).current_dir(root).output().unwrap();
        let said = String::from_utf8(done.stdout).unwrap();
        let level = said.lines().find_map(|line| line.split_once("Overall exposure level")).unwrap().1;
        let score = level.split_once(": ").unwrap().1.split(' ').next().unwrap();
        println!("{unit} {score}");
        assert!(score.parse::<f32>().unwrap() <= at_most, "{unit} scores {score}, over {at_most}:\n{said}");
        let promise = format!("`{unit}` {score}");
        assert!(specification.contains(&promise), "SPECIFICATION.md does not say {promise}");
    }
}

#[test]
fn the_gateway_looks_for_memory_for_as_many_workers_as_are_installed() {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("deploy/systemd");
    let [settings, install] =
        ["gateway.toml", "install"].map(|name| fs::read_to_string(units.join(name)).unwrap());
    let enabled = install.lines().find(|line| line.contains(" enable ")).unwrap();
    let enabled = enabled.matches("remotemedia-worker@").count();
    assert_eq!(enabled, WORKERS.len());
    let setting = format!("workers = {enabled}");
    assert!(settings.lines().any(|line| line == setting), "there is no `{setting}`:\n{settings}");
}

#[tokio::test]
async fn nothing_in_the_machine_of_the_tests_can_set_the_clock_of_this_one() {
    let machine = Machine::boot();
    for status in ["/proc/1/status", "/proc/self/status"] {
        let bounds = machine.succeed(&format!("grep -E '^Cap(Eff|Bnd):' {status}")).await;
        for line in bounds.lines() {
            let capabilities = u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap();
            assert_eq!(capabilities & (1 << SYS_TIME | 1 << WAKE_ALARM), 0, "{status}: {line}");
        }
    }
    machine.finish();
}

/// Numbers of capabilities(7).
const SYS_TIME: u32 = 25;
const WAKE_ALARM: u32 = 35;
