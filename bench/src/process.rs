//! CPU time and memory of processes, from /proc.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Linux reports CPU time to user space in hundredths of a second, whatever the kernel's own tick is.
const TICKS_PER_SECOND: u64 = 100;

/// What processes used while nothing happened.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    /// Of one processor: 1.0 is one fully busy.
    pub cpu_share: f64,
    pub rss_bytes: u64,
}

impl Watch {
    pub async fn over(pids: &[u32], span: Duration) -> Result<Option<Self>> {
        if pids.is_empty() || span.is_zero() {
            return Ok(None);
        }
        let (before, start) = (cpu(pids)?, Instant::now());
        tokio::time::sleep(span).await;
        let used = cpu(pids)?.saturating_sub(before);
        Ok(Some(Self { cpu_share: used.as_secs_f64() / start.elapsed().as_secs_f64(), rss_bytes: rss_bytes(pids)? }))
    }
}

/// User and system time so far, of all of them together.
pub fn cpu(pids: &[u32]) -> Result<Duration> {
    let mut ticks = 0;
    for pid in pids {
        let path = format!("/proc/{pid}/stat");
        let stat = fs::read_to_string(&path).context(path)?;
        ticks += ticks_of(&stat).with_context(|| format!("/proc/{pid}/stat is not as expected"))?;
    }
    Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// Fields 14 and 15. The second field is the command's name, which may contain blanks and brackets.
fn ticks_of(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

pub fn rss_bytes(pids: &[u32]) -> Result<u64> {
    let mut kib = 0;
    for pid in pids {
        let path = format!("/proc/{pid}/status");
        let status = fs::read_to_string(&path).context(path)?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok());
        kib += number.with_context(|| format!("/proc/{pid}/status has no VmRSS"))?;
    }
    Ok(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_any_name() {
        let stat = "12 (a b) c) S 1 2 3 4 5 6 7 8 9 10 150 25 0 0 20 0 1 0 100 0 0";
        assert_eq!(ticks_of(stat), Some(175));
        assert!(cpu(&[std::process::id()]).is_ok());
        assert!(rss_bytes(&[std::process::id()]).unwrap() > 0);
    }
}
