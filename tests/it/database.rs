//! The database: the embedded server through everything that can happen to it, the schema, and the pool.

use chrono::TimeDelta;
use sqlx::PgPool;

use crate::support::factories::{self, Order, Response};
use crate::support::{TestDb, data_dir, shared};

async fn count(pool: &PgPool, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}

#[tokio::test]
async fn every_test_has_a_migrated_database_of_its_own() {
    let (one, other) = tokio::join!(TestDb::new(), TestDb::new());
    factories::shop(&one.pool, "plume").await;
    assert_eq!(count(&one.pool, "select count(*) from shop").await, 1);
    assert_eq!(count(&other.pool, "select count(*) from shop").await, 0);
    // The URL is for programs that the test starts: it leads to the same database.
    let by_url = PgPool::connect(&one.url).await.unwrap();
    assert_eq!(count(&by_url, "select count(*) from shop").await, 1);
}

#[tokio::test]
async fn the_factories_make_a_whole_story() {
    let db = TestDb::new().await;
    let shop = factories::shop(&db.pool, "plume").await;
    let customer = factories::customer(&db.pool, shop, "Claire@shop.example").await;
    assert_eq!(factories::customer(&db.pool, shop, "claire@shop.example").await, customer);
    let order = Order::new(shop, customer, "A-1").ordered_at("2026-02-01T10:00:00Z").insert(&db.pool).await;
    let sent_at = factories::at("2026-02-01T10:00:00Z") + TimeDelta::days(10);
    let invitation = factories::sent_invitation(&db.pool, shop, order, sent_at).await;
    let response =
        Response { invitation: Some(invitation), nps: Some(9), topic: None, ..Response::new(shop, order) };
    response.answered_at("2026-02-12T08:00:00Z").insert(&db.pool).await;
    assert_eq!(count(&db.pool, "select count(*) from answer").await, 4);
    // What the program reads back is the questionnaire it knows.
    let version = factories::survey_version(&db.pool, shop, factories::SURVEY).await;
    let mut connection = db.pool.acquire().await.unwrap();
    let asked = afterword::survey::asked(&mut connection, shop, version).await.unwrap();
    assert_eq!(asked.in_mail().unwrap().key, "recommend");
}

#[test]
fn directories_and_data_sets() {
    let directory = data_dir();
    assert!(directory.path().is_dir());
    if let Some(shared) = shared() {
        assert!(shared.join("data").is_dir());
    }
}

#[tokio::test]
async fn the_program_knows_its_schema() {
    let db = TestDb::empty().await;
    let error = afterword::db::check_schema(&db.pool).await.unwrap_err().to_string();
    assert!(error.contains("afterword migrate"), "{error}");
    let options = db.options();
    // Instances that start together migrate together.
    let (one, other, third) = tokio::join!(
        afterword::db::migrate(&options),
        afterword::db::migrate(&options),
        afterword::db::migrate(&options),
    );
    one.and(other).and(third).unwrap();
    afterword::db::check_schema(&db.pool).await.unwrap();
}
