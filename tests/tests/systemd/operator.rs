//! What an operator does, from the installation to the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use remotemedia_tests::deadline::{until, within};
use remotemedia_tests::machine::SLOW;
use remotemedia_tests::pipeline::{chain, text, words};
use remotemedia_tests::{Client, Machine};

use crate::{GATEWAY, PASS, WORKERS};

/// All that the operator writes to have a node.
const NODE: &str = "\
from remotemedia import Node, Text


class Shout(Node):
    \"\"\"Says it loudly.\"\"\"

    def process(self, text: Text) -> Text:
        return Text(text=text.text.upper())
";

const SHOUT: &str = "{ id: shout, node_type: Shout }";

/// Clients that call without a pause, and answers between two steps of the operator.
const CLIENTS: usize = 4;
const ANSWERS: usize = 40;

#[tokio::test]
async fn from_installing_to_uninstalling_nothing_fails_and_nothing_is_left() {
    let machine = Machine::boot();
    let before = machine.succeed(FILES).await;
    machine.install().await;
    // One file is edited.
    let settings = "/etc/remotemedia/gateway.toml";
    machine.succeed(&format!("sed -i 's/^#max_sessions = 1024/max_sessions = 64/' {settings}")).await;
    machine.succeed("systemctl start remotemedia.target").await;
    let status = machine.succeed("remotemedia status").await;
    assert!(status.contains("rust-1") && status.contains("rust-2"), "{status}");

    let client = machine.client().await;
    machine.write("/etc/remotemedia/nodes.d/shout.py", NODE);
    machine.succeed("systemctl start remotemedia-python@shout").await;
    let said = client.execute(&chain(&[SHOUT]), [("shout", text("hello"))]).await.unwrap();
    assert_eq!(words(&said.data_outputs["shout"]), "HELLO");

    let gateway = machine.pid(GATEWAY).await;
    let load = Load::on(&machine).await;
    for worker in WORKERS {
        let pid = machine.pid(worker).await;
        machine.succeed(&format!("systemctl restart {worker}")).await;
        assert_ne!(machine.pid(worker).await, pid);
        load.goes_on().await;
    }
    println!("{} requests during a rolling restart, none failed", load.end().await);
    assert_eq!(machine.pid(GATEWAY).await, gateway);

    upgrade(&machine).await;
    machine.succeed("/usr/local/lib/remotemedia/uninstall").await;
    let after = machine.succeed(FILES).await;
    assert_eq!(difference(&before, &after), Vec::<&str>::new(), "left behind");
    assert_eq!(difference(&after, &before), Vec::<&str>::new(), "taken away");
    let running = machine.succeed("ps -eo user,args | grep -E 'remotemedia' | grep -v grep || true").await;
    assert_eq!(running, "");
    machine.finish();
}

/// The next version over the last one: the gateway makes way while a client waits, then each worker.
async fn upgrade(machine: &Machine) {
    machine.write("/etc/remotemedia/kept", "edited");
    machine.install().await;
    assert!(machine.succeed("cat /etc/remotemedia/gateway.toml").await.contains("\nmax_sessions = 64\n"));
    let pid = machine.pid(GATEWAY).await;
    machine.succeed(&format!("systemctl restart --no-block {GATEWAY}")).await;
    let client = machine.client().await;
    client.execute(&chain(&[PASS]), [("pass", text("while it makes way"))]).await.unwrap();
    until(SLOW, async || if machine.pid(GATEWAY).await == pid { Err("the same") } else { Ok(()) }).await;
    for unit in WORKERS.into_iter().chain(["remotemedia-python@shout.service"]) {
        machine.succeed(&format!("systemctl restart {unit}")).await;
    }
    let client = machine.client().await;
    let said = client.execute(&chain(&[SHOUT]), [("shout", text("after"))]).await.unwrap();
    assert_eq!(words(&said.data_outputs["shout"]), "AFTER");
}

/// Where anything of the service could be. The journal and systemd's own state are the machine's.
const FILES: &str = "\
find /etc /usr/local/bin /usr/local/lib /var/lib /var/cache /home /root -maxdepth 3 | sort; \
find /run /dev/shm -path /run/systemd -prune -o -path /run/log -prune -o -print | sort; \
cat /etc/passwd /etc/group; systemctl list-unit-files --no-legend 'remotemedia*' || true";

/// What is in the second list alone, but for the copies that the tools for users keep of their files.
fn difference<'a>(one: &str, other: &'a str) -> Vec<&'a str> {
    let kept =
        ["/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-", "/etc/.pwd.lock", "/run/mount"];
    let one: std::collections::BTreeSet<&str> = one.lines().collect();
    other.lines().filter(|line| !one.contains(line) && !kept.contains(line)).collect()
}

/// Clients that call without a pause.
struct Load {
    is_over: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    async fn on(machine: &Machine) -> Self {
        let (is_over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            let client = machine.client().await;
            clients.push(tokio::spawn(call(client, Arc::clone(&is_over), Arc::clone(&answered))));
        }
        let load = Self { is_over, answered, clients };
        load.goes_on().await;
        load
    }

    async fn goes_on(&self) {
        let enough = self.answered.load(Ordering::Relaxed) + ANSWERS;
        until(SLOW, async || {
            let answered = self.answered.load(Ordering::Relaxed);
            if answered >= enough { Ok(()) } else { Err(answered) }
        })
        .await;
    }

    async fn end(self) -> usize {
        self.is_over.store(true, Ordering::Relaxed);
        for client in self.clients {
            within(SLOW, "the last answer", client).await.expect("no request failed");
        }
        self.answered.load(Ordering::Relaxed)
    }
}

async fn call(client: Client, is_over: Arc<AtomicBool>, answered: Arc<AtomicUsize>) {
    while !is_over.load(Ordering::Relaxed) {
        client.execute(&chain(&[PASS]), [("pass", text("hello"))]).await.unwrap();
        answered.fetch_add(1, Ordering::Relaxed);
    }
}
