//! The do-not-contact list of a shop. It holds hashes of addresses, so that it outlives an erasure without keeping the address; the
//! decision and every claim look at it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sqlx::PgConnection;

use crate::types::{CustomerId, EmailAddress, ShopId};

/// Why an address is not written to any more. The database's `suppression_reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type)]
#[sqlx(type_name = "suppression_reason", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum SuppressionReason {
    Unsubscribed,
    Bounced,
    Complained,
    Manual,
}

impl SuppressionReason {
    /// What a person reads.
    pub fn words(self) -> &'static str {
        match self {
            Self::Unsubscribed => "the customer unsubscribed",
            Self::Bounced => "the address does not exist",
            Self::Complained => "the customer called a mail spam",
            Self::Manual => "put on the do-not-contact list by hand",
        }
    }
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

/// Puts an address on the shop's do-not-contact list, whether it is a customer's or not. `false`: it was there.
///
/// # Errors
/// When the database does not answer.
pub async fn add_address(
    conn: &mut PgConnection,
    shop: ShopId,
    address: &EmailAddress,
    now: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let added = sqlx::query!(
        "insert into suppression (shop_id, address_hash, reason, created_at)
         values ($1, $2, 'manual', $3) on conflict do nothing",
        shop.0,
        hash(address),
        now,
    )
    .execute(conn)
    .await?;
    Ok(added.rows_affected() == 1)
}

/// Takes an address off the shop's list. `false`: it was not there.
///
/// # Errors
/// When the database does not answer.
pub async fn remove_address(
    conn: &mut PgConnection,
    shop: ShopId,
    address: &EmailAddress,
) -> sqlx::Result<bool> {
    let removed = sqlx::query!(
        "delete from suppression where shop_id = $1 and address_hash = $2",
        shop.0,
        hash(address)
    )
    .execute(conn)
    .await?;
    Ok(removed.rows_affected() == 1)
}

/// One line of a list.
#[derive(Debug, Serialize)]
pub struct Suppressed {
    pub reason: SuppressionReason,
    pub created_at: DateTime<Utc>,
    /// The address, where a customer has it; the list itself knows only hashes.
    pub email: Option<String>,
    /// SHA-256 of the address in lower case, as hexadecimal digits.
    pub address_hash: String,
}

/// Who is on the shop's list, the latest first.
///
/// # Errors
/// When the database does not answer.
pub async fn list(conn: &mut PgConnection, shop: ShopId) -> sqlx::Result<Vec<Suppressed>> {
    sqlx::query_as!(
        Suppressed,
        r#"select s.reason as "reason: SuppressionReason", s.created_at, c.email as "email?",
               encode(s.address_hash, 'hex') as "address_hash!"
           from suppression s
           left join customer c
               on c.shop_id = s.shop_id and c.email_key is not null and sha256(convert_to(c.email_key, 'UTF8')) = s.address_hash
           where s.shop_id = $1
           order by s.created_at desc, s.address_hash"#,
        shop.0,
    )
    .fetch_all(conn)
    .await
}

/// The same value that the decision and the claim compute from `customer.email_key`.
fn hash(address: &EmailAddress) -> Vec<u8> {
    Sha256::digest(address.key().as_bytes()).to_vec()
}
