//! Files of answers, scores and events, through the whole import into a real database: whatever they hold, each row that is read is
//! accepted, kept aside or rejected with a reason, or the file as a whole is refused in words.

use std::collections::BTreeMap;

use afterword::cli::init::SHIPPED;
use afterword::config::Config;
use afterword::import::ImportError;
use afterword::import::run::{Destination, ImportOptions, ImportReport};
use afterword::orders::events::import_events;
use afterword::responses::import::{Asked, import_responses};
use afterword::responses::ratings::{Constants, Rated, import_ratings};
use afterword::types::{Clock, ShopId};
use proptest::strategy::{Strategy as _, ValueTree as _};

use super::{changed, runner, seeds};
use crate::support::factories::{self, Order, at};
use crate::support::{TestDb, data_dir};

const CASES: usize = 250;

struct Shop {
    db: TestDb,
    id: ShopId,
    config: Config,
    dir: tempfile::TempDir,
}

impl Shop {
    async fn new() -> Self {
        let db = TestDb::new().await;
        let id = factories::shop(&db.pool, "maison").await;
        let claire = factories::customer(&db.pool, id, "claire@customer.example").await;
        for order in ["A-1", "A-2", "M-1001"] {
            Order::new(id, claire, order).insert(&db.pool).await;
        }
        let config = Config::parse(std::path::Path::new("jobs.toml"), SHIPPED).unwrap();
        Self { db, id, config, dir: data_dir() }
    }

    /// Imports the files of a target and changed copies of them.
    async fn take(
        &self,
        target: &str,
        import: impl AsyncFn(&std::path::Path) -> Result<ImportReport, ImportError>,
    ) {
        let path = self.dir.path().join("file.csv");
        let seeds = seeds(target);
        let mut runner = runner(0);
        let changes = changed(&seeds);
        let changed = (0..CASES).map(|_| changes.new_tree(&mut runner).unwrap().current());
        let (mut n_read, mut n_refused) = (0, 0);
        for (n, bytes) in seeds.iter().cloned().chain(changed).enumerate() {
            std::fs::write(&path, &bytes).unwrap();
            let told = || format!("{target} {n}: {:?}", String::from_utf8_lossy(&bytes));
            match import(&path).await {
                Ok(report) => {
                    let accepted = report.n_inserted + report.n_updated + report.n_unchanged;
                    assert_eq!(accepted + report.n_aside + report.n_rejected, report.n_read, "{}", told());
                    assert!(report.rejects.iter().all(|reject| !reject.reason.is_empty()), "{}", told());
                    n_read += report.n_read;
                }
                Err(ImportError::Unusable(words)) => {
                    assert!(!words.is_empty(), "{}", told());
                    n_refused += 1;
                }
                Err(error) => panic!("{}: {error}", told()),
            }
        }
        assert!(n_read > 100 && n_refused > 10, "{target}: {n_read} rows, {n_refused} files refused");
    }

    fn destination(&self) -> Destination<'_> {
        Destination { pool: &self.db.pool, shop: self.id, config: &self.config.shops[0] }
    }
}

fn options() -> ImportOptions {
    ImportOptions { again: true, ..ImportOptions::default() }
}

const CLOCK: &str = "2026-06-01T12:00:00Z";

#[tokio::test]
async fn whatever_a_file_of_answers_holds() {
    let shop = Shop::new().await;
    let asked = Asked {
        formats: &shop.config.response_formats,
        surveys: &shop.config.surveys,
        survey: Some("satisfaction"),
    };
    shop.take("responses", async |path| {
        import_responses(shop.destination(), asked, path, &options(), Clock::Fixed(at(CLOCK)), &|_, _| {})
            .await
    })
    .await;
}

#[tokio::test]
async fn whatever_a_file_of_scores_holds() {
    let shop = Shop::new().await;
    let shops = [(shop.id, &shop.config.shops[0])];
    let rated = Rated { pool: &shop.db.pool, shops: &shops, only: Some(shop.id) };
    let (formats, constants) = (BTreeMap::new(), Constants::default());
    shop.take("ratings", async |path| {
        import_ratings(rated, &formats, &constants, path, &options(), Clock::Fixed(at(CLOCK)), &|_, _| {})
            .await
    })
    .await;
}

#[tokio::test]
async fn whatever_a_file_of_events_holds() {
    let shop = Shop::new().await;
    shop.take("events", async |path| {
        import_events(shop.destination(), path, &options(), Clock::Fixed(at(CLOCK)), &|_, _| {}).await
    })
    .await;
}
