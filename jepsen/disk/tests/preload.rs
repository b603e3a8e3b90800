//! A real process under `LD_PRELOAD`: what it synced survives `kill -9` and a power loss, what it did not may be gone, and it meets the
//! faults that it is told to meet.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::Ordering::Relaxed;

use stanchion_faultdisk::preload::StateDir;
use stanchion_faultdisk::{Kind, PowerLoss};

const WRITER: &str = env!("CARGO_BIN_EXE_faultdisk-writer");

fn library() -> PathBuf {
    let beside = Path::new(WRITER).parent().unwrap();
    let name = "libstanchion_faultdisk.so";
    [beside.join(name), beside.join("deps").join(name)].into_iter().find(|path| path.exists()).unwrap()
}

struct Watched {
    dir: PathBuf,
    state: StateDir,
    child: Option<(Child, ChildStdin, BufReader<ChildStdout>)>,
}

impl Watched {
    fn new(name: &str) -> Self {
        let base = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&base);
        let dir = base.join("data");
        let state = StateDir::create(&base.join("state"), &dir).unwrap();
        Self { dir, state, child: None }
    }

    fn start(&mut self) {
        let mut command = Command::new(WRITER);
        command.envs(self.state.environment(&library())).current_dir(&self.dir);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        self.child = Some((child, input, output));
    }

    fn tell(&mut self, line: &str) -> String {
        if self.child.is_none() {
            self.start();
        }
        let (_, input, output) = self.child.as_mut().unwrap();
        writeln!(input, "{line}").unwrap();
        let mut answer = String::new();
        output.read_line(&mut answer).unwrap();
        answer.trim().to_owned()
    }

    fn run(&mut self, lines: &[&str]) {
        for line in lines {
            assert_eq!(self.tell(line), "done", "{line}");
        }
    }

    fn kill(&mut self) {
        let (mut child, ..) = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn lose(&mut self, how: PowerLoss, seed: u64) {
        self.kill();
        self.state.power_loss(how, seed).unwrap();
        assert_eq!(self.state.control().lost_track.load(Relaxed), 0);
    }

    fn read(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.dir.join(name)).ok()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
        let _ = std::fs::remove_dir_all(self.dir.parent().unwrap());
    }
}

#[test]
fn exactly_what_was_synced_is_left() {
    let mut disk = Watched::new("synced");
    disk.run(&["append a one", "sync a", "append b lost", "sync-folder .", "append a two", "append c lost", "sync c"]);
    disk.lose(PowerLoss::Everything, 1);
    assert_eq!(disk.read("a").as_deref(), Some("one"));
    assert_eq!(disk.read("b").as_deref(), Some(""), "its entry was synced, its bytes were not");
    assert_eq!(disk.read("c"), None, "its bytes were synced, its entry was not");
}

#[test]
fn a_process_that_merely_dies_loses_nothing_and_what_it_left_unsynced_still_is() {
    let mut disk = Watched::new("died");
    disk.run(&["append a one", "sync a", "sync-folder .", "append a two"]);
    disk.kill();
    assert_eq!(disk.read("a").as_deref(), Some("onetwo"));
    disk.run(&["append b x", "sync b", "sync-folder ."]);
    disk.lose(PowerLoss::Everything, 1);
    assert_eq!(disk.read("a").as_deref(), Some("one"));
    assert_eq!(disk.read("b").as_deref(), Some("x"));
}

#[test]
fn what_was_overwritten_and_cut_off_comes_back() {
    let mut disk = Watched::new("overwritten");
    disk.run(&["append a 0123456789", "sync a", "sync-folder .", "at 2 a xx", "at 3 a yyyy", "at 8 a zzzz", "cut 5 a"]);
    assert_eq!(disk.read("a").as_deref(), Some("01xyy"));
    disk.lose(PowerLoss::Everything, 1);
    assert_eq!(disk.read("a").as_deref(), Some("0123456789"));
    disk.run(&["at 2 a xx", "sync a", "at 0 a zz"]);
    disk.lose(PowerLoss::Everything, 1);
    assert_eq!(disk.read("a").as_deref(), Some("01xx456789"));
}

#[test]
fn names_are_durable_only_with_their_folder() {
    let mut disk = Watched::new("names");
    disk.run(&[
        "append a old",
        "sync a",
        "append b new",
        "sync b",
        "append c kept",
        "sync c",
        "folder d",
        "sync-folder .",
    ]);
    disk.run(&[
        "rename b a",
        "remove c",
        "append d/x gone",
        "sync d/x",
        "sync-folder d",
        "folder e",
        "append e/y gone",
    ]);
    assert_eq!(disk.read("a").as_deref(), Some("new"));
    disk.run(&["remove-all d"]);
    disk.lose(PowerLoss::Everything, 1);
    assert_eq!(disk.read("a").as_deref(), Some("old"));
    assert_eq!(disk.read("b").as_deref(), Some("new"));
    assert_eq!(disk.read("c").as_deref(), Some("kept"));
    assert_eq!(disk.read("d/x").as_deref(), Some("gone"), "the folder and what was synced in it is there again");
    assert!(!disk.dir.join("e").exists());
    disk.run(&["rename b a", "sync-folder .", "remove c"]);
    disk.lose(PowerLoss::Everything, 1);
    assert_eq!(
        (disk.read("a").as_deref(), disk.read("b"), disk.read("c").as_deref()),
        (Some("new"), None, Some("kept"))
    );
}

#[test]
fn any_part_of_what_was_not_synced_may_be_left_and_a_seed_decides_which() {
    let lose = |seed: u64| {
        let mut disk = Watched::new(&format!("any-{seed}"));
        disk.run(&["append a synced", "sync a", "sync-folder ."]);
        (0..200).for_each(|_| disk.run(&["append a aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]));
        disk.lose(PowerLoss::Anything, seed);
        std::fs::read(disk.dir.join("a")).unwrap()
    };
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..8 {
        let left = lose(seed);
        assert!(left.starts_with(b"synced"));
        assert_eq!(left, lose(seed), "seed {seed}");
        seen.insert(left);
    }
    assert!(seen.len() >= 3, "eight seeds gave {} outcomes", seen.len());
}

#[test]
fn a_full_disk_takes_what_fits_and_refuses_the_rest() {
    let mut disk = Watched::new("full");
    disk.run(&["append a 01234567"]);
    disk.state.control().space.store(4, Relaxed);
    assert!(disk.tell("append a abcdefgh").contains("No space left"));
    assert_eq!(disk.read("a").as_deref(), Some("01234567abcd"));
    disk.run(&["at 0 a XX"]);
    assert!(disk.tell("append b x").contains("No space left"));
    disk.state.control().space.store(-1, Relaxed);
    disk.run(&["append b x"]);
    assert!(disk.state.control().refused_for_space.load(Relaxed) >= 2);
}

#[test]
fn a_sync_that_failed_is_not_made_good_by_the_next() {
    let mut disk = Watched::new("sync-fails");
    disk.run(&["append a one", "sync a", "sync-folder .", "append a two"]);
    disk.state.control().fail_sync_in.store(1, Relaxed);
    assert!(disk.tell("sync a").contains("Input/output error"));
    disk.run(&["sync a"]);
    disk.lose(PowerLoss::Everything, 1);
    assert_eq!(disk.read("a").as_deref(), Some("one"));
}

#[test]
fn a_lying_disk_has_synced_nothing() {
    let mut disk = Watched::new("lying");
    disk.run(&["append a one", "sync a", "sync-folder ."]);
    disk.state.control().lying.store(1, Relaxed);
    disk.run(&["append a two", "sync a", "append b x", "sync b", "sync-folder ."]);
    assert_eq!(disk.state.control().lied.load(Relaxed), 3);
    disk.lose(PowerLoss::Everything, 1);
    assert_eq!((disk.read("a").as_deref(), disk.read("b")), (Some("one"), None));
}

#[test]
fn writes_fail_are_short_and_slow_as_told_and_only_where_told() {
    let mut disk = Watched::new("writes");
    let told = |disk: &Watched, kinds: &[Kind]| {
        disk.state.control().reset();
        disk.state.control().confine_to(kinds);
    };
    told(&disk, &[Kind::Wal]);
    disk.state.control().fail_write_in.store(2, Relaxed);
    disk.state.control().fail_writes_on.store(1, Relaxed);
    disk.run(&["append 1.log x", "append a x"]);
    assert!(disk.tell("append 1.log x").contains("Input/output error"));
    assert!(disk.tell("append 1.log x").contains("Input/output error"));
    disk.run(&["append a x"]);
    told(&disk, &[Kind::Other]);
    disk.state.control().short_write_every.store(1, Relaxed);
    disk.run(&["append s 0123456789"]);
    assert_eq!(disk.read("s").as_deref(), Some("0123456789"), "a short write is gone on with");
    assert!(disk.state.control().short_writes.load(Relaxed) > 1);
    told(&disk, &[Kind::Other]);
    disk.state.control().slow_sync_us.store(50_000, Relaxed);
    let began = std::time::Instant::now();
    disk.run(&["sync a"]);
    assert!(began.elapsed().as_millis() >= 50);
}
