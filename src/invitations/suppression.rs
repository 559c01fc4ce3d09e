//! The do-not-contact list of a shop. It holds hashes of addresses, so that it outlives an erasure without keeping the address; the
//! decision and every claim look at it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use crate::types::{CustomerId, ShopId};

/// Why an address is not written to any more. The database's `suppression_reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type)]
#[sqlx(type_name = "suppression_reason", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum SuppressionReason {
    Unsubscribed,
    Bounced,
    Manual,
}

/// Puts a customer on the shop's do-not-contact list; the first reason stays.
///
/// # Errors
/// When the database does not answer.
pub async fn add(
    conn: &mut PgConnection,
    shop: ShopId,
    customer: CustomerId,
    reason: SuppressionReason,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into suppression (shop_id, address_hash, reason, created_at)
         select shop_id, sha256(convert_to(email_key, 'UTF8')), $3, $4
         from customer where shop_id = $1 and customer_id = $2 and email_key is not null
         on conflict do nothing",
        shop.0,
        customer.0,
        reason as SuppressionReason,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}
