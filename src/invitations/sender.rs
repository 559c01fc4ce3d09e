//! From queued rows to mails: one claimer, several senders, each with a connection of its own.
//!
//! A sender commits `in_data` before the final dot and the outcome after it, so a kill leaves at most one unknown mail per connection.
//! A fault of the relay is not held against the recipient: the row goes back to the queue, and after [`RELAY_FAULTS`] in a row the run
//! ends. When asked to stop, the senders finish the mail in their hands; what was claimed and not begun goes back.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Datelike as _, TimeDelta, Utc};
use chrono_tz::Tz;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::brakes;
use super::compose::{self, ComposeError, Composed, Facts, Letterhead};
use super::outbox::{self, AttemptOutcome, Claimed, Outcome, Settled, Try};
use super::recorder::Recorder;
use crate::config::Shop;
use crate::context::Context;
use crate::mail::transport::{Connection, Fault, Phase};
use crate::process;
use crate::survey::{self, Questionnaire, SendWindow, Survey};
use crate::types::{ShopId, SurveyVersionId};

/// So many relay faults in a row end the run; the next one tries again.
const RELAY_FAULTS: u32 = 5;
/// After so many tries, about 72 hours, a deferred mail is given up.
const MAX_ATTEMPTS: i16 = 22;
/// How long a row waits after a fault of the relay.
const RELAY_PAUSE: TimeDelta = TimeDelta::minutes(1);

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
    /// What the relay did wrong last; the mails in hand went back to the queue.
    pub relay_fault: Option<String>,
}

/// What the senders share.
struct Round {
    context: Context,
    shop_id: ShopId,
    shop: Shop,
    survey: Survey,
    questionnaires: tokio::sync::Mutex<HashMap<SurveyVersionId, Arc<Questionnaire>>>,
    delivery: Mutex<Delivery>,
    relay_faults: AtomicU32,
    recorder: Recorder,
    stop: CancellationToken,
}

/// Mails what is queued and due, inside the send window, until nothing is left, the relay fails, or `stop` is asked for.
///
/// # Errors
/// When the database does not answer.
pub async fn deliver(
    context: &Context,
    shop_id: ShopId,
    shop: &Shop,
    survey: &Survey,
    resumed_at: Option<DateTime<Utc>>,
    stop: &CancellationToken,
) -> anyhow::Result<Delivery> {
    let round = Arc::new(Round {
        context: context.clone(),
        shop_id,
        shop: shop.clone(),
        survey: survey.clone(),
        questionnaires: tokio::sync::Mutex::default(),
        delivery: Mutex::default(),
        relay_faults: AtomicU32::new(0),
        recorder: Recorder::start(context.pool.clone()),
        // A child: the relay's fault ends this round, not the caller.
        stop: stop.child_token(),
    });
    let n_senders = context.config.mail.max_connections;
    let (rows, received) = mpsc::channel(n_senders);
    let received = Arc::new(tokio::sync::Mutex::new(received));
    let mut senders = JoinSet::new();
    for _ in 0..n_senders {
        senders.spawn(send_rows(Arc::clone(&round), Arc::clone(&received)));
    }
    // Theirs alone: when the last of them has failed, the claimer must not wait for somebody to take a row.
    drop(received);
    let claimed = claim_rows(&round, resumed_at, rows).await;
    // Wait for every sender, also when one has failed: a dropped one would leave its connection and its row in doubt.
    let mut failed = None;
    while let Some(ended) = senders.join_next().await {
        if let Err(error) = ended.map_err(anyhow::Error::from).and_then(|ended| ended) {
            failed.get_or_insert(error);
        }
    }
    claimed?;
    if let Some(error) = failed {
        return Err(error);
    }
    // The last mails of the round count, too.
    look_at_brakes(&round, resumed_at).await?;
    let mut delivery = round.delivery.lock().unwrap_or_else(PoisonError::into_inner).clone();
    delivery.n_waiting = outbox::n_waiting(&context.pool, shop_id, survey).await?;
    delivery.stopped = stop.is_cancelled();
    Ok(delivery)
}

/// Claims batch after batch and hands the rows out.
async fn claim_rows(
    round: &Round,
    resumed_at: Option<DateTime<Utc>>,
    rows: mpsc::Sender<Claimed>,
) -> anyhow::Result<()> {
    let rate = round.context.config.mail.rate_per_minute;
    let mut pace = pace(rate);
    // Not more than a minute's work, so that no lease runs out while its row waits for its turn.
    let at_once = rate.map_or(outbox::BATCH, |rate| outbox::BATCH.min(rate.get().into()));
    let owner = process::name();
    let pool = &round.context.pool;
    while !round.stop.is_cancelled() {
        let now = round.context.clock.now();
        if !is_open(round.survey.send_window.as_ref(), now, round.shop.timezone) {
            round.count(|delivery| delivery.window_closed = true);
            break;
        }
        if look_at_brakes(round, resumed_at).await? {
            break;
        }
        let batch = outbox::claim(pool, round.shop_id, &round.survey, owner, now, at_once).await?;
        if batch.is_empty() {
            break;
        }
        for row in batch {
            if let Some(pace) = &mut pace {
                // Whoever asks us to stop does not wait for the next mail's turn.
                tokio::select! {
                    _ = pace.tick() => {}
                    () = round.stop.cancelled() => {}
                }
            }
            // A sender that ended with an error no longer takes rows; then this row goes back like those after a stop.
            if round.stop.is_cancelled() || rows.send(row.clone()).await.is_err() {
                outbox::release(pool, &row, now).await?;
            }
        }
    }
    Ok(())
}

/// Whether the job is to stop until somebody has looked.
async fn look_at_brakes(round: &Round, resumed_at: Option<DateTime<Utc>>) -> sqlx::Result<bool> {
    let Context { config, pool, clock, .. } = &round.context;
    let brake = brakes::check(pool, round.shop_id, &config.mail.brakes, resumed_at, clock.now()).await?;
    let is_pulled = brake.is_some();
    round.count(|delivery| delivery.brake = brake.map(|brake| brake.to_string()));
    Ok(is_pulled)
}

/// The turns of the mails when there is a limit. A turn that was missed is not made up for: a relay counts bursts, too.
fn pace(rate_per_minute: Option<NonZeroU32>) -> Option<Interval> {
    let mut pace = tokio::time::interval(Duration::from_secs(60) / rate_per_minute?.get());
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Some(pace)
}

/// One sender: takes rows until there are no more, over a connection that it replaces after any fault.
async fn send_rows(
    round: Arc<Round>,
    rows: Arc<tokio::sync::Mutex<mpsc::Receiver<Claimed>>>,
) -> anyhow::Result<()> {
    let mut connection = None;
    let mut n_sent = 0;
    loop {
        let row = rows.lock().await.recv().await;
        let Some(row) = row else { break };
        if n_sent == round.context.config.mail.max_per_connection
            && let Some(worn) = connection.take()
        {
            Connection::close(worn).await;
        }
        if round.stop.is_cancelled() {
            outbox::release(&round.context.pool, &row, round.context.clock.now()).await?;
            continue;
        }
        n_sent = if connection.is_some() { n_sent + 1 } else { 1 };
        connection = send_row(&round, &row, connection).await?;
    }
    if let Some(connection) = connection {
        connection.close().await;
    }
    Ok(())
}

/// One mail. Gives the connection back when there is no doubt about it.
async fn send_row(
    round: &Round,
    row: &Claimed,
    connection: Option<Connection>,
) -> anyhow::Result<Option<Connection>> {
    let context = &round.context;
    let started_at = context.clock.now();
    let questionnaire = questionnaire(round, row.survey_version).await?;
    let facts = Facts {
        shop_id: round.shop_id,
        invitation_id: row.invitation,
        questionnaire: &questionnaire,
        order: &row.external_id,
        ordered_at: row.ordered_at,
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
    let composed = match composed {
        Ok(composed) => composed,
        Err(error @ ComposeError::Recipient) => {
            // This address cannot be mailed, and no later try will change that.
            let fault = Fault { phase: Phase::Mail, reply: None, text: error.to_string() };
            let outcome = Outcome { outcome: AttemptOutcome::Failed, fault: Some(fault), suppress: false };
            record(round, row, outcome, started_at).await?;
            return Ok(connection);
        }
        Err(error) => {
            // No mail of this shop can be written, so nobody is to pay for it: the row waits, and the run fails and says why.
            outbox::release(&context.pool, row, started_at).await?;
            round.stop.cancel();
            return Err(anyhow::Error::new(error).context("the mail cannot be written"));
        }
    };
    let mut connection = match connection {
        Some(connection) => connection,
        None => match Connection::open(&config.mail.transport, &config.outbox_dir()).await {
            Ok(connection) => connection,
            Err(fault) => return relay_failed(round, row, &fault).await,
        },
    };
    if let Err(fault) = connection.prepare(&composed.envelope_from, &composed.envelope_to).await {
        if is_relay_fault(&fault) {
            return relay_failed(round, row, &fault).await;
        }
        // The relay answered, so it works; only this mail did not please it.
        round.relay_faults.store(0, Ordering::Relaxed);
        record(round, row, judge(fault, row.attempts + 1), started_at).await?;
        return Ok(None);
    }
    if !round.recorder.enter_data(row, &composed.message_id).await? {
        // The lease ran out while we waited for the relay. The connection expects a message now, so it is of no more use.
        tracing::warn!(invitation.id = %row.invitation, "invitation {} was taken over before it was sent", row.invitation);
        return Ok(None);
    }
    let Composed { bytes, .. } = composed;
    let (outcome, connection) = match connection.transmit(&bytes, &file_name(row)).await {
        Ok(()) => (Outcome { outcome: AttemptOutcome::Sent, fault: None, suppress: false }, Some(connection)),
        Err(fault) => (judge(fault, row.attempts + 1), None),
    };
    round.relay_faults.store(0, Ordering::Relaxed);
    record(round, row, outcome, started_at).await?;
    Ok(connection)
}

/// The relay's fault: the row waits, untried, and too many of these in a row end the round.
async fn relay_failed(round: &Round, row: &Claimed, fault: &Fault) -> anyhow::Result<Option<Connection>> {
    outbox::release(&round.context.pool, row, round.context.clock.now() + RELAY_PAUSE).await?;
    tracing::warn!("the mail relay failed at {}: {}", fault.phase.as_str(), fault.text);
    round.count(|delivery| delivery.relay_fault = Some(format!("{}: {}", fault.phase.as_str(), fault.text)));
    if round.relay_faults.fetch_add(1, Ordering::Relaxed) + 1 >= RELAY_FAULTS {
        round.stop.cancel();
    }
    Ok(None)
}

/// Writes the outcome, again and again for a minute when the database is away: only we know what the relay said. Should it stay away,
/// the row stays in `in_data` and becomes unknown, which is then true.
async fn record(
    round: &Round,
    row: &Claimed,
    outcome: Outcome,
    started_at: DateTime<Utc>,
) -> anyhow::Result<()> {
    let mut waits = [1, 2, 4, 8, 15, 30].into_iter();
    let kind = outcome.outcome;
    let ended_at = round.context.clock.now();
    let reminder = usize::try_from(row.wave).ok().and_then(|wave| round.survey.reminders.get(wave));
    let tried = Try { outcome, started_at, ended_at, remind_at: reminder.map(|wait| ended_at + *wait) };
    let ours = loop {
        match round.recorder.finish(row, &tried).await {
            Ok(ours) => break ours,
            Err(error) => match waits.next() {
                Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
                None => return Err(error),
            },
        }
    };
    if !ours {
        tracing::warn!(invitation.id = %row.invitation, "invitation {} was taken over while it was sent", row.invitation);
        return Ok(());
    }
    round.count(|delivery| match kind {
        AttemptOutcome::Sent => delivery.n_sent += 1,
        AttemptOutcome::Deferred => delivery.n_deferred += 1,
        AttemptOutcome::Failed => delivery.n_failed += 1,
        AttemptOutcome::Unknown => delivery.n_unknown += 1,
    });
    Ok(())
}

impl Round {
    fn count(&self, change: impl FnOnce(&mut Delivery)) {
        change(&mut self.delivery.lock().unwrap_or_else(PoisonError::into_inner));
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

/// The name of the file a mail is written to: the same for every try, so that a second try replaces the first.
fn file_name(row: &Claimed) -> String {
    format!("{}-{}", row.shop, row.invitation)
}

/// Faults before RCPT say something about the relay or about us, never about the recipient.
fn is_relay_fault(fault: &Fault) -> bool {
    match fault.phase {
        Phase::Connect | Phase::Auth | Phase::Mail => true,
        // 421: the relay closes the connection, whatever was asked.
        _ => fault.reply.as_ref().is_none_or(|reply| reply.code == 421),
    }
}

/// What a fault means for the mail.
///
/// | where | the relay said | outcome |
/// |---|---|---|
/// | before the final dot | nothing | deferred |
/// | anywhere | 4xx | deferred, given up after [`MAX_ATTEMPTS`] |
/// | anywhere | 5xx | failed; the address is suppressed for 5.1.1, 5.1.2, 5.1.3, 5.1.6, 5.1.10 and 5.2.1 |
/// | after the final dot | nothing, or nonsense | unknown |
fn judge(fault: Fault, attempt: i16) -> Outcome {
    let outcome = match &fault.reply {
        None if fault.phase == Phase::Final => AttemptOutcome::Unknown,
        Some(reply) if reply.code >= 500 => AttemptOutcome::Failed,
        _ if attempt >= MAX_ATTEMPTS => AttemptOutcome::Failed,
        _ => AttemptOutcome::Deferred,
    };
    let enhanced = fault.reply.as_ref().and_then(|reply| reply.enhanced);
    let no_such_address = matches!(enhanced, Some((5, 1, 1 | 2 | 3 | 6 | 10) | (5, 2, 1)));
    let suppress = outcome == AttemptOutcome::Failed && fault.phase == Phase::Rcpt && no_such_address;
    Outcome { outcome, fault: Some(fault), suppress }
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
    use crate::mail::transport::Reply;

    /// The outcome and whether the address is suppressed, when the relay answered with this code.
    fn check(
        phase: Phase,
        code: u16,
        enhanced: Option<(u8, u16, u16)>,
        attempt: i16,
    ) -> (AttemptOutcome, bool) {
        let reply = Some(Reply { code, enhanced });
        let judged = judge(Fault { phase, reply, text: String::new() }, attempt);
        (judged.outcome, judged.suppress)
    }

    /// The outcome when the relay said nothing.
    fn silence(phase: Phase) -> AttemptOutcome {
        judge(Fault { phase, reply: None, text: String::new() }, 1).outcome
    }

    #[test]
    fn outcomes() {
        use AttemptOutcome::{Deferred, Failed, Unknown};
        assert_eq!(check(Phase::Rcpt, 550, Some((5, 1, 1)), 1), (Failed, true));
        assert_eq!(check(Phase::Rcpt, 550, Some((5, 7, 1)), 1), (Failed, false));
        assert_eq!(check(Phase::Rcpt, 550, None, 1), (Failed, false));
        assert_eq!(check(Phase::Rcpt, 451, Some((4, 7, 1)), 1), (Deferred, false));
        assert_eq!(check(Phase::Rcpt, 451, None, MAX_ATTEMPTS), (Failed, false));
        assert_eq!(check(Phase::Final, 451, None, 1), (Deferred, false));
        // A content verdict after the dot says nothing about the address.
        assert_eq!(check(Phase::Final, 550, Some((5, 1, 1)), 1), (Failed, false));
        assert_eq!(silence(Phase::Body), Deferred);
        assert_eq!(silence(Phase::Final), Unknown);
    }

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
