//! A process for the tests to watch and kill: writes as it is told on its standard input, a word at a time, and says `done` after each.
//! It must not link the crate, or it would be watched twice.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, Write};
use std::os::unix::fs::FileExt;

type Files = BTreeMap<String, File>;

fn file<'a>(files: &'a mut Files, name: &str) -> io::Result<&'a mut File> {
    if !files.contains_key(name) {
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(name)?;
        files.insert(name.to_owned(), file);
    }
    files.get_mut(name).ok_or_else(|| io::Error::other("no file"))
}

fn obey(files: &mut Files, words: &[&str]) -> io::Result<()> {
    let number = |word: &str| word.parse::<u64>().map_err(io::Error::other);
    match words {
        ["append", name, text] => file(files, name)?.write_all(text.as_bytes()),
        ["at", offset, name, text] => file(files, name)?.write_all_at(text.as_bytes(), number(offset)?),
        ["cut", length, name] => file(files, name)?.set_len(number(length)?),
        ["sync", name] => file(files, name)?.sync_data(),
        ["sync-folder", name] => File::open(name)?.sync_all(),
        ["folder", name] => fs::create_dir(name),
        ["rename", from, to] => fs::rename(from, to),
        ["remove", name] => fs::remove_file(name),
        ["remove-all", name] => fs::remove_dir_all(name),
        other => Err(io::Error::other(format!("unknown: {other:?}"))),
    }
}

fn main() {
    let mut files = Files::new();
    for line in io::stdin().lock().lines() {
        let line = line.unwrap_or_default();
        match obey(&mut files, &line.split(' ').collect::<Vec<_>>()) {
            Ok(()) => println!("done"),
            Err(error) => println!("failed {error}"),
        }
    }
}
