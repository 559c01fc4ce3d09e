//! What follows from a report. It is written by anybody, and could take anybody off the list or call any mail a failure, so it has an
//! effect only when all of this holds:
//!
//! 1. It names a mail of ours in a way that only those can who have seen that mail: by the token in its return path, or by its Message-ID,
//!    which holds a token too and has to be the one that was sent.
//! 2. The recipient that it names is the customer whom that mail went to. A report that names nobody is taken at its word when it has the
//!    token of the return path, because each mail has its own return path and one recipient. A complaint that names nobody (feedback
//!    loops like to remove the address) is, when it comes with the mail itself: whoever holds the mail holds its link to unsubscribe, too.
//! 3. The mail was tried within [`REMEMBERED`], and may have left us: it is `sent`, `unknown`, `in_data` or `failed`. What tells an author
//!    why their words are not published goes by the invitation's return path, and counts here as that invitation's mail.
//!
//! Everything else is not ours, changes nothing, and is only counted. One transaction per message: its row in `bounce`, whose digest lets a
//! message count once; the do-not-contact list for `hard` and `complaint`; and an `unknown` mail counts as sent, because the relay must
//! have had it.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgPool;

use super::{BounceKind, Finding, Report, address, report};
use crate::invitations::outbox;
use crate::invitations::suppression::{self, SuppressionReason};
use crate::token::{Purpose, Tokens};
use crate::types::{CustomerId, InvitationId, ShopId};

/// Reports about mails that were tried longer ago than this have no effect. Relays give up after five days (RFC 5321, 4.5.4.1).
pub const REMEMBERED: TimeDelta = TimeDelta::days(30);

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is about a mail of ours, and what follows from it is done.
    Counted {
        kind: BounceKind,
        shop: ShopId,
        invitation: InvitationId,
        /// An `unknown` mail counts as sent now.
        is_settled: bool,
    },
    /// It was counted before.
    Known,
    /// It is not about a mail of ours, as far as it can prove.
    NotOurs(NotOurs),
}

/// Why a report has no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotOurs {
    /// It names no mail of ours.
    NoProof,
    /// It names one that was never sent, or too long ago.
    NoSuchMail,
    /// It is about somebody else.
    OtherRecipient,
}

/// How a report proves which mail it is about.
enum Proof<'a> {
    ReturnPath,
    MessageId(&'a str),
}

/// Does what follows from a report, once. A dry run finds out the same and writes nothing.
///
/// # Errors
/// When the database does not answer; nothing was done then.
pub async fn take(
    pool: &PgPool,
    tokens: &Tokens,
    report: &Report,
    digest: &[u8; 32],
    now: DateTime<Utc>,
    dry_run: bool,
) -> sqlx::Result<Outcome> {
    let mut why = NotOurs::NoProof;
    for (proof, shop, invitation) in proofs(tokens, report) {
        let mut transaction = pool.begin().await?;
        let conn = &mut *transaction;
        let mail = sqlx::query!(
            r#"select i.customer_id as "customer: CustomerId", i.message_id, c.email, c.first_name, c.last_name
               from invitation i
               join customer c on c.shop_id = i.shop_id and c.customer_id = i.customer_id
               where i.shop_id = $1 and i.invitation_id = $2 and i.state in ('sent', 'unknown', 'in_data', 'failed')
                 and greatest(
                     coalesce(
                         i.sent_at,
                         (select max(a.started_at) from attempt a where a.shop_id = $1 and a.invitation_id = $2),
                         i.next_attempt_at
                     ),
                     -- A mail that tells an author why the words are not published has the return path of its invitation.
                     (
                         select max(coalesce(j.settled_at, j.queued_at))
                         from response r
                         join rejection j using (shop_id, response_id)
                         where r.shop_id = $1 and r.order_id = i.order_id and r.invitation_id = $2
                           and j.state in ('in_data', 'sent', 'unknown')
                     )
                 ) >= $3
               for update of i"#,
            shop.0,
            invitation.0,
            now - REMEMBERED,
        )
        .fetch_optional(&mut *conn)
        .await?;
        let is_that_mail = |sent: Option<&str>| match proof {
            Proof::ReturnPath => true,
            Proof::MessageId(named) => sent.is_some_and(|sent| is_same_id(sent, named)),
        };
        let Some(mail) = mail.filter(|mail| is_that_mail(mail.message_id.as_deref())) else {
            why = NotOurs::NoSuchMail;
            transaction.rollback().await?;
            continue;
        };
        let Some(finding) = about(report, mail.email.as_deref(), &proof) else {
            why = NotOurs::OtherRecipient;
            transaction.rollback().await?;
            continue;
        };
        let private: Vec<String> =
            [mail.email, mail.first_name, mail.last_name].into_iter().flatten().collect();
        let counted = sqlx::query!(
            "insert into bounce (shop_id, invitation_id, digest, kind, status, reason, received_at)
             values ($1, $2, $3, $4, $5, $6, $7)
             on conflict on constraint bounce_digest_key do nothing",
            shop.0,
            invitation.0,
            &digest[..],
            finding.kind as BounceKind,
            finding.status.map(|status| status.to_string()),
            report::mask(&finding.reason, &private),
            now,
        )
        .execute(&mut *conn)
        .await?;
        if counted.rows_affected() == 0 {
            transaction.rollback().await?;
            return Ok(Outcome::Known);
        }
        let reason = match finding.kind {
            BounceKind::Hard => Some(SuppressionReason::Bounced),
            BounceKind::Complaint => Some(SuppressionReason::Complained),
            BounceKind::Soft | BounceKind::Delayed | BounceKind::AutoReply | BounceKind::Other => None,
        };
        if let Some(reason) = reason {
            suppression::add(conn, shop, mail.customer, reason, now).await?;
        }
        let is_settled = outbox::accept(conn, shop, invitation).await?;
        if dry_run {
            transaction.rollback().await?
        } else {
            transaction.commit().await?
        }
        return Ok(Outcome::Counted { kind: finding.kind, shop, invitation, is_settled });
    }
    Ok(Outcome::NotOurs(why))
}

/// Which mails of ours a report names; the return path's word first, because nobody quotes it by accident.
fn proofs<'a>(
    tokens: &'a Tokens,
    report: &'a Report,
) -> impl Iterator<Item = (Proof<'a>, ShopId, InvitationId)> {
    let by_return_path = report.return_path_tokens.iter().filter_map(|token| {
        tokens.verify_return_path(token).map(|(shop, invitation)| (Proof::ReturnPath, shop, invitation))
    });
    let by_message_id = report.message_ids.iter().filter_map(|id| {
        let token = id.split('@').next()?;
        let (shop, invitation) = tokens.verify(Purpose::MessageId, token)?;
        Some((Proof::MessageId(id), shop, invitation))
    });
    by_return_path.chain(by_message_id)
}

/// The finding that is about the customer, if one is.
fn about<'a>(report: &'a Report, email: Option<&str>, proof: &Proof<'_>) -> Option<&'a Finding> {
    let names_them = |finding: &&Finding| {
        email.is_some_and(|email| finding.recipients.iter().any(|named| address::is_same(named, email)))
    };
    let names_nobody = |finding: &&Finding| {
        let is_enough = match proof {
            Proof::ReturnPath => true,
            Proof::MessageId(_) => finding.kind == BounceKind::Complaint && report.has_original,
        };
        finding.recipients.is_empty() && is_enough
    };
    report.findings.iter().find(names_them).or_else(|| report.findings.iter().find(names_nobody))
}

/// The token's case matters, the domain's does not.
fn is_same_id(sent: &str, named: &str) -> bool {
    match (sent.split_once('@'), named.split_once('@')) {
        (Some(sent), Some(named)) => sent.0 == named.0 && sent.1.eq_ignore_ascii_case(named.1),
        _ => false,
    }
}

/// Settles what became `unknown` after its report was counted: the report came while the mail was in a sender's hands, and that sender
/// died. A mail that was unknown before and sent again by hand is left to a person, because the report may be about the first one.
/// Comes back with how many.
///
/// # Errors
/// When the database does not answer.
pub async fn settle_late(pool: &PgPool) -> sqlx::Result<u64> {
    let mails = sqlx::query!(
        r#"select i.shop_id as "shop: ShopId", i.invitation_id as "invitation: InvitationId"
           from invitation i
           where i.state = 'unknown'
             and exists (select from bounce b where b.shop_id = i.shop_id and b.invitation_id = i.invitation_id)
             and not exists (
                 select from attempt a
                 where a.shop_id = i.shop_id and a.invitation_id = i.invitation_id
                   and a.outcome = 'unknown' and a.attempt < i.attempts
             )"#
    )
    .fetch_all(pool)
    .await?;
    let mut n_settled = 0;
    for mail in mails {
        let mut conn = pool.acquire().await?;
        n_settled += u64::from(outbox::accept(&mut conn, mail.shop, mail.invitation).await?);
    }
    Ok(n_settled)
}
