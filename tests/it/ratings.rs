//! [3] Scores of other sites: files into a real database.

use std::path::Path;

use afterword::cli::init::SHIPPED;
use afterword::config::Config;
use afterword::import::ImportError;
use afterword::import::run::{ImportOptions, ImportReport};
use afterword::responses::ratings::{Constants, Rated, import_ratings};
use afterword::types::{Clock, ShopId};
use tempfile::TempDir;

use crate::support::program::{Program, shipped};
use crate::support::{TestDb, data_dir, factories, factories::at};

const SECOND: &str = "
[[shop]]
key = \"atelier\"
name = \"Atelier Exemple\"
locale = \"en\"
timezone = \"Europe/London\"
from = \"Atelier Exemple <hello@atelier.example>\"
url = \"https://atelier.example\"

[rating_format.portal]
source = \"Portal\"
scale = 5
date_format = \"%d/%m/%Y\"
[rating_format.portal.columns]
rated_on = \"Date\"
score = \"Note\"
ratings = \"Avis\"
";

/// Two shops.
struct Shops {
    db: TestDb,
    ids: [ShopId; 2],
    dir: TempDir,
    config: Config,
}

impl Shops {
    async fn new() -> Self {
        let db = TestDb::new().await;
        let ids = [factories::shop(&db.pool, "maison").await, factories::shop(&db.pool, "atelier").await];
        let config = Config::parse(Path::new("jobs.toml"), &format!("{SHIPPED}{SECOND}"))
            .unwrap_or_else(|e| panic!("{:#?}", e.lines()));
        Self { db, ids, dir: data_dir(), config }
    }

    async fn import(&self, content: &str, shop: Option<&str>) -> Result<ImportReport, ImportError> {
        self.import_with(content, shop, &ImportOptions { again: true, ..ImportOptions::default() }).await
    }

    async fn import_with(
        &self,
        content: &str,
        shop: Option<&str>,
        options: &ImportOptions,
    ) -> Result<ImportReport, ImportError> {
        let path = self.dir.path().join("ratings.csv");
        std::fs::write(&path, content).unwrap();
        let shops = [(self.ids[0], &self.config.shops[0]), (self.ids[1], &self.config.shops[1])];
        let only = shop.map(|key| shops.iter().find(|(_, shop)| shop.key == key).unwrap().0);
        let rated = Rated { pool: &self.db.pool, shops: &shops, only };
        // Half past midnight in Paris, still yesterday in London and in UTC.
        let clock = Clock::Fixed(at("2026-05-31T22:30:00Z"));
        let formats = &self.config.rating_formats;
        let report =
            import_ratings(rated, formats, &Constants::default(), &path, options, clock, &|_, _| {}).await?;
        let parts = report.n_inserted + report.n_updated + report.n_unchanged + report.n_rejected;
        assert_eq!(parts, report.n_read, "{report:?}");
        Ok(report)
    }

    async fn ratings(&self) -> Vec<String> {
        let sql = "select concat_ws('|', s.key, r.source, r.rated_on, r.score, r.scale, r.ratings)
                   from rating r join shop s using (shop_id) order by s.key, r.source, r.rated_on";
        sqlx::query_scalar(sql).fetch_all(&self.db.pool).await.unwrap()
    }
}

fn counts(report: &ImportReport) -> [u64; 5] {
    [report.n_read, report.n_inserted, report.n_updated, report.n_unchanged, report.n_rejected]
}

fn rejects_of(report: &ImportReport) -> Vec<String> {
    report.rejects.iter().map(|reject| reject.sentence()).collect()
}

#[tokio::test]
async fn a_score_per_source_and_day_which_a_correction_replaces() {
    let shops = Shops::new().await;
    let text = "source;rated_on;score;scale;ratings
Trustpilot;2026-05-01;4,5;5;1 234
fianet;2026-05-01;95 %;;
fianet;2026-05-02;9.1/10;10;
fianet;2026-05-02;9.2/10;10;
";
    let report = shops.import(text, Some("maison")).await.unwrap();
    // The later of two rows about a day holds.
    assert_eq!(counts(&report), [4, 3, 0, 1, 0], "{report:?}");
    let expected = [
        "maison|fianet|2026-05-01|95|100",
        "maison|fianet|2026-05-02|9.2|10",
        "maison|trustpilot|2026-05-01|4.5|5|1234",
    ];
    assert_eq!(shops.ratings().await, expected);

    let written =
        "select string_agg(source || xmin || updated_at, ' ' order by source, rated_on) from rating";
    let before: String = sqlx::query_scalar(written).fetch_one(&shops.db.pool).await.unwrap();
    let report = shops.import(text, Some("maison")).await.unwrap();
    assert_eq!(counts(&report), [4, 0, 0, 4, 0], "{report:?}");
    let after: String = sqlx::query_scalar(written).fetch_one(&shops.db.pool).await.unwrap();
    assert_eq!(before, after, "the same file again changes nothing");
    let known = ImportOptions::default();
    assert!(shops.import_with(text, Some("maison"), &known).await.unwrap().already_imported.is_some());

    // A corrected score is reported as updated; a file without counts leaves them alone.
    let report = shops
        .import("source,rated_on,score,scale\nTRUSTPILOT,2026-05-01,4.4,5\n", Some("maison"))
        .await
        .unwrap();
    assert_eq!(counts(&report), [1, 0, 1, 0, 0]);
    assert_eq!(shops.ratings().await[2], "maison|trustpilot|2026-05-01|4.4|5|1234");

    let dry = ImportOptions { dry_run: true, ..ImportOptions::default() };
    let report =
        shops.import_with("source,rated_on,score\nx,2026-05-01,1/5\n", Some("maison"), &dry).await.unwrap();
    assert_eq!((counts(&report), shops.ratings().await.len()), ([1, 1, 0, 0, 0], 3));
}

#[tokio::test]
async fn bad_scores_are_rejected_with_their_place() {
    let shops = Shops::new().await;
    let text = "source,rated_on,score,scale,ratings
a,2026-05-01,5.1,5,
a,2026-05-01,101 %,,
a,2026-05-01,95 %,5,
a,2026-05-01,4.5,,
a,2026-05-01,-1,5,
a,2026-05-01,4.5,0,
a,2026-06-02,4.5,5,
a,01/05/2026,4.5,5,
,2026-05-01,4.5,5,
a,2026-05-01,4.5,5,many
a,2026-05-01,4.123456,5,
a,2026-06-01,5,5,0
";
    let report = shops.import(text, Some("maison")).await.unwrap();
    assert_eq!(counts(&report), [12, 1, 0, 0, 11], "{:#?}", rejects_of(&report));
    assert_eq!(
        rejects_of(&report),
        [
            "line 2, score: is more than its scale, 5",
            "line 3, score: is more than its scale, 100",
            "line 4, score: is of 100, and the scale is 5",
            "line 5, scale: does not say of how much: a scale such as 5 or 100 is missing",
            "line 6, score: is not a number such as 4.5 or 4,5",
            "line 7, scale: is not a scale between 0 and 1000",
            "line 8, rated_on: lies in the future",
            "line 9, rated_on: has the day or the month first; state the date format, such as %d/%m/%Y %H:%M",
            "line 10, source: is empty",
            "line 11, ratings: is not a whole number such as 1234",
            "line 12, score: has more than four decimals",
        ]
    );
}

#[tokio::test]
async fn the_scores_of_several_shops_may_stand_in_one_sheet() {
    let shops = Shops::new().await;
    let sheet = "shop,source,rated_on,score,scale
maison,a,2026-05-01,4,5
atelier,a,2026-05-01,3,5
ailleurs,a,2026-05-01,2,5
,a,2026-05-02,1,5
";
    let report = shops.import(sheet, None).await.unwrap();
    assert_eq!(counts(&report), [4, 2, 0, 0, 2]);
    assert_eq!(rejects_of(&report), ["line 4, shop: is no shop of jobs.toml", "line 5, shop: is empty"]);
    assert_eq!(shops.ratings().await, ["atelier|a|2026-05-01|3|5", "maison|a|2026-05-01|4|5"]);
    let report = shops.import(sheet, Some("atelier")).await.unwrap();
    assert_eq!(counts(&report), [4, 1, 0, 1, 2]);
    assert!(rejects_of(&report)[0].contains("is another shop than the one that was asked for"));
    let error = shops.import("source,rated_on,score\n", None).await.unwrap_err().to_string();
    assert!(error.contains("--shop") && error.contains("column `shop`"), "{error}");
}

#[tokio::test]
async fn formats_of_the_configuration_are_recognised() {
    let shops = Shops::new().await;
    let report = shops.import("Date;Note;Avis\n31/05/2026;4,7;\"12 345\"\n", Some("maison")).await.unwrap();
    assert_eq!((report.format.as_str(), counts(&report)), ("portal", [1, 1, 0, 0, 0]));
    assert_eq!(shops.ratings().await, ["maison|portal|2026-05-31|4.7|5|12345"]);
    let error = shops.import("Datum;Note\n", Some("maison")).await.unwrap_err().to_string();
    assert!(error.contains("portal: the column \"Date\" for rated_on is missing"), "{error}");
    assert!(error.contains("generic: the column \"rated_on\" is missing"), "{error}");
}

#[tokio::test]
async fn the_command() {
    let program = Program::new(&shipped()).await;
    program.write("scores.csv", "Day,Stars\n2026-05-01,4.5\n");
    let args = ["import", "ratings", "scores.csv", "--map", "rated_on=Day", "--map", "score=Stars", "--json"];
    let ran = program.run(&args).expect(1);
    assert!(ran.stderr.contains("\"source\""), "{}", ran.stderr);
    let with = [&args[..], &["--source", "Trustpilot", "--scale", "5"]].concat();
    let ran = program.run(&with).expect(0);
    assert_eq!((&ran.json()[0]["kind"], &ran.json()[0]["n_inserted"]), (&"ratings".into(), &1.into()));
    program.run(&["import", "ratings", "scores.csv", "--scale", "none"]).expect(2);
    program.run(&["import", "ratings", "scores.csv", "--shop", "nowhere"]).expect(2);
}
