//! Who we are in leases, and whether the holder of one is known to be gone.
//!
//! A lease that runs out is the answer for a holder on another machine. On this one we can know at once: a process is named by the
//! machine, its start, the numbering of processes (containers have their own), its number and its own start; when that number is free
//! or somebody else's, the process is gone.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

/// Our name: `host/boot/namespace/pid/start`. Where the system does not tell these, the name says less and nobody concludes anything
/// from it.
pub fn name() -> &'static str {
    static NAME: LazyLock<String> = LazyLock::new(|| {
        let pid = std::process::id();
        format!("{}/{pid}/{}", place(), started(pid).unwrap_or_default())
    });
    &NAME
}

/// A part of this process that holds rows, with a name of its own: the process's, `#` and a number. When the value is dropped, the rows
/// that are still under its name are nobody's.
#[derive(Debug)]
pub struct Hold {
    name: String,
    number: u64,
}

/// The numbers of the holds that are there.
static HOLDS: Mutex<BTreeSet<u64>> = Mutex::new(BTreeSet::new());

impl Hold {
    #[expect(clippy::new_without_default, reason = "each is another one")]
    pub fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        HOLDS.lock().unwrap_or_else(PoisonError::into_inner).insert(number);
        Self { name: Self::named(number), number }
    }

    /// Its name, for leases.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether this is the name of one of ours that was dropped.
    pub fn is_dropped(held_by: &str) -> bool {
        Self::is_ours(held_by) == Some(false)
    }

    /// Whether this is the name of one of ours that is there: whatever a lease says, nobody has to be asked whether it lives.
    pub fn is_held(held_by: &str) -> bool {
        Self::is_ours(held_by) == Some(true)
    }

    /// The names of ours that are there, for statements that look at many rows.
    pub fn names() -> Vec<String> {
        let numbers = HOLDS.lock().unwrap_or_else(PoisonError::into_inner);
        numbers.iter().map(|number| Self::named(*number)).collect()
    }

    fn named(number: u64) -> String {
        format!("{}#{number}", name())
    }

    /// Of one of ours, whether it is there.
    fn is_ours(held_by: &str) -> Option<bool> {
        let number = held_by.strip_prefix(name())?.strip_prefix('#')?.parse().ok()?;
        Some(HOLDS.lock().unwrap_or_else(PoisonError::into_inner).contains(&number))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        HOLDS.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
    }
}

/// Whether the process of this name, or of one of its holds, is surely gone.
pub fn is_gone(name: &str) -> bool {
    let name = name.split_once('#').map_or(name, |(process, _)| process);
    let mut parts = name.rsplitn(3, '/');
    let (Some(start), Some(pid), Some(its_place)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let Ok(pid) = pid.parse::<u32>() else { return false };
    // What is empty was not told by the system, so nothing follows from it: without the machine's start, the first processes of any two
    // machines live in places of the same name.
    if start.is_empty() || !is_here(its_place, place()) {
        return false;
    }
    match started(pid) {
        Some(started) => started != start,
        // A zombie; or nothing is shown, and other people's processes may be hidden: that there is none has to be said by the system.
        None => {
            fs::exists(format!("/proc/{pid}/stat")).unwrap_or(false)
                || i32::try_from(pid).is_ok_and(|pid| kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH))
        }
    }
}

/// Whether a process of this place is one of ours; not where either says too little.
fn is_here(its_place: &str, ours: &str) -> bool {
    its_place == ours && ours.split('/').all(|part| !part.is_empty())
}

/// This start of this machine, and the numbering of processes we live in.
fn place() -> &'static str {
    static PLACE: LazyLock<String> = LazyLock::new(|| {
        let read =
            |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
        let host = read("/proc/sys/kernel/hostname");
        let boot = read("/proc/sys/kernel/random/boot_id");
        let namespace = fs::read_link("/proc/self/ns/pid")
            .map(|link| link.to_string_lossy().into_owned())
            .unwrap_or_default();
        let digits = |text: &str| text.chars().filter(char::is_ascii_alphanumeric).collect::<String>();
        let host = if host.is_empty() { "localhost" } else { &host };
        format!("{host}/{}/{}", digits(boot.split('-').next().unwrap_or_default()), digits(&namespace))
    });
    &PLACE
}

/// When a process began, in ticks since the machine's start (proc(5), field 22 of `stat`); `None`: it has ended, or is not shown.
fn started(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses, and may contain anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    // A zombie has ended; only its parent has not looked yet.
    let state = fields.next().filter(|state| *state != "Z")?;
    debug_assert_eq!(state.len(), 1, "the third field is the state");
    fields.nth(18).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_are_here_and_others_are_known_to_be_gone() {
        assert!(!is_gone(name()));
        let (place_and_pid, start) = name().rsplit_once('/').unwrap();
        assert!(is_gone(&format!("{place_and_pid}/{start}0")), "the number was given to another process");
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let child_name = format!("{}/{}/{}", place(), child.id(), started(child.id()).unwrap());
        assert!(!is_gone(&child_name));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(is_gone(&child_name) && is_gone(&format!("{child_name}#7")));
    }

    #[test]
    fn what_a_dropped_hold_had_is_nobodys() {
        let (one, other) = (Hold::new(), Hold::new());
        assert_ne!(one.name(), other.name());
        assert!(!is_gone(one.name()) && !Hold::is_dropped(one.name()) && Hold::is_held(one.name()));
        assert!(Hold::names().iter().any(|held| held == one.name()));
        let dropped = one.name().to_owned();
        drop(one);
        assert!(Hold::is_dropped(&dropped) && !Hold::is_held(&dropped), "{dropped}");
        assert!(!Hold::names().contains(&dropped));
        assert!(!is_gone(&dropped), "the process is there");
        assert!(!Hold::is_dropped(other.name()) && !Hold::is_dropped(name()));
        let elsewhere = "elsewhere/1234/4026531836/77/123#0";
        assert!(!Hold::is_dropped(elsewhere) && !Hold::is_held(elsewhere) && !Hold::is_held(name()));
    }

    #[test]
    fn nothing_is_concluded_about_other_places() {
        for other in ["", "host", "elsewhere/1234/4026531836/77/123", "host/1/2/x/3"] {
            assert!(!is_gone(other), "{other}");
        }
        assert!(is_here("shop/1a2b/pid4026531836", "shop/1a2b/pid4026531836"));
        assert!(
            !is_here("shop/1a2b/pid4026531836", "shop/3c4d/pid4026531836"),
            "another start of the machine"
        );
        assert!(
            !is_here("shop//pid4026531836", "shop//pid4026531836"),
            "any start of any machine of this name"
        );
        let nameless = name().rsplit_once('/').unwrap().0.to_owned() + "/";
        assert!(!is_gone(&nameless), "without a start nothing is known");
    }
}
