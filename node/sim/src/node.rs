//! One node of a seed: its folder, its disk, and its process as a [`Host`] runs it.
//!
//! The process is the binary's own (`stanchion_server::node`), on the simulated network, with a log writer whose syncs take simulated
//! time. A hook that must end the process resets its connections at once and unwinds, so that nothing it does after that is seen by
//! anybody; the rest of the process is dropped at the end of its turn.
//!
//! Called by `cluster`.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use stanchion_engine::limits::Limits;
use stanchion_faultdisk::PowerLoss;
use stanchion_replica::{FatalHook, Timings};
use stanchion_server::cli::LogFormat;
use stanchion_server::config::NodeConfig;
use stanchion_server::node::{Node, StoreHooks, Surroundings, start_on};
use stanchion_store::{FaultPoint, Faults, LogWriter, Turns};
use tokio::sync::oneshot;

use crate::net::{SimNet, address};
use crate::plan::{DiskWrite, Keep};
use crate::world::{Machine, World};

pub const GRPC_PORT: u16 = 7233;
pub const HTTP_PORT: u16 = 8233;
pub const PEER_PORT: u16 = 7234;

/// How a disk is just now, as far as the store's own hooks tell.
pub struct Disk {
    rng: ChaCha8Rng,
    /// A sync takes at least this long.
    pub sync: Duration,
    /// The next write at this point fails.
    pub fails: Option<FaultPoint>,
}

/// What became of a process, as far as it has happened.
#[derive(Default)]
pub struct Fate {
    pub node: Option<Weak<Node>>,
    /// It could not start, in its own words.
    pub refused: Option<String>,
    /// It stopped because it had to.
    pub stopped: Option<String>,
    /// A server of it ended, or it ended in order.
    pub ended: Option<String>,
    /// Ends it in order.
    end: Option<oneshot::Sender<()>>,
}

/// What outlives the processes of one machine.
pub struct Seat {
    pub machine: Machine,
    pub folder: PathBuf,
    pub disk: Arc<Mutex<Disk>>,
    pub fate: Arc<Mutex<Fate>>,
    /// Knows which bytes of the folder a power loss would take.
    watched: Option<stanchion_faultdisk::Disk>,
    world: World,
    keep: Keep,
    seed: u64,
}

impl Seat {
    /// # Errors
    /// The folder cannot be made.
    pub fn new(machine: Machine, folder: PathBuf, world: World, keep: Keep, seed: u64) -> io::Result<Self> {
        let rng = ChaCha8Rng::seed_from_u64(seed ^ ((machine as u64 + 1) << 48));
        let mut seat = Self {
            machine,
            folder,
            disk: Arc::new(Mutex::new(Disk { rng, sync: Duration::ZERO, fails: None })),
            fate: Arc::default(),
            watched: None,
            world,
            keep,
            seed,
        };
        seat.set_up()?;
        Ok(seat)
    }

    fn set_up(&mut self) -> io::Result<()> {
        std::fs::create_dir_all(&self.folder)?;
        self.watched = Some(stanchion_faultdisk::watch(&self.folder, &self.folder.with_extension("graves"))?);
        Ok(())
    }

    /// The folder is lost, and an empty one stands in its place.
    ///
    /// # Errors
    /// It cannot be removed, or made anew.
    pub fn wipe(&mut self) -> io::Result<()> {
        self.watched = None;
        std::fs::remove_dir_all(&self.folder)?;
        self.set_up()
    }

    /// The process is about to be dropped, and nothing that it does from now on reaches the disk.
    pub fn cut_disk(&self) {
        if let Some(watched) = &self.watched {
            watched.cut();
        }
    }

    /// The process has been dropped. Everything that it wrote is there.
    pub fn revive_disk(&self) {
        if let Some(watched) = &self.watched {
            watched.revive();
            watched.control().reset();
        }
    }

    /// The process has been dropped with its machine: what was not synced is gone, or some of it. A line for the trace.
    ///
    /// # Errors
    /// The folder could not be changed.
    pub fn lose_unsynced(&self) -> io::Result<String> {
        let Some(watched) = &self.watched else { return Ok(String::new()) };
        let (how, seed) = {
            let mut disk = self.disk.lock();
            let how = if disk.rng.random_bool(0.3) { PowerLoss::Everything } else { PowerLoss::Anything };
            (how, disk.rng.random::<u64>() ^ self.seed)
        };
        let lost = watched.power_loss(how, seed)?;
        watched.control().reset();
        let stanchion_faultdisk::Lost { files, bytes, torn, entries, .. } = lost;
        Ok(format!("{files} files lost {bytes} bytes, {torn} torn, {entries} changes of folders undone"))
    }

    /// Makes the disk fail as told, until [`Seat::mend_disk`].
    pub fn break_disk(&self, how: DiskWrite) {
        let point = match how {
            DiskWrite::Log => Some(FaultPoint::LogWrite),
            DiskWrite::State => Some(FaultPoint::StateWrite),
            DiskWrite::Checkpoint => Some(FaultPoint::Checkpoint),
            DiskWrite::AnyWrite | DiskWrite::AnySync | DiskWrite::Full => None,
        };
        self.disk.lock().fails = point;
        let Some(control) = self.watched.as_ref().map(stanchion_faultdisk::Disk::control) else { return };
        match how {
            DiskWrite::Log | DiskWrite::State | DiskWrite::Checkpoint => {}
            DiskWrite::AnyWrite => control.fail_write_in.store(1, Ordering::SeqCst),
            DiskWrite::AnySync => control.fail_sync_in.store(1, Ordering::SeqCst),
            DiskWrite::Full => control.space.store(4096, Ordering::SeqCst),
        }
    }

    pub fn mend_disk(&self) {
        let mut disk = self.disk.lock();
        disk.sync = Duration::ZERO;
        disk.fails = None;
        drop(disk);
        if let Some(watched) = &self.watched {
            watched.control().reset();
        }
    }

    /// The node that runs, once it has started.
    pub fn node(&self) -> Option<Arc<Node>> {
        self.fate.lock().node.as_ref().and_then(Weak::upgrade)
    }

    /// Asks the process to end in order. False if there is none.
    pub fn end(&self) -> bool {
        self.fate.lock().end.take().is_some_and(|end| end.send(()).is_ok())
    }

    /// A process over the folder.
    pub fn process(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let (end, asked) = oneshot::channel();
        *self.fate.lock() = Fate { end: Some(end), ..Fate::default() };
        let fate = self.fate.clone();
        let config = self.config();
        let hooks = (self.fatal(), self.fatal(), self.writer(), self.faults());
        let net = Arc::new(SimNet { world: self.world.clone(), machine: self.machine });
        let timings = Timings { checkpoint: Duration::from_millis(self.keep.checkpoint_ms), ..Timings::default() };
        async move {
            let (fatal, store_fatal, log_writer, faults) = hooks;
            let around = Surroundings {
                net,
                figures: None,
                consensus: tokio::runtime::Handle::current(),
                fatal,
                store: StoreHooks { fatal: store_fatal, log_writer, faults: Some(faults), small: true },
                timings,
            };
            let mut running = match start_on(config, around).await {
                Ok(running) => running,
                Err(error) => {
                    fate.lock().refused = Some(format!("{error:#}"));
                    return;
                }
            };
            fate.lock().node = Some(Arc::downgrade(&running.node));
            let asked = tokio::select! {
                error = running.failed() => Err(error),
                asked = asked => Ok(asked.is_ok()),
            };
            let ended = match asked {
                Err(error) => format!("a server failed: {error:#}"),
                Ok(false) => return,
                Ok(true) => match running.end().await {
                    Ok(()) => "in order".to_owned(),
                    Err(error) => format!("its end failed: {error:#}"),
                },
            };
            fate.lock().ended = Some(ended);
        }
    }

    fn config(&self) -> NodeConfig {
        let ip = address(self.machine);
        let limits = Limits {
            log_keep_bytes: self.keep.log_bytes,
            log_keep_seconds: self.keep.log_seconds,
            // Every run that a commit touches, and no clock.
            invariants_share_permille: 1000,
            compare_seconds: 1,
            ..Limits::default()
        };
        NodeConfig {
            node_id: self.machine as u64 + 1,
            data: self.folder.clone(),
            ephemeral: false,
            grpc: (ip, GRPC_PORT).into(),
            http: (ip, HTTP_PORT).into(),
            peer: (ip, PEER_PORT).into(),
            dial: std::collections::BTreeMap::new(),
            insecure: true,
            log_format: LogFormat::Human,
            limits,
            dev: None,
        }
    }

    fn fatal(&self) -> FatalHook {
        let (fate, world, machine) = (self.fate.clone(), self.world.clone(), self.machine);
        Arc::new(move |reason: &str| {
            tracing::error!(machine, reason, "the node must stop");
            fate.lock().stopped.get_or_insert_with(|| reason.to_owned());
            world.process_ended(machine);
            if !std::thread::panicking() {
                std::panic::resume_unwind(Box::new("the process has ended"));
            }
        })
    }

    fn writer(&self) -> LogWriter {
        let disk = self.disk.clone();
        LogWriter::Driven(Arc::new(move |turns: Turns| {
            tokio::spawn(write(turns, disk.clone()));
        }))
    }

    fn faults(&self) -> Faults {
        let disk = self.disk.clone();
        Arc::new(move |point| {
            let mut disk = disk.lock();
            if disk.fails == Some(point) {
                disk.fails = None;
                return Err(io::Error::other("input/output error (injected)"));
            }
            Ok(())
        })
    }
}

/// Takes the writer's turns, as fast as the disk is.
async fn write(mut turns: Turns, disk: Arc<Mutex<Disk>>) {
    loop {
        turns.wait().await;
        let takes = {
            let mut disk = disk.lock();
            let some = Duration::from_millis(disk.rng.random_range(0..3));
            disk.sync + some
        };
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
        }
        if !turns.turn() {
            return;
        }
    }
}
