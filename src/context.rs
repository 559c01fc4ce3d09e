//! What a command or a job works with.

use std::sync::Arc;

use sqlx::PgPool;

use crate::config::{Config, Shop};
use crate::mail::templates::Templates;
use crate::nearest;
use crate::token::Tokens;
use crate::types::{Clock, ShopId};
use crate::vitals::Vitals;

/// Everything that is set up once and then only read. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    pub config: Arc<Config>,
    pub pool: PgPool,
    pub shops: Arc<Shops>,
    pub templates: Arc<Templates>,
    pub tokens: Tokens,
    pub clock: Clock,
    pub vitals: Arc<Vitals>,
}

/// The configured shops with the numbers the database gave them.
#[derive(Debug)]
pub struct Shops(Vec<(ShopId, Shop)>);

impl Shops {
    /// Gives every configured shop its number, and keeps its name up to date.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn store(pool: &PgPool, config: &Config) -> sqlx::Result<Self> {
        let mut shops = Vec::with_capacity(config.shops.len());
        for shop in &config.shops {
            let id = sqlx::query_scalar!(
                r#"insert into shop (key, name) values ($1, $2)
                   on conflict on constraint shop_key_key do update set name = excluded.name
                   returning shop_id as "id: ShopId""#,
                shop.key,
                shop.name,
            )
            .fetch_one(pool)
            .await?;
            shops.push((id, shop.clone()));
        }
        Ok(Self(shops))
    }

    /// In the order of jobs.toml.
    pub fn iter(&self) -> impl Iterator<Item = (ShopId, &Shop)> {
        self.0.iter().map(|(id, shop)| (*id, shop))
    }

    /// The shop with this number.
    pub fn get(&self, id: ShopId) -> Option<&Shop> {
        self.iter().find(|(other, _)| *other == id).map(|(_, shop)| shop)
    }

    /// The shop with this key; all of them where none is named.
    ///
    /// # Errors
    /// When there is none with this key.
    pub fn named(&self, key: Option<&str>) -> Result<Vec<(ShopId, &Shop)>, UnknownShop> {
        key.map_or_else(|| Ok(self.iter().collect()), |key| self.by_key(key).map(|shop| vec![shop]))
    }

    /// The shop with this key.
    ///
    /// # Errors
    /// When there is none.
    pub fn by_key(&self, key: &str) -> Result<(ShopId, &Shop), UnknownShop> {
        let keys = self.iter().map(|(_, shop)| shop.key.as_str());
        self.iter()
            .find(|(_, shop)| shop.key == key)
            .ok_or_else(|| UnknownShop(nearest::unknown("shop", key, keys).unwrap_or_default()))
    }
}

/// A key that no shop has, with the one that was probably meant.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UnknownShop(String);
