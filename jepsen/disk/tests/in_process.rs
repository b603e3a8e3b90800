//! Folders of the own process, as the simulator watches one for each node.

#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;

use stanchion_faultdisk::{Disk, PowerLoss, watch};

fn folders(name: &str) -> (PathBuf, PathBuf) {
    let base = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("own-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&base);
    (base.join("data"), base.join("graves"))
}

fn disk(name: &str) -> (PathBuf, Disk) {
    let (data, graves) = folders(name);
    let disk = watch(&data, &graves).unwrap();
    (data, disk)
}

#[test]
fn two_nodes_lose_their_power_one_by_one() {
    let ((a, disk_a), (b, disk_b)) = (disk("a"), disk("b"));
    for dir in [&a, &b] {
        let mut file = File::create(dir.join("f")).unwrap();
        file.write_all(b"synced").unwrap();
        file.sync_all().unwrap();
        File::open(dir).unwrap().sync_all().unwrap();
        file.write_all(b" and not").unwrap();
    }
    let lost = disk_a.power_loss(PowerLoss::Everything, 1).unwrap();
    assert_eq!((lost.files, lost.bytes), (1, 8));
    assert_eq!(fs::read(a.join("f")).unwrap(), b"synced");
    assert_eq!(fs::read(b.join("f")).unwrap(), b"synced and not");
    // The disk is there again, and so is the other's memory of what is not durable.
    fs::write(a.join("g"), b"new").unwrap();
    disk_b.power_loss(PowerLoss::Everything, 1).unwrap();
    assert_eq!(fs::read(b.join("f")).unwrap(), b"synced");
    assert_eq!(fs::read(a.join("g")).unwrap(), b"new");
}

#[test]
fn nothing_of_a_cut_disk_changes_and_old_descriptors_stay_dead() {
    let (dir, disk) = disk("cut");
    let mut file = File::create(dir.join("f")).unwrap();
    file.write_all(b"one").unwrap();
    disk.cut();
    assert!(file.write_all(b"two").is_err() && file.sync_all().is_err() && file.set_len(0).is_err());
    assert!(fs::write(dir.join("g"), b"x").is_err() && fs::remove_file(dir.join("f")).is_err());
    assert!(fs::rename(dir.join("f"), dir.join("g")).is_err() && fs::create_dir(dir.join("d")).is_err());
    disk.revive();
    assert_eq!(fs::read(dir.join("f")).unwrap(), b"one");
    assert!(file.write_all(b"two").is_err(), "a thread of the dead node still has it");
    fs::write(dir.join("g"), b"x").unwrap();
}

#[test]
fn slowness_is_owed_in_a_simulation() {
    let (dir, disk) = disk("slow");
    disk.control().simulated.store(1, Relaxed);
    disk.control().slow_sync_us.store(60_000_000, Relaxed);
    let mut file = File::create(dir.join("f")).unwrap();
    file.write_all(b"x").unwrap();
    file.sync_all().unwrap();
    assert_eq!(disk.control().owed_us.load(Relaxed), 60_000_000);
}
