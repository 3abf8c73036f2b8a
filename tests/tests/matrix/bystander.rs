//! A session that has nothing to do with what goes wrong, and has to come out as if nothing had.

use std::sync::Arc;
use std::time::Duration;

use remotemedia_protos::v1::stream_response::Response;
use remotemedia_protos::v1::{DataBuffer, ResourceLimits, StreamInit, StreamRequest};
use remotemedia_tests::client::{Call, PATIENCE, chunk};
use remotemedia_tests::deadline::within;
use remotemedia_tests::pipeline::{RESAMPLE, chain};
use remotemedia_tests::{Client, Plant, audio};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What goes into the bystander's pipeline, and what comes out of an undisturbed run, in bits, by sequence.
#[derive(Debug)]
pub(crate) struct Undisturbed {
    tone: Vec<f32>,
    outputs: Vec<Vec<u32>>,
}

/// The session, and who feeds it a piece every ten milliseconds, as a microphone does.
#[derive(Debug)]
pub(crate) struct Bystander {
    session: String,
    /// Where it runs.
    workers: Vec<String>,
    enough: watch::Sender<bool>,
    feeder: JoinHandle<Over>,
}

/// How it ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Over {
    /// Drained, after this many pieces.
    Closed(usize),
    /// The call broke off.
    Broken,
}

/// Pieces of an undisturbed run, five seconds of it: a case that takes longer has a bystander that was done before.
const PIECES: usize = 500;
const RATE: u32 = 44_100;
const PIECE: usize = 441;
/// One piece.
const EVERY: Duration = Duration::from_millis(10);
/// As many pieces as follow when all is over.
const AFTERWARDS: usize = 3;

// === impl Undisturbed ===

impl Undisturbed {
    /// Runs it with nothing else going on.
    pub(crate) async fn record(client: &Client) -> Arc<Self> {
        let mut known = Self { tone: audio::tone(RATE, PIECES * PIECE), outputs: Vec::new() };
        let (mut call, _session) = client.stream_as(init()).await;
        for place in 0..PIECES {
            known.outputs.push(exchange(&mut call, place, known.piece(place)).await.expect("it runs"));
        }
        call.half_close();
        let _tail = call.rest().await.closed();
        Arc::new(known)
    }

    fn piece(&self, place: usize) -> DataBuffer {
        audio::mono(RATE, &self.tone[place * PIECE..][..PIECE])
    }
}

// === impl Bystander ===

impl Bystander {
    /// Begins a session beside the victim.
    pub(crate) async fn begin(plant: &Plant, victim: &str, undisturbed: &Arc<Undisturbed>) -> Self {
        let (call, session) = plant.client().stream_as(init()).await;
        let sessions = plant.status().await.sessions;
        let own = sessions.into_iter().find(|one| one.id == session).expect("it is listed");
        assert!(own.workers.iter().all(|worker| worker != victim), "the bystander is with the victim");
        let (enough, stop) = watch::channel(false);
        let feeder = tokio::spawn(feed(call, Arc::clone(undisturbed), stop));
        Self { session, workers: own.workers, enough, feeder }
    }

    /// The name of the session.
    pub(crate) fn session(&self) -> &str {
        &self.session
    }

    /// Where it runs.
    pub(crate) fn workers(&self) -> &[String] {
        &self.workers
    }

    /// Lets it go on for a moment and end.
    ///
    /// # Panics
    /// It was disturbed.
    pub(crate) async fn end(self) {
        self.enough.send_replace(true);
        let over = within(PATIENCE, "the bystander's end", self.feeder).await;
        let over = over.expect("the bystander is undisturbed");
        assert!(matches!(over, Over::Closed(pieces) if pieces >= AFTERWARDS), "{over:?}");
    }

    /// Its gateway is dead: its call has ended, as all of them.
    pub(crate) async fn breaks_off(self) {
        let over = within(PATIENCE, "the end of the bystander's call", self.feeder).await;
        assert_eq!(over.expect("until then it is undisturbed"), Over::Broken);
    }
}

async fn feed(mut call: Call, known: Arc<Undisturbed>, stop: watch::Receiver<bool>) -> Over {
    let mut clock = tokio::time::interval(EVERY);
    let mut afterwards = 0;
    let mut place = 0;
    while place < PIECES && afterwards < AFTERWARDS {
        clock.tick().await;
        let Some(bits) = exchange(&mut call, place, known.piece(place)).await else { return Over::Broken };
        assert!(
            bits == known.outputs[place],
            "piece {place} of the bystander is not what it was undisturbed"
        );
        place += 1;
        afterwards += usize::from(*stop.borrow());
    }
    call.half_close();
    let _tail = call.rest().await.closed();
    Over::Closed(place)
}

fn init() -> StreamInit {
    let resource_limits = Some(ResourceLimits { max_timeout_ms: 10_000, ..ResourceLimits::default() });
    StreamInit { manifest: Some(chain(&[RESAMPLE])), resource_limits, ..StreamInit::default() }
}

/// The output for one piece; none if the call has broken off.
async fn exchange(call: &mut Call, place: usize, piece: DataBuffer) -> Option<Vec<u32>> {
    let sequence = place as u64;
    let request = StreamRequest { request: Some(chunk(sequence, piece)) };
    // What is said to the dead is lost, and the answer tells.
    let _said = call.sender().send(request).await;
    loop {
        match call.next().await {
            Some(Ok(Response::Result(result))) => {
                assert_eq!(result.sequence, sequence);
                let outputs = result.data_outputs.get("resample").into_iter();
                return Some(outputs.flat_map(audio::samples).map(f32::to_bits).collect());
            }
            Some(Ok(Response::Metrics(_))) => {}
            Some(Err(_)) | None => return None,
            Some(Ok(other)) => panic!("the bystander expected a result, got {other:?}"),
        }
    }
}
