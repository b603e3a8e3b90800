//! Child processes: only those started here, ended by their own handle, with their output in a file.
//!
//! A child never outlives the harness: dropping a [`Process`] kills it, and the kernel kills it when the harness itself is killed
//! (`PR_SET_PDEATHSIG`). That signal is sent when the *thread* that forked ends, so that every fork happens on one thread which lives as
//! long as the harness. Each child leads a process group of its own: an interrupt at the terminal reaches the harness alone.
//!
//! Never kills by name; never signals a process that it has already reaped. Called by `cluster` and `workers`.

// A process is asked to die with its parent, is stopped and continued, and gets mounts of its own: the standard library offers none of it.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use parking_lot::Mutex;
use tokio::time::Instant;

type Job = Box<dyn FnOnce() + Send>;

/// The one thread that forks.
fn forker() -> &'static Mutex<mpsc::Sender<Job>> {
    static FORKER: OnceLock<Mutex<mpsc::Sender<Job>>> = OnceLock::new();
    FORKER.get_or_init(|| {
        let (sender, jobs) = mpsc::channel::<Job>();
        std::thread::spawn(move || jobs.into_iter().for_each(|job| job()));
        Mutex::new(sender)
    })
}

fn spawn_from_the_forker(mut command: Command) -> Result<Child> {
    Ok(beside_nodes(move || command.spawn())??)
}

/// Does something on the thread that forks, and so in the mounts that nodes see.
pub fn beside_nodes<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let (reply, answer) = mpsc::sync_channel(1);
    let job: Job = Box::new(move || {
        let _ = reply.send(work());
    });
    forker().lock().send(job).ok().context("the thread that forks is gone")?;
    answer.recv().context("the thread that forks is gone")
}

/// Gives the thread that forks, and with it every child from now on, mounts of its own: what is mounted there nobody else sees, and it is
/// gone when the last of them is. Asks for it once; an error says what the user may not.
pub fn private_mounts() -> Result<()> {
    static DONE: OnceLock<Result<(), String>> = OnceLock::new();
    let done = DONE.get_or_init(|| {
        beside_nodes(|| {
            // SAFETY: no memory is touched; it concerns this thread and its children only.
            if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
                return Err(format!("unshare: {}", std::io::Error::last_os_error()));
            }
            // Else what is mounted below a shared mount would be seen by all.
            let told = Command::new("mount").args(["--make-rprivate", "/"]).output();
            match told {
                Ok(told) if told.status.success() => Ok(()),
                Ok(told) => Err(String::from_utf8_lossy(&told.stderr).trim().to_owned()),
                Err(error) => Err(format!("mount: {error}")),
            }
        })
        .unwrap_or_else(|error| Err(error.to_string()))
    });
    done.clone().map_err(|why| anyhow!(why))
}

/// A child that may be started again after it ended.
pub struct Process {
    pub name: String,
    program: PathBuf,
    arguments: Vec<String>,
    pub log: PathBuf,
    inner: Mutex<Inner>,
}

struct Inner {
    child: Option<Child>,
    /// Added to the harness's own environment at the next start.
    environment: BTreeMap<String, String>,
    /// Whether its end was asked for. An end that nobody asked for is a finding.
    asked: bool,
    paused: bool,
    starts: u32,
    deaths: Vec<String>,
}

impl Process {
    pub fn new(name: &str, program: &Path, arguments: Vec<String>, log: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            program: program.to_owned(),
            arguments,
            log,
            inner: Mutex::new(Inner {
                child: None,
                environment: BTreeMap::new(),
                asked: true,
                paused: false,
                starts: 0,
                deaths: Vec::new(),
            }),
        }
    }

    /// Sets or removes a variable of the next start.
    pub fn set_env(&self, name: &str, value: Option<&str>) {
        let mut inner = self.inner.lock();
        match value {
            Some(value) => inner.environment.insert(name.to_owned(), value.to_owned()),
            None => inner.environment.remove(name),
        };
    }

    pub fn start(&self) -> Result<()> {
        let mut inner = self.inner.lock();
        self.notice(&mut inner);
        if inner.child.is_some() {
            bail!("{} runs already", self.name);
        }
        let out = OpenOptions::new().create(true).append(true).open(&self.log);
        let out = out.with_context(|| format!("the log {}", self.log.display()))?;
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).envs(&inner.environment).stdin(Stdio::null());
        command.stdout(out.try_clone()?).stderr(out).process_group(0);
        // SAFETY: between fork and exec only async-signal-safe calls are made.
        unsafe {
            command.pre_exec(|| {
                if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                    return Err(std::io::Error::last_os_error());
                }
                // The parent may have died before the line above: nobody would kill this child then.
                if libc::getppid() == 1 { Err(std::io::Error::from_raw_os_error(libc::ESRCH)) } else { Ok(()) }
            });
        }
        let child = spawn_from_the_forker(command);
        inner.child = Some(child.with_context(|| format!("starting {} for {}", self.program.display(), self.name))?);
        inner.starts += 1;
        inner.asked = false;
        inner.paused = false;
        Ok(())
    }

    pub fn is_running(&self) -> bool {
        let mut inner = self.inner.lock();
        self.notice(&mut inner);
        inner.child.is_some()
    }

    pub fn is_paused(&self) -> bool {
        self.inner.lock().paused
    }

    pub fn starts(&self) -> u32 {
        self.inner.lock().starts
    }

    /// Ends that nobody asked for, so far.
    pub fn deaths(&self) -> Vec<String> {
        let mut inner = self.inner.lock();
        self.notice(&mut inner);
        inner.deaths.clone()
    }

    /// Whether it has ended, as it was told to or was allowed to.
    pub fn has_ended_as_it_may(&self) -> bool {
        let mut inner = self.inner.lock();
        self.notice(&mut inner);
        inner.child.is_none() && inner.deaths.is_empty()
    }

    /// The next end of this process is expected: a fault was done to it that it may answer by stopping.
    pub fn may_end(&self) {
        self.inner.lock().asked = true;
    }

    /// kill -9, and waits until the kernel has taken it away.
    pub fn kill(&self) {
        self.kill_without_waiting();
        let mut inner = self.inner.lock();
        if let Some(mut child) = inner.child.take() {
            let _ = child.wait();
        }
    }

    /// kill -9; whether there was anything to kill.
    pub fn kill_without_waiting(&self) -> bool {
        let mut inner = self.inner.lock();
        self.notice(&mut inner);
        inner.asked = true;
        inner.child.as_mut().is_some_and(|child| child.kill().is_ok())
    }

    /// SIGSTOP: to everybody else a machine that hangs; to itself a clock that jumps.
    pub fn pause(&self) {
        let mut inner = self.inner.lock();
        inner.paused = self.signal(&mut inner, libc::SIGSTOP);
    }

    pub fn resume(&self) {
        let mut inner = self.inner.lock();
        self.signal(&mut inner, libc::SIGCONT);
        inner.paused = false;
    }

    /// SIGTERM; the time until it was gone. One that outlives `within` is killed, which is a finding.
    pub async fn terminate(&self, within: Duration) -> Duration {
        let begin = Instant::now();
        {
            let mut inner = self.inner.lock();
            inner.asked = true;
            if !self.signal(&mut inner, libc::SIGTERM) {
                return Duration::ZERO;
            }
        }
        while self.is_running() {
            if begin.elapsed() > within {
                self.inner.lock().deaths.push(format!("{} did not end within {within:?} of SIGTERM", self.name));
                self.kill();
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        begin.elapsed()
    }

    /// The end of the log.
    pub fn tail(&self, bytes: u64) -> String {
        let read = || -> std::io::Result<Vec<u8>> {
            let mut file = std::fs::File::open(&self.log)?;
            let size = file.metadata()?.len();
            file.seek(SeekFrom::Start(size.saturating_sub(bytes)))?;
            let mut data = Vec::new();
            file.read_to_end(&mut data)?;
            Ok(data)
        };
        String::from_utf8_lossy(&read().unwrap_or_default()).trim().to_owned()
    }

    fn signal(&self, inner: &mut Inner, number: libc::c_int) -> bool {
        self.notice(inner);
        let Some(child) = &inner.child else { return false };
        // SAFETY: the child has not been reaped (that happens under this lock), so that its pid is still its own.
        unsafe { libc::kill(child.id() as libc::pid_t, number) == 0 }
    }

    /// Reaps an ended child; notes an end that nobody asked for, once.
    fn notice(&self, inner: &mut Inner) {
        let Some(child) = inner.child.as_mut() else { return };
        let Ok(Some(status)) = child.try_wait() else { return };
        let pid = child.id();
        inner.child = None;
        if !inner.asked {
            inner.deaths.push(format!(
                "{} (pid {pid}) ended by itself: {}; see {}",
                self.name,
                how(status),
                self.log.display()
            ));
        }
        inner.asked = true;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "unknown".to_owned(),
    }
}
