//! Keeps what was answered on the page. Comes in: a submission with its verdict. Goes out: a revision, committed before this returns.
//!
//! One transaction writes everything or, if we die half way, nothing. The lock on the order's invitations puts submissions for the same
//! order one after the other; should something else write at the same time (a file that is imported), the unique keys refuse one of the
//! two and it is tried again. An answer that changes nothing is not stored again, so that a form sent twice is one revision.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{PgConnection, PgPool};

use super::submission::Submission;
use super::{Answer, ResponseVia, Value, Verdict};
use crate::config::DisplayName;
use crate::invitations::outbox;
use crate::types::{CustomerId, InvitationId, Locale, OrderId, ResponseId, ShopId, SurveyVersionId};

/// So often a write that another one got in the way of is tried again.
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

/// The invitation behind a link; `None` when there is none, it was never to be mailed, or the customer was erased.
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
             coalesce(i.sent_at, i.decided_at) as "asked_at!", o.external_id, o.ordered_at, o.locale, c.first_name,
             c.last_name
           from invitation i
           join "order" o using (shop_id, order_id)
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
    /// Whether anything was sent, by whomever.
    pub any: bool,
    /// When a person first answered.
    pub first_answered_at: Option<DateTime<Utc>>,
    /// The answers that count.
    pub answers: Vec<Answer>,
    /// Of the answers that count.
    pub consent_version: Option<String>,
    pub display_name: Option<String>,
}

/// What has been answered so far.
///
/// # Errors
/// When the database does not answer.
pub async fn given(conn: &mut PgConnection, invited: &Invited) -> sqlx::Result<Given> {
    let rows = sqlx::query!(
        r#"select response_id as "response_id: ResponseId", counted, verdict as "verdict: Verdict", answered_at, consent_version,
             display_name
           from response where shop_id = $1 and order_id = $2 and survey = $3"#,
        invited.shop.0,
        invited.order.0,
        invited.survey,
    )
    .fetch_all(&mut *conn)
    .await?;
    let people = rows.iter().filter(|row| row.verdict == Verdict::Human);
    let mut given = Given {
        any: !rows.is_empty(),
        first_answered_at: people.map(|row| row.answered_at).min(),
        ..Given::default()
    };
    if let Some(counted) = rows.into_iter().find(|row| row.counted) {
        given.answers = answers(conn, invited.shop, counted.response_id).await?;
        given.consent_version = counted.consent_version;
        given.display_name = counted.display_name;
    }
    Ok(given)
}

/// Something that arrived on the page.
#[derive(Debug)]
pub struct Arrival<'a> {
    pub invited: &'a Invited,
    pub submission: &'a Submission,
    pub verdict: Verdict,
    /// The language of the page.
    pub locale: &'a Locale,
    /// How the page said the author would be named.
    pub names: DisplayName,
    /// How long after the first answer it may be changed.
    pub edit_within: TimeDelta,
    pub now: DateTime<Utc>,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// It is this revision.
    Revision(i32),
    /// It says what was said before, or is one suspect answer too many; nothing was stored.
    Unchanged,
    /// The time to change the answer is over, or it was changed too often; nothing was stored.
    Closed,
    /// The customer was erased meanwhile; nothing was stored.
    Gone,
}

/// Stores it; committed when this returns.
///
/// # Errors
/// When the database does not answer; then nothing was stored, or, if the connection broke during the commit, perhaps all of it.
pub async fn store(pool: &PgPool, arrival: &Arrival<'_>) -> sqlx::Result<Stored> {
    let mut tries = 0;
    loop {
        tries += 1;
        match try_store(pool, arrival).await {
            Err(sqlx::Error::Database(error))
                if tries < TRIES && error.constraint().is_some_and(|name| REFEREES.contains(&name)) => {}
            other => return other,
        }
    }
}

async fn try_store(pool: &PgPool, arrival: &Arrival<'_>) -> sqlx::Result<Stored> {
    let Arrival { invited, submission, verdict, .. } = *arrival;
    let mut tx = pool.begin().await?;
    if !lock(&mut tx, invited).await? {
        return Ok(Stored::Gone);
    }
    let rows = sqlx::query!(
        r#"select response_id as "response_id: ResponseId", revision, counted, verdict as "verdict: Verdict", answered_at,
             consent_version, display_name, display_name_rule as "display_name_rule: DisplayName"
           from response where shop_id = $1 and order_id = $2 and survey = $3 order by revision desc"#,
        invited.shop.0,
        invited.order.0,
        invited.survey,
    )
    .fetch_all(&mut *tx)
    .await?;
    let first = rows.iter().filter(|row| row.verdict == Verdict::Human).map(|row| row.answered_at).min();
    if first.is_some_and(|first| arrival.now > first + arrival.edit_within) {
        return Ok(Stored::Closed);
    }
    // A person's answer is compared with the one that counts, a suspect's with the last suspect one.
    let before = rows.iter().find(|row| match verdict {
        Verdict::Human => row.counted,
        Verdict::Suspect => row.verdict == Verdict::Suspect,
    });
    let (consent_version, display_name, names) = match &submission.consent {
        Some(consent) => (Some(&consent.version), consent.display_name.as_ref(), Some(arrival.names)),
        None => (None, None, None),
    };
    if let Some(before) = before {
        let same_consent = before.consent_version.as_ref() == consent_version
            && before.display_name.as_ref() == display_name
            && before.display_name_rule == names;
        if same_consent
            && same(&answers(&mut tx, invited.shop, before.response_id).await?, &submission.answers)
        {
            return Ok(Stored::Unchanged);
        }
    }

    if rows.iter().filter(|row| row.verdict == verdict).count() >= MOST_REVISIONS {
        return Ok(match verdict {
            Verdict::Human => Stored::Closed,
            // It is not told what it is.
            Verdict::Suspect => Stored::Unchanged,
        });
    }
    let revision = rows.first().map_or(1, |row| row.revision + 1);
    let counted = verdict == Verdict::Human;
    if counted {
        // Who answers has the mail, whatever the relay left open.
        outbox::accept(&mut tx, invited.shop, invited.invitation).await?;
        sqlx::query!(
            "update response set counted = false where shop_id = $1 and order_id = $2 and survey = $3 and counted",
            invited.shop.0,
            invited.order.0,
            invited.survey,
        )
        .execute(&mut *tx)
        .await?;
    }
    let response = sqlx::query_scalar!(
        r#"insert into response (shop_id, order_id, survey, survey_version_id, invitation_id, revision, counted, via, verdict, locale,
             answered_at, received_at, consent_version, display_name, display_name_rule)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11, $12, $13, $14)
           returning response_id as "response_id: ResponseId""#,
        invited.shop.0,
        invited.order.0,
        invited.survey,
        invited.survey_version.0,
        invited.invitation.0,
        revision,
        counted,
        ResponseVia::Page as ResponseVia,
        verdict as Verdict,
        arrival.locale.as_str(),
        arrival.now,
        consent_version,
        display_name,
        names as Option<DisplayName>,
    )
    .fetch_one(&mut *tx)
    .await?;
    insert_answers(&mut tx, invited.shop, response, &submission.answers).await?;
    if counted && submission.consent.is_some() && submission.has_text() {
        sqlx::query!(
            "insert into testimonial (shop_id, response_id, state) values ($1, $2, 'pending')",
            invited.shop.0,
            response.0,
        )
        .execute(&mut *tx)
        .await?;
    }
    tx.commit().await?;
    Ok(Stored::Revision(revision))
}

/// Makes other submissions for the same order wait, whichever of its mails they come from, and an erasure too. Whether the customer is
/// still there.
async fn lock(conn: &mut PgConnection, invited: &Invited) -> sqlx::Result<bool> {
    let customers = sqlx::query_scalar!(
        "select c.customer_id from invitation i
         join customer c on c.shop_id = i.shop_id and c.customer_id = i.customer_id
         where i.shop_id = $1 and i.order_id = $2 and i.survey = $3 and c.erased_at is null
         order by i.invitation_id
         for no key update of i for share of c",
        invited.shop.0,
        invited.order.0,
        invited.survey,
    )
    .fetch_all(conn)
    .await?;
    Ok(!customers.is_empty())
}

async fn answers(conn: &mut PgConnection, shop: ShopId, response: ResponseId) -> sqlx::Result<Vec<Answer>> {
    let rows = sqlx::query!(
        "select question, score, choice, body from answer where shop_id = $1 and response_id = $2",
        shop.0,
        response.0,
    )
    .fetch_all(conn)
    .await?;
    let answers = rows.into_iter().filter_map(|row| {
        let value =
            row.score.map(Value::Score).or(row.choice.map(Value::Choice)).or(row.body.map(Value::Text))?;
        Some(Answer { question: row.question, value })
    });
    Ok(answers.collect())
}

/// Whether two sets of answers are the same, in whatever order.
fn same(left: &[Answer], right: &[Answer]) -> bool {
    left.len() == right.len() && left.iter().all(|answer| right.contains(answer))
}

async fn insert_answers(
    conn: &mut PgConnection,
    shop: ShopId,
    response: ResponseId,
    answers: &[Answer],
) -> sqlx::Result<()> {
    let questions: Vec<String> = answers.iter().map(|answer| answer.question.clone()).collect();
    let column =
        |of: fn(&Value) -> Option<&String>| answers.iter().map(|a| of(&a.value).cloned()).collect::<Vec<_>>();
    let scores: Vec<Option<i16>> = answers
        .iter()
        .map(|answer| match answer.value {
            Value::Score(score) => Some(score),
            _ => None,
        })
        .collect();
    let choices = column(|value| match value {
        Value::Choice(choice) => Some(choice),
        _ => None,
    });
    let bodies = column(|value| match value {
        Value::Text(text) => Some(text),
        _ => None,
    });
    sqlx::query!(
        "insert into answer (shop_id, response_id, question, score, choice, body)
         select $1, $2, * from unnest($3::text[], $4::smallint[], $5::text[], $6::text[])",
        shop.0,
        response.0,
        &questions,
        &scores as &[Option<i16>],
        &choices as &[Option<String>],
        &bodies as &[Option<String>],
    )
    .execute(conn)
    .await?;
    Ok(())
}
