//! How far something long has come: told by whoever does it, looked at by whoever waits. It holds no words but those of [`Unit`], so that
//! it can be kept and shown anywhere.

use serde::Serialize;
use tokio::sync::watch;

/// Where it is told and looked at. Clones are the same.
#[derive(Debug, Clone)]
pub struct Progress(watch::Sender<Option<Step>>);

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What is counted.
    pub unit: Unit,
    pub n_done: u64,
    /// How many there are in all, where that is known. It can grow meanwhile.
    pub n_all: Option<u64>,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    Mails,
    Messages,
    Shops,
    /// Of files.
    Bytes,
}

impl Unit {
    /// As JSON names it, and a person.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mails => "mails",
            Self::Messages => "messages",
            Self::Shops => "shops",
            Self::Bytes => "bytes",
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Progress {
    /// So many are done.
    pub fn at(&self, unit: Unit, n_done: u64, n_all: Option<u64>) {
        self.0.send_replace(Some(Step { unit, n_done, n_all }));
    }

    /// One more is done.
    pub fn one_more(&self, unit: Unit) {
        self.0.send_modify(|step| match step {
            Some(step) if step.unit == unit => step.n_done += 1,
            _ => *step = Some(Step { unit, n_done: 1, n_all: None }),
        });
    }

    /// So many more than are done are waiting.
    pub fn waiting(&self, unit: Unit, n: u64) {
        self.0.send_modify(|step| {
            let n_done = step.filter(|step| step.unit == unit).map_or(0, |step| step.n_done);
            *step = Some(Step { unit, n_done, n_all: Some(n_done + n) });
        });
    }

    /// How far it is now; `None`: nothing was told yet.
    pub fn step(&self) -> Option<Step> {
        *self.0.borrow()
    }

    /// To be woken up by each change.
    pub fn watch(&self) -> watch::Receiver<Option<Step>> {
        self.0.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_shop_after_the_other_adds_up() {
        let progress = Progress::default();
        assert_eq!(progress.step(), None);
        progress.waiting(Unit::Mails, 2);
        progress.one_more(Unit::Mails);
        progress.one_more(Unit::Mails);
        progress.waiting(Unit::Mails, 3);
        progress.one_more(Unit::Mails);
        let step = progress.step();
        assert_eq!(step, Some(Step { unit: Unit::Mails, n_done: 3, n_all: Some(5) }));
        progress.one_more(Unit::Messages);
        assert_eq!(progress.step(), Some(Step { unit: Unit::Messages, n_done: 1, n_all: None }));
        for unit in [Unit::Mails, Unit::Messages, Unit::Shops, Unit::Bytes] {
            assert_eq!(serde_json::json!(unit), unit.as_str());
        }
    }
}
