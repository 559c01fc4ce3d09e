//! From queued rows to mails: one claimer, several senders, each with a connection of its own.
//!
//! A sender commits `in_data` before the final dot, and hands in the outcome after it; before it writes the next final dot, that outcome is
//! committed. So a kill leaves at most one unknown mail per connection. A fault of the relay is not held against the recipient
//! ([`verdict`]), and too many of them open the relay's breaker, which ends the round ([`relay`]). When asked to stop, the senders finish
//! the mail in their hands; what was claimed and not begun goes back to its place.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Datelike as _, TimeDelta, Utc};
use chrono_tz::Tz;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Manner;
use super::bounces;
use super::brakes;
use super::compose::{self, ComposeError, Composed, Facts, Letterhead};
use super::outbox::{self, AttemptOutcome, Claimed, Outcome, Settled, Try};
use super::recorder::{Handed, Recorder};
use super::relay::{self, Admission, Outage};
use super::verdict::{self, Standing, Verdict};
use crate::config::Shop;
use crate::context::Context;
use crate::installation;
use crate::mail::transport::{Connection, Fault, Phase};
use crate::process;
use crate::progress::{Progress, Unit};
use crate::survey::{self, Questionnaire, SendWindow, Survey};
use crate::types::{ShopId, SurveyVersionId};

/// How long a row waits after the relay did not take even its sender, so that another row is tried first: it might be this one's fault
/// after all.
const RELAY_PAUSE: TimeDelta = TimeDelta::minutes(1);
/// Between two attempts to connect.
const CONNECT_PAUSE: Duration = Duration::from_millis(300);
/// The lowest rate that is taken as measured, in mails per minute.
const LEAST_MEASURED: f64 = 10.0;
/// So many rows wait for a sender, so that nobody is idle while the next are claimed: half a batch lasts longer than claiming one. Those that
/// a relay keeps waiting until their lease runs out are another's, and the ledger says so before their final dot.
const ROWS_AHEAD: usize = 100;

/// What became of the mails of one run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Delivery {
    pub n_sent: u64,
    pub n_deferred: u64,
    pub n_failed: u64,
    pub n_unknown: u64,
    /// Mails that wait for a later run.
    pub n_waiting: u64,
    /// Whether the run ended because it was asked to.
    pub stopped: bool,
    /// What was tidied up before.
    pub settled: Settled,
    /// Whether the run ended because the send window is closed.
    pub window_closed: bool,
    /// Why the job is not to go on until somebody has looked.
    pub brake: Option<String>,
    /// Whether the run ended because it had sent as many as it may, and others are due.
    pub cap_reached: bool,
    /// What the relay did wrong last; the mails in hand went back to the queue.
    pub relay_fault: Option<String>,
    /// Why nothing more is sent for now, when the relay does not work.
    pub outage: Option<Outage>,
}

/// What the senders share.
struct Round {
    context: Context,
    shop_id: ShopId,
    shop: Shop,
    survey: Survey,
    questionnaires: tokio::sync::Mutex<HashMap<SurveyVersionId, Arc<Questionnaire>>>,
    delivery: Mutex<Delivery>,
    recorder: Recorder,
    /// The relay's name in the table.
    relay: String,
    /// Whether there were faults that the next success has to clear.
    has_faults: AtomicBool,
    /// Whether one mail is tried to see whether the relay works again.
    is_probe: AtomicBool,
    /// Whether the relay takes less than jobs.toml says.
    is_slowed: AtomicBool,
    /// Rows that were claimed, handed out and not begun before they were called back.
    left_over: Mutex<Vec<Claimed>>,
    brakes: brakes::Watched,
    /// Whose the claimed rows are.
    hold: process::Hold,
    progress: Progress,
    /// The mark that was left last.
    mark: tokio::sync::Mutex<Option<i64>>,
    stop: CancellationToken,
}

/// Mails what is queued and due, inside the send window, until nothing is left, `at_most` mails were taken up, the relay fails, a brake
/// is pulled, or `stop` is asked for. While the relay's breaker is open nothing is mailed, but for a probe when its time has come, or when
/// somebody asks for one.
///
/// # Errors
/// When the database does not answer.
pub async fn deliver(
    context: &Context,
    shop_id: ShopId,
    shop: &Shop,
    survey: &Survey,
    at_most: Option<u64>,
    manner: Manner,
    stop: &CancellationToken,
) -> anyhow::Result<Delivery> {
    let pool = &context.pool;
    let brakes =
        brakes::Watched { shop: shop_id, limits: context.config.mail.brakes, resumed_at: manner.resumed_at };
    if let Some(brake) = brakes::returned(pool, brakes, context.clock.now()).await? {
        let n_waiting = outbox::n_waiting(pool, shop_id, survey).await?;
        return Ok(Delivery { brake: Some(brake.to_string()), n_waiting, ..Delivery::default() });
    }
    // A probe is for whoever has something to send.
    let now = context.clock.now();
    let is_open_now = is_open(survey.send_window.as_ref(), now, shop.timezone);
    if !is_open_now || !outbox::is_due(pool, shop_id, survey, now).await? {
        let n_waiting = outbox::n_waiting(pool, shop_id, survey).await?;
        return Ok(Delivery { window_closed: !is_open_now, n_waiting, ..Delivery::default() });
    }
    let relay = relay::name(&context.config.mail.transport);
    let known = relay::admit(pool, &relay, manner.probe_now, context.clock.now()).await?;
    let round = Arc::new(Round {
        context: context.clone(),
        shop_id,
        shop: shop.clone(),
        survey: survey.clone(),
        questionnaires: tokio::sync::Mutex::default(),
        delivery: Mutex::default(),
        recorder: Recorder::start(pool, context.config.mail.max_connections),
        relay,
        has_faults: AtomicBool::new(known.has_faults),
        is_probe: AtomicBool::new(false),
        is_slowed: AtomicBool::new(known.is_slowed),
        left_over: Mutex::default(),
        brakes,
        hold: process::Hold::new(),
        progress: manner.progress,
        mark: tokio::sync::Mutex::default(),
        // A child: the relay's fault ends this round, not the caller.
        stop: stop.child_token(),
    });
    let n_senders = context.config.mail.max_connections;
    let mut left = at_most.unwrap_or(u64::MAX);
    round.progress.waiting(Unit::Mails, outbox::n_waiting(pool, shop_id, survey).await?.min(left));
    match known.admission {
        Admission::Open => left -= send_at_any_pace(&round, n_senders, left).await?,
        Admission::Probe => {
            round.is_probe.store(true, Ordering::Relaxed);
            // A mail that never came to the relay proves nothing; then another is tried.
            while round.has_faults.load(Ordering::Relaxed) && left > 0 && !round.is_over() {
                let n = send_claimed(&round, 1, 1).await?;
                left -= n;
                if n == 0 {
                    break;
                }
            }
            round.is_probe.store(false, Ordering::Relaxed);
            if !round.has_faults.load(Ordering::Relaxed) && !round.is_over() {
                left -= send_at_any_pace(&round, n_senders, left).await?;
            }
        }
        Admission::Closed(outage) => round.count(|delivery| delivery.outage = Some(outage)),
    }
    // The last mails of the round count, too.
    round.is_braked().await?;
    let mut delivery = round.delivery.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let now = context.clock.now();
    delivery.cap_reached = left == 0 && outbox::is_due(pool, shop_id, survey, now).await?;
    delivery.n_waiting = outbox::n_waiting(pool, shop_id, survey).await?;
    delivery.stopped = stop.is_cancelled();
    Ok(delivery)
}

/// Claims and sends, over so many connections and so many mails at most; once more when the relay turns out to take fewer mails, or as many
/// as before. Comes back with how many were taken up.
async fn send_at_any_pace(round: &Arc<Round>, n_senders: usize, at_most: u64) -> anyhow::Result<u64> {
    let mut n_taken = 0;
    loop {
        let was_slowed = round.is_slowed.load(Ordering::Relaxed);
        n_taken += send_claimed(round, n_senders, at_most - n_taken).await?;
        let is_same_pace = round.is_slowed.load(Ordering::Relaxed) == was_slowed;
        if is_same_pace || round.is_ending() || n_taken == at_most {
            return Ok(n_taken);
        }
        // Nobody waits for a turn to send nothing.
        let Round { context, shop_id, survey, .. } = &**round;
        if !outbox::is_due(&context.pool, *shop_id, survey, context.clock.now()).await? {
            return Ok(n_taken);
        }
    }
}

/// Claims and sends at one pace: what was handed out and not begun goes back when that changes, and when the round ends. Comes back with
/// how many were taken up.
async fn send_claimed(round: &Arc<Round>, n_senders: usize, at_most: u64) -> anyhow::Result<u64> {
    let was_slowed = round.is_slowed.load(Ordering::Relaxed);
    let limit = round.context.config.mail.rate_per_minute.map(|rate| f64::from(rate.get()));
    // A row whose turn has come is to leave now: while a relay stalls, turns must not pile up.
    let n_ahead = if limit.is_some() || was_slowed { 1 } else { ROWS_AHEAD };
    let (rows, received) = mpsc::channel(n_ahead);
    let received = Arc::new(tokio::sync::Mutex::new(received));
    let mut senders = JoinSet::new();
    for _ in 0..n_senders {
        senders.spawn(send_rows(Arc::clone(round), Arc::clone(&received), was_slowed));
    }
    // Theirs alone: when the last of them has failed, the claimer must not wait for somebody to take a row.
    drop(received);
    let claimed = claim_rows(round, rows, at_most, limit, was_slowed).await;
    // Wait for every sender, also when one has failed: a dropped one would leave its connection and its row in doubt.
    let mut failed = None;
    while let Some(ended) = senders.join_next().await {
        if let Err(error) = ended.map_err(anyhow::Error::from).and_then(|ended| ended) {
            failed.get_or_insert(error);
        }
    }
    let left_over = std::mem::take(&mut *round.left_over.lock().unwrap_or_else(PoisonError::into_inner));
    let released = outbox::release(&round.context.pool, &left_over, None).await;
    let n_claimed = claimed?;
    if let Some(error) = failed {
        return Err(error);
    }
    released?;
    Ok(n_claimed - left_over.len() as u64)
}

/// Claims batch after batch and hands the rows out, up to so many. `limit`: mails per minute, by jobs.toml. Comes back with how many it
/// claimed.
async fn claim_rows(
    round: &Round,
    rows: mpsc::Sender<Claimed>,
    at_most: u64,
    limit: Option<f64>,
    was_slowed: bool,
) -> anyhow::Result<u64> {
    let pool = &round.context.pool;
    let is_limited = limit.is_some() || was_slowed;
    let owner = round.hold.name();
    let (mut n_claimed, mut n_looked_at, mut n_marked) = (0, None, None);
    while !round.is_called_back(was_slowed) && n_claimed < at_most {
        let now = round.context.clock.now();
        if !is_open(round.survey.send_window.as_ref(), now, round.shop.timezone) {
            round.count(|delivery| delivery.window_closed = true);
            break;
        }
        // With a limit a few mails are claimed at a time, and brakes that look at hundreds need no look at each.
        if n_marked.is_none_or(|n| n_claimed >= n + outbox::BATCH.unsigned_abs()) {
            n_marked = Some(n_claimed);
            round.leave_mark().await?;
        }
        if n_looked_at.is_none_or(|n| n_claimed >= n + brakes::EVERY) {
            n_looked_at = Some(n_claimed);
            if round.is_braked().await? {
                break;
            }
        }
        let mut n = outbox::BATCH.min(i64::try_from(at_most - n_claimed).unwrap_or(i64::MAX));
        if is_limited {
            let taken = relay::take(pool, &round.relay, limit, n).await?;
            if taken.is_slowed != was_slowed {
                round.is_slowed.store(taken.is_slowed, Ordering::Relaxed);
                relay::give_back(pool, &round.relay, taken.n).await?;
                break;
            }
            if taken.n == 0 {
                // Whoever asks us to stop does not wait for the next mail's turn.
                tokio::select! {
                    () = tokio::time::sleep(taken.wait) => {}
                    () = round.stop.cancelled() => {}
                }
                continue;
            }
            n = taken.n;
        }
        let batch = outbox::claim(pool, round.shop_id, &round.survey, owner, now, n).await?;
        let found = i64::try_from(batch.len()).unwrap_or(i64::MAX);
        if is_limited && found < n {
            relay::give_back(pool, &round.relay, n - found).await?;
        }
        if batch.is_empty() {
            break;
        }
        n_claimed += batch.len() as u64;
        let mut batch = batch.into_iter();
        while let Some(row) = batch.next() {
            if round.is_called_back(was_slowed) {
                let rest: Vec<Claimed> = std::iter::once(row).chain(batch).collect();
                outbox::release(pool, &rest, None).await?;
                n_claimed -= rest.len() as u64;
                break;
            }
            if let Err(mpsc::error::SendError(row)) = rows.send(row).await {
                // Every sender has ended with an error.
                let rest: Vec<Claimed> = std::iter::once(row).chain(batch).collect();
                outbox::release(pool, &rest, None).await?;
                return Ok(n_claimed - rest.len() as u64);
            }
        }
    }
    Ok(n_claimed)
}

/// One sender: takes rows until there are no more.
async fn send_rows(
    round: Arc<Round>,
    rows: Arc<tokio::sync::Mutex<mpsc::Receiver<Claimed>>>,
    was_slowed: bool,
) -> anyhow::Result<()> {
    let mut sender = Sender { round: &round, connection: None, n_sent: 0, handed: None };
    loop {
        let row = rows.lock().await.recv().await;
        let Some(row) = row else { break };
        if round.is_called_back(was_slowed) {
            round.left_over.lock().unwrap_or_else(PoisonError::into_inner).push(row);
            continue;
        }
        sender.send(&row).await?;
    }
    sender.settle_last().await?;
    if let Some(connection) = sender.connection {
        connection.close().await;
    }
    Ok(())
}

/// A connection, which is replaced after any fault, and the mail that left over it last.
struct Sender<'a> {
    round: &'a Round,
    connection: Option<Connection>,
    /// Mails that were sent over this connection.
    n_sent: u32,
    /// The outcome that was handed in last, and of which mail.
    handed: Option<(Handed, Claimed, AttemptOutcome)>,
}

impl Sender<'_> {
    /// One mail.
    async fn send(&mut self, row: &Claimed) -> anyhow::Result<()> {
        let round = self.round;
        let started_at = round.context.clock.now();
        let composed = match self.composed(row, started_at).await? {
            Ok(composed) => composed,
            Err(outcome) => return self.hand_in(row, outcome, started_at).await,
        };
        if self.n_sent >= round.context.config.mail.max_per_connection
            && let Some(worn) = self.connection.take()
        {
            worn.close().await;
        }
        let Some(mut connection) = self.prepared(row, &composed, started_at).await? else { return Ok(()) };
        let is_ours = round.recorder.enter_data(row, &composed.message_id).await?;
        // Handed in before, so written by now.
        self.settle_last().await?;
        if !is_ours {
            // The lease ran out while we waited for the relay. The connection expects a message now, so it is of no more use.
            tracing::warn!(invitation.id = %row.invitation, "invitation {} was taken over before it was sent", row.invitation);
            return Ok(());
        }
        match connection.transmit(&composed.bytes, &file_name(row)).await {
            Ok(()) => {
                self.connection = Some(connection);
                self.n_sent += 1;
                let sent = Outcome { outcome: AttemptOutcome::Sent, fault: None, suppress: false };
                // First what is only known here, then what others can find out, too.
                self.hand_in(row, sent, started_at).await?;
                round.relay_works().await
            }
            Err(fault) => self.failed(row, fault, started_at).await,
        }
    }

    /// The mail; or, when this address cannot be mailed and no later try will change that, what becomes of it.
    async fn composed(
        &self,
        row: &Claimed,
        started_at: DateTime<Utc>,
    ) -> anyhow::Result<Result<Composed, Outcome>> {
        let round = self.round;
        let context = &round.context;
        let questionnaire = questionnaire(round, row.survey_version).await?;
        let facts = Facts {
            shop_id: round.shop_id,
            invitation_id: row.invitation,
            questionnaire: &questionnaire,
            order: &row.external_id,
            ordered_at: row.ordered_at,
            reminder: row.wave > 0,
            message_id: row.message_id.as_deref(),
            first_name: row.first_name.as_deref(),
            locale: row.locale.as_deref(),
            email: &row.email,
        };
        let config = &context.config;
        let letterhead = Letterhead {
            shop: &round.shop,
            base_url: &config.app.base_url,
            return_path: config.mail.return_path.as_deref(),
            signer: config.mail.signer.as_ref(),
        };
        let composed = compose::compose(&context.templates, &context.tokens, &letterhead, &facts, started_at);
        match composed {
            Ok(composed) => Ok(Ok(composed)),
            Err(error @ ComposeError::Recipient) => {
                let fault = Fault { phase: Phase::Mail, reply: None, text: error.to_string() };
                Ok(Err(Outcome { outcome: AttemptOutcome::Failed, fault: Some(fault), suppress: false }))
            }
            Err(error) => {
                // No mail of this shop can be written, so nobody is to pay for it: the row waits, and the run fails and says why.
                outbox::release(&context.pool, std::slice::from_ref(row), None).await?;
                round.stop.cancel();
                Err(anyhow::Error::new(error).context("the mail cannot be written"))
            }
        }
    }

    /// A connection over which the relay has said that it takes the message; `None`: it has not, and that is dealt with. A connection
    /// that the relay has closed since the last mail is replaced, and nobody is to blame.
    async fn prepared(
        &mut self,
        row: &Claimed,
        mail: &Composed,
        started_at: DateTime<Utc>,
    ) -> anyhow::Result<Option<Connection>> {
        if let Some(mut connection) = self.connection.take() {
            match connection.prepare(&mail.envelope_from, &mail.envelope_to).await {
                Ok(()) => return Ok(Some(connection)),
                Err(fault) if is_closed_since(&fault) => {}
                Err(fault) => return self.failed(row, fault, started_at).await.map(|()| None),
            }
        }
        self.n_sent = 0;
        let Some(mut connection) = self.opened().await? else {
            outbox::release(&self.round.context.pool, std::slice::from_ref(row), None).await?;
            return Ok(None);
        };
        match connection.prepare(&mail.envelope_from, &mail.envelope_to).await {
            Ok(()) => Ok(Some(connection)),
            Err(fault) => self.failed(row, fault, started_at).await.map(|()| None),
        }
    }

    /// A new connection, asked for until the round is over; the breaker sees to that when there is none. No mail has to do with it.
    async fn opened(&self) -> anyhow::Result<Option<Connection>> {
        let (round, config) = (self.round, &self.round.context.config);
        while !round.is_over() {
            let fault = match Connection::open(&config.mail.transport, &config.outbox_dir()).await {
                Ok(connection) => return Ok(Some(connection)),
                Err(fault) => fault,
            };
            let standing = verdict::judge(&fault, None, round.context.clock.now()).relay;
            round.hear(standing, &fault).await?;
            if standing == Standing::TooMany {
                break;
            }
            // Whoever restarts a relay needs a moment, and one that takes fewer connections is not to be asked again and again.
            tokio::select! {
                () = tokio::time::sleep(CONNECT_PAUSE) => {}
                () = round.stop.cancelled() => {}
            }
        }
        Ok(None)
    }

    /// What a fault means for the mail, and for the relay. The connection is gone with it.
    async fn failed(&mut self, row: &Claimed, fault: Fault, started_at: DateTime<Utc>) -> anyhow::Result<()> {
        let (round, now) = (self.round, self.round.context.clock.now());
        // What a relay says is kept; whom it says it about is not.
        let fault = Fault { text: bounces::report::mask(&fault.text, &private(row)), ..fault };
        let Verdict { outcome, suppress, relay } = verdict::judge(&fault, row.first_deferred_at, now);
        match outcome {
            Some(outcome) => {
                let outcome = Outcome { outcome, fault: Some(fault.clone()), suppress };
                self.hand_in(row, outcome, started_at).await?;
            }
            None => {
                let row = std::slice::from_ref(row);
                outbox::release(&round.context.pool, row, Some(now + RELAY_PAUSE)).await?;
            }
        }
        round.hear(relay, &fault).await
    }

    /// Hands in what became of a mail, to be written before or with whatever this sender hands in next.
    async fn hand_in(
        &mut self,
        row: &Claimed,
        outcome: Outcome,
        started_at: DateTime<Utc>,
    ) -> anyhow::Result<()> {
        self.settle_last().await?;
        let kind = outcome.outcome;
        let ended_at = self.round.context.clock.now();
        let reminder = usize::try_from(row.wave).ok().and_then(|wave| self.round.survey.reminders.get(wave));
        let tried = Try { outcome, started_at, ended_at, remind_at: reminder.map(|wait| ended_at + *wait) };
        self.handed = Some((self.round.recorder.ended(row, tried).await?, row.clone(), kind));
        Ok(())
    }

    /// Waits until the outcome that was handed in last is written, and counts it.
    async fn settle_last(&mut self) -> anyhow::Result<()> {
        let Some((handed, row, kind)) = self.handed.take() else { return Ok(()) };
        if !handed.written().await? {
            tracing::warn!(invitation.id = %row.invitation, "invitation {} was taken over while it was sent", row.invitation);
            return Ok(());
        }
        self.round.progress.one_more(Unit::Mails);
        self.round.count(|delivery| match kind {
            AttemptOutcome::Sent => delivery.n_sent += 1,
            AttemptOutcome::Deferred => delivery.n_deferred += 1,
            AttemptOutcome::Failed => delivery.n_failed += 1,
            AttemptOutcome::Unknown => delivery.n_unknown += 1,
        });
        Ok(())
    }
}

/// Whether a relay has closed a connection while it was idle: nothing came, or 421, where the next mail would have begun.
fn is_closed_since(fault: &Fault) -> bool {
    fault.phase == Phase::Mail && fault.reply.as_ref().is_none_or(|reply| reply.code == 421)
}

impl Round {
    fn count(&self, change: impl FnOnce(&mut Delivery)) {
        change(&mut self.delivery.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Whether no mail is begun any more.
    fn is_over(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Whether what was not begun is to stay here: the round is over, or somebody has to look first.
    fn is_ending(&self) -> bool {
        let is_braked = || self.delivery.lock().unwrap_or_else(PoisonError::into_inner).brake.is_some();
        self.is_over() || is_braked()
    }

    /// Whether what was handed out and not begun goes back. `was_slowed`: the pace at which it was handed out; when the relay says "too many",
    /// these are too many, too.
    fn is_called_back(&self, was_slowed: bool) -> bool {
        self.is_ending() || self.is_slowed.load(Ordering::Relaxed) != was_slowed
    }

    /// Says in the database and beside it that mails are about to leave, so that a database that loses them is noticed.
    async fn leave_mark(&self) -> anyhow::Result<()> {
        let Context { config, pool, clock, .. } = &self.context;
        let mut last = self.mark.lock().await;
        let mut conn = pool.acquire().await?;
        *last = Some(installation::leave_mark(&mut conn, config, *last, clock.now()).await?);
        Ok(())
    }

    /// Whether the job is to stop until somebody has looked.
    async fn is_braked(&self) -> sqlx::Result<bool> {
        let brake = brakes::latest(&self.context.pool, self.brakes).await?;
        let is_pulled = brake.is_some();
        self.count(|delivery| delivery.brake = brake.map(|brake| brake.to_string()));
        Ok(is_pulled)
    }

    /// The relay has answered as it should.
    async fn relay_works(&self) -> anyhow::Result<()> {
        if self.has_faults.swap(false, Ordering::Relaxed) {
            relay::works(&self.context.pool, &self.relay).await?;
            self.count(|delivery| delivery.outage = None);
        }
        Ok(())
    }

    /// What a fault says about the relay.
    async fn hear(&self, standing: Standing, fault: &Fault) -> anyhow::Result<()> {
        let text = format!("{}: {}", fault.phase.as_str(), fault.text);
        match standing {
            Standing::Works => self.relay_works().await,
            Standing::TooMany => self.slow_down(&text).await,
            Standing::Faulty => self.relay_failed(text, false).await,
            Standing::Refuses => self.relay_failed(text, true).await,
        }
    }

    /// The relay's fault: too many of these in a row, or one refusal, end the round.
    async fn relay_failed(&self, text: String, refuses: bool) -> anyhow::Result<()> {
        tracing::warn!("the mail relay failed at {text}");
        self.has_faults.store(true, Ordering::Relaxed);
        let (is_probe, now) = (self.is_probe.load(Ordering::Relaxed), self.context.clock.now());
        let outage = relay::at_fault(&self.context.pool, &self.relay, &text, refuses, is_probe, now).await?;
        if outage.is_some() {
            self.stop.cancel();
        }
        self.count(|delivery| {
            delivery.relay_fault = Some(text);
            delivery.outage = outage.or(delivery.outage.take());
        });
        Ok(())
    }

    /// The relay takes fewer mails than we send.
    async fn slow_down(&self, text: &str) -> anyhow::Result<()> {
        tracing::warn!("the mail relay says that there are too many mails, at {text}");
        // First, so that the others begin no mail while it is written down.
        self.is_slowed.store(true, Ordering::Relaxed);
        self.relay_works().await?;
        let context = &self.context;
        let full = match context.config.mail.rate_per_minute {
            Some(rate) => f64::from(rate.get()),
            None => {
                let since = context.clock.now() - TimeDelta::minutes(1);
                let shops: Vec<i32> = context.shops.iter().map(|(shop, _)| shop.0).collect();
                // A minute in which hardly a mail has left tells little; and of a rate that cannot be halved nobody would wait.
                outbox::n_sent_since(&context.pool, &shops, since).await?.max(LEAST_MEASURED)
            }
        };
        relay::slow_down(&context.pool, &self.relay, full).await?;
        Ok(())
    }
}

/// The questionnaire a mail asks, read once per version.
async fn questionnaire(round: &Round, version: SurveyVersionId) -> anyhow::Result<Arc<Questionnaire>> {
    let mut known = round.questionnaires.lock().await;
    if let Some(questionnaire) = known.get(&version) {
        return Ok(Arc::clone(questionnaire));
    }
    let mut conn = round.context.pool.acquire().await?;
    let questionnaire = Arc::new(survey::asked(&mut conn, round.shop_id, version).await?);
    known.insert(version, Arc::clone(&questionnaire));
    Ok(questionnaire)
}

/// What a relay might repeat of a recipient.
fn private(row: &Claimed) -> Vec<String> {
    std::iter::once(row.email.clone()).chain(row.first_name.clone()).collect()
}

/// The name of the file a mail is written to: the same for every try, so that a second try replaces the first.
fn file_name(row: &Claimed) -> String {
    format!("{}-{}", row.shop, row.invitation)
}

/// Whether mails may leave now, by the clock on the shop's wall.
pub(super) fn is_open(window: Option<&SendWindow>, now: DateTime<Utc>, zone: Tz) -> bool {
    let local = now.with_timezone(&zone);
    window.is_none_or(|window| {
        window.days.contains(&local.weekday()) && (window.from..window.to).contains(&local.time())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_in_the_shops_zone() {
        use chrono::Weekday::{Mon, Tue};
        let time = |hour| chrono::NaiveTime::from_hms_opt(hour, 0, 0).unwrap();
        let window = SendWindow { days: vec![Mon, Tue], from: time(9), to: time(19) };
        let open = |moment: &str| is_open(Some(&window), moment.parse().unwrap(), Tz::Europe__Paris);
        assert!(!open("2026-06-01T06:59:00Z"), "8:59 on a Monday in Paris");
        assert!(open("2026-06-01T07:00:00Z"), "9:00");
        assert!(!open("2026-06-01T17:00:00Z"), "19:00 is past the end");
        assert!(!open("2026-06-03T10:00:00Z"), "Wednesday");
        assert!(is_open(None, "2026-06-03T02:00:00Z".parse().unwrap(), Tz::Europe__Paris));
    }
}
