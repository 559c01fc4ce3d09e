//! Keeps what was answered on the page. Comes in: forms that were sent, many at a time. Goes out: what became of each, committed before this
//! returns.
//!
//! A batch is one transaction: everything that was known before is read for all of them at once, what becomes of each is decided in
//! plain Rust ([`decide`]), and all rows are written by one statement. If we die half way, nothing of it is there.
//!
//! The lock on an order's first invitation puts submissions for the same order one after the other, whichever of its mails they come
//! from, and before or after a file that is imported. Nobody waits for it: what is locked by another is left for later, so that an
//! import that takes minutes holds up the answers to its own orders and no others. Should something else write all the same, the unique
//! keys refuse one of the two and the batch is tried again. An answer that changes nothing is not stored again, so that a form sent
//! twice is one revision.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use sqlx::{Connection as _, PgConnection};

use super::classify::{Past, Suspicion, Traces, classify};
use super::hits::{self, Hit};
use super::submission::{self, FieldErrors, Fields, Submission};
use super::{Answer, ResponseVia, Value, Verdict};
use crate::config::DisplayName;
use crate::context::Context;
use crate::invitations::{InvitationState, outbox};
use crate::survey::{Questionnaire, Survey, Versions};
use crate::testimonials::RejectReason;
use crate::types::{CustomerId, InvitationId, Locale, OrderId, ResponseId, ShopId, SurveyVersionId};

/// So often a batch that another writer got in the way of is tried again.
const TRIES: u32 = 5;

/// So many different answers of people, and so many suspect ones, are kept for an order. Nobody changes their mind so often; a program
/// that holds a link would fill the disk.
const MOST_REVISIONS: usize = 100;

/// The keys that decide between two writers.
const REFEREES: [&str; 2] = ["response_counted_key", "response_revision_key"];

/// What a link leads to: an invitation that was sent to a customer who is still there.
#[derive(Debug, Clone)]
pub struct Invited {
    pub shop: ShopId,
    pub invitation: InvitationId,
    pub order: OrderId,
    pub customer: CustomerId,
    pub survey: String,
    pub survey_version: SurveyVersionId,
    pub state: InvitationState,
    /// When the relay took the mail, where that is known.
    pub mailed_at: Option<DateTime<Utc>>,
    /// When it left; where that cannot be known, when it was decided.
    pub asked_at: DateTime<Utc>,
    /// The shop's own number of the order.
    pub external_id: String,
    pub ordered_at: DateTime<Utc>,
    pub locale: Option<String>,
    pub first_name: Option<String>,
    pub last_name: Option<String>,
}

impl Invited {
    /// The order's language; what is no language tag counts as none.
    pub fn locale(&self) -> Option<Locale> {
        self.locale.as_deref().and_then(|locale| Locale::parse(locale).ok())
    }
}

/// The invitation behind a link; `None` when there is none, it was never to be mailed, the customer was erased, or the order has become
/// another's.
///
/// # Errors
/// When the database does not answer.
pub async fn invited(
    conn: &mut PgConnection,
    shop: ShopId,
    invitation: InvitationId,
) -> sqlx::Result<Option<Invited>> {
    sqlx::query_as!(
        Invited,
        r#"select i.shop_id as "shop: ShopId", i.invitation_id as "invitation: InvitationId", i.order_id as "order: OrderId",
             i.customer_id as "customer: CustomerId", i.survey, i.survey_version_id as "survey_version: SurveyVersionId",
             i.state as "state: InvitationState", i.sent_at as mailed_at,
             coalesce(i.sent_at, i.decided_at) as "asked_at!", o.external_id, o.ordered_at, o.locale, c.first_name,
             c.last_name
           from invitation i
           join "order" o on o.shop_id = i.shop_id and o.order_id = i.order_id and o.customer_id = i.customer_id
           join customer c on c.shop_id = i.shop_id and c.customer_id = i.customer_id
           where i.shop_id = $1 and i.invitation_id = $2 and i.state <> 'skipped' and c.erased_at is null"#,
        shop.0,
        invitation.0,
    )
    .fetch_optional(conn)
    .await
}

/// What has been answered for an order and survey so far.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// When a person first answered.
    pub first_answered_at: Option<DateTime<Utc>>,
    /// The answers that count.
    pub answers: Vec<Answer>,
    /// Of the answers that count.
    pub consent_version: Option<String>,
    pub display_name: Option<String>,
    /// When the shop refused to publish the answers that count, if it did.
    pub rejected_at: Option<DateTime<Utc>>,
    /// And why.
    pub reject_reason: Option<RejectReason>,
}

impl Given {
    /// Until when the answer that is there can be changed; `None`: there is none. Whose words were refused has as long again, from then on,
    /// to write others; see [`Self::only_words`].
    pub fn changeable_until(&self, invited: &Invited, survey: &Survey) -> Option<DateTime<Utc>> {
        Some(closes_at(self.first_answered_at?, self.rejected_at, invited, survey))
    }
}

impl Given {
    /// Whether the time to change the answer is over, and only that its words were refused lets its author come back. Then the words and the
    /// consent can be changed, and nothing else: a score that the shop's figures have counted does not move because a moderator refused the
    /// words beside it, and who wants to be published cannot be asked for another score.
    pub fn only_words(&self, survey: &Survey, now: DateTime<Utc>) -> bool {
        self.first_answered_at.is_some_and(|first| only_words(first, self.rejected_at, survey, now))
    }
}

fn only_words(
    first_answered_at: DateTime<Utc>,
    rejected_at: Option<DateTime<Utc>>,
    survey: &Survey,
    now: DateTime<Utc>,
) -> bool {
    rejected_at.is_some() && now > first_answered_at + survey.edit_within
}

/// Until when an answer can be changed.
fn closes_at(
    first_answered_at: DateTime<Utc>,
    rejected_at: Option<DateTime<Utc>>,
    invited: &Invited,
    survey: &Survey,
) -> DateTime<Utc> {
    let from = rejected_at.map_or(first_answered_at, |rejected_at| rejected_at.max(first_answered_at));
    (from + survey.edit_within).min(invited.asked_at + survey.answer_within)
}

/// What has been answered so far.
///
/// # Errors
/// When the database does not answer.
pub async fn given(conn: &mut PgConnection, invited: &Invited) -> sqlx::Result<Given> {
    let rows = sqlx::query!(
        r#"select r.response_id as "response_id: ResponseId", r.counted, r.verdict as "verdict: Verdict", r.answered_at, r.consent_version,
             r.display_name, case when t.state = 'rejected' then t.decided_at end as rejected_at,
             case when t.state = 'rejected' then t.reject_reason end as "reject_reason: RejectReason"
           from response r left join testimonial t using (shop_id, response_id)
           where r.shop_id = $1 and r.order_id = $2 and r.survey = $3"#,
        invited.shop.0,
        invited.order.0,
        invited.survey,
    )
    .fetch_all(&mut *conn)
    .await?;
    let people = rows.iter().filter(|row| row.verdict == Verdict::Human);
    let mut given = Given { first_answered_at: people.map(|row| row.answered_at).min(), ..Given::default() };
    if let Some(counted) = rows.into_iter().find(|row| row.counted) {
        given.answers = answers(conn, invited.shop, counted.response_id).await?;
        given.consent_version = counted.consent_version;
        given.display_name = counted.display_name;
        given.rejected_at = counted.rejected_at;
        given.reject_reason = counted.reject_reason;
    }
    Ok(given)
}

/// A form that was sent.
#[derive(Debug)]
pub struct Sent {
    pub shop: ShopId,
    pub invitation: InvitationId,
    pub fields: Fields,
    pub traces: Traces,
}

/// What is known about the link it came by.
#[derive(Debug)]
pub struct Known {
    pub invited: Invited,
    pub questionnaire: Arc<Questionnaire>,
    pub given: Given,
}

/// What became of a form.
#[derive(Debug)]
pub enum Fate {
    /// The link leads nowhere, or not any more.
    Gone,
    Judged(Box<Known>, Outcome),
    /// Another of the batch is about the same order, and goes first; nothing was stored.
    Next,
    /// Somebody else holds its order; nothing was stored.
    Held,
}

/// What is said about a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It counts, or says what counts already.
    Counts,
    /// It is kept, or one like it is, and does not count.
    Suspect(Suspicion),
    /// Some fields have to be corrected.
    Invalid(FieldErrors),
    /// The time to change the answer is over, or it was changed too often.
    Closed,
}

/// Stores what was sent; committed when this returns. What becomes of each comes back, in the same order.
///
/// # Errors
/// When the database does not answer or refuses; then nothing was stored, or, if the connection broke during the commit, perhaps all of it.
pub async fn store(
    conn: &mut PgConnection,
    context: &Context,
    versions: &Versions,
    batch: &[Sent],
) -> anyhow::Result<Vec<Fate>> {
    let mut tries = 0;
    loop {
        tries += 1;
        match try_store(conn, context, versions, batch).await {
            Err(error) if tries < TRIES && is_refereed(&error) => {}
            other => return other,
        }
    }
}

/// Whether another writer was faster.
fn is_refereed(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<sqlx::Error>().and_then(sqlx::Error::as_database_error);
    error.and_then(|error| error.constraint()).is_some_and(|name| REFEREES.contains(&name))
}

/// What submissions are put in line by.
type Line = (ShopId, OrderId, String);

async fn try_store(
    conn: &mut PgConnection,
    context: &Context,
    versions: &Versions,
    batch: &[Sent],
) -> anyhow::Result<Vec<Fate>> {
    let mut tx = conn.begin().await?;
    let mut invited = lock(&mut tx, batch).await?;
    let mut lines = BTreeSet::new();
    let is_answered = invited.iter().flatten().any(|locked| locked.is_answered);
    let mut turn: Vec<Option<Fate>> = Vec::with_capacity(batch.len());
    for found in &invited {
        turn.push(match found {
            None => Some(Fate::Held),
            Some(Locked { invited: found, .. })
                if lines.insert((found.shop, found.order, found.survey.clone())) =>
            {
                None
            }
            Some(_) => Some(Fate::Next),
        });
    }
    let missing: Vec<usize> = (0..batch.len()).filter(|n| invited[*n].is_none()).collect();
    if !missing.is_empty() {
        let there = exist(&mut tx, batch, &missing).await?;
        for n in missing.into_iter().filter(|n| !there.contains(n)) {
            turn[n] = Some(Fate::Gone);
        }
    }
    let mut earlier = if is_answered { earlier(&mut tx, &lines).await? } else { HashMap::new() };
    let looked_at = batch.iter().map(|sent| (sent.shop, sent.invitation, sent.traces.looks_back_to()));
    let hits = hits::since(&mut tx, looked_at).await?;

    let mut kept = Vec::new();
    let mut fates = Vec::with_capacity(batch.len());
    for (n, fate) in turn.into_iter().enumerate() {
        if let Some(fate) = fate {
            fates.push(fate);
            continue;
        }
        let Some(Locked { invited, response, .. }) = invited[n].take() else { continue };
        let sent = &batch[n];
        let survey = context.config.survey(&invited.survey);
        // A survey that is no longer in jobs.toml is over.
        let (Some(survey), Some(shop)) = (survey, context.shops.get(invited.shop)) else {
            fates.push(Fate::Gone);
            continue;
        };
        let questionnaire = versions.get(&mut tx, invited.shop, invited.survey_version).await?;
        let line = (invited.shop, invited.order, invited.survey.clone());
        let earlier = earlier.remove(&line).unwrap_or_default();
        let hits = hits.get(&(sent.shop, sent.invitation)).map_or(&[][..], Vec::as_slice);
        let names = context.config.testimonials.display_name;
        let facts = Facts {
            invited: &invited,
            questionnaire: &questionnaire,
            survey,
            earlier: &earlier,
            hits,
            names,
        };
        let Decision { outcome, keep } = match decide(sent, &facts) {
            Some(decision) => decision,
            None => {
                fates.push(Fate::Gone);
                continue;
            }
        };
        if let Some(Keep { submission, answered_at }) = keep {
            let locale = context.templates.language(invited.locale().as_ref(), &shop.locale).0;
            let suspicion = match outcome {
                Outcome::Suspect(suspicion) => Some(suspicion),
                _ => None,
            };
            kept.push(Kept {
                response,
                shop: invited.shop,
                order: invited.order,
                survey: invited.survey.clone(),
                version: invited.survey_version,
                invitation: invited.invitation,
                revision: earlier.first().map_or(1, |row| row.revision + 1),
                replaces: suspicion.is_none() && earlier.iter().any(|row| row.counted),
                suspicion,
                nonce: sent.traces.proof.ours().map(|proof| proof.nonce),
                locale,
                sent_at: sent.traces.sent_at,
                answered_at,
                names,
                submission,
            });
            if suspicion.is_none() && invited.state == InvitationState::Unknown {
                // Who answers has the mail, whatever the relay left open.
                outbox::accept(&mut tx, invited.shop, invited.invitation).await?;
            }
        }
        let given = Given::of(earlier);
        fates.push(Fate::Judged(Box::new(Known { invited, questionnaire, given }), outcome));
    }
    if kept.is_empty() {
        tx.rollback().await?;
    } else {
        insert(&mut tx, &kept).await?;
        tx.commit().await?;
    }
    Ok(fates)
}

/// A revision that was stored before.
#[derive(Debug)]
struct Earlier {
    revision: i32,
    counted: bool,
    via: ResponseVia,
    verdict: Verdict,
    suspicion: Option<Suspicion>,
    nonce: Option<i64>,
    answered_at: DateTime<Utc>,
    consent_version: Option<String>,
    /// Whether its author has withdrawn the words since.
    withdrawn: bool,
    /// When the shop refused to publish it, if it did.
    rejected_at: Option<DateTime<Utc>>,
    reject_reason: Option<RejectReason>,
    display_name: Option<String>,
    names: Option<DisplayName>,
    answers: Vec<Answer>,
}

impl Earlier {
    /// Whether a submission says the same.
    fn says(&self, submission: &Submission, rule: DisplayName) -> bool {
        let (consent_version, display_name, names) = match &submission.consent {
            Some(consent) => (Some(&consent.version), consent.display_name.as_ref(), Some(rule)),
            None => (None, None, None),
        };
        // Who agrees again after words were withdrawn says something new.
        !(self.withdrawn && consent_version.is_some())
            && self.consent_version.as_ref() == consent_version
            && self.display_name.as_ref() == display_name
            && self.names == names
            && same(&self.answers, &submission.answers)
    }
}

impl Given {
    fn of(earlier: Vec<Earlier>) -> Self {
        let people = earlier.iter().filter(|row| row.verdict == Verdict::Human);
        let first_answered_at = people.map(|row| row.answered_at).min();
        match earlier.into_iter().find(|row| row.counted) {
            Some(counted) => Self {
                first_answered_at,
                answers: counted.answers,
                consent_version: counted.consent_version,
                display_name: counted.display_name,
                rejected_at: counted.rejected_at,
                reject_reason: counted.reject_reason,
            },
            None => Self { first_answered_at, ..Self::default() },
        }
    }
}

/// What a decision is made from.
struct Facts<'a> {
    invited: &'a Invited,
    questionnaire: &'a Questionnaire,
    survey: &'a Survey,
    /// The latest first.
    earlier: &'a [Earlier],
    hits: &'a [Hit],
    /// How the page said the author would be named.
    names: DisplayName,
}

struct Decision {
    outcome: Outcome,
    /// Set when it becomes a revision.
    keep: Option<Keep>,
}

struct Keep {
    submission: Submission,
    /// Whose words alone were changed has answered when the rest was.
    answered_at: DateTime<Utc>,
}

/// What becomes of a form; `None`: its link has expired. Pure.
fn decide(sent: &Sent, facts: &Facts<'_>) -> Option<Decision> {
    let Facts { invited, survey, earlier, names, .. } = *facts;
    let now = sent.traces.sent_at;
    if now > invited.asked_at + survey.answer_within {
        return None;
    }
    let said = |outcome| Some(Decision { outcome, keep: None });
    let people = || earlier.iter().filter(|row| row.verdict == Verdict::Human);
    let rejected_at = earlier.iter().find(|row| row.counted).and_then(|row| row.rejected_at);
    let first = people().map(|row| row.answered_at).min();
    if first.is_some_and(|first| now > closes_at(first, rejected_at, invited, survey)) {
        return said(Outcome::Closed);
    }
    let counted = earlier.iter().find(|row| row.counted);
    let amended = counted.filter(|_| first.is_some_and(|first| only_words(first, rejected_at, survey, now)));
    let read = match amended {
        Some(counted) => submission::read_words(&sent.fields, facts.questionnaire, &counted.answers),
        None => submission::read(&sent.fields, facts.questionnaire),
    };
    let submission = match read {
        Ok(submission) => submission,
        Err(errors) => return said(Outcome::Invalid(errors)),
    };
    let nonce = sent.traces.proof.ours().map(|proof| proof.nonce);
    let mut of_this_form = earlier.iter().filter(|row| nonce.is_some() && row.nonce == nonce).peekable();
    let is_reused = of_this_form.peek().is_some();
    if let Some(twin) = of_this_form.find(|row| row.says(&submission, names)) {
        // Sent twice: what was said of the first is said of the second.
        return said(twin.suspicion.map_or(Outcome::Counts, Outcome::Suspect));
    }
    let others = earlier.iter().filter(|row| row.via == ResponseVia::Page && !row.says(&submission, names));
    let past = Past {
        mailed_at: invited.mailed_at,
        hits: facts.hits,
        is_reused,
        differed_at: others.map(|row| row.answered_at).max(),
        would_change: counted.is_some_and(|row| !row.says(&submission, names)),
    };
    let outcome = match classify(&sent.traces, &past) {
        None if counted.is_some_and(|row| row.says(&submission, names)) => return said(Outcome::Counts),
        None if people().count() >= MOST_REVISIONS => return said(Outcome::Closed),
        None => Outcome::Counts,
        Some(suspicion) => {
            let mut suspects = earlier.iter().filter(|row| row.verdict == Verdict::Suspect);
            // A suspect answer that says what the last one said, or is one too many, is not kept; it is not told so.
            if suspects.clone().count() >= MOST_REVISIONS
                || suspects.next().is_some_and(|row| row.says(&submission, names))
            {
                return said(Outcome::Suspect(suspicion));
            }
            Outcome::Suspect(suspicion)
        }
    };
    let answered_at = amended.map_or(now, |counted| counted.answered_at);
    Some(Decision { outcome, keep: Some(Keep { submission, answered_at }) })
}

/// The invitation behind a link, whose order is held until the end of the transaction.
struct Locked {
    invited: Invited,
    /// The number of what is stored of it.
    response: ResponseId,
    /// Whether something had been stored for its order when the statement began. What was committed before the lock was there is found by
    /// the unique keys, and the batch is tried again.
    is_answered: bool,
}

/// The invitations behind a batch's links. `None`: there is none, or another one holds it.
async fn lock(conn: &mut PgConnection, batch: &[Sent]) -> sqlx::Result<Vec<Option<Locked>>> {
    let (shops, invitations) = ids(batch.iter());
    // The sequence by its name: to look it up by the column costs more than all the rest, for each row.
    let rows = sqlx::query!(
        r#"select sent.n as "n!", nextval('response_response_id_seq') as "response!: ResponseId", i.shop_id as "shop: ShopId", i.invitation_id as "invitation: InvitationId",
             i.order_id as "order: OrderId", i.customer_id as "customer: CustomerId", i.survey,
             i.survey_version_id as "survey_version: SurveyVersionId", i.state as "state: InvitationState",
             i.sent_at as mailed_at, coalesce(i.sent_at, i.decided_at) as "asked_at!", o.external_id, o.ordered_at, o.locale,
             c.first_name, c.last_name,
             exists (
               select from response r where r.shop_id = i.shop_id and r.order_id = i.order_id and r.survey = i.survey
             ) as "is_answered!"
           from unnest($1::int[], $2::bigint[]) with ordinality as sent (shop_id, invitation_id, n)
           join invitation i on i.shop_id = sent.shop_id and i.invitation_id = sent.invitation_id
           join invitation first on first.shop_id = i.shop_id and first.order_id = i.order_id and first.survey = i.survey
             and first.wave = 0
           join "order" o on o.shop_id = i.shop_id and o.order_id = i.order_id and o.customer_id = i.customer_id
           join customer c on c.shop_id = i.shop_id and c.customer_id = i.customer_id
           where i.state <> 'skipped' and c.erased_at is null
           -- An erasure changes the key of the customer and waits; an import of orders changes names, and nobody waits.
           for no key update of first skip locked for key share of c skip locked"#,
        &shops,
        &invitations,
    )
    .fetch_all(conn)
    .await?;
    let mut found: Vec<Option<_>> = batch.iter().map(|_| None).collect();
    for row in rows {
        let n = usize::try_from(row.n - 1).unwrap_or_default();
        let invited = Invited {
            shop: row.shop,
            invitation: row.invitation,
            order: row.order,
            customer: row.customer,
            survey: row.survey,
            survey_version: row.survey_version,
            state: row.state,
            mailed_at: row.mailed_at,
            asked_at: row.asked_at,
            external_id: row.external_id,
            ordered_at: row.ordered_at,
            locale: row.locale,
            first_name: row.first_name,
            last_name: row.last_name,
        };
        found[n] = Some(Locked { invited, response: row.response, is_answered: row.is_answered });
    }
    Ok(found)
}

/// Which of these forms have a link that leads somewhere, held by another or not.
async fn exist(conn: &mut PgConnection, batch: &[Sent], missing: &[usize]) -> sqlx::Result<BTreeSet<usize>> {
    let (shops, invitations) = ids(missing.iter().map(|n| &batch[*n]));
    let there = sqlx::query_scalar!(
        r#"select sent.n as "n!"
           from unnest($1::int[], $2::bigint[]) with ordinality as sent (shop_id, invitation_id, n)
           join invitation i on i.shop_id = sent.shop_id and i.invitation_id = sent.invitation_id
           join "order" o on o.shop_id = i.shop_id and o.order_id = i.order_id and o.customer_id = i.customer_id
           join customer c on c.shop_id = i.shop_id and c.customer_id = i.customer_id
           where i.state <> 'skipped' and c.erased_at is null"#,
        &shops,
        &invitations,
    )
    .fetch_all(conn)
    .await?;
    Ok(there.into_iter().filter_map(|n| missing.get(usize::try_from(n - 1).ok()?).copied()).collect())
}

fn ids<'a>(batch: impl Iterator<Item = &'a Sent>) -> (Vec<i32>, Vec<i64>) {
    batch.map(|sent| (sent.shop.0, sent.invitation.0)).unzip()
}

/// What was stored before for these orders, the latest first.
async fn earlier(
    conn: &mut PgConnection,
    lines: &BTreeSet<Line>,
) -> sqlx::Result<HashMap<Line, Vec<Earlier>>> {
    let shops: Vec<i32> = lines.iter().map(|line| line.0.0).collect();
    let orders: Vec<i64> = lines.iter().map(|line| line.1.0).collect();
    let surveys: Vec<String> = lines.iter().map(|line| line.2.clone()).collect();
    let rows = sqlx::query!(
        r#"select r.shop_id as "shop: ShopId", r.order_id as "order: OrderId", r.survey, r.response_id as "response: ResponseId",
             r.revision, r.counted, r.via as "via: ResponseVia", r.verdict as "verdict: Verdict",
             r.suspicion as "suspicion: Suspicion", r.form_nonce, r.answered_at, r.consent_version, r.display_name,
             r.display_name_rule as "names: DisplayName",
             coalesce(t.state = 'withdrawn', false) as "withdrawn!",
             case when t.state = 'rejected' then t.decided_at end as rejected_at,
             case when t.state = 'rejected' then t.reject_reason end as "reject_reason: RejectReason"
           from unnest($1::int[], $2::bigint[], $3::text[]) as line (shop_id, order_id, survey)
           join response r on r.shop_id = line.shop_id and r.order_id = line.order_id and r.survey = line.survey
           left join testimonial t on t.shop_id = r.shop_id and t.response_id = r.response_id
           order by r.revision desc"#,
        &shops,
        &orders,
        &surveys,
    )
    .fetch_all(&mut *conn)
    .await?;
    if rows.is_empty() {
        return Ok(HashMap::new());
    }
    let shops: Vec<i32> = rows.iter().map(|row| row.shop.0).collect();
    let responses: Vec<i64> = rows.iter().map(|row| row.response.0).collect();
    let answered = sqlx::query!(
        r#"select a.shop_id as "shop: ShopId", a.response_id as "response: ResponseId", a.question, a.score, a.choice, a.body
           from unnest($1::int[], $2::bigint[]) as r (shop_id, response_id)
           join answer a on a.shop_id = r.shop_id and a.response_id = r.response_id"#,
        &shops,
        &responses,
    )
    .fetch_all(conn)
    .await?;
    let mut answers: HashMap<(ShopId, ResponseId), Vec<Answer>> = HashMap::new();
    for row in answered {
        let key = (row.shop, row.response);
        answers.entry(key).or_default().extend(answer(row.question, row.score, row.choice, row.body));
    }
    let mut earlier: HashMap<Line, Vec<Earlier>> = HashMap::new();
    for row in rows {
        earlier.entry((row.shop, row.order, row.survey)).or_default().push(Earlier {
            revision: row.revision,
            counted: row.counted,
            via: row.via,
            verdict: row.verdict,
            suspicion: row.suspicion,
            nonce: row.form_nonce,
            answered_at: row.answered_at,
            consent_version: row.consent_version,
            withdrawn: row.withdrawn,
            rejected_at: row.rejected_at,
            reject_reason: row.reject_reason,
            display_name: row.display_name,
            names: row.names,
            answers: answers.remove(&(row.shop, row.response)).unwrap_or_default(),
        });
    }
    Ok(earlier)
}

/// A submission that becomes a revision.
struct Kept<'a> {
    response: ResponseId,
    shop: ShopId,
    order: OrderId,
    survey: String,
    version: SurveyVersionId,
    invitation: InvitationId,
    revision: i32,
    /// Whether the one that counts has to step down for it.
    replaces: bool,
    suspicion: Option<Suspicion>,
    nonce: Option<i64>,
    locale: &'a Locale,
    sent_at: DateTime<Utc>,
    answered_at: DateTime<Utc>,
    names: DisplayName,
    submission: Submission,
}

async fn insert(conn: &mut PgConnection, kept: &[Kept<'_>]) -> sqlx::Result<()> {
    fn column<'a, T>(kept: &'a [Kept<'_>], of: impl Fn(&'a Kept<'_>) -> T) -> Vec<T> {
        kept.iter().map(of).collect()
    }
    let shops = column(kept, |kept| kept.shop.0);
    let orders = column(kept, |kept| kept.order.0);
    let surveys = column(kept, |kept| kept.survey.clone());
    if kept.iter().any(|kept| kept.replaces) {
        let replaces = column(kept, |kept| kept.replaces);
        sqlx::query!(
            "update response r set counted = false
             from unnest($1::int[], $2::bigint[], $3::text[], $4::bool[]) as k (shop_id, order_id, survey, replaces)
             where k.replaces and r.shop_id = k.shop_id and r.order_id = k.order_id and r.survey = k.survey and r.counted",
            &shops,
            &orders,
            &surveys,
            &replaces,
        )
        .execute(&mut *conn)
        .await?;
    }
    let consents =
        column(kept, |kept| kept.submission.consent.as_ref().map(|consent| consent.version.clone()));
    let display_names = column(kept, |kept| {
        kept.submission.consent.as_ref().and_then(|consent| consent.display_name.clone())
    });
    let names = column(kept, |kept| kept.submission.consent.as_ref().map(|_| kept.names));
    let is_testimonial = column(kept, |kept| {
        kept.suspicion.is_none() && kept.submission.consent.is_some() && kept.submission.has_text()
    });
    let answers =
        || kept.iter().flat_map(|kept| kept.submission.answers.iter().map(move |answer| (kept, answer)));
    sqlx::query_file!(
        "src/responses/insert.sql",
        &column(kept, |kept| kept.response.0),
        &shops,
        &orders,
        &surveys,
        &column(kept, |kept| kept.version.0),
        &column(kept, |kept| kept.invitation.0),
        &column(kept, |kept| kept.revision),
        &column(kept, |kept| kept.suspicion) as &[Option<Suspicion>],
        &column(kept, |kept| kept.nonce) as &[Option<i64>],
        &column(kept, |kept| kept.locale.as_str().to_owned()),
        &column(kept, |kept| kept.sent_at),
        &consents as &[Option<String>],
        &display_names as &[Option<String>],
        &names as &[Option<DisplayName>],
        &is_testimonial,
        &answers().map(|(kept, _)| kept.shop.0).collect::<Vec<_>>(),
        &answers().map(|(kept, _)| kept.response.0).collect::<Vec<_>>(),
        &answers().map(|(_, answer)| answer.question.clone()).collect::<Vec<_>>(),
        &answers().map(|(_, answer)| answer.value.score()).collect::<Vec<_>>() as &[Option<i16>],
        &answers().map(|(_, answer)| answer.value.choice()).collect::<Vec<_>>() as &[Option<String>],
        &answers().map(|(_, answer)| answer.value.text()).collect::<Vec<_>>() as &[Option<String>],
        &column(kept, |kept| kept.answered_at),
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn answers(conn: &mut PgConnection, shop: ShopId, response: ResponseId) -> sqlx::Result<Vec<Answer>> {
    let rows = sqlx::query!(
        "select question, score, choice, body from answer where shop_id = $1 and response_id = $2",
        shop.0,
        response.0,
    )
    .fetch_all(conn)
    .await?;
    let answers = rows.into_iter().filter_map(|row| answer(row.question, row.score, row.choice, row.body));
    Ok(answers.collect())
}

/// An answer from its row.
fn answer(
    question: String,
    score: Option<i16>,
    choice: Option<String>,
    body: Option<String>,
) -> Option<Answer> {
    let value = score.map(Value::Score).or(choice.map(Value::Choice)).or(body.map(Value::Text))?;
    Some(Answer { question, value })
}

/// Whether two sets of answers are the same, in whatever order.
fn same(left: &[Answer], right: &[Answer]) -> bool {
    left.len() == right.len() && left.iter().all(|answer| right.contains(answer))
}
